//! Blobs, checked while they are read, and taken out of their compression.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::bufread::MultiGzDecoder;
use oci_spec::image::{Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Largest window that a zstd frame may ask for, as the power of two: 128 MiB,
/// what the `zstd` command takes without `--long` (zstd(1)). It is memory.
const MAX_WINDOW: u32 = 27;
/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;

/// How a blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    /// By something that OCI's layers do not know.
    Other(&'static str),
}

impl Compression {
    pub(super) fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Other(name) => name,
        }
    }
}

/// Tells a compression by the first bytes. Registries and old tools get media
/// types wrong, and what comes out is checked by its digest.
pub(super) fn compression(magic: &[u8]) -> Option<Compression> {
    match magic {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        // A frame, or a skippable one (RFC 8878, 3.1).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Some(Compression::Zstd)
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some(Compression::Other("xz")),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Compression::Other("bzip2")),
        _ => None,
    }
}

/// A digest in the making.
#[derive(Clone, Debug)]
pub(super) enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    /// One that gives digests of the same kind as `digest`; nothing where that
    /// kind is unknown.
    pub(super) fn like(digest: &Digest) -> Option<Hasher> {
        match digest.algorithm() {
            DigestAlgorithm::Sha256 => Some(Hasher::Sha256(Sha256::new())),
            DigestAlgorithm::Sha384 => Some(Hasher::Sha384(Sha384::new())),
            DigestAlgorithm::Sha512 => Some(Hasher::Sha512(Sha512::new())),
            _ => None,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha384(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        let (name, bytes) = match self {
            Hasher::Sha256(hasher) => ("sha256", hasher.finalize().to_vec()),
            Hasher::Sha384(hasher) => ("sha384", hasher.finalize().to_vec()),
            Hasher::Sha512(hasher) => ("sha512", hasher.finalize().to_vec()),
        };
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name}:{digits}")
    }
}

/// What some bytes turned out not to be.
#[derive(Debug, thiserror::Error)]
#[error("its digest is {found}, not {expected}")]
pub(super) struct WrongDigest {
    expected: String,
    found: String,
}

/// Reads to the end and compares the digest there.
pub(super) struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    expected: String,
    done: Arc<AtomicBool>,
}

impl<R: Read> Verified<R> {
    /// Reads `inner`, which should have the digest `expected`. `done` is true
    /// once all of it was read and does.
    pub(super) fn new(inner: R, expected: &Digest, hasher: Hasher, done: Arc<AtomicBool>) -> Self {
        Verified { inner, hasher: Some(hasher), expected: expected.to_string(), done }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let read = self.inner.read(buf)?;
        if read > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(buf.get(..read).unwrap_or_default());
            }
        } else if let Some(hasher) = self.hasher.take() {
            let found = hasher.finish();
            if found != self.expected {
                let expected = std::mem::take(&mut self.expected);
                return Err(io::Error::other(WrongDigest { expected, found }));
            }
            self.done.store(true, Ordering::Release);
        }
        Ok(read)
    }
}

/// Reads `inner`, out of its compression if it has one. All members of a gzip
/// file and all frames of a zstd file count.
///
/// # Errors
/// As `read`; where it is compressed by something else.
pub(super) fn decompressed<R: Read + Send + 'static>(inner: R) -> io::Result<Box<dyn Read + Send>> {
    let mut inner = BufReader::with_capacity(CHUNK, inner);
    let magic = io::BufRead::fill_buf(&mut inner)?;
    // The first read of a file gives more than the few bytes that are needed.
    Ok(match compression(magic) {
        None => Box::new(inner),
        Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(inner)),
        Some(Compression::Zstd) => {
            let mut decoder = zstd::Decoder::with_buffer(inner)?;
            decoder.window_log_max(MAX_WINDOW)?;
            Box::new(decoder)
        }
        Some(Compression::Other(name)) => {
            let why = format!("it is compressed with {name}, which layers cannot be");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompressed(io::Cursor::new(bytes))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn all_members_and_frames_count() {
        assert_eq!(read(b"plain".to_vec()).unwrap(), b"plain");
        assert_eq!(read([gzip(b"one "), gzip(b"two")].concat()).unwrap(), b"one two");
        let frame = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        assert_eq!(read([frame(b"one "), frame(b"two")].concat()).unwrap(), b"one two");
    }

    #[test]
    fn what_is_cut_off_or_not_of_oci_is_refused() {
        let whole = gzip(&[7; 100_000]);
        for cut in [1, whole.len() / 2, whole.len() - 1] {
            assert!(read(whole[..cut].to_vec()).is_err() || cut == 1, "{cut}");
        }
        let whole = zstd::encode_all(&[7; 100_000][..], 1).unwrap();
        assert!(read(whole[..whole.len() - 1].to_vec()).is_err());
        let error = read(b"\xfd7zXZ\0".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "it is compressed with xz, which layers cannot be");
    }

    #[test]
    fn a_zstd_window_over_128_mib_is_refused() {
        for (window, allowed) in [(27, true), (28, false)] {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(window).unwrap();
            encoder.include_contentsize(false).unwrap();
            encoder.write_all(b"text").unwrap();
            assert_eq!(read(encoder.finish().unwrap()).is_ok(), allowed, "{window}");
        }
    }

    #[test]
    fn a_digest_is_compared_at_the_end() {
        let expected: Digest =
            "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
                .parse()
                .unwrap();
        let check = |text: &'static [u8]| {
            let done = Arc::new(AtomicBool::new(false));
            let hasher = Hasher::like(&expected).unwrap();
            let mut verified = Verified::new(text, &expected, hasher, Arc::clone(&done));
            let read = io::copy(&mut verified, &mut io::sink());
            (read.is_ok(), done.load(Ordering::Acquire))
        };
        assert_eq!(check(b"x"), (true, true));
        assert_eq!(check(b"y"), (false, false));
    }
}
