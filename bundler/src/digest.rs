//! SHA-256 digests, a type for each thing they stand for.

use std::fmt;
use std::io;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// SHA-256 of a layer's *uncompressed* tar (OCI `diff_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiffId([u8; 32]);

impl DiffId {
    /// Reads what [`Display`](fmt::Display) prints; nothing where it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(DiffId(bytes))
    }

    /// The digest that stands for several layers, the first at the bottom: their ChainID
    /// (image-spec, `config.md`); that of one layer is its own. Nothing where there is none.
    pub fn chain(layers: impl IntoIterator<Item = DiffId>) -> Option<DiffId> {
        layers
            .into_iter()
            .reduce(|below, layer| DiffId(Sha256::digest(format!("{below} {layer}")).into()))
    }

    /// The 32 bytes of the digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// `sha256:` and 64 hexadecimal digits, as OCI writes digests.
impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// SHA-256 of a blob as an image has it: a layer *compressed*, a manifest, a
/// configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobDigest([u8; 32]);

impl BlobDigest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        BlobDigest(Sha256::digest(bytes).into())
    }

    /// Its 64 hexadecimal digits, as blobs are named.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// `sha256:` and 64 hexadecimal digits, as OCI writes digests.
impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

/// Digests a blob as it passes by.
#[derive(Clone, Default)]
pub(crate) struct BlobHasher(Sha256);

impl BlobHasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> BlobDigest {
        BlobDigest(self.0.finalize().into())
    }
}

/// Digests a layer's tar as it passes by.
#[derive(Clone, Default)]
pub(crate) struct DiffIdHasher(Sha256);

impl DiffIdHasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> DiffId {
        DiffId(self.0.finalize().into())
    }
}

/// Digests of the content of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileDigest {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// SHA-1, which SPDX 2.3 demands of every file.
    pub sha1: [u8; 20],
}

/// Digests the content of one file as it passes by.
#[derive(Clone, Default)]
pub(crate) struct FileHasher(Sha256, Sha1);

impl FileDigest {
    /// The digest of all that `content` gives.
    ///
    /// # Errors
    /// As its `read`.
    pub fn of(mut content: impl io::Read) -> io::Result<Self> {
        let (mut hasher, mut buffer) = (FileHasher::default(), vec![0; 128 << 10]);
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl FileHasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
        self.1.update(bytes);
    }

    pub(crate) fn finish(self) -> FileDigest {
        FileDigest { sha256: self.0.finalize().into(), sha1: self.1.finalize().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_layers_have_a_digest_of_their_own() {
        let digest = DiffIdHasher::default().finish();
        assert_eq!(DiffId::chain([]), None);
        assert_eq!(DiffId::chain([digest]), Some(digest));
        // printf '%s %s' sha256:e3b0… sha256:e3b0… | sha256sum
        let two = "sha256:de9d9016b852e46e9f3973e20d3a6d17e120f7144931d50cd6e2a8ad53e81960";
        assert_eq!(DiffId::chain([digest, digest]).map(|id| id.to_string()), Some(two.to_owned()));
    }

    #[test]
    fn a_digest_is_written_as_oci_does() {
        let expected = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = DiffIdHasher::default().finish();
        assert_eq!(digest.to_string(), expected);
        assert_eq!(DiffId::parse(expected), Some(digest));
        for bad in ["", "sha256:", &expected[1..], &expected[..70], &expected.replace("e3", "+3")] {
            assert_eq!(DiffId::parse(bad), None, "{bad}");
        }
    }
}
