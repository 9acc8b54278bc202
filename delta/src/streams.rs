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
//! |      1 | 0xFF stored, else LZMA properties `(pb * 5 + lp) * 9 + lc`, lc + lp ≤ 4 |
//! |   1..9 | length before compression (LEB128)                            |
//! |   1..9 | length here (LEB128), absent where stored                     |
//! |      1 | LZMA only: the dictionary has 2ⁿ bytes, 12 ≤ n ≤ 24           |
//! |        | then the bytes of each stream, in the same order              |
//!
//! LZMA is raw LZMA1 without end marker, as in an `.lzma` file after its 13 bytes
//! of head. All dictionaries of a block together are at most 16 MiB.

mod reader;

use std::io::Write;

use lzma_rust2::{EncodeMode, LzmaOptions, LzmaWriter, MfType};

use crate::Error;

pub use reader::StreamReader;

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
    /// Targets of calls within literal bytes.
    NewCall = 11,
    /// Targets of operands within literal bytes.
    NewData = 12,
}

const COUNT: usize = 16;
const KNOWN: usize = 13;
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

/// Of streams at least so long, pieces are tried first.
const LONG: usize = 1 << 20;

fn smallest(bytes: &[u8], log: u32, effort: Effort) -> Result<(u8, Vec<u8>), Error> {
    if bytes.len() >= LONG && is_incompressible(bytes) {
        // Only what is far apart may be alike, which the quickest way finds too.
        return match effort.level() {
            9 => pack(bytes, log, Effort::new(1)),
            _ => Ok((STORED, bytes.to_vec())),
        };
    }
    pack(bytes, log, effort)
}

/// The smallest way of those that are worth trying.
fn pack(bytes: &[u8], log: u32, effort: Effort) -> Result<(u8, Vec<u8>), Error> {
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

/// Whether pieces taken all over `bytes` do not compress.
fn is_incompressible(bytes: &[u8]) -> bool {
    const PIECE: usize = 32 << 10;
    bytes.chunks(PIECE).step_by(bytes.len() / PIECE / 16).all(|piece| {
        pack(piece, 15, Effort::new(1))
            .is_ok_and(|(_, packed)| packed.len() > piece.len() / 64 * 63)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut streams = Streams::new();
        for value in [0, 1, 127, 128, u64::MAX] {
            streams.put_u64(Stream::Copy, value);
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            streams.put_i64(Stream::Seek, value);
        }
        let block = streams.finish(Effort::default()).expect("memory can be written to");
        let mut reader = StreamReader::open(&block, 0, 1000).expect("own block");
        assert_eq!(reader.end(), block.len() as u64);
        for value in [0, 1, 127, 128, u64::MAX] {
            assert_eq!(reader.u64(Stream::Copy).expect("it was written"), value);
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(reader.i64(Stream::Seek).expect("it was written"), value);
        }
        assert!(matches!(reader.byte(Stream::Seek), Err(Error::Truncated(Stream::Seek))));
        assert!(matches!(reader.byte(Stream::Extra), Err(Error::Truncated(Stream::Extra))));
    }

    #[test]
    fn what_does_not_compress_is_stored_unless_it_comes_again() {
        let mut state = 1u64;
        let noise: Vec<u8> = (0..LONG)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        let (twice, head) = ([noise.clone(), noise.clone()].concat(), 10);
        for (level, bytes, longest) in
            [(9, &noise, LONG + head), (5, &noise, LONG + head), (9, &twice, LONG + LONG / 50)]
        {
            let mut streams = Streams::new();
            streams.put(Stream::Extra, bytes);
            let block = streams.finish(Effort::new(level)).expect("memory can be written to");
            assert!(block.len() <= longest, "effort {level}: {}", block.len());
        }
    }

    #[test]
    fn no_streams_are_two_bytes() {
        assert_eq!(
            Streams::new().finish(Effort::default()).expect("memory can be written to"),
            [0, 0]
        );
    }

    #[test]
    fn more_than_is_allowed_is_refused() {
        let mut streams = Streams::new();
        streams.put(Stream::Extra, &[0; 5000]);
        let block = streams.finish(Effort::default()).expect("memory can be written to");
        assert!(block.len() < 100, "zeros compress");
        assert!(matches!(
            StreamReader::open(&block, 0, 4999),
            Err(Error::TooLarge { size: 5000, .. })
        ));
    }

    #[test]
    fn dictionaries_share_their_limit() {
        let mut streams: [Vec<u8>; COUNT] = Default::default();
        for stream in &mut streams {
            stream.resize(5 << 20, 0);
        }
        let logs = dictionary_logs(&streams);
        assert!(logs.iter().map(|log| 1u64 << log).sum::<u64>() <= DICTIONARIES);
        assert!(logs.iter().all(|log| *log >= MIN_LOG));
    }
}
