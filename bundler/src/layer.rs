//! The layer: every file of a bundle, in order, with the attributes it is to have.
//!
//! A layer is a plan. It is made by looking at the root file system without
//! reading any content, and [`crate::assemble`] writes it, as a tar, as a tree
//! or both. What it holds decides the bytes of the tar, so nothing in it may
//! depend on the time of day or on where the layer is written.

use std::collections::{BTreeMap, HashMap};
use std::io;

use crate::path::RootPath;
use crate::rootfs::{Kind, Meta, Rootfs};

/// Mode of directories that a bundle needs and its root does not have.
const DIRECTORY_MODE: u32 = 0o755;
/// Mode of files that a bundle needs and its root does not have.
const FILE_MODE: u32 = 0o644;

/// Entries sorted by path; every entry's parent is a directory entry before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// The entries in the order in which they are written; the first is `/`.
    pub entries: Vec<Entry>,
    /// What cannot be part of a layer, such as sockets.
    pub left_out: Vec<LeftOut>,
    /// Files that this user may not read, so that the layer cannot be written.
    pub unreadable: Vec<RootPath>,
}

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: RootPath,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// Last modification in whole seconds since 1970.
    pub mtime: i64,
    /// What it is.
    pub node: Node,
    /// Whether it lies in the root file system, which then has its extended
    /// attributes and content; else it is made for the bundle.
    pub found: bool,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file of so many bytes, read from the root file system.
    File(u64),
    /// A regular file with these bytes.
    Made(Vec<u8>),
    /// A symbolic link with this target.
    Symlink(Vec<u8>),
    /// Another name of the regular file at an earlier entry.
    HardLink(RootPath),
    /// A named pipe.
    Fifo,
    /// A character device with its major and minor number.
    CharDevice(u32, u32),
    /// A block device with its major and minor number.
    BlockDevice(u32, u32),
}

/// A path that is no part of the layer, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// The path.
    pub path: RootPath,
    /// Why it is left out, as the end of a sentence.
    pub why: &'static str,
}

/// Why a layer cannot be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The root file system could not be looked at.
    #[error("cannot look at `{path}` in the root")]
    Look {
        /// The path in question.
        path: RootPath,
        /// What the system said.
        source: io::Error,
    },
    /// A path lies below something that is no directory.
    #[error("`{path}` is no directory, and `{below}` is to lie below it")]
    NotDirectory {
        /// What is no directory.
        path: RootPath,
        /// What was to lie below it.
        below: RootPath,
    },
}

/// Collects the entries of a layer.
#[derive(Debug)]
pub struct Planner<'a> {
    rootfs: &'a Rootfs,
    latest: i64,
    check_readable: bool,
    entries: BTreeMap<RootPath, (Entry, Option<(u64, u64)>)>,
    left_out: Vec<LeftOut>,
    unreadable: Vec<RootPath>,
}

impl<'a> Planner<'a> {
    /// Starts an empty layer over `rootfs`. No file gets a modification time
    /// after `latest`, in seconds since 1970 (SOURCE_DATE_EPOCH).
    pub fn new(rootfs: &'a Rootfs, latest: Option<i64>) -> Self {
        Planner {
            rootfs,
            latest: latest.unwrap_or(i64::MAX),
            check_readable: !nix::unistd::geteuid().is_root(),
            entries: BTreeMap::new(),
            left_out: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// Adds `path` of the root file system, and the directories above it.
    ///
    /// # Errors
    /// When it cannot be looked at, or when one of its directories is a link.
    pub fn add(&mut self, path: &RootPath) -> Result<(), LayerError> {
        if self.entries.contains_key(path) {
            return Ok(());
        }
        self.add_parents(path)?;
        let look = |source| LayerError::Look { path: path.clone(), source };
        let meta = self.rootfs.lstat(path).map_err(look)?;
        let node = match meta.kind {
            Kind::Directory => Node::Directory,
            Kind::Symlink => Node::Symlink(self.rootfs.read_link(path).map_err(look)?),
            Kind::Fifo => Node::Fifo,
            Kind::CharDevice => Node::CharDevice(meta.device.0, meta.device.1),
            Kind::BlockDevice => Node::BlockDevice(meta.device.0, meta.device.1),
            Kind::Socket => {
                self.leave_out(path.clone(), "a socket, which its server makes anew");
                return Ok(());
            }
            Kind::File => {
                let denied = |e: io::Error| e.kind() == io::ErrorKind::PermissionDenied;
                if self.check_readable && self.rootfs.open_file(path).is_err_and(denied) {
                    self.unreadable.push(path.clone());
                    return Ok(());
                }
                Node::File(meta.size)
            }
        };
        self.insert(path, node, Some(&meta));
        Ok(())
    }

    /// Adds all that is below the directory `dir` of the root file system and that
    /// `takes` says yes to.
    ///
    /// # Errors
    /// What cannot be looked at.
    pub fn add_below(
        &mut self,
        dir: &RootPath,
        takes: &dyn Fn(&RootPath) -> bool,
    ) -> Result<(), LayerError> {
        let look = |source| LayerError::Look { path: dir.clone(), source };
        for name in self.rootfs.read_dir(dir).map_err(look)? {
            let path = dir.join(&name).map_err(|e| look(io::Error::other(e)))?;
            if !takes(&path) {
                continue;
            }
            self.add(&path)?;
            if self.get(&path).is_some_and(|entry| entry.node == Node::Directory) {
                self.add_below(&path, takes)?;
            }
        }
        Ok(())
    }

    /// Adds a file with `content` at `path`, in place of what the root has
    /// there. It keeps the owner and mode of a regular file of the root; its time
    /// is fixed, since what was there changes without its content's changing.
    ///
    /// # Errors
    /// When one of its directories cannot be looked at or is a link.
    pub fn make_file(&mut self, path: &RootPath, content: Vec<u8>) -> Result<(), LayerError> {
        self.add_parents(path)?;
        let meta = self.rootfs.lstat(path).ok().filter(|meta| meta.kind == Kind::File);
        let entry = Entry {
            path: path.clone(),
            mode: meta.map_or(FILE_MODE, |meta| meta.mode),
            uid: meta.map_or(0, |meta| meta.uid),
            gid: meta.map_or(0, |meta| meta.gid),
            mtime: 0,
            node: Node::Made(content),
            found: false,
        };
        self.entries.insert(path.clone(), (entry, None));
        Ok(())
    }

    /// Makes sure that there is a directory at `path`: the root's own with its
    /// owner and mode, else one of root's with mode 0755.
    ///
    /// # Errors
    /// When it or one of its directories is something else.
    pub fn ensure_directory(&mut self, path: &RootPath) -> Result<(), LayerError> {
        // A path and what is to lie below it meet the same demands.
        match path.join(b"x") {
            Ok(inside) => self.add_parents(&inside),
            Err(_) => Ok(()),
        }
    }

    /// Says that `path` is no part of the layer, and why.
    pub fn leave_out(&mut self, path: RootPath, why: &'static str) {
        self.entries.remove(&path);
        self.left_out.push(LeftOut { path, why });
    }

    /// The entry at `path` so far.
    pub fn get(&self, path: &RootPath) -> Option<&Entry> {
        self.entries.get(path).map(|(entry, _)| entry)
    }

    /// The entries so far, sorted by path.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(|(entry, _)| entry)
    }

    /// Returns the layer. Names of one file become hard links to the first.
    ///
    /// # Errors
    /// When the root directory cannot be looked at.
    pub fn finish(mut self) -> Result<Layer, LayerError> {
        self.add(&RootPath::root())?;
        let mut first: HashMap<(u64, u64), RootPath> = HashMap::new();
        let mut entries = Vec::with_capacity(self.entries.len());
        for (mut entry, inode) in self.entries.into_values() {
            if let Some(inode) = inode {
                match first.get(&inode) {
                    Some(path) => entry.node = Node::HardLink(path.clone()),
                    None => drop(first.insert(inode, entry.path.clone())),
                }
            }
            entries.push(entry);
        }
        self.left_out.sort();
        self.unreadable.sort();
        Ok(Layer { entries, left_out: self.left_out, unreadable: self.unreadable })
    }

    fn add_parents(&mut self, path: &RootPath) -> Result<(), LayerError> {
        let Some(parent) = path.parent() else { return Ok(()) };
        match self.get(&parent).map(|entry| &entry.node) {
            Some(Node::Directory) => return Ok(()),
            Some(_) => return Err(LayerError::NotDirectory { path: parent, below: path.clone() }),
            None => self.add_parents(&parent)?,
        }
        match self.rootfs.lstat(&parent) {
            Ok(meta) if meta.kind == Kind::Directory => {
                self.insert(&parent, Node::Directory, Some(&meta));
            }
            Ok(_) => return Err(LayerError::NotDirectory { path: parent, below: path.clone() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.insert(&parent, Node::Directory, None);
            }
            Err(source) => return Err(LayerError::Look { path: parent, source }),
        }
        Ok(())
    }

    fn insert(&mut self, path: &RootPath, node: Node, meta: Option<&Meta>) {
        // A hard link to a link, fifo or device is not worth the trouble.
        let shared = |meta: &&Meta| meta.links > 1 && matches!(node, Node::File(_));
        let inode = meta.filter(shared).map(|meta| meta.inode);
        // Directories and links get a fixed time: theirs tells when the machine
        // was set up, not what is in them.
        let mtime = match node {
            Node::File(_) => self.time(meta.map_or(0, |meta| meta.mtime)),
            _ => 0,
        };
        let entry = Entry {
            path: path.clone(),
            mode: meta.map_or(DIRECTORY_MODE, |meta| meta.mode),
            uid: meta.map_or(0, |meta| meta.uid),
            gid: meta.map_or(0, |meta| meta.gid),
            mtime,
            node,
            found: meta.is_some(),
        };
        self.entries.insert(path.clone(), (entry, inode));
    }

    fn time(&self, mtime: i64) -> i64 {
        mtime.min(self.latest)
    }
}

impl Layer {
    /// Bytes of content that the layer holds, each file once.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.node.size()).sum()
    }
}

impl Node {
    /// Bytes of content that a tar has for it.
    pub fn size(&self) -> u64 {
        match self {
            Node::File(size) => *size,
            Node::Made(content) => content.len() as u64,
            _ => 0,
        }
    }
}
