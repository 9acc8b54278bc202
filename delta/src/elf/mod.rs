//! The codec for pairs of ELF executables and libraries.

use std::io::Write;

use crate::{Effort, Error, ReadAt, StreamReader, Streams};

/// Encodes `new` against `old`; `None` where one of them is not understood, and
/// nothing is then written to `out`.
#[must_use]
pub fn encode(_old: &[u8], _new: &[u8], _out: &mut Streams, _effort: Effort) -> Option<()> {
    None
}

/// Restores the `new_len` bytes that were encoded against `old`.
///
/// # Errors
/// Whatever of `input` is not a delta against `old`, and failed reads and writes.
pub fn decode(
    _old: &dyn ReadAt,
    _new_len: u64,
    _input: &mut StreamReader<'_>,
    _out: &mut dyn Write,
) -> Result<(), Error> {
    Err(Error::Version { found: 0, expected: 1 })
}
