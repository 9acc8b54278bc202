//! The separate byte streams of a delta, solid over all of its files.
//!
//! Numbers of one kind compress best among their own kind, so each kind has a
//! stream of its own, and the streams run on from one file to the next. Finished
//! streams make one self-delimiting block:
//!
//! | bytes  | what                                                          |
//! |-------:|---------------------------------------------------------------|
//! |      2 | which streams follow: bit n is the stream numbered n          |
//! |        | then for each of them, in order of number:                    |
//! |      1 | 0xFF stored, else LZMA properties `(pb * 5 + lp) * 9 + lc`    |
//! |   1..9 | length before compression (LEB128)                            |
//! |   1..9 | length here (LEB128), absent where stored                     |
//! |      1 | LZMA only: the dictionary has 2ⁿ bytes, 12 ≤ n ≤ 24           |
//! |        | then the bytes of each stream, in the same order              |
//!
//! LZMA is raw LZMA1 without end marker, as in an `.lzma` file after its 13 bytes
//! of head. All dictionaries of a block together are at most 16 MiB.

use std::io::{self, Read, Write};

use lzma_rust2::{EncodeMode, LzmaOptions, LzmaReader, LzmaWriter, MfType};

use crate::{Error, ReadAt};

/// What a stream holds. The number is its bit in the head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Manifest and records of the container.
    Manifest = 0,
    /// Heads of files: counts, segments of executables.
    Header = 1,
    /// Lengths of copied stretches.
    Copy = 2,
    /// Lengths of literal stretches.
    Insert = 3,
    /// Where a copied stretch starts, relative to where it would.
    Seek = 4,
    /// How many references in a row are as predicted.
    RefRun = 5,
    /// By how much a reference differs from its prediction.
    RefValue = 6,
    /// How many bytes in a row are as in the old file.
    AddRun = 7,
    /// By how much a byte differs from the old one.
    AddValue = 8,
    /// Literal bytes of patched files.
    Extra = 9,
    /// Whole files and others' patches, for the container's own use.
    Literal = 10,
    /// References within literal bytes.
    NewRef = 11,
}

const COUNT: usize = 16;
const KNOWN: usize = 12;
const STORED: u8 = 0xFF;
/// All dictionaries of a block together, in bytes.
const DICTIONARIES: u64 = 16 << 20;
const MIN_LOG: u32 = 12;
const MAX_LOG: u32 = 24;

/// How much time to spend on size: 1 is fastest, 9 smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Effort(u8);

impl Effort {
    /// The effort nearest to `level` within 1..=9.
    #[must_use]
    pub fn new(level: u8) -> Self {
        Self(level.clamp(1, 9))
    }

    /// The level, 1..=9.
    #[must_use]
    pub fn level(self) -> u8 {
        self.0
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self(9)
    }
}

/// Streams being written.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    bytes: [Vec<u8>; COUNT],
}

impl Streams {
    /// Empty streams.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends raw bytes.
    pub fn put(&mut self, stream: Stream, bytes: &[u8]) {
        self.bytes[stream as usize].extend_from_slice(bytes);
    }

    /// Appends one byte.
    pub fn put_byte(&mut self, stream: Stream, byte: u8) {
        self.bytes[stream as usize].push(byte);
    }

    /// Appends a number as LEB128.
    pub fn put_u64(&mut self, stream: Stream, value: u64) {
        leb128(&mut self.bytes[stream as usize], value);
    }

    /// Appends a signed number: sign in the lowest bit, then LEB128.
    pub fn put_i64(&mut self, stream: Stream, value: i64) {
        self.put_u64(stream, (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
    }

    /// Appends all that `other` holds, stream by stream.
    pub fn append(&mut self, other: &Self) {
        for (to, from) in self.bytes.iter_mut().zip(&other.bytes) {
            to.extend_from_slice(from);
        }
    }

    /// Appends what `other` holds in `stream`.
    pub fn append_only(&mut self, stream: Stream, other: &Self) {
        self.bytes[stream as usize].extend_from_slice(&other.bytes[stream as usize]);
    }

    /// How many bytes `stream` holds before compression.
    #[must_use]
    pub fn len(&self, stream: Stream) -> usize {
        self.bytes[stream as usize].len()
    }

    /// Whether no stream holds a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.iter().all(Vec::is_empty)
    }

    /// About how many bytes these streams would take by themselves: a quick
    /// compression, for choosing between codecs.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.finish(Effort::new(3)).map_or(u64::MAX, |b| b.len() as u64)
    }

    /// Compresses each stream, by LZMA or not at all, into one self-delimiting
    /// block.
    ///
    /// # Errors
    /// [`Error::Compress`], which writing to memory does not give in practice.
    pub fn finish(&self, effort: Effort) -> Result<Vec<u8>, Error> {
        let logs = dictionary_logs(&self.bytes);
        let mut present = 0u16;
        let mut head = Vec::new();
        let mut body = Vec::new();
        for (number, (bytes, log)) in self.bytes.iter().zip(logs).enumerate() {
            if bytes.is_empty() {
                continue;
            }
            present |= 1 << number;
            let (props, packed) = smallest(bytes, log, effort)?;
            head.push(props);
            leb128(&mut head, bytes.len() as u64);
            if props != STORED {
                leb128(&mut head, packed.len() as u64);
                head.push(u8::try_from(log).unwrap_or(u8::MAX));
            }
            body.extend_from_slice(&packed);
        }
        let mut block = present.to_le_bytes().to_vec();
        block.append(&mut head);
        block.append(&mut body);
        Ok(block)
    }
}

fn leb128(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7F;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Each stream's dictionary covers it, until all are over [`DICTIONARIES`]: then
/// the largest are halved.
fn dictionary_logs(streams: &[Vec<u8>; COUNT]) -> [u32; COUNT] {
    let mut logs = [0; COUNT];
    for (log, bytes) in logs.iter_mut().zip(streams) {
        if !bytes.is_empty() {
            *log = bytes.len().next_power_of_two().ilog2().clamp(MIN_LOG, MAX_LOG);
        }
    }
    let total =
        |logs: &[u32; COUNT]| logs.iter().filter(|l| **l > 0).map(|l| 1u64 << l).sum::<u64>();
    while total(&logs) > DICTIONARIES {
        if let Some(largest) = logs.iter_mut().max() {
            *largest -= 1;
        }
    }
    logs
}

/// The properties that are tried: text-like, plain, and of two and four byte
/// alignment.
const PROPERTIES: [(u32, u32, u32); 5] = [(3, 0, 0), (0, 0, 0), (4, 0, 0), (0, 2, 2), (1, 0, 0)];

fn smallest(bytes: &[u8], log: u32, effort: Effort) -> Result<(u8, Vec<u8>), Error> {
    let mut best = (STORED, bytes.to_vec());
    let tries = match (effort.level(), bytes.len()) {
        (9, 0..0x8_0000) | (6.., 0..0x1_0000) => PROPERTIES.len(),
        (9, 0x8_0000..0x80_0000) => 2,
        _ => 1,
    };
    for (lc, lp, pb) in PROPERTIES.into_iter().take(tries) {
        let options = LzmaOptions {
            dict_size: 1 << log,
            lc,
            lp,
            pb,
            mode: if effort.level() < 4 { EncodeMode::Fast } else { EncodeMode::Normal },
            nice_len: if effort.level() < 7 { 64 } else { 273 },
            mf: if effort.level() < 4 { MfType::Hc4 } else { MfType::Bt4 },
            depth_limit: 0,
            preset_dict: None,
        };
        let mut writer =
            LzmaWriter::new_no_header(Vec::new(), &options, false).map_err(Error::Compress)?;
        writer.write_all(bytes).map_err(Error::Compress)?;
        let props = writer.props();
        let packed = writer.finish().map_err(Error::Compress)?;
        if packed.len() < best.1.len() {
            best = (props, packed);
        }
    }
    Ok(best)
}

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
    /// Decompresses more; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.resize(BUFFER, 0);
        self.from = 0;
        self.to = match &mut self.bytes {
            Packed::Stored(part) => part.read(&mut self.buffer)?,
            Packed::Lzma(reader) => reader.read(&mut self.buffer)?,
        };
        Ok(self.to > 0)
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
