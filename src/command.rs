//! One file a verb: its pipeline, read top to bottom.

pub mod build;
pub mod bundle;
pub mod closure;
pub mod delta;
pub mod diff;
pub mod explain;
pub mod image;
pub mod init;
pub mod manual;
pub mod master;
pub mod minify;
pub mod patch;
pub mod push;
pub mod report;
pub mod run;
pub mod scenario;
mod settings;
pub mod source;
pub mod stat;
pub mod strace;
pub mod verify;
