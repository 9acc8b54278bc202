//! Streams being read, with bounded memory and by positioned reads of the block.

use std::io::{self, Read};

use lzma_rust2::LzmaReader;

use super::{COUNT, DICTIONARIES, KNOWN, MAX_LOG, MIN_LOG, STORED, Stream};
use crate::{Error, ReadAt};

/// Streams being read, each decompressed as far as it is asked for.
pub struct StreamReader<'a> {
    streams: [Option<Source<'a>>; COUNT],
    end: u64,
}

struct Source<'a> {
    bytes: Packed<'a>,
    /// What of `bytes` is decompressed and not yet taken: `buffer[from..to]`.
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

enum Packed<'a> {
    Stored(Part<'a>),
    Lzma(Box<LzmaReader<Part<'a>>>),
}

const BUFFER: usize = 16 << 10;

impl Source<'_> {
    /// Decompresses more behind what is left; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.resize(BUFFER, 0);
        self.buffer.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        let room = &mut self.buffer[self.to..];
        let n = match &mut self.bytes {
            Packed::Stored(part) => part.read(room)?,
            Packed::Lzma(reader) => reader.read(room)?,
        };
        self.to += n;
        Ok(n > 0)
    }
}

/// One stream's stretch of the block.
struct Part<'a> {
    block: &'a dyn ReadAt,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let want = buf.len().min(room);
        let n = self.block.read_at(&mut buf[..want], self.at)?.min(want);
        self.at += n as u64;
        Ok(n)
    }
}

impl<'a> StreamReader<'a> {
    /// Opens the block that starts at `at` of `block`. All streams together may be
    /// at most `limit` bytes after decompression; decoders take at most 16 MiB of
    /// dictionaries and about 2 MiB besides.
    ///
    /// # Errors
    /// [`Error::Block`], [`Error::TooLarge`], [`Error::ReadStreams`].
    pub fn open(block: &'a dyn ReadAt, at: u64, limit: u64) -> Result<Self, Error> {
        let mut head = Part { block, at, end: block.len() };
        if at > head.end {
            return Err(Error::Block("it starts behind the end"));
        }
        let present = u16::from_le_bytes([byte(&mut head)?, byte(&mut head)?]);
        if present >> KNOWN != 0 {
            return Err(Error::Block("unknown stream"));
        }
        let mut parts = [(STORED, 0u64, 0u64, 0u8); COUNT];
        let (mut raw_total, mut dictionaries) = (0u64, 0u64);
        for (number, part) in parts.iter_mut().enumerate() {
            if present >> number & 1 == 0 {
                continue;
            }
            let props = byte(&mut head)?;
            let raw = number_of(&mut head)?;
            let (packed, log) =
                if props == STORED { (raw, 0) } else { (number_of(&mut head)?, byte(&mut head)?) };
            if props != STORED {
                // As LZMA2 has it: lc + lp ≤ 4. A decoder of more bits takes up to 6 MiB.
                if u32::from(props % 9) + u32::from(props / 9 % 5) > 4 {
                    return Err(Error::Block("properties of a stream"));
                }
                if !(MIN_LOG..=MAX_LOG).contains(&u32::from(log)) {
                    return Err(Error::Block("size of a dictionary"));
                }
                dictionaries += 1 << log;
            }
            raw_total = raw_total.saturating_add(raw);
            *part = (props, raw, packed, log);
        }
        if dictionaries > DICTIONARIES {
            return Err(Error::TooLarge {
                what: "dictionaries",
                size: dictionaries,
                limit: DICTIONARIES,
            });
        }
        if raw_total > limit {
            return Err(Error::TooLarge { what: "streams", size: raw_total, limit });
        }
        let mut from = head.at;
        let mut streams = [const { None }; COUNT];
        for (number, (props, raw, packed, log)) in parts.into_iter().enumerate() {
            if present >> number & 1 == 0 {
                continue;
            }
            let end = from.checked_add(packed).filter(|end| *end <= block.len());
            let end = end.ok_or(Error::Block("a stream reaches behind the end"))?;
            let part = Part { block, at: from, end };
            let bytes = if props == STORED {
                Packed::Stored(part)
            } else {
                let reader = LzmaReader::new_with_props(part, raw, props, 1 << log, None);
                Packed::Lzma(Box::new(reader.map_err(Error::ReadStreams)?))
            };
            streams[number] = Some(Source { bytes, buffer: Vec::new(), from: 0, to: 0 });
            from = end;
        }
        Ok(Self { streams, end: from })
    }

    /// Where the block ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether every stream was read to its end.
    ///
    /// # Errors
    /// [`Error::ReadStreams`].
    pub fn is_finished(&mut self) -> Result<bool, Error> {
        for source in self.streams.iter_mut().flatten() {
            if source.from < source.to || source.fill().map_err(Error::ReadStreams)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the next byte.
    ///
    /// # Errors
    /// [`Error::Truncated`] at the end, [`Error::ReadStreams`].
    pub fn byte(&mut self, stream: Stream) -> Result<u8, Error> {
        let source = self.streams[stream as usize].as_mut().ok_or(Error::Truncated(stream))?;
        if source.from == source.to && !source.fill().map_err(Error::ReadStreams)? {
            return Err(Error::Truncated(stream));
        }
        let byte = source.buffer[source.from];
        source.from += 1;
        Ok(byte)
    }

    /// The next bytes, which are not taken; zeros behind the end.
    ///
    /// # Errors
    /// [`Error::ReadStreams`].
    pub(crate) fn peek<const N: usize>(&mut self, stream: Stream) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        if let Some(source) = self.streams[stream as usize].as_mut() {
            while source.to - source.from < N && source.fill().map_err(Error::ReadStreams)? {}
            let n = N.min(source.to - source.from);
            bytes[..n].copy_from_slice(&source.buffer[source.from..source.from + n]);
        }
        Ok(bytes)
    }

    /// Takes as many bytes as fill `out`.
    ///
    /// # Errors
    /// [`Error::Truncated`] at the end, [`Error::ReadStreams`].
    pub fn take(&mut self, stream: Stream, mut out: &mut [u8]) -> Result<(), Error> {
        while !out.is_empty() {
            let source = self.streams[stream as usize].as_mut().ok_or(Error::Truncated(stream))?;
            if source.from == source.to && !source.fill().map_err(Error::ReadStreams)? {
                return Err(Error::Truncated(stream));
            }
            let n = out.len().min(source.to - source.from);
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&source.buffer[source.from..source.from + n]);
            source.from += n;
            out = later;
        }
        Ok(())
    }

    /// Takes a number.
    ///
    /// # Errors
    /// [`Error::Truncated`] at the end, [`Error::Impossible`] where it is over 64
    /// bits, [`Error::ReadStreams`].
    pub fn u64(&mut self, stream: Stream) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(stream)?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Impossible(stream))
    }

    /// Takes a signed number.
    ///
    /// # Errors
    /// As [`u64`](Self::u64).
    pub fn i64(&mut self, stream: Stream) -> Result<i64, Error> {
        let value = self.u64(stream)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

fn byte(head: &mut Part<'_>) -> Result<u8, Error> {
    let mut one = [0];
    head.read_exact(&mut one).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => Error::Block("it ends within its head"),
        _ => Error::ReadStreams(e),
    })?;
    Ok(one[0])
}

fn number_of(head: &mut Part<'_>) -> Result<u64, Error> {
    let mut value = 0;
    for shift in (0..56).step_by(7) {
        let byte = byte(head)?;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::Block("a length is over 56 bits"))
}
