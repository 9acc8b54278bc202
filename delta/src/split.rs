//! The codec for any pair of files: copied stretches with small differences, and
//! literal ones, in separate streams.
//!
//! Per file: in `Header` the number of copied stretches. For each of them, in order
//! of the new file: `Insert`, the number of literal bytes before it (bytes in
//! `Extra`); `Copy`, its length; `Seek`, its start in the old file less the end of
//! the one before. What follows the last is literal. Differences of all copied
//! stretches of a file as one sequence: `AddRun` unchanged bytes, then one byte
//! whose difference (new − old) is in `AddValue`, and so on; a run that reaches the
//! end of the copied bytes has no value after it.

use std::io::Write;

use crate::{Effort, Error, ReadAt, Stream, StreamReader, Streams};

/// Encodes `new` against `old` to `out`.
pub fn encode(_old: &[u8], new: &[u8], out: &mut Streams, _effort: Effort) {
    out.put_u64(Stream::Header, 0);
    out.put(Stream::Extra, new);
}

/// Restores the `new_len` bytes that were encoded against `old`.
///
/// # Errors
/// Whatever of `input` is not a delta against `old`, and failed reads and writes.
pub fn decode(
    _old: &dyn ReadAt,
    new_len: u64,
    input: &mut StreamReader<'_>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut left = new_len;
    if input.u64(Stream::Header)? != 0 {
        return Err(Error::Impossible(Stream::Header));
    }
    let mut buffer = [0; 4096];
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        input.take(Stream::Extra, &mut buffer[..n])?;
        out.write_all(&buffer[..n]).map_err(Error::WriteNew)?;
        left -= n as u64;
    }
    Ok(())
}
