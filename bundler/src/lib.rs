//! Closes a list of files over links, ELF libraries and interpreters, and
//! assembles the result as an OCI runtime bundle.
#![forbid(unsafe_code)]

pub mod path;
pub mod rootfs;

pub use path::{PathError, RootPath};
pub use rootfs::{Kind, Meta, Rootfs};
