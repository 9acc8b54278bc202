//! One file a verb: its pipeline, read top to bottom.

pub mod build;
pub mod closure;
pub mod delta;
pub mod manual;
pub mod patch;
pub mod push;
pub mod source;
pub mod stat;
pub mod strace;
