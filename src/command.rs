//! One file a verb: its pipeline, read top to bottom.

pub mod build;
pub mod manual;
pub mod closure;
pub mod diff;
pub mod explain;
pub mod source;
pub mod strace;
