//! Closes a list of files over links, ELF libraries and interpreters, and
//! assembles the result as an OCI runtime bundle.
#![forbid(unsafe_code)]

mod close;
pub mod closure;
pub mod elf;
pub mod ld_cache;
pub mod ld_conf;
pub mod loader;
pub mod path;
pub mod resolve;
pub mod rootfs;
mod rules;
pub mod shebang;
#[cfg(test)]
mod testing;

pub use close::close;
pub use closure::{Cause, Closure, Missing, Options, Reason, Warning, Why};
pub use path::{PathError, RootPath};
pub use rootfs::{Kind, Meta, Rootfs};
