//! Hashes a revision again and says what differs from its listing.

use std::collections::BTreeSet;
use std::io;

use bundler::{RootPath, rootfs, xattr};
use delta::{Digest, Entry, Kind, Manifest, ReadAt};
use sha2::{Digest as _, Sha256};

use super::store::{Contents, Store};

/// Something that is not as the listing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Number of the entry in the listing; nothing for a file that is not listed.
    pub number: Option<u32>,
    /// Its path.
    pub path: Vec<u8>,
    /// In what it differs.
    pub what: What,
}

/// In what an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is not there, or cannot be read.
    Missing,
    /// It is something else than it should be.
    Kind,
    /// Its content.
    Content,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Modification time.
    Time,
    /// Extended attributes.
    Attributes,
    /// No entry lists it.
    Extra,
}

impl What {
    /// What it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            What::Missing => "missing",
            What::Kind => "kind",
            What::Content => "content",
            What::Mode => "mode",
            What::Owner => "owner",
            What::Time => "mtime",
            What::Attributes => "attributes",
            What::Extra => "extra",
        }
    }
}

/// Compares a revision of `store` with its listing.
///
/// # Errors
/// When it is not there, its listing is another one, or a directory cannot be read.
pub fn revision(store: &Store, name: &str, id: &str) -> anyhow::Result<Vec<Difference>> {
    let manifest = store.listing(name, id)?;
    let contents = Contents::open(&store.revision(name, id))?;
    Ok(compare(&contents, &manifest)?)
}

/// Compares what is in `contents` with `manifest`, entry by entry. Owners, and what
/// only root can set, count where this is root.
///
/// # Errors
/// When a directory cannot be read.
pub fn compare(contents: &Contents, manifest: &Manifest) -> io::Result<Vec<Difference>> {
    let root = rustix::process::geteuid().is_root();
    let mut found = Vec::new();
    for (number, entry) in (0..).zip(manifest.entries()) {
        if let Some(what) = check(contents, manifest, entry, root) {
            found.push(Difference { number: Some(number), path: entry.path.clone(), what });
        }
    }
    // The revision itself is no entry of its listing, which lies in it as a file.
    extras(contents, manifest, b"", &mut found)?;
    for entry in manifest.entries().iter().filter(|entry| entry.kind == Kind::Directory) {
        extras(contents, manifest, &entry.path, &mut found)?;
    }
    Ok(found)
}

fn check(contents: &Contents, manifest: &Manifest, entry: &Entry, root: bool) -> Option<What> {
    let path = absolute(&entry.path)?;
    let device = matches!(entry.kind, Kind::CharDevice(..) | Kind::BlockDevice(..));
    let Ok(meta) = contents.0.lstat(&path) else {
        return (root || !device).then_some(What::Missing);
    };
    let same_kind = match &entry.kind {
        Kind::File(_) | Kind::HardLink(_) => meta.kind == rootfs::Kind::File,
        Kind::Directory => meta.kind == rootfs::Kind::Directory,
        Kind::Symlink(target) => {
            meta.kind == rootfs::Kind::Symlink
                && contents.0.read_link(&path).is_ok_and(|found| found == *target)
        }
        Kind::Fifo => meta.kind == rootfs::Kind::Fifo,
        Kind::Socket => meta.kind == rootfs::Kind::Socket,
        Kind::CharDevice(major, minor) => {
            meta.kind == rootfs::Kind::CharDevice && meta.device == (*major, *minor)
        }
        Kind::BlockDevice(major, minor) => {
            meta.kind == rootfs::Kind::BlockDevice && meta.device == (*major, *minor)
        }
    };
    if !same_kind {
        return Some(What::Kind);
    }
    let mut content = entry;
    if let Kind::HardLink(target) = &entry.kind {
        content = manifest.get(target)?;
        let other = absolute(target).and_then(|path| contents.0.lstat(&path).ok());
        if other.is_some_and(|other| other.inode != meta.inode) {
            return Some(What::Kind);
        }
    }
    if let Some(info) = content.file() {
        let Ok(file) = contents.file(&entry.path) else { return Some(What::Missing) };
        let Ok(file) = crate::tree::FileAt::whole(file) else { return Some(What::Missing) };
        if file.len() != info.size || !hash(&file).is_ok_and(|found| found == info.digest) {
            return Some(What::Content);
        }
        if meta.mtime != info.mtime {
            return Some(What::Time);
        }
    }
    if !matches!(entry.kind, Kind::Symlink(_)) {
        let kept = if root { 0o7777 } else { 0o1777 };
        if meta.mode & kept != content.mode & kept {
            return Some(What::Mode);
        }
    }
    if root && (meta.uid, meta.gid) != (content.uid, content.gid) {
        return Some(What::Owner);
    }
    if root && matches!(entry.kind, Kind::File(_) | Kind::Directory) {
        let found = contents.0.open_file(&path).and_then(xattr::read);
        if !found.is_ok_and(|found| found == entry.xattrs) {
            return Some(What::Attributes);
        }
    }
    None
}

/// What is in a directory that is not listed.
fn extras(
    contents: &Contents,
    manifest: &Manifest,
    below: &[u8],
    found: &mut Vec<Difference>,
) -> io::Result<()> {
    let Some(dir) = absolute(below) else { return Ok(()) };
    let names: BTreeSet<Vec<u8>> = match contents.0.read_dir(&dir) {
        Ok(names) => names.into_iter().collect(),
        // It was reported as missing, or as something else.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(e) => return Err(e),
    };
    for name in names {
        let path = match below {
            b"" => name,
            _ => [below, b"/", &name].concat(),
        };
        if manifest.get(&path).is_none() && path != b"manifest" {
            found.push(Difference { number: None, path, what: What::Extra });
        }
    }
    Ok(())
}

fn absolute(path: &[u8]) -> Option<RootPath> {
    RootPath::new(&[b"/", path].concat()).ok()
}

/// Hashes all of a content.
///
/// # Errors
/// When it cannot be read.
pub fn hash(content: &dyn ReadAt) -> io::Result<Digest> {
    hash_prefix(content, u64::MAX)
}

/// Hashes a content's first bytes, at most `len`.
///
/// # Errors
/// When it cannot be read.
pub fn hash_prefix(content: &dyn ReadAt, len: u64) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    let mut at = 0;
    loop {
        let want = buffer.len().min(usize::try_from(len - at).unwrap_or(usize::MAX));
        let n = content.read_at(buffer.get_mut(..want).unwrap_or_default(), at)?;
        if n == 0 {
            return Ok(Digest(hasher.finalize().into()));
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
        at += n as u64;
    }
}
