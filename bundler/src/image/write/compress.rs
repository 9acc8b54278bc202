//! Compression of layers: equal tars give equal blobs, wherever and whenever.

use std::io::{self, Write};

use flate2::GzBuilder;
use flate2::write::GzEncoder;

/// How layers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// zstd: smaller and faster, known to image-spec 1.1 and tools since about 2021.
    Zstd,
    /// gzip, which everything reads.
    #[default]
    Gzip,
    /// None, for where something else compresses.
    None,
}

/// gzip's own default, as docker's and podman's layers have it.
const GZIP_LEVEL: u32 = 6;
/// The default of zstd and of podman's `--compression-format zstd`.
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    /// The media type of a layer (image-spec, `layer.md`).
    pub(super) fn media_type(self) -> oci_spec::image::MediaType {
        match self {
            Compression::Zstd => oci_spec::image::MediaType::ImageLayerZstd,
            Compression::Gzip => oci_spec::image::MediaType::ImageLayerGzip,
            Compression::None => oci_spec::image::MediaType::ImageLayer,
        }
    }

    pub(super) fn encoder<W: Write>(self, out: W) -> io::Result<Encoder<W>> {
        let codec = match self {
            Compression::Zstd => Codec::Zstd(zstd::Encoder::new(out, ZSTD_LEVEL)?),
            Compression::Gzip => {
                // No name and no time; 255: made on no system in particular (RFC 1952).
                let builder = GzBuilder::new().mtime(0).operating_system(255);
                Codec::Gzip(builder.write(out, flate2::Compression::new(GZIP_LEVEL)))
            }
            Compression::None => Codec::None(out),
        };
        Ok(Encoder { codec, block: Vec::with_capacity(BLOCK) })
    }
}

/// What a compressor makes of its input also depends on the pieces that it comes
/// in, so all pieces have this size.
const BLOCK: usize = 128 << 10;

/// Compresses what is written into it.
pub(super) struct Encoder<W: Write> {
    codec: Codec<W>,
    block: Vec<u8>,
}

enum Codec<W: Write> {
    Zstd(zstd::Encoder<'static, W>),
    Gzip(GzEncoder<W>),
    None(W),
}

impl<W: Write> Encoder<W> {
    /// Writes what is still held back, and returns what it was written into.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.pass_on()?;
        match self.codec {
            Codec::Zstd(encoder) => encoder.finish(),
            Codec::Gzip(encoder) => encoder.finish(),
            Codec::None(out) => Ok(out),
        }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        match &mut self.codec {
            Codec::Zstd(encoder) => encoder.write_all(&self.block),
            Codec::Gzip(encoder) => encoder.write_all(&self.block),
            Codec::None(out) => out.write_all(&self.block),
        }?;
        self.block.clear();
        Ok(())
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (now, _) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
        self.block.extend_from_slice(now);
        if self.block.len() == BLOCK {
            self.pass_on()?;
        }
        Ok(now.len())
    }

    /// Nothing: a flush in the middle would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn compress(compression: Compression, data: &[u8], piece: usize) -> Vec<u8> {
        let mut encoder = compression.encoder(Vec::new()).unwrap();
        for piece in data.chunks(piece) {
            encoder.write_all(piece).unwrap();
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn the_pieces_that_a_tar_comes_in_do_not_matter() {
        let mut number = 1_u32;
        let mut next = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Few letters, so that there is something to find.
            b"abcd"[number as usize >> 30]
        };
        let data: Vec<u8> = (0..400_000).map(|_| next()).collect();
        for compression in [Compression::Zstd, Compression::Gzip, Compression::None] {
            let whole = compress(compression, &data, data.len());
            for piece in [1, 100, 4096, 200_000] {
                assert!(compress(compression, &data, piece) == whole, "{compression:?} {piece}");
            }
            let mut back = Vec::new();
            match compression {
                Compression::Zstd => back = zstd::decode_all(whole.as_slice()).unwrap(),
                Compression::Gzip => {
                    let mut decoder = flate2::read::GzDecoder::new(whole.as_slice());
                    decoder.read_to_end(&mut back).unwrap();
                    assert_eq!(whole[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
                }
                Compression::None => back.extend_from_slice(&whole),
            }
            assert!(back == data);
        }
    }
}
