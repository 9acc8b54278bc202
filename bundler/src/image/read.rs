//! Images that are read: where their blobs lie, which of several is meant, and how
//! layers become a tree.

mod apply;
mod archive;
mod blob;
mod choose;
mod docker;
mod inside;
mod late;
mod layers;
mod layout;
mod losses;
mod open;
mod pipe;
mod raw;
mod referrers;
mod room;
mod store;

pub use apply::Unpacker;
pub(super) use archive::Archive;
pub use layers::{Owners, UnpackOptions, Unpacked};
pub use open::Image;
pub use referrers::Referrer;
