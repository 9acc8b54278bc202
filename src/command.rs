//! One file a verb: its pipeline, read top to bottom.

pub mod build;
pub mod manual;
pub mod strace;
