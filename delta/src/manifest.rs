//! The file manifest: what a tree is made of, and its digest.
//!
//! The digest of a tree is the SHA-256 of `vz tree 1\n` and then, for each entry in
//! order (all integers little-endian; a string is its length in 8 bytes and itself):
//!
//! | bytes  | what                                                             |
//! |-------:|------------------------------------------------------------------|
//! |      1 | kind: 0 file, 1 directory, 2 symlink, 3 hard link, 4 fifo, 5 socket, 6 character device, 7 block device |
//! | 8 + n  | path                                                             |
//! |      4 | mode, the lower 12 bits of `st_mode`                             |
//! |   4, 4 | uid, gid                                                         |
//! |   file | 8 size, 8 mtime in whole seconds, 32 SHA-256 of the content      |
//! |   link | target, as a string                                              |
//! | device | 4 major, 4 minor                                                 |
//! |      4 | number of extended attributes, then name and value of each       |

use std::cmp::Ordering;
use std::fmt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// A SHA-256 digest; shown in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies, relative to the root of the tree, without `.` and `..`;
    /// empty for the root itself.
    pub path: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky: `st_mode & 0o7777`.
    pub mode: u32,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// What it is.
    pub kind: Kind,
    /// Extended attributes, names and values, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What kind of file an entry is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File(FileInfo),
    /// A directory.
    Directory,
    /// A symbolic link to these bytes.
    Symlink(Vec<u8>),
    /// Another name of the file at this path of the tree, which comes earlier.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device: major and minor.
    CharDevice(u32, u32),
    /// A block device: major and minor.
    BlockDevice(u32, u32),
}

/// What a manifest knows of a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Bytes of content.
    pub size: u64,
    /// Last modification in whole seconds since 1970.
    pub mtime: i64,
    /// SHA-256 of the content.
    pub digest: Digest,
}

impl Kind {
    /// Its number in digests and records.
    #[must_use]
    pub fn number(&self) -> u8 {
        match self {
            Kind::File(_) => 0,
            Kind::Directory => 1,
            Kind::Symlink(_) => 2,
            Kind::HardLink(_) => 3,
            Kind::Fifo => 4,
            Kind::Socket => 5,
            Kind::CharDevice(..) => 6,
            Kind::BlockDevice(..) => 7,
        }
    }
}

impl Entry {
    /// What is known of its content, where it is a regular file.
    #[must_use]
    pub fn file(&self) -> Option<&FileInfo> {
        match &self.kind {
            Kind::File(info) => Some(info),
            _ => None,
        }
    }

    /// Feeds it to a digest, as the table above says.
    fn hash(&self, hasher: &mut Sha256) {
        hasher.update([self.kind.number()]);
        hash_bytes(hasher, &self.path);
        for number in [self.mode, self.uid, self.gid] {
            hasher.update(number.to_le_bytes());
        }
        match &self.kind {
            Kind::File(info) => {
                hasher.update(info.size.to_le_bytes());
                hasher.update(info.mtime.to_le_bytes());
                hasher.update(info.digest.0);
            }
            Kind::Symlink(target) | Kind::HardLink(target) => hash_bytes(hasher, target),
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                hasher.update(major.to_le_bytes());
                hasher.update(minor.to_le_bytes());
            }
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
        }
        hasher.update((self.xattrs.len() as u32).to_le_bytes());
        for (name, value) in &self.xattrs {
            hash_bytes(hasher, name);
            hash_bytes(hasher, value);
        }
    }

    /// The digest of this entry alone.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        self.hash(&mut hasher);
        Digest(hasher.finalize().into())
    }
}

fn hash_bytes(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Why some entries are no tree.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A path is absolute, has an empty, `.` or `..` component or a NUL byte, or is too long.
    #[error("`{}` is no path inside a tree", .0.escape_ascii())]
    Path(Vec<u8>),
    /// A path comes twice, or before one that it should follow.
    #[error("`{}` comes twice or out of order", .0.escape_ascii())]
    Order(Vec<u8>),
    /// What a file lies in is no directory of the tree.
    #[error("`{}` lies in no directory of the tree", .0.escape_ascii())]
    Parent(Vec<u8>),
    /// A hard link names no earlier regular file.
    #[error("hard link `{}` names no file before it", .0.escape_ascii())]
    HardLink(Vec<u8>),
}

/// The entries of a tree, in order: a directory right before what is in it.
///
/// A tree that is a single file, not a directory, has one entry with an empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

/// No path may be longer: 16 times `PATH_MAX`.
pub(crate) const MAX_PATH: usize = 65536;

impl Manifest {
    /// A manifest of `entries`, in any order.
    ///
    /// # Errors
    /// Where they are no tree: two of one path, a file below something that is
    /// no directory, a path that leads out.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        entries.sort_by(|a, b| compare(&a.path, &b.path));
        Self::from_sorted(entries)
    }

    /// The manifest of a plain file: its content alone.
    #[must_use]
    pub fn of_file(size: u64, digest: Digest) -> Self {
        let kind = Kind::File(FileInfo { size, mtime: 0, digest });
        let path = Vec::new();
        Manifest {
            entries: vec![Entry { path, mode: 0, uid: 0, gid: 0, kind, xattrs: Vec::new() }],
        }
    }

    /// As [`Manifest::new`], of entries that have to be in order already.
    pub(crate) fn from_sorted(entries: Vec<Entry>) -> Result<Self, ManifestError> {
        let manifest = Manifest { entries };
        let mut directories: Vec<&[u8]> = Vec::new();
        let mut before: Option<&Entry> = None;
        for entry in &manifest.entries {
            let path = entry.path.as_slice();
            if !is_inside(path) {
                return Err(ManifestError::Path(path.to_vec()));
            }
            if before.is_some_and(|b| compare(&b.path, path) != Ordering::Less) {
                return Err(ManifestError::Order(path.to_vec()));
            }
            // The root need not be there, but what is below a root must not be below a file.
            let parent = match path.iter().rposition(|&b| b == b'/') {
                Some(slash) => &path[..slash],
                None => b"",
            };
            while directories.last().is_some_and(|d| *d != parent) {
                directories.pop();
            }
            let root_is_file = |b: &Entry| b.path.is_empty() && b.kind != Kind::Directory;
            let orphan = directories.is_empty() && !parent.is_empty();
            if orphan || before.is_some_and(root_is_file) {
                return Err(ManifestError::Parent(path.to_vec()));
            }
            if let Kind::HardLink(target) = &entry.kind {
                let earlier = compare(target, path) == Ordering::Less;
                if !earlier || manifest.get(target).and_then(Entry::file).is_none() {
                    return Err(ManifestError::HardLink(path.to_vec()));
                }
            }
            if entry.kind == Kind::Directory {
                directories.push(path);
            }
            before = Some(entry);
        }
        Ok(manifest)
    }

    /// The entries, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `path`.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.index(path).map(|at| &self.entries[at])
    }

    /// Where in the order the entry at `path` is.
    pub(crate) fn index(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| compare(&entry.path, path)).ok()
    }

    /// The digest of the tree.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(b"vz tree 1\n");
        self.entries.iter().for_each(|entry| entry.hash(&mut hasher));
        Digest(hasher.finalize().into())
    }

    /// Bytes of content of all regular files.
    #[must_use]
    pub fn size(&self) -> u64 {
        let sizes = self.entries.iter().filter_map(Entry::file).map(|info| info.size);
        sizes.fold(0, u64::saturating_add)
    }
}

/// Orders paths by component, so that what is in a directory follows it directly.
pub(crate) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    if a.is_empty() || b.is_empty() {
        return a.len().cmp(&b.len());
    }
    a.split(|&c| c == b'/').cmp(b.split(|&c| c == b'/'))
}

fn is_inside(path: &[u8]) -> bool {
    let good = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    path.is_empty()
        || (path.len() <= MAX_PATH && !path.contains(&0) && path.split(|&c| c == b'/').all(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        let path = path.as_bytes().to_vec();
        Entry { path, mode: 0o755, uid: 1, gid: 2, kind, xattrs: Vec::new() }
    }

    fn file(path: &str) -> Entry {
        let digest = Digest::of(b"content");
        entry(path, Kind::File(FileInfo { size: 7, mtime: 99, digest }))
    }

    fn dir(path: &str) -> Entry {
        entry(path, Kind::Directory)
    }

    #[test]
    fn entries_are_sorted_by_component() {
        let manifest = Manifest::new(vec![file("a-b"), file("a/b"), dir("a"), dir("")]).unwrap();
        let paths: Vec<&[u8]> = manifest.entries().iter().map(|e| &e.path[..]).collect();
        assert_eq!(paths, [&b""[..], b"a", b"a/b", b"a-b"]);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let refused = |entries: &[Entry]| Manifest::new(entries.to_vec()).unwrap_err().to_string();
        assert_eq!(refused(&[file("a/../b")]), "`a/../b` is no path inside a tree");
        assert_eq!(refused(&[file("/etc")]), "`/etc` is no path inside a tree");
        assert_eq!(refused(&[file("a"), dir("a")]), "`a` comes twice or out of order");
        assert_eq!(refused(&[file("a"), file("a/b")]), "`a/b` lies in no directory of the tree");
        assert_eq!(refused(&[file(""), file("b")]), "`b` lies in no directory of the tree");
        let symlink = entry("a", Kind::Symlink(b"/etc".to_vec()));
        assert_eq!(refused(&[symlink, file("a/b")]), "`a/b` lies in no directory of the tree");
        let link = entry("a", Kind::HardLink(b"b".to_vec()));
        assert_eq!(refused(&[link, file("b")]), "hard link `a` names no file before it");
    }

    #[test]
    fn every_field_changes_the_digest() {
        let tree = |e: Entry| Manifest::new(vec![e]).unwrap().digest();
        let with = |change: fn(&mut Entry)| {
            let mut e = file("f");
            change(&mut e);
            tree(e)
        };
        let changes: [fn(&mut Entry); 6] = [
            |e| e.path = b"g".to_vec(),
            |e| e.mode = 0o644,
            |e| e.uid = 0,
            |e| e.gid = 0,
            |e| e.kind = Kind::Fifo,
            |e| e.xattrs = vec![(b"user.a".to_vec(), b"b".to_vec())],
        ];
        for change in changes {
            assert_ne!(with(change), tree(file("f")));
        }
    }

    /// Both ends must agree on it for ever: a change here is a new format version.
    #[test]
    fn the_digest_of_a_tree_is_pinned() {
        let manifest = Manifest::new(vec![dir(""), file("f")]).unwrap();
        assert_eq!(
            manifest.digest().to_string(),
            "8b6d79ac255fec61ea35b8bfc250c087a787c8cc2b7290de8854ede7af4f3156"
        );
    }
}
