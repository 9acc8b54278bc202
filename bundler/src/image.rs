//! Container images: OCI layouts, archives of them, and docker's archives; their
//! configuration; how they are read and written.

pub mod base;
pub mod config;
pub mod destination;
mod error;
pub mod name;
mod read;
mod reference;
pub mod runtime;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod write;

pub use config::{ConfigError, Execution, History, ImageConfig};
pub use destination::Destination;
pub use error::{EntryError, ImageError};
pub use name::ImageName;
pub use read::{Image, Owners, Referrer, UnpackOptions, Unpacked, Unpacker};
pub use reference::{Foreign, Reference, ReferenceError};
pub use write::{
    Artifact, Compression, Documents, NewImage, NewLayer, Watch, WriteError, Written, WrittenLayer,
    look_at, write,
};
