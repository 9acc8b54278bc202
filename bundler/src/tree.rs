//! Writes the entries of a layer as files below a new, empty directory.
//!
//! The directory is ours alone until it is whole, and the planner has made
//! sure that every parent is a directory entry, so a path below it meets no
//! link and can be used as it is.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::attributes::{Attributes, owner, times};
use crate::layer::{Entry, Node};
use crate::path::RootPath;
use crate::tar_header::Xattrs;

/// Something that a tree cannot hold as the layer has it, since this user may
/// not write it; the layer's tar has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unkept {
    /// The path in question.
    pub path: RootPath,
    /// What of it is not kept.
    pub what: Lost,
}

/// What a tree may lack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// User and group: the file belongs to the user who built the bundle.
    Owner,
    /// The setuid and setgid bits, which would give away the builder's rights.
    SetIds,
    /// The device node as a whole.
    Device,
    /// This extended attribute.
    Xattr(Vec<u8>),
}

/// A directory that is filled with the entries of a layer.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// Attributes of directories, set when everything is in them: a default
    /// ACL would be inherited.
    directories: Mutex<Vec<(RootPath, Xattrs)>>,
    unkept: Mutex<Vec<Unkept>>,
}

impl Tree {
    /// Takes the empty directory `dir`.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(dir, flags, Mode::empty())?;
        match rustix::fs::fremovexattr(&root, "system.posix_acl_default") {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(Tree { root, directories: Mutex::default(), unkept: Mutex::default() })
    }

    /// Makes the directory of `entry`, open to its maker only.
    pub fn make_directory(&self, entry: &Entry) -> io::Result<()> {
        if entry.path.is_root() {
            return Ok(());
        }
        Ok(rustix::fs::mkdirat(&self.root, entry.path.relative(), Mode::RWXU)?)
    }

    /// Makes the regular file of `entry`, empty and open to its maker only.
    pub fn create(&self, entry: &Entry) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(rustix::fs::openat(&self.root, entry.path.relative(), flags, mode)?.into())
    }

    /// Gives an open file or directory the owner, mode, attributes and time of
    /// `entry`, in this order: a new owner clears setuid and capabilities.
    pub fn finish(&self, file: &File, entry: &Entry, xattrs: &Xattrs) -> io::Result<()> {
        let is_file = matches!(entry.node, Node::File(_) | Node::Made(_));
        let Entry { uid, gid, mode, mtime, .. } = *entry;
        let attributes = Attributes { uid, gid, mode, mtime: (mtime, 0), xattrs, is_file };
        for what in attributes.set(file)? {
            self.lose(entry, what);
        }
        Ok(())
    }

    /// Keeps the attributes of a directory until [`Tree::finish_directories`].
    pub fn keep_directory(&self, entry: &Entry, xattrs: Xattrs) {
        if let Ok(mut kept) = self.directories.lock() {
            kept.push((entry.path.clone(), xattrs));
        }
    }

    /// Makes a link, fifo or device, and gives it the attributes of `entry`.
    pub fn make_special(&self, entry: &Entry) -> io::Result<()> {
        let path = entry.path.relative();
        let node = |kind, major, minor| {
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(&self.root, path, kind, Mode::RUSR, device)
        };
        let made = match &entry.node {
            Node::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), &self.root, path),
            Node::Fifo => node(FileType::Fifo, 0, 0),
            Node::CharDevice(major, minor) => node(FileType::CharacterDevice, *major, *minor),
            Node::BlockDevice(major, minor) => node(FileType::BlockDevice, *major, *minor),
            _ => Ok(()),
        };
        let is_device = matches!(entry.node, Node::CharDevice(..) | Node::BlockDevice(..));
        match made {
            Err(Errno::PERM) if is_device => {
                self.lose(entry, Lost::Device);
                return Ok(());
            }
            other => other?,
        }
        let (uid, gid) = owner(entry.uid, entry.gid);
        match rustix::fs::chownat(&self.root, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::PERM | Errno::INVAL) => self.lose(entry, Lost::Owner),
            other => other?,
        }
        if !matches!(entry.node, Node::Symlink(_)) {
            let mode = Mode::from_raw_mode(entry.mode);
            rustix::fs::chmodat(&self.root, path, mode, AtFlags::empty())?;
        }
        let times = times((entry.mtime, 0));
        Ok(rustix::fs::utimensat(&self.root, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes the hard link of `entry` to the file of an earlier one.
    pub fn make_hard_link(&self, entry: &Entry, target: &RootPath) -> io::Result<()> {
        let (from, to) = (target.relative(), entry.path.relative());
        Ok(rustix::fs::linkat(&self.root, from, &self.root, to, AtFlags::empty())?)
    }

    /// Gives directories their attributes, the deepest first, since a mode may
    /// close a directory to us and anything made in it sets its time.
    pub fn finish_directory(&self, entry: &Entry) -> io::Result<()> {
        let xattrs = match self.directories.lock() {
            Ok(kept) => match kept.binary_search_by(|(path, _)| path.cmp(&entry.path)) {
                Ok(found) => kept.get(found).map(|(_, xattrs)| xattrs.clone()).unwrap_or_default(),
                Err(_) => Xattrs::new(),
            },
            Err(_) => Xattrs::new(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&self.root, entry.path.relative(), flags, Mode::empty())?;
        self.finish(&File::from(dir), entry, &xattrs)
    }

    /// Readies what [`Tree::keep_directory`] collected for being looked up.
    pub fn sort_directories(&self) {
        if let Ok(mut kept) = self.directories.lock() {
            kept.sort();
        }
    }

    /// Returns what could not be kept, sorted.
    pub fn into_unkept(self) -> Vec<Unkept> {
        self.take_unkept()
    }

    /// Returns what could not be kept so far, sorted, and forgets it.
    pub fn take_unkept(&self) -> Vec<Unkept> {
        let mut unkept =
            self.unkept.lock().map(|mut u| std::mem::take(&mut *u)).unwrap_or_default();
        unkept.sort();
        unkept
    }

    fn lose(&self, entry: &Entry, what: Lost) {
        if let Ok(mut unkept) = self.unkept.lock() {
            unkept.push(Unkept { path: entry.path.clone(), what });
        }
    }
}
