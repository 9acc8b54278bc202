//! One file a verb: its pipeline, read top to bottom.

pub mod build;
pub mod bundle;
pub mod closure;
pub mod diff;
pub mod explain;
pub mod init;
pub mod run;
pub mod source;
pub mod strace;
