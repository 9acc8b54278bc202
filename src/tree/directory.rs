//! Directories, read and written with all that a layer keeps of them.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bundler::bundle::is_bundle;
use bundler::layer::{self, Node};
use bundler::staging::Staging;
use bundler::tree::{Tree, Unkept};
use bundler::{Planner, RootPath, Rootfs, xattr};
use delta::{Entry, FileInfo, Files, Kind, Manifest, ReadAt, Sink};

use super::FileAt;
use super::file::SYNC;
use crate::evidence;

/// A directory that is read.
#[derive(Debug)]
pub struct Directory {
    rootfs: Rootfs,
    layer: bundler::Layer,
    manifest: Manifest,
}

impl Directory {
    /// Reads and digests all that is below `dir`. Sockets are left out, and the
    /// evidence of a bundle, which tells how it was built and stays there.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let rootfs = Rootfs::open(dir)?;
        let mut planner = Planner::new(&rootfs, None);
        let folder = RootPath::new(format!("/{}", evidence::FOLDER).as_bytes())?;
        let skipped = Some(&folder).filter(|_| is_bundle(dir));
        planner.add_below(&RootPath::root(), &|path| Some(path) != skipped)?;
        let layer = planner.finish()?;
        if let Some(path) = layer.unreadable.first() {
            anyhow::bail!("`{path}` may not be read by this user");
        }
        let entries = layer.entries.iter().map(|entry| describe(&rootfs, entry));
        let manifest = Manifest::new(entries.collect::<anyhow::Result<_>>()?)?;
        Ok(Directory { rootfs, layer, manifest })
    }

    /// What is in it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes its deterministic layer tar.
    ///
    /// # Errors
    /// What cannot be read or written, or changed meanwhile.
    pub fn write_tar(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let sinks = bundler::Sinks { tar: Some(out), ..Default::default() };
        bundler::assemble(&self.layer, &self.rootfs, None, sinks)?;
        Ok(())
    }
}

impl Files for Directory {
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn ReadAt + '_>> {
        let file = self.rootfs.open_file(&root_path(path)?)?;
        Ok(Box::new(FileAt::whole(file)?))
    }
}

fn describe(rootfs: &Rootfs, entry: &layer::Entry) -> anyhow::Result<Entry> {
    let mut xattrs = Vec::new();
    let kind = match &entry.node {
        Node::File(_) | Node::Made(_) => {
            let file = rootfs.open_file(&entry.path)?;
            xattrs = xattr::read(&file)?;
            let content = FileAt::whole(file)?;
            let (size, digest) = (content.len(), super::digest(&content)?);
            Kind::File(FileInfo { size, mtime: entry.mtime, digest })
        }
        Node::Directory => {
            xattrs = xattr::read(rootfs.open_file(&entry.path)?)?;
            Kind::Directory
        }
        Node::Symlink(target) => Kind::Symlink(target.clone()),
        Node::HardLink(target) => Kind::HardLink(relative(target)),
        Node::Fifo => Kind::Fifo,
        Node::CharDevice(major, minor) => Kind::CharDevice(*major, *minor),
        Node::BlockDevice(major, minor) => Kind::BlockDevice(*major, *minor),
    };
    let (mode, uid, gid) = (entry.mode, entry.uid, entry.gid);
    Ok(Entry { path: relative(&entry.path), mode, uid, gid, kind, xattrs })
}

fn relative(path: &RootPath) -> Vec<u8> {
    path.as_bytes().get(1..).unwrap_or_default().to_vec()
}

fn root_path(path: &[u8]) -> io::Result<RootPath> {
    RootPath::new(&[b"/", path].concat()).map_err(io::Error::other)
}

/// The entry as a layer has it, whose content comes from elsewhere.
pub(crate) fn layer_entry(entry: &Entry) -> io::Result<layer::Entry> {
    let mut mtime = 0;
    let node = match &entry.kind {
        Kind::File(info) => {
            mtime = info.mtime;
            Node::File(info.size)
        }
        Kind::Directory => Node::Directory,
        Kind::Symlink(target) => Node::Symlink(target.clone()),
        Kind::HardLink(target) => Node::HardLink(root_path(target)?),
        Kind::Fifo => Node::Fifo,
        Kind::CharDevice(major, minor) => Node::CharDevice(*major, *minor),
        Kind::BlockDevice(major, minor) => Node::BlockDevice(*major, *minor),
        Kind::Socket => return Err(io::Error::other("a socket cannot be part of a layer")),
    };
    let (path, mode, uid, gid) = (root_path(&entry.path)?, entry.mode, entry.uid, entry.gid);
    Ok(layer::Entry { path, mode, uid, gid, mtime, node, found: false })
}

/// A directory that takes its name when it is whole, and goes away if it never is.
#[derive(Debug)]
pub struct DirectorySink {
    staging: Option<Staging>,
    tree: Tree,
    directories: Vec<layer::Entry>,
    current: Option<File>,
    unsynced: u64,
    /// What the directory lacks, since this user may not write it.
    pub unkept: Vec<Unkept>,
    /// Where it lies, once it has its name.
    pub finished: Option<PathBuf>,
}

impl DirectorySink {
    /// Starts a directory beside `target`, where there is a bundle, an empty
    /// directory or nothing.
    ///
    /// # Errors
    /// When it cannot be made, or something else is at `target`.
    pub fn create(target: &Path) -> anyhow::Result<Self> {
        let staging = Staging::begin(target, bundler::bundle::is_bundle)?;
        let tree = Tree::new(staging.dir())?;
        Ok(DirectorySink {
            staging: Some(staging),
            tree,
            directories: Vec::new(),
            current: None,
            unsynced: 0,
            unkept: Vec::new(),
            finished: None,
        })
    }
}

impl Sink for DirectorySink {
    fn special(&mut self, entry: &Entry) -> io::Result<()> {
        let made = layer_entry(entry)?;
        match &made.node {
            Node::Directory => {
                self.tree.make_directory(&made)?;
                self.tree.keep_directory(&made, entry.xattrs.clone());
                self.directories.push(made);
                Ok(())
            }
            Node::HardLink(target) => self.tree.make_hard_link(&made, target),
            _ => self.tree.make_special(&made),
        }
    }

    fn again(&mut self, entry: &Entry, from: &Entry) -> io::Result<()> {
        let staging = self.staging.as_ref().ok_or(io::ErrorKind::NotFound)?;
        // The directory is still ours alone, and its files are no links.
        let there = FileAt::whole(File::open(root_path(&from.path)?.under(staging.dir()))?)?;
        self.begin(entry)?;
        super::each_chunk(&there, |chunk| self.write(chunk))?;
        self.end(entry)
    }

    fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        self.current = Some(self.tree.create(&layer_entry(entry)?)?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.current.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(bytes)?;
        self.unsynced += bytes.len() as u64;
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
        self.tree.sort_directories();
        for entry in self.directories.iter().rev() {
            self.tree.finish_directory(entry)?;
        }
        self.unkept = self.tree.take_unkept();
        let staging = self.staging.take().ok_or(io::ErrorKind::NotFound)?;
        rustix::fs::syncfs(File::open(staging.dir())?)?;
        self.finished = Some(staging.commit().map_err(io::Error::other)?);
        Ok(())
    }
}
