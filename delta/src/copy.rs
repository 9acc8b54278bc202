//! What the codecs share: reading the old file in pieces, and the differences of
//! copied bytes as (run of equal bytes, difference).

use crate::{Error, ReadAt, Stream, StreamReader, Streams};

/// Differences of copied bytes, being written: `AddRun` has one more than the
/// number of equal bytes before a difference, and 0 after the last of a file.
#[derive(Default)]
pub(crate) struct AddWriter {
    run: u64,
}

impl AddWriter {
    pub(crate) fn stretch(&mut self, old: &[u8], new: &[u8], out: &mut Streams) {
        for (old, new) in old.iter().zip(new) {
            if old == new {
                self.run += 1;
            } else {
                out.put_u64(Stream::AddRun, self.run + 1);
                out.put_byte(Stream::AddValue, new.wrapping_sub(*old));
                self.run = 0;
            }
        }
    }

    pub(crate) fn finish(self, out: &mut Streams) {
        out.put_u64(Stream::AddRun, 0);
    }
}

/// The same, being read.
pub(crate) struct AddReader {
    /// Equal bytes before the next difference.
    run: u64,
}

impl AddReader {
    pub(crate) fn new(input: &mut StreamReader<'_>) -> Result<Self, Error> {
        Ok(Self { run: next_run(input, Stream::AddRun)? })
    }

    /// Turns old bytes into new ones.
    pub(crate) fn stretch(
        &mut self,
        mut bytes: &mut [u8],
        input: &mut StreamReader<'_>,
    ) -> Result<(), Error> {
        loop {
            if self.run >= bytes.len() as u64 {
                if self.run != u64::MAX {
                    self.run -= bytes.len() as u64;
                }
                return Ok(());
            }
            let at = usize::try_from(self.run).map_err(|_| Error::Impossible(Stream::AddRun))?;
            bytes[at] = bytes[at].wrapping_add(input.byte(Stream::AddValue)?);
            bytes = &mut bytes[at + 1..];
            self.run = next_run(input, Stream::AddRun)?;
        }
    }

    /// Checks that no difference is left over.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.run == u64::MAX { Ok(()) } else { Err(Error::Impossible(Stream::AddRun)) }
    }
}

/// The next run of `stream`; `u64::MAX` where there is no difference any more.
pub(crate) fn next_run(input: &mut StreamReader<'_>, stream: Stream) -> Result<u64, Error> {
    Ok(input.u64(stream)?.wrapping_sub(1))
}

/// The old file, read in pieces of [`PIECE`] bytes of which the last few are kept.
pub(crate) struct Pieces<'a> {
    old: &'a dyn ReadAt,
    kept: Vec<(u64, Vec<u8>)>,
    turn: usize,
}

const PIECE: u64 = 32 << 10;
const KEPT: usize = 32;

impl<'a> Pieces<'a> {
    pub(crate) fn new(old: &'a dyn ReadAt) -> Self {
        Self { old, kept: Vec::new(), turn: 0 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.old.len()
    }

    /// Fills `out` from `at` on; false, with zeros in it, where it reaches behind
    /// the end.
    pub(crate) fn read(&mut self, mut at: u64, mut out: &mut [u8]) -> Result<bool, Error> {
        if at.checked_add(out.len() as u64).is_none_or(|end| end > self.old.len()) {
            out.fill(0);
            return Ok(false);
        }
        while !out.is_empty() {
            let piece = self.piece(at / PIECE)?;
            let from = &piece[usize::try_from(at % PIECE).unwrap_or(0).min(piece.len())..];
            let n = from.len().min(out.len());
            if n == 0 {
                return Err(Error::WrongBase);
            }
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&from[..n]);
            out = later;
            at += n as u64;
        }
        Ok(true)
    }

    fn piece(&mut self, number: u64) -> Result<&[u8], Error> {
        let kept = self.kept.iter().position(|(n, _)| *n == number);
        let slot = if let Some(slot) = kept {
            slot
        } else {
            let slot = if self.kept.len() < KEPT {
                self.kept.push((number, Vec::new()));
                self.kept.len() - 1
            } else {
                self.turn = (self.turn + 1) % KEPT;
                self.turn
            };
            let at = number * PIECE;
            let len = PIECE.min(self.old.len() - at);
            let (n, bytes) = &mut self.kept[slot];
            *n = u64::MAX;
            bytes.resize(usize::try_from(len).unwrap_or(0), 0);
            self.old.read_exact_at(bytes, at).map_err(Error::ReadOld)?;
            *n = number;
            slot
        };
        Ok(&self.kept[slot].1)
    }
}
