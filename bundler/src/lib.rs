//! Closes a list of files over links, ELF libraries and interpreters, and
//! assembles the result as an OCI runtime bundle.
#![forbid(unsafe_code)]

pub mod assemble;
pub mod closure;
mod copy;
pub mod digest;
pub mod layer;
pub mod path;
pub mod resolve;
pub mod rootfs;
pub mod staging;
mod tar_header;
#[cfg(test)]
mod testing;
mod tree;
mod xattr;

pub use assemble::{AssembleError, Assembled, Sinks, assemble};
pub use closure::{Closure, Missing, Options, Reason, Warning, Why, close};
pub use digest::DiffId;
pub use layer::{Layer, LayerError, Planner};
pub use path::{PathError, RootPath};
pub use rootfs::{Kind, Meta, Rootfs};
pub use tree::{Lost, Unkept};
