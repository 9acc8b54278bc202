//! Container images: OCI layouts, archives of them, and docker's archives; their
//! configuration; how they are read and written.

mod apply;
mod archive;
pub mod base;
mod blob;
mod choose;
pub mod config;
pub mod destination;
mod docker;
mod error;
mod inside;
mod late;
mod layers;
mod layout;
pub mod name;
mod open;
mod pipe;
mod reference;
mod referrers;
mod room;
pub mod runtime;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod write;

pub use apply::Unpacker;
pub use config::{ConfigError, Execution, History, ImageConfig};
pub use destination::Destination;
pub use error::{EntryError, ImageError};
pub use layers::{UnpackOptions, Unpacked};
pub use name::ImageName;
pub use open::Image;
pub use reference::{Foreign, Reference, ReferenceError};
pub use referrers::Referrer;
pub use write::{
    Artifact, Compression, Documents, NewImage, NewLayer, Watch, WriteError, Written, WrittenLayer,
    write,
};
