//! Copies one entry: out of the root file system, into the tree and the tar.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SendError, SyncSender};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::assemble::{AssembleError, Digests, Piece};
use crate::digest::FileHasher;
use crate::layer::{Entry, Node};
use crate::rootfs::Rootfs;
use crate::tar_header::{self, Xattrs};
use crate::tree::Tree;
use crate::xattr;

/// Bytes of a chunk.
const CHUNK: usize = 256 << 10;

/// A worker's end of the way to the consumer: bytes gather in a chunk.
pub(crate) struct Feed<'a> {
    chunk: Vec<u8>,
    pieces: SyncSender<Piece>,
    spare: Receiver<Vec<u8>>,
    /// Where the digests of files go, if they are wanted.
    digests: Option<&'a Mutex<Digests>>,
    /// Digests the file whose content goes by.
    content: Option<FileHasher>,
}

/// The consumer is gone, since it failed; it knows why.
pub(crate) struct Gone;

impl From<SendError<Piece>> for Gone {
    fn from(_: SendError<Piece>) -> Self {
        Gone
    }
}

impl From<Gone> for AssembleError {
    fn from(_: Gone) -> Self {
        AssembleError::Interrupted
    }
}

impl<'a> Feed<'a> {
    pub(crate) fn new(
        pieces: SyncSender<Piece>,
        spare: Receiver<Vec<u8>>,
        digests: Option<&'a Mutex<Digests>>,
    ) -> Self {
        Feed { chunk: Vec::with_capacity(CHUNK), pieces, spare, digests, content: None }
    }

    /// What is pushed from here on is the content of a file.
    fn begin_content(&mut self) {
        self.content = self.digests.map(|_| FileHasher::default());
    }

    /// The content of the file of `entry` has gone by.
    fn end_content(&mut self, entry: &Entry) {
        if let (Some(hasher), Some(digests)) = (self.content.take(), self.digests)
            && let Ok(mut digests) = digests.lock()
        {
            digests.insert(entry.path.clone(), hasher.finish());
        }
    }

    /// Digests the end of the chunk, from `start` on, where it is content.
    fn digest_from(&mut self, start: usize) {
        if let (Some(hasher), Some(bytes)) = (&mut self.content, self.chunk.get(start..)) {
            hasher.update(bytes);
        }
    }

    /// Ends the batch.
    pub(crate) fn end(&mut self) -> Result<(), Gone> {
        self.flush()?;
        Ok(self.pieces.send(Piece::End)?)
    }

    /// Ends the batch with an error.
    pub(crate) fn fail(self, error: AssembleError) {
        // Where the consumer is gone, it has an earlier error.
        let _ = self.pieces.send(Piece::Failed(error));
    }

    fn flush(&mut self) -> Result<(), Gone> {
        if !self.chunk.is_empty() {
            let fresh = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
            self.pieces.send(Piece::Data(std::mem::replace(&mut self.chunk, fresh)))?;
        }
        Ok(())
    }

    /// Makes room for at least one byte, and returns how much there is.
    fn room(&mut self) -> Result<usize, Gone> {
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(CHUNK.saturating_sub(self.chunk.len()))
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let start = self.chunk.len();
            self.chunk.extend_from_slice(now);
            self.digest_from(start);
            bytes = later;
        }
        Ok(())
    }

    fn push_zeros(&mut self, mut count: u64) -> Result<(), Gone> {
        while count > 0 {
            let now = (self.room()? as u64).min(count);
            let start = self.chunk.len();
            self.chunk.resize(start + now as usize, 0);
            self.digest_from(start);
            count -= now;
        }
        Ok(())
    }

    /// Reads from `file` at `offset` into the chunk, and returns what was read:
    /// at most `limit` bytes, none at the end of the file.
    fn pull(&mut self, file: &File, offset: u64, limit: u64) -> Result<io::Result<&[u8]>, Gone> {
        self.room()?;
        let before = self.chunk.len();
        loop {
            let spare = rustix::buffer::spare_capacity(&mut self.chunk);
            match rustix::io::pread(file, spare, offset) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Ok(Err(e.into())),
            }
        }
        let read = (self.chunk.len() - before).min(usize::try_from(limit).unwrap_or(usize::MAX));
        self.chunk.truncate(before + read);
        self.digest_from(before);
        Ok(Ok(self.chunk.get(before..).unwrap_or_default()))
    }
}

/// Copies `entry` into `tree`, where there is one, and into the tar of `feed`.
pub(crate) fn copy_entry(
    entry: &Entry,
    rootfs: &Rootfs,
    tree: Option<&Tree>,
    feed: &mut Feed<'_>,
) -> Result<(), AssembleError> {
    let write = |source| AssembleError::Write { path: entry.path.clone(), source };
    match &entry.node {
        Node::File(size) => copy_file(entry, *size, rootfs, tree, feed)?,
        Node::Made(content) => {
            header(entry, &Xattrs::new(), feed)?;
            feed.begin_content();
            feed.push(content)?;
            feed.end_content(entry);
            feed.push_zeros(tar_header::padding(content.len() as u64) as u64)?;
            if let Some(tree) = tree {
                let mut file = tree.create(entry).map_err(write)?;
                file.write_all(content).map_err(write)?;
                tree.finish(&file, entry, &Xattrs::new()).map_err(write)?;
            }
        }
        Node::Directory => {
            let xattrs = directory_xattrs(entry, rootfs)?;
            header(entry, &xattrs, feed)?;
            if let (Some(tree), false) = (tree, xattrs.is_empty()) {
                tree.keep_directory(entry, xattrs);
            }
        }
        // Made at the end, when the file that it names is there.
        Node::HardLink(_) => header(entry, &Xattrs::new(), feed)?,
        Node::Symlink(_) | Node::Fifo | Node::CharDevice(..) | Node::BlockDevice(..) => {
            header(entry, &Xattrs::new(), feed)?;
            if let Some(tree) = tree {
                tree.make_special(entry).map_err(write)?;
            }
        }
    }
    Ok(())
}

fn header(entry: &Entry, xattrs: &Xattrs, feed: &mut Feed<'_>) -> Result<(), Gone> {
    let mut blocks = Vec::with_capacity(tar_header::BLOCK);
    tar_header::write(entry, xattrs, &mut blocks);
    feed.push(&blocks)
}

/// A directory that this user may not read has no attributes to speak of.
fn directory_xattrs(entry: &Entry, rootfs: &Rootfs) -> Result<Xattrs, AssembleError> {
    if !entry.found {
        return Ok(Xattrs::new());
    }
    match rootfs.open_file(&entry.path) {
        Ok(dir) => xattr::read(dir).map_err(|e| read_error(entry, e)),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(Xattrs::new()),
        Err(e) => Err(read_error(entry, e)),
    }
}

fn read_error(entry: &Entry, source: io::Error) -> AssembleError {
    match source.kind() {
        io::ErrorKind::NotFound => AssembleError::Vanished(entry.path.clone()),
        _ => AssembleError::Read { path: entry.path.clone(), source },
    }
}

/// What must stay as it is while a file is read.
#[derive(PartialEq, Eq)]
struct Stamp {
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

fn stamp(file: &File) -> io::Result<(Stamp, bool)> {
    let stat = rustix::fs::fstat(file)?;
    let sparse = stat.st_blocks.saturating_mul(512) < stat.st_size;
    let stamp = Stamp {
        size: stat.st_size,
        modified: (stat.st_mtime, stat.st_mtime_nsec),
        changed: (stat.st_ctime, stat.st_ctime_nsec),
    };
    Ok((stamp, sparse))
}

fn copy_file(
    entry: &Entry,
    size: u64,
    rootfs: &Rootfs,
    tree: Option<&Tree>,
    feed: &mut Feed<'_>,
) -> Result<(), AssembleError> {
    let read = |source| read_error(entry, source);
    let write = |source| AssembleError::Write { path: entry.path.clone(), source };
    let changed = || AssembleError::Changed(entry.path.clone());

    let source = rootfs.open_file(&entry.path).map_err(read)?;
    let (before, sparse) = stamp(&source).map_err(read)?;
    if u64::try_from(before.size) != Ok(size) {
        return Err(changed());
    }
    let xattrs = xattr::read(&source).map_err(read)?;
    let target = tree.map(|tree| tree.create(entry)).transpose().map_err(write)?;
    // On file systems that share extents the copy costs nothing, and what is
    // read and digested below is the copy itself.
    let cloned = target
        .as_ref()
        .is_some_and(|target| size > 0 && rustix::fs::ioctl_ficlone(target, &source).is_ok());

    header(entry, &xattrs, feed)?;
    feed.begin_content();
    let mut offset = 0;
    while offset < size {
        let end = if sparse {
            let (data, end) = next_data(&source, offset, size).map_err(read)?;
            feed.push_zeros(data - offset)?;
            offset = data;
            end
        } else {
            size
        };
        while offset < end {
            let from = if cloned { target.as_ref().unwrap_or(&source) } else { &source };
            let bytes = feed.pull(from, offset, end - offset)?.map_err(read)?;
            if bytes.is_empty() {
                return Err(changed());
            }
            if let (Some(target), false) = (&target, cloned) {
                target.write_all_at(bytes, offset).map_err(write)?;
            }
            offset += bytes.len() as u64;
        }
    }
    feed.end_content(entry);
    feed.push_zeros(tar_header::padding(size) as u64)?;

    if stamp(&source).map_err(read)?.0 != before {
        return Err(changed());
    }
    if let (Some(tree), Some(target)) = (tree, &target) {
        if sparse && !cloned {
            target.set_len(size).map_err(write)?;
        }
        tree.finish(target, entry, &xattrs).map_err(write)?;
    }
    Ok(())
}

/// Returns where the next data begins and ends at or after `offset`; both are
/// `size` where only a hole is left.
fn next_data(file: &File, offset: u64, size: u64) -> io::Result<(u64, u64)> {
    let data = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) => data.min(size),
        Err(Errno::NXIO) => return Ok((size, size)),
        // A file system without holes: all of it is data.
        Err(Errno::INVAL) => return Ok((offset, size)),
        Err(e) => return Err(e.into()),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(data))?.min(size);
    Ok((data, end))
}
