//! What can go wrong while a delta of two files is made or applied.

use std::io;

use thiserror::Error;

use crate::streams::Stream;

/// Why a pair of files could not be encoded or decoded.
#[derive(Debug, Error)]
pub enum Error {
    /// The block of streams does not have the shape that its head declares.
    #[error("block of streams is malformed: {0}")]
    Block(&'static str),
    /// A stream ended before the decoder had what it needed.
    #[error("{0:?} stream ends early")]
    Truncated(Stream),
    /// A value of a stream cannot be true of the files it describes.
    #[error("{0:?} stream holds an impossible value")]
    Impossible(Stream),
    /// A declared size is over what the caller allows.
    #[error("{what} of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its declared size.
        size: u64,
        /// What the caller allows.
        limit: u64,
    },
    /// The delta was written by another version of this codec.
    #[error("delta is of codec version {found}, not {expected}")]
    Version {
        /// The version in the delta.
        found: u64,
        /// The version that this decoder speaks.
        expected: u64,
    },
    /// The old file is not what the delta was made against.
    #[error("old file is not the one that the delta was made against")]
    WrongBase,
    /// The old file could not be read.
    #[error("cannot read the old file")]
    ReadOld(#[source] io::Error),
    /// The streams could not be read.
    #[error("cannot read the streams of the delta")]
    ReadStreams(#[source] io::Error),
    /// The new file could not be written.
    #[error("cannot write the new file")]
    WriteNew(#[source] io::Error),
    /// A stream could not be compressed.
    #[error("cannot compress a stream")]
    Compress(#[source] io::Error),
}
