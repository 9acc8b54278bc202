//! Closes a list of files over links, ELF libraries and interpreters, and
//! assembles the result as an OCI runtime bundle.
#![forbid(unsafe_code)]

pub mod assemble;
mod copy;
pub mod digest;
pub mod layer;
pub mod path;
pub mod rootfs;
mod tar_header;
mod tree;
mod xattr;

pub use assemble::{AssembleError, Assembled, Sinks, assemble};
pub use digest::DiffId;
pub use layer::{Layer, LayerError, Planner};
pub use path::{PathError, RootPath};
pub use rootfs::{Kind, Meta, Rootfs};
pub use tree::{Lost, Unkept};
