//! The container: one file that turns a tree into another.
//!
//! | offset | bytes | field                                                        |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     8 | `VZDELTA1`; the digit is the version                         |
//! |      8 |    32 | digest of the base, as [`crate::manifest`] defines it        |
//! |     40 |    32 | digest of the target                                         |
//! |     72 |    34 | locator of the base, 17 × 2 bytes, little-endian             |
//! |    106 |       | block of streams, as [`crate::streams`] defines it, up to the end |
//!
//! The records, in the stream `Manifest`, are described in [`crate::record`]. The
//! streams of the codecs hold what each file needs, in the order of the target.
//! Content that travels `full` is in `Literal`, as are VCDIFF files, each after its
//! length (LEB128).
//!
//! A delta that needs no base has the digest of the tree without entries as its
//! base and applies to any.
//!
//! The locator finds the one entry in which a base differs. With `h`, the first two
//! bytes of the SHA-256 of an entry's path as a little-endian number, and `d`, the
//! first two bytes of the entry's own digest (its part of the tree digest, by
//! itself), the first field is the exclusive or of all `d`, and field 1 + `b` that
//! of the entries where bit `b` of `h` is set, for `b` from 0 to 15.

use crate::manifest::{Digest, Entry, Manifest};

/// What a container starts with.
pub const MAGIC: [u8; 8] = *b"VZDELTA1";
/// Bytes before the block of streams.
pub(crate) const HEADER_LEN: usize = 106;
const FIELDS: usize = 17;

/// What stands before the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Digest of the tree that it applies to.
    pub base: Digest,
    /// Digest of the tree that it gives.
    pub target: Digest,
    pub(crate) locator: Locator,
}

/// Why a file is no container that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Magic,
    Version(u8),
    Truncated,
}

impl Header {
    pub(crate) fn new(base: &Manifest, target: &Manifest) -> Self {
        let locator = Locator::of(base);
        Header { base: base.digest(), target: target.digest(), locator }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.base.0);
        out.extend_from_slice(&self.target.0);
        for field in self.locator.0 {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }

    /// Reads a header from the first bytes of a file, [`HEADER_LEN`] where it has so many.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, HeaderError> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(HeaderError::Magic)?;
        if magic[..7] != MAGIC[..7] {
            return Err(HeaderError::Magic);
        }
        if *magic != MAGIC {
            return Err(HeaderError::Version(magic[7]));
        }
        let (base, rest) = rest.split_first_chunk().ok_or(HeaderError::Truncated)?;
        let (target, rest) = rest.split_first_chunk().ok_or(HeaderError::Truncated)?;
        let locator = rest.first_chunk::<{ 2 * FIELDS }>().ok_or(HeaderError::Truncated)?;
        let mut fields = [0; FIELDS];
        for (field, pair) in fields.iter_mut().zip(locator.as_chunks().0) {
            *field = u16::from_le_bytes(*pair);
        }
        Ok(Header { base: Digest(*base), target: Digest(*target), locator: Locator(fields) })
    }
}

/// Sums of short digests over a base, by the bits of the paths' hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Locator([u16; FIELDS]);

impl Locator {
    pub(crate) fn of(base: &Manifest) -> Self {
        let mut fields = [0; FIELDS];
        for entry in base.entries() {
            let (hash, digest) = (path_hash(entry), first_two(entry.digest()));
            fields[0] ^= digest;
            for (bit, field) in fields[1..].iter_mut().enumerate() {
                if hash >> bit & 1 == 1 {
                    *field ^= digest;
                }
            }
        }
        Locator(fields)
    }

    /// Where `actual` differs from the base that this was made of, if in one path
    /// where it has something; rarely that path and others of the same hash.
    pub(crate) fn differing(&self, actual: &Manifest) -> Vec<Vec<u8>> {
        let other = Locator::of(actual);
        let all = self.0[0] ^ other.0[0];
        let mut hash = 0;
        for bit in 0..FIELDS - 1 {
            match self.0[1 + bit] ^ other.0[1 + bit] {
                0 => {}
                field if field == all => hash |= 1 << bit,
                _ => return Vec::new(),
            }
        }
        let found = actual.entries().iter().filter(|e| all != 0 && path_hash(e) == hash);
        found.map(|entry| entry.path.clone()).collect()
    }
}

fn path_hash(entry: &Entry) -> u16 {
    first_two(Digest::of(&entry.path))
}

fn first_two(digest: Digest) -> u16 {
    u16::from_le_bytes([digest.0[0], digest.0[1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{FileInfo, Kind};

    fn tree(files: impl IntoIterator<Item = (u32, u64)>) -> Manifest {
        let entry = |(name, content): (u32, u64)| {
            let digest = Digest::of(&content.to_le_bytes());
            let kind = Kind::File(FileInfo { size: 8, mtime: 0, digest });
            let path = name.to_string().into_bytes();
            Entry { path, mode: 0o644, uid: 0, gid: 0, kind, xattrs: Vec::new() }
        };
        Manifest::new(files.into_iter().map(entry).collect()).unwrap()
    }

    #[test]
    fn a_header_comes_back() {
        let header = Header::new(&tree([(1, 1)]), &tree([(1, 2)]));
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        assert_eq!(bytes.len(), HEADER_LEN);
        assert_eq!(Header::read(&bytes), Ok(header));
        assert_eq!(Header::read(&bytes[..105]), Err(HeaderError::Truncated));
        bytes[7] = b'9';
        assert_eq!(Header::read(&bytes), Err(HeaderError::Version(b'9')));
    }

    #[test]
    fn the_one_file_that_differs_is_named() {
        let promised = Locator::of(&tree((0..40).map(|n| (n, 0))));
        for changed in 0..40 {
            let actual = tree((0..40).map(|n| (n, u64::from(n == changed))));
            assert_eq!(promised.differing(&actual), [changed.to_string().into_bytes()]);
        }
        let many = tree((0..40).map(|n| (n, u64::from(n < 9))));
        assert!(promised.differing(&many).is_empty());
    }
}
