//! Deltas of file trees and of single files: small, because what an executable
//! refers to is understood.
//!
//! [`encode`] makes a container that turns one tree into another, [`apply`] carries
//! it out; trees are given as a [`Manifest`] and the [`Files`] behind it. The format
//! is described in [`container`]. [`vcdiff`] speaks the format of `xdelta3`.
//!
//! Nothing here opens files, starts processes or asks for the time: contents come
//! and go through [`ReadAt`], [`Files`] and [`Sink`].
#![forbid(unsafe_code)]

mod apply;
mod choice;
pub mod container;
mod copy;
pub mod elf;
mod encode;
mod error;
mod listing;
pub mod manifest;
mod matcher;
pub mod pairing;
mod plan;
mod read_at;
pub mod record;
pub mod split;
pub mod streams;
mod tree;
pub mod vcdiff;

pub use apply::{apply, inspect};
pub use encode::{Encoded, FileReport, Options, Travel, encode};
pub use error::Error;
pub use listing::ListingError;
pub use manifest::{Digest, Entry, FileInfo, Kind, Manifest, ManifestError};
pub use read_at::ReadAt;
pub use streams::{Effort, Stream, StreamReader, Streams};
pub use tree::{Files, Limits, Sink, TreeError};
