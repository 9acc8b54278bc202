//! Deltas of files: small, because what an executable refers to is understood.
#![forbid(unsafe_code)]

mod copy;
pub mod elf;
mod error;
mod matcher;
mod read_at;
pub mod split;
pub mod streams;
pub mod vcdiff;

pub use error::Error;
pub use read_at::ReadAt;
pub use streams::{Effort, Stream, StreamReader, Streams};
