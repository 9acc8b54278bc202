//! vz: trace a program, build the smallest OCI bundle that it works in.
//!
//! The command lines are in [`cli`], the pipelines in [`command`].
#![forbid(unsafe_code)]

pub mod cli;
pub mod command;
pub mod evidence;
pub mod fleet;
pub mod image;
pub mod interrupt;
pub mod process;
pub mod profile;
pub mod progress;
pub mod push;
pub mod report;
pub mod runner;
pub mod tree;
