//! One file a verb: its pipeline, read top to bottom.

pub mod build;
pub mod bundle;
pub mod closure;
pub mod delta;
pub mod diff;
pub mod explain;
pub mod init;
pub mod manual;
pub mod master;
pub mod patch;
pub mod push;
pub mod run;
pub mod source;
pub mod stat;
pub mod strace;
