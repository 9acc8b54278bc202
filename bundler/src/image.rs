//! Container images: OCI layouts, archives of them, and docker's archives.

mod apply;
mod archive;
mod blob;
mod choose;
mod docker;
mod error;
mod inside;
mod late;
mod layers;
mod layout;
mod open;
mod pipe;
mod reference;
mod referrers;
mod room;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use apply::Unpacker;
pub use error::{EntryError, ImageError};
pub use layers::{UnpackOptions, Unpacked};
pub use open::Image;
pub use reference::{Foreign, Reference, ReferenceError};
pub use referrers::Referrer;
