//! VCDIFF as RFC 3284 defines it and stock `xdelta3` writes and reads it.
//!
//! | bytes  | field                                                        |
//! |-------:|--------------------------------------------------------------|
//! |      4 | `D6 C3 C4 00`: `VCD` with the high bits set, version 0       |
//! |      1 | Hdr_Indicator: 1 secondary compressor, 2 code table, 4 application header |
//! |      1 | number of the secondary compressor, if any                   |
//! |   1.., | length of the application header and its bytes, if any       |
//! |        | then windows up to the end of the file, each:                |
//! |      1 | Win_Indicator: 1 source segment, 2 target segment, 4 Adler-32 |
//! | 1..10, 1..10 | length and position of the segment, if any             |
//! |  1..10 | length of the rest of the window                             |
//! |  1..10 | length of the target window                                  |
//! |      1 | Delta_Indicator: which sections are compressed               |
//! | 3 × 1..10 | lengths of data, instructions, addresses                  |
//! |      4 | Adler-32 of the target window, big-endian, if indicated      |
//! |        | data, instructions, addresses                                |
//!
//! Adler-32 and application header are `xdelta3`'s additions to the RFC. We write
//! windows of at most 8 MiB with Adler-32 and without secondary compression, and
//! read windows of at most 16 MiB, which is all that `xdelta3` itself allows.
//! Secondary compression, code tables of the file's own and segments of the target
//! are refused by name; `xdelta3` neither writes nor reads the last two.

mod code;
mod decoder;
mod encoder;
mod search;

use std::io;

use thiserror::Error;

pub use decoder::{Decoded, Limits, decode};
pub use encoder::encode;

/// What a VCDIFF file starts with.
pub const MAGIC: [u8; 4] = [0xd6, 0xc3, 0xc4, 0];

/// Largest target window that is written.
const WINDOW: usize = 8 << 20;
/// Largest target window that is read: `XD3_HARDMAXWINSIZE` of xdelta3 3.0.
const MAX_WINDOW: u64 = 16 << 20;
/// Largest encoding of a window that is read: a window of additions alone and
/// half as much again for instructions and addresses.
const MAX_ENCODING: u64 = 24 << 20;

// Hdr_Indicator
const DECOMPRESS: u8 = 1;
const CODE_TABLE: u8 = 2;
const APPLICATION: u8 = 4;
// Win_Indicator
const SOURCE: u8 = 1;
const TARGET: u8 = 2;
const ADLER32: u8 = 4;

/// Why a VCDIFF file could not be decoded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VcdiffError {
    /// It does not start as VCDIFF does.
    #[error("it is no VCDIFF file")]
    Magic,
    /// It uses a part of VCDIFF, or an addition to it, that is not read here.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// It ends in the middle of header or window.
    #[error("it ends early")]
    Truncated,
    /// A window contradicts itself.
    #[error("window {window}: {what}")]
    Window {
        /// Number of the window, from 0.
        window: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A window came out with another Adler-32: wrong source or damaged delta.
    #[error(
        "window {window}: checksum differs: the source is not the one it was made from, or it is damaged"
    )]
    Checksum {
        /// Number of the window, from 0.
        window: u64,
    },
    /// The target would be longer than the caller allows.
    #[error("target is over the limit of {limit} bytes")]
    TooLarge {
        /// What the caller allows.
        limit: u64,
    },
    /// The delta could not be read.
    #[error("cannot read the delta")]
    ReadDelta(#[source] io::Error),
    /// The source could not be read.
    #[error("cannot read the source")]
    ReadSource(#[source] io::Error),
    /// The target could not be written.
    #[error("cannot write the target")]
    WriteTarget(#[source] io::Error),
}

#[cfg(test)]
mod tests;
