//! The codec for any pair of files: copied stretches with small differences, and
//! literal ones, in separate streams.
//!
//! Per file: in `Header` the number of copied stretches. For each of them, in order
//! of the new file: `Insert`, the number of literal bytes before it (bytes in
//! `Extra`); `Copy`, its length; `Seek`, its start in the old file less the end of
//! the one before. What follows the last is literal. Differences of all copied
//! stretches of a file make one sequence: `AddRun`, one more than the number of
//! equal bytes before a difference, then the difference (new − old) in `AddValue`;
//! an `AddRun` of 0 follows the last.

use std::io::Write;

use crate::copy::{AddReader, AddWriter};
use crate::matcher::{self, Block};
use crate::{Effort, Error, ReadAt, Stream, StreamReader, Streams};

/// Encodes `new` against `old` to `out`.
pub fn encode(old: &[u8], new: &[u8], out: &mut Streams, effort: Effort) {
    let blocks = matcher::blocks(old, new, effort);
    put_blocks(&blocks, new, out);
    let mut adds = AddWriter::default();
    for block in blocks {
        let (old, new) = (range(old, block.old, block.len), range(new, block.new, block.len));
        adds.stretch(old, new, out);
    }
    adds.finish(out);
}

fn range(bytes: &[u8], at: u32, len: u32) -> &[u8] {
    &bytes[at as usize..at as usize + len as usize]
}

/// Writes the list of `blocks` and the literal bytes between them.
pub(crate) fn put_blocks(blocks: &[Block], new: &[u8], out: &mut Streams) {
    out.put_u64(Stream::Header, blocks.len() as u64);
    let (mut old_end, mut new_end) = (0, 0);
    for block in blocks {
        out.put_u64(Stream::Insert, u64::from(block.new - new_end));
        out.put(Stream::Extra, range(new, new_end, block.new - new_end));
        out.put_u64(Stream::Copy, u64::from(block.len));
        out.put_i64(Stream::Seek, i64::from(block.old) - i64::from(old_end));
        (old_end, new_end) = (block.old_end(), block.new_end());
    }
    out.put(Stream::Extra, &new[new_end as usize..]);
}

/// Reads the list of blocks one by one, and checks that each is within the files.
pub(crate) struct BlockReader {
    left: u64,
    old_len: u64,
    new_len: u64,
    old_end: u64,
    new_end: u64,
}

/// A copied stretch, as read.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) insert: u64,
    pub(crate) old: u64,
    pub(crate) len: u64,
}

impl BlockReader {
    pub(crate) fn new(
        old_len: u64,
        new_len: u64,
        input: &mut StreamReader<'_>,
    ) -> Result<Self, Error> {
        let left = input.u64(Stream::Header)?;
        if left > new_len {
            return Err(Error::Impossible(Stream::Header));
        }
        Ok(Self { left, old_len, new_len, old_end: 0, new_end: 0 })
    }

    /// How many blocks are left.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// How many new bytes are behind the blocks read so far.
    pub(crate) fn rest(&self) -> u64 {
        self.new_len - self.new_end
    }

    pub(crate) fn next(&mut self, input: &mut StreamReader<'_>) -> Result<Option<Stretch>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let insert = input.u64(Stream::Insert)?;
        if insert > self.rest() {
            return Err(Error::Impossible(Stream::Insert));
        }
        self.new_end += insert;
        let len = input.u64(Stream::Copy)?;
        if len == 0 || len > self.rest() {
            return Err(Error::Impossible(Stream::Copy));
        }
        self.new_end += len;
        let old = self.old_end.checked_add_signed(input.i64(Stream::Seek)?);
        let old = old.filter(|old| *old <= self.old_len && self.old_len - old >= len);
        let old = old.ok_or(Error::Impossible(Stream::Seek))?;
        self.old_end = old + len;
        Ok(Some(Stretch { insert, old, len }))
    }
}

/// Restores the `new_len` bytes that were encoded against `old`.
///
/// # Errors
/// Whatever of `input` is not a delta against `old`, and failed reads and writes.
pub fn decode(
    old: &dyn ReadAt,
    new_len: u64,
    input: &mut StreamReader<'_>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut blocks = BlockReader::new(old.len(), new_len, input)?;
    let mut adds = AddReader::new(input)?;
    let mut buffer = vec![0; 64 << 10];
    while let Some(Stretch { insert, old: mut at, mut len }) = blocks.next(input)? {
        literal(insert, &mut buffer, input, out)?;
        while len > 0 {
            let n = piece(len, &buffer);
            let bytes = &mut buffer[..n];
            old.read_exact_at(bytes, at).map_err(Error::ReadOld)?;
            adds.stretch(bytes, input)?;
            out.write_all(bytes).map_err(Error::WriteNew)?;
            at += n as u64;
            len -= n as u64;
        }
    }
    adds.finish()?;
    literal(blocks.rest(), &mut buffer, input, out)
}

/// Passes `len` bytes of `Extra` on.
pub(crate) fn literal(
    mut len: u64,
    buffer: &mut [u8],
    input: &mut StreamReader<'_>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    while len > 0 {
        let n = piece(len, buffer);
        input.take(Stream::Extra, &mut buffer[..n])?;
        out.write_all(&buffer[..n]).map_err(Error::WriteNew)?;
        len -= n as u64;
    }
    Ok(())
}

fn piece(len: u64, buffer: &[u8]) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX).min(buffer.len())
}
