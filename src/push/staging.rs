//! A revision under construction, aside from all others until it is whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bundler::layer::{self, Node};
use bundler::tree::{Lost, Tree, Unkept};
use bundler::xattr;
use delta::{Entry, Kind, Manifest, Sink};
use rustix::fs::AtFlags;

use super::bundle::is_read_only;
use super::store::{self, Contents, Store};
use super::sweep;
use crate::tree::{FileAt, each_chunk, layer_entry};

/// Written bytes after which they are synced: what a control group may hold of
/// dirty pages is little.
const SYNC: u64 = 8 << 20;

/// A file that was hashed, as it was then: `st_dev`, `st_ino`, `st_ctime`, `st_ctime_nsec`, size.
type Stamp = (u64, u64, i64, i64, u64);

/// Files of another revision that may be linked to: those that were hashed.
pub struct Donor {
    contents: Contents,
    stamps: Vec<(Vec<u8>, Stamp)>,
    /// Whether nothing that runs there changes them.
    read_only: bool,
}

impl Donor {
    /// Takes the regular files of `contents` that are in `manifest`, hashes them, and
    /// returns the numbers of those that are not as listed.
    pub fn examine(contents: Contents, manifest: &Manifest) -> (Self, Vec<u32>) {
        let mut damaged = Vec::new();
        let mut stamps = Vec::new();
        for (number, entry) in (0..).zip(manifest.entries()) {
            let Some(info) = entry.file() else { continue };
            let look = || -> io::Result<Option<Stamp>> {
                let file = contents.file(&entry.path)?;
                let before = stamp(&file)?;
                let whole = FileAt::whole(file)?;
                let same = before.4 == info.size && super::verify::hash(&whole)? == info.digest;
                Ok(same.then_some(before))
            };
            match look() {
                Ok(Some(stamp)) => stamps.push((entry.path.clone(), stamp)),
                _ => damaged.push(number),
            }
        }
        stamps.sort();
        let mut donor = Donor { contents, stamps, read_only: false };
        let config = donor.stamp(CONFIG).and_then(|_| donor.contents.file(CONFIG).ok());
        donor.read_only = config.is_some_and(is_read_only);
        (donor, damaged)
    }

    /// The files, to be read.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Whether the file at `path` can be a hard link that is `entry`.
    pub fn stands_for(&self, entry: &Entry, path: &[u8]) -> bool {
        self.open(entry, path).is_some()
    }

    fn stamp(&self, path: &[u8]) -> Option<&Stamp> {
        let at = self.stamps.binary_search_by(|(known, _)| known.as_slice().cmp(path)).ok()?;
        self.stamps.get(at).map(|(_, stamp)| stamp)
    }

    /// Opens the file at `path` if it can stand for `entry`: nothing but its name differs.
    fn open(&self, entry: &Entry, path: &[u8]) -> Option<File> {
        let known = self.stamp(path).filter(|_| self.read_only)?;
        let file = self.contents.file(path).ok()?;
        let meta = file.metadata().ok()?;
        let info = entry.file()?;
        let root = rustix::process::geteuid().is_root();
        let owner = if root { (entry.uid, entry.gid) } else { (own_uid(), meta.gid()) };
        let same = stamp(&file).ok()? == *known
            && (meta.uid(), meta.gid()) == owner
            && meta.mode() & 0o7777 == entry.mode
            && (meta.mtime(), meta.mtime_nsec()) == (info.mtime, 0)
            && meta.size() == info.size
            && xattr::read(&file).ok()? == entry.xattrs;
        same.then_some(file)
    }
}

/// What says whether a revision is written to; it comes before its root.
const CONFIG: &[u8] = b"config.json";

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.size()))
}

/// Builds a revision below its folder in `incoming/`.
pub struct Builder<'a> {
    dir: PathBuf,
    tree: Tree,
    donor: Option<&'a Donor>,
    directories: Vec<(layer::Entry, Vec<u8>)>,
    current: Option<File>,
    /// Whether nothing that runs the revision will change it; not known before there is a
    /// file of its root.
    read_only: Option<bool>,
    unsynced: u64,
    /// Files that are hard links into the donor.
    pub linked: u64,
    /// Bytes of content written.
    pub written: u64,
    progress: &'a dyn Fn(u64),
}

impl<'a> Builder<'a> {
    /// Starts afresh in `incoming`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(
        incoming: &Path,
        donor: Option<&'a Donor>,
        progress: &'a dyn Fn(u64),
    ) -> anyhow::Result<Self> {
        let dir = incoming.join("tree");
        sweep::delete(&dir)?;
        let made = fs::create_dir(&dir).and_then(|()| Tree::new(&dir));
        let tree = made.with_context(|| format!("cannot make `{}`", dir.display()))?;
        let (directories, current) = (Vec::new(), None);
        Ok(Builder {
            dir,
            tree,
            donor,
            directories,
            current,
            read_only: None,
            unsynced: 0,
            linked: 0,
            written: 0,
            progress,
        })
    }

    /// Makes the file at `staged` the one of `entry`. It keeps its old name too where
    /// it can, so that a build that is broken off loses nothing.
    ///
    /// # Errors
    /// As the system.
    pub fn adopt(&mut self, entry: &Entry, staged: &Path) -> io::Result<()> {
        let path = self.path(entry);
        if fs::hard_link(staged, &path).is_err() {
            fs::rename(staged, &path)?;
        }
        let file = File::open(&path)?;
        self.tree.finish(&file, &layer_entry(entry)?, &entry.xattrs)
    }

    fn is_read_only(&mut self) -> bool {
        let look = || File::open(self.dir.join("config.json")).is_ok_and(is_read_only);
        *self.read_only.get_or_insert_with(look)
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.dir.join(std::ffi::OsStr::from_bytes(&entry.path))
    }

    /// Finishes directories, adds the listing, and makes all of it outlive a power
    /// cut; returns how many files lack something that matters and only root can give.
    ///
    /// # Errors
    /// As the system.
    pub fn seal(&mut self, manifest: &Manifest) -> anyhow::Result<u64> {
        self.tree.sort_directories();
        for (entry, _) in self.directories.iter().rev() {
            self.tree
                .finish_directory(entry)
                .with_context(|| format!("cannot write `{}`", entry.path))?;
        }
        let path = self.dir.join("manifest");
        fs::write(&path, manifest.to_bytes())
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755))
            .context("cannot open up the revision")?;
        let synced = File::open(&path).and_then(|file| Ok(rustix::fs::syncfs(file)?));
        synced.context("cannot sync the disk")?;
        // An ordinary user's own files stand for root's, as in a user namespace.
        let is_roots =
            |path: &[u8]| manifest.get(path).is_some_and(|entry| (entry.uid, entry.gid) == (0, 0));
        let matters = |lost: &Unkept| {
            lost.what != Lost::Owner || !is_roots(lost.path.as_bytes().get(1..).unwrap_or_default())
        };
        let mut unkept = self.tree.take_unkept();
        unkept.retain(matters);
        unkept.dedup_by(|a, b| a.path == b.path);
        Ok(unkept.len() as u64)
    }
}

impl Sink for Builder<'_> {
    fn special(&mut self, entry: &Entry) -> io::Result<()> {
        let made = layer_entry(entry)?;
        match &made.node {
            Node::Directory => {
                self.tree.make_directory(&made)?;
                self.tree.keep_directory(&made, entry.xattrs.clone());
                self.directories.push((made, entry.path.clone()));
                Ok(())
            }
            Node::HardLink(target) => self.tree.make_hard_link(&made, target),
            _ => self.tree.make_special(&made),
        }
    }

    fn keep(&mut self, entry: &Entry, from: &Entry) -> io::Result<bool> {
        // What writes into one revision must not change another.
        if entry.path != CONFIG && !self.is_read_only() {
            return Ok(false);
        }
        let Some(file) = self.donor.and_then(|donor| donor.open(entry, &from.path)) else {
            return Ok(false);
        };
        // By descriptor, so that it is the file that was looked at.
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        let cwd = rustix::fs::CWD;
        let made = rustix::fs::linkat(cwd, source, cwd, self.path(entry), AtFlags::SYMLINK_FOLLOW);
        // Too many links, or links that the system does not allow: a copy does as well.
        if made.is_err() {
            return Ok(false);
        }
        self.linked += 1;
        (self.progress)(entry.file().map_or(0, |info| info.size));
        Ok(true)
    }

    fn again(&mut self, entry: &Entry, from: &Entry) -> io::Result<()> {
        // A copy, since whoever runs the revision may write one of them and not the other.
        let there = FileAt::whole(Contents::open(&self.dir)?.file(&from.path)?)?;
        self.begin(entry)?;
        each_chunk(&there, |chunk| self.write(chunk))?;
        self.end(entry)
    }

    fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        self.current = Some(self.tree.create(&layer_entry(entry)?)?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.current.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        (self.progress)(bytes.len() as u64);
        if self.unsynced >= SYNC {
            file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn end(&mut self, entry: &Entry) -> io::Result<()> {
        let file = self.current.take().ok_or(io::ErrorKind::NotFound)?;
        self.tree.finish(&file, &layer_entry(entry)?, &entry.xattrs)
    }

    fn commit(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives the tree in `incoming` its name, in place of a damaged one of the same
/// digest. From then on the revision is there.
///
/// # Errors
/// When it cannot be renamed; then it is not there.
pub fn install(store: &Store, incoming: &Path, name: &str, id: &str) -> anyhow::Result<()> {
    let target = store.revision(name, id);
    let home = store.root().join("revs").join(name);
    fs::create_dir_all(&home).with_context(|| format!("cannot make `{}`", home.display()))?;
    let tree = incoming.join("tree");
    let cannot = || format!("cannot rename it to `{}`", target.display());
    if fs::symlink_metadata(&target).is_ok() {
        // Exchanged in one step, so that `current` never names nothing.
        let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
        match rustix::fs::renameat_with(cwd, &tree, cwd, &target, flags) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                let old = sweep::set_aside(store, &target)?;
                if let Err(error) = fs::rename(&tree, &target).with_context(cannot) {
                    if let Some(old) = old {
                        fs::rename(old, &target).with_context(cannot)?;
                    }
                    return Err(error);
                }
            }
            other => {
                other.with_context(cannot)?;
                // It may be what a running container is made of.
                sweep::set_aside(store, &tree)?;
            }
        }
    } else {
        fs::rename(&tree, &target).with_context(cannot)?;
    }
    store::sync_dir(&home)?;
    store::sync_dir(&store.root().join("revs"))
}

/// Whether a listing is that of a bundle: a `config.json`, a directory `rootfs`, and
/// nothing beside them.
pub fn is_bundle(manifest: &Manifest) -> bool {
    let top =
        |path: &[u8]| path == b"config.json" || path == b"rootfs" || path.starts_with(b"rootfs/");
    manifest.entries().iter().all(|entry| top(&entry.path) && entry.kind != Kind::Socket)
        && manifest.get(b"config.json").is_some_and(|entry| entry.file().is_some())
        && manifest.get(b"rootfs").is_some_and(|entry| entry.kind == Kind::Directory)
}
