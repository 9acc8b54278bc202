//! The command lines as plain data; their doc comments are the help.

pub mod build;
pub mod master;
pub mod push;
pub(crate) mod quantity;
pub mod strace;
