//! Closes a list of files over links, ELF libraries and interpreters, and
//! assembles the result as an OCI runtime bundle.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod assemble;
mod attributes;
pub mod bundle;
mod close;
pub mod closure;
pub mod config;
mod copy;
pub mod digest;
pub mod elf;
pub mod image;
pub mod layer;
pub mod ld_cache;
pub mod ld_conf;
pub mod loader;
pub mod packages;
pub mod path;
pub mod resolve;
pub mod rootfs;
pub mod rootless;
mod rules;
pub mod shebang;
pub mod staging;
pub mod tar_header;
pub mod tar_reader;
#[cfg(test)]
mod testing;
pub mod time;
pub mod tree;
pub mod writable;
pub mod xattr;

pub use assemble::{AssembleError, Assembled, Digests, Sinks, assemble};
pub use bundle::{Bundle, BundleError};
pub use close::close;
pub use closure::{Cause, Closure, Missing, Options, Reason, Warning, Why};
pub use config::{Bind, Container};
pub use digest::{DiffId, FileDigest};
pub use layer::{Layer, LayerError, Planner};
pub use packages::{Package, Packages};
pub use path::{PathError, RootPath};
pub use rootfs::{Kind, Meta, Rootfs};
pub use tree::{Lost, Unkept};
pub use writable::Tmpfs;
