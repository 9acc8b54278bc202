//! Pieces: contents on their way, compressed as one stream and checked one by one.
//!
//! The contents that are to be sent follow one another without a gap, each from the
//! offset that was asked for. That string is cut into pieces of up to 128 KiB; a
//! piece may end one content and begin the next. All pieces of a session are one
//! zstd stream with a window of at most 8 MiB, flushed after each piece:
//!
//! | offset | bytes | field of a `Piece` frame                         |
//! |-------:|------:|--------------------------------------------------|
//! |      0 |     4 | bytes of the piece, little-endian, 1 to 131072   |
//! |      4 |     8 | first bytes of the SHA-256 of the piece          |
//! |     12 |       | what the zstd stream has for it                  |

use std::io::{self, Write};

use delta::{Digest, ReadAt};
use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

/// Largest piece, in bytes.
pub const PIECE: usize = 128 << 10;
/// Logarithm of the largest window of the zstd stream, in bytes: 8 MiB.
const WINDOW_LOG: u32 = 23;
const HEADER: usize = 12;

/// Why a piece is no piece.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PieceError {
    /// It does not have the shape of one.
    #[error("a piece is malformed")]
    Shape,
    /// Its bytes are not what they should be.
    #[error("a piece was damaged on its way")]
    Digest,
    /// It cannot be decompressed.
    #[error("a piece cannot be decompressed")]
    Zstd(#[source] io::Error),
}

/// Cuts contents into pieces.
pub struct Cutter<'a> {
    encoder: Encoder<'static>,
    gathered: Vec<u8>,
    compressed: Vec<u8>,
    send: &'a mut dyn FnMut(&[u8], u64) -> anyhow::Result<()>,
}

impl<'a> Cutter<'a> {
    /// Passes frames to `send`, each with the bytes of content that are in it.
    ///
    /// # Errors
    /// When zstd refuses the level.
    pub fn new(
        level: i32,
        send: &'a mut dyn FnMut(&[u8], u64) -> anyhow::Result<()>,
    ) -> io::Result<Self> {
        let mut encoder = Encoder::new(level)?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        Ok(Cutter { encoder, gathered: Vec::new(), compressed: vec![0; 256 << 10], send })
    }

    /// Sends all of `content` from `offset` on.
    ///
    /// # Errors
    /// When it cannot be read to its end, and as `send`.
    pub fn add(&mut self, content: &dyn ReadAt, offset: u64) -> anyhow::Result<()> {
        let mut at = offset;
        while at < content.len() {
            let old = self.gathered.len();
            let left = usize::try_from(content.len() - at).unwrap_or(usize::MAX);
            let now = (PIECE - old).min(left);
            self.gathered.resize(old + now, 0);
            content.read_exact_at(self.gathered.get_mut(old..).unwrap_or_default(), at)?;
            at += now as u64;
            if self.gathered.len() == PIECE {
                self.finish()?;
            }
        }
        Ok(())
    }

    /// Sends what was gathered for a piece that is not full.
    ///
    /// # Errors
    /// As `send`.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let mut frame = Vec::with_capacity(HEADER + self.gathered.len() / 2);
        frame.extend_from_slice(&(self.gathered.len() as u32).to_le_bytes());
        frame.extend_from_slice(&Digest::of(&self.gathered).0[..8]);
        let mut input = InBuffer::around(self.gathered.as_slice());
        while input.pos() < self.gathered.len() {
            let mut output = OutBuffer::around(self.compressed.as_mut_slice());
            self.encoder.run(&mut input, &mut output)?;
            frame.extend_from_slice(output.as_slice());
        }
        loop {
            let mut output = OutBuffer::around(self.compressed.as_mut_slice());
            let left = self.encoder.flush(&mut output)?;
            frame.extend_from_slice(output.as_slice());
            if left == 0 {
                break;
            }
        }
        (self.send)(&frame, self.gathered.len() as u64)?;
        self.gathered.clear();
        Ok(())
    }
}

/// Reads pieces.
pub struct Joiner {
    decoder: Decoder<'static>,
    piece: Vec<u8>,
}

impl Joiner {
    /// Starts a stream.
    ///
    /// # Errors
    /// When zstd cannot be set up.
    pub fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(Joiner { decoder, piece: vec![0; PIECE] })
    }

    /// Returns the checked bytes of the next piece.
    ///
    /// # Errors
    /// When it is not what a sender would send, or was damaged.
    pub fn open(&mut self, frame: &[u8]) -> Result<&[u8], PieceError> {
        let (len, rest) = frame.split_first_chunk::<4>().ok_or(PieceError::Shape)?;
        let (check, packed) = rest.split_first_chunk::<8>().ok_or(PieceError::Shape)?;
        let len = u32::from_le_bytes(*len) as usize;
        let piece = self.piece.get_mut(..len).filter(|p| !p.is_empty()).ok_or(PieceError::Shape)?;
        let mut input = InBuffer::around(packed);
        let mut output = OutBuffer::around(&mut *piece);
        while input.pos() < packed.len() {
            let before = (input.pos(), output.pos());
            self.decoder.run(&mut input, &mut output).map_err(PieceError::Zstd)?;
            if (input.pos(), output.pos()) == before {
                return Err(PieceError::Shape);
            }
        }
        if output.pos() < len {
            self.decoder.run(&mut input, &mut output).map_err(PieceError::Zstd)?;
        }
        if output.pos() != len {
            return Err(PieceError::Shape);
        }
        let piece = self.piece.get(..len).ok_or(PieceError::Shape)?;
        if Digest::of(piece).0[..8] != *check {
            return Err(PieceError::Digest);
        }
        Ok(piece)
    }
}

/// Compresses a whole listing.
///
/// # Errors
/// As zstd.
pub fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    zstd::encode_all(bytes, 15)
}

/// Decompresses what must become exactly `len` bytes.
///
/// # Errors
/// When it does not.
pub fn decompress(bytes: &[u8], len: u64) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::stream::write::Decoder::new(Bounded { bytes: Vec::new(), len })?;
    decoder.window_log_max(WINDOW_LOG)?;
    decoder.write_all(bytes)?;
    decoder.flush()?;
    let bounded = decoder.into_inner();
    match bounded.bytes.len() as u64 == len {
        true => Ok(bounded.bytes),
        false => Err(io::Error::other("it has another length than declared")),
    }
}

struct Bounded {
    bytes: Vec<u8>,
    len: u64,
}

impl Write for Bounded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + buf.len()) as u64 > self.len {
            return Err(io::Error::other("it is longer than declared"));
        }
        self.bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(contents: &[(Vec<u8>, u64)]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut send = |frame: &[u8], _: u64| {
            frames.push(frame.to_vec());
            Ok(())
        };
        let mut cutter = Cutter::new(3, &mut send).unwrap();
        for (content, offset) in contents {
            cutter.add(content, *offset).unwrap();
        }
        cutter.finish().unwrap();
        frames
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
    }

    #[test]
    fn contents_come_back_as_one_string() {
        let contents = [(noise(300_000), 100_000), (b"small".to_vec(), 0), (vec![0; 500_000], 0)];
        let mut joiner = Joiner::new().unwrap();
        let mut all = Vec::new();
        for frame in cut(&contents) {
            assert!(frame.len() <= super::super::frame::MAX_PAYLOAD);
            all.extend_from_slice(joiner.open(&frame).unwrap());
        }
        let expected: Vec<u8> =
            contents.iter().flat_map(|(c, at)| c[*at as usize..].to_vec()).collect();
        assert!(all == expected);
    }

    #[test]
    fn no_flip_is_taken_for_content() {
        let frames = cut(&[(noise(2000), 0)]);
        for at in 0..frames[0].len() {
            let mut frame = frames[0].clone();
            frame[at] ^= 0x10;
            // The zstd stream has bits that mean nothing; a flip there leaves the content as it was.
            if let Ok(piece) = Joiner::new().unwrap().open(&frame) {
                assert!(piece == noise(2000));
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_its_declared_length() {
        let bomb = compress(&vec![0; 50 << 20]).unwrap();
        assert!(decompress(&bomb, 1000).is_err());
        assert_eq!(decompress(&compress(b"listing").unwrap(), 7).unwrap(), b"listing");
    }
}
