//! Closes a list of files over links, ELF libraries and interpreters, and
//! assembles the result as an OCI runtime bundle.
#![forbid(unsafe_code)]

pub mod closure;
pub mod path;
pub mod resolve;
pub mod rootfs;
#[cfg(test)]
mod testing;

pub use closure::{Closure, Missing, Options, Reason, Warning, Why, close};
pub use path::{PathError, RootPath};
pub use rootfs::{Kind, Meta, Rootfs};
