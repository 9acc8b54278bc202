//! A manifest as bytes: exactly those that its digest is made of, so that the
//! SHA-256 of a listing is the digest of the tree ([`crate::manifest`] has the table).

use crate::manifest::{Digest, Entry, FileInfo, Kind, Manifest, ManifestError};

/// What a listing starts with.
const HEAD: &[u8] = b"vz tree 1\n";

/// Why some bytes are no listing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// It starts with something else, or is of another version.
    #[error("it does not start with `vz tree 1`")]
    Head,
    /// It ends within an entry, or an entry declares more than there is.
    #[error("it ends early")]
    Truncated,
    /// An entry is of no known kind.
    #[error("it has an entry of unknown kind {0}")]
    Kind(u8),
    /// The entries are no tree, or not in order.
    #[error("it lists no tree")]
    Tree(#[from] ManifestError),
}

impl Manifest {
    /// The listing of this tree; its SHA-256 is [`Manifest::digest`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = HEAD.to_vec();
        for entry in self.entries() {
            write(entry, &mut out);
        }
        out
    }

    /// Reads a listing. What it takes of memory is in proportion to `bytes`.
    ///
    /// # Errors
    /// Whatever no writer of listings would write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, ListingError> {
        let mut rest = bytes.strip_prefix(HEAD).ok_or(ListingError::Head)?;
        let mut entries = Vec::new();
        while !rest.is_empty() {
            entries.push(read(&mut rest)?);
        }
        Ok(Manifest::from_sorted(entries)?)
    }
}

fn write(entry: &Entry, out: &mut Vec<u8>) {
    out.push(entry.kind.number());
    string(&entry.path, out);
    for number in [entry.mode, entry.uid, entry.gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    match &entry.kind {
        Kind::File(info) => {
            out.extend_from_slice(&info.size.to_le_bytes());
            out.extend_from_slice(&info.mtime.to_le_bytes());
            out.extend_from_slice(&info.digest.0);
        }
        Kind::Symlink(target) | Kind::HardLink(target) => string(target, out),
        Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            out.extend_from_slice(&major.to_le_bytes());
            out.extend_from_slice(&minor.to_le_bytes());
        }
        Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
    out.extend_from_slice(&(entry.xattrs.len() as u32).to_le_bytes());
    for (name, value) in &entry.xattrs {
        string(name, out);
        string(value, out);
    }
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn read(rest: &mut &[u8]) -> Result<Entry, ListingError> {
    let [number] = take(rest)?;
    let path = take_string(rest)?;
    let [mode, uid, gid] = [take_u32(rest)?, take_u32(rest)?, take_u32(rest)?];
    let kind = match number {
        0 => Kind::File(FileInfo {
            size: u64::from_le_bytes(take(rest)?),
            mtime: i64::from_le_bytes(take(rest)?),
            digest: Digest(take(rest)?),
        }),
        1 => Kind::Directory,
        2 => Kind::Symlink(take_string(rest)?),
        3 => Kind::HardLink(take_string(rest)?),
        4 => Kind::Fifo,
        5 => Kind::Socket,
        6 => Kind::CharDevice(take_u32(rest)?, take_u32(rest)?),
        7 => Kind::BlockDevice(take_u32(rest)?, take_u32(rest)?),
        other => return Err(ListingError::Kind(other)),
    };
    let mut xattrs = Vec::new();
    for _ in 0..take_u32(rest)? {
        xattrs.push((take_string(rest)?, take_string(rest)?));
    }
    Ok(Entry { path, mode, uid, gid, kind, xattrs })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ListingError> {
    let (bytes, after) = rest.split_first_chunk().ok_or(ListingError::Truncated)?;
    *rest = after;
    Ok(*bytes)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, ListingError> {
    Ok(u32::from_le_bytes(take(rest)?))
}

fn take_string(rest: &mut &[u8]) -> Result<Vec<u8>, ListingError> {
    let len = usize::try_from(u64::from_le_bytes(take(rest)?));
    let (bytes, after) =
        len.ok().and_then(|len| rest.split_at_checked(len)).ok_or(ListingError::Truncated)?;
    *rest = after;
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = |path: &str, kind| Entry {
            path: path.into(),
            mode: 0o4755,
            uid: 1,
            gid: 2,
            kind,
            xattrs: vec![(b"user.a".to_vec(), vec![0, 255])],
        };
        let info = FileInfo { size: 7, mtime: -1, digest: Digest::of(b"content") };
        Manifest::new(vec![
            entry("d", Kind::Directory),
            entry("d/f", Kind::File(info)),
            entry("d/g", Kind::HardLink(b"d/f".to_vec())),
            entry("d/l", Kind::Symlink(b"/f".to_vec())),
            entry("null", Kind::CharDevice(1, 3)),
            entry("p", Kind::Fifo),
        ])
        .unwrap()
    }

    #[test]
    fn a_listing_comes_back_and_its_digest_is_the_trees() {
        let manifest = manifest();
        let bytes = manifest.to_bytes();
        assert_eq!(Digest::of(&bytes), manifest.digest());
        assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest));
    }

    #[test]
    fn no_cut_and_no_flip_makes_the_reader_panic() {
        let bytes = manifest().to_bytes();
        for at in 0..bytes.len() {
            let _ = Manifest::from_bytes(&bytes[..at]);
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let _ = Manifest::from_bytes(&flipped);
            }
        }
        assert_eq!(Manifest::from_bytes(b"vz tree 2\n"), Err(ListingError::Head));
    }
}
