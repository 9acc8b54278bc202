//! Trees as the commands meet them, for the delta library to read and write.

mod archive;
mod directory;
mod file;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use delta::{Digest, Files, Manifest, ReadAt, Sink};
use sha2::{Digest as _, Sha256};

pub use archive::{Archive, ArchiveSink};
pub(crate) use directory::layer_entry;
pub use directory::{Directory, DirectorySink};
pub use file::{FileSink, PlainFile};

/// Something that a delta can be made from or of.
#[derive(Debug)]
pub enum Tree {
    /// A directory, such as a bundle.
    Directory(Directory),
    /// A tar, such as a layer.
    Archive(Archive),
    /// Any other file, of which only the content counts.
    File(PlainFile),
}

impl Tree {
    /// Opens what lies at `path`, by what it is, and reads and digests all of it.
    ///
    /// # Errors
    /// When it cannot be read, or is a tar that holds no tree.
    pub fn open(path: &Path) -> anyhow::Result<Tree> {
        let meta =
            std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        let cannot = || format!("cannot read {}", path.display());
        if meta.is_dir() {
            return Ok(Tree::Directory(Directory::open(path).with_context(cannot)?));
        }
        let file = File::open(path).with_context(cannot)?;
        Ok(match archive::is_tar(&file).with_context(cannot)? {
            true => Tree::Archive(Archive::open(file).with_context(cannot)?),
            false => Tree::File(PlainFile::open(file).with_context(cannot)?),
        })
    }

    /// What it is made of.
    pub fn manifest(&self) -> &Manifest {
        match self {
            Tree::Directory(directory) => directory.manifest(),
            Tree::Archive(archive) => archive.manifest(),
            Tree::File(file) => file.manifest(),
        }
    }

    /// Its contents.
    pub fn files(&self) -> &dyn Files {
        match self {
            Tree::Directory(directory) => directory,
            Tree::Archive(archive) => archive,
            Tree::File(file) => file,
        }
    }
}

/// A stretch of an open file, read by position.
#[derive(Clone, Debug)]
pub struct FileAt {
    file: Arc<File>,
    start: u64,
    len: u64,
}

impl FileAt {
    /// All of `file`.
    ///
    /// # Errors
    /// As `fstat`.
    pub fn whole(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(FileAt { file: Arc::new(file), start: 0, len })
    }

    /// The `len` bytes of it from `start` on.
    fn part(&self, start: u64, len: u64) -> Self {
        FileAt { file: Arc::clone(&self.file), start: self.start + start, len }
    }
}

impl ReadAt for FileAt {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.len.saturating_sub(offset);
        let n = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.file.read_at(&mut buf[..n], self.start + offset)
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// Reads it all and returns its digest.
fn digest(content: &dyn ReadAt) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    each_chunk(content, |chunk| {
        hasher.update(chunk);
        Ok(())
    })?;
    Ok(Digest(hasher.finalize().into()))
}

/// Reads it from start to end.
pub(crate) fn each_chunk(
    content: &dyn ReadAt,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    let mut at = 0;
    loop {
        match content.read_at(&mut buffer, at)? {
            0 => return Ok(()),
            n => {
                take(&buffer[..n])?;
                at += n as u64;
            }
        }
    }
}

/// Builds in `sink` the same tree.
///
/// # Errors
/// What cannot be read or written.
pub fn copy(tree: &Tree, sink: &mut dyn Sink) -> anyhow::Result<()> {
    add(tree.manifest(), tree.files(), sink)?;
    Ok(sink.commit()?)
}

/// Adds a tree to what is being built in `sink`.
///
/// # Errors
/// What cannot be read or written.
pub fn add(manifest: &Manifest, files: &dyn Files, sink: &mut dyn Sink) -> anyhow::Result<()> {
    for entry in manifest.entries() {
        let cannot = || format!("cannot copy `{}`", entry.path.escape_ascii());
        if entry.file().is_none() {
            sink.special(entry).with_context(cannot)?;
            continue;
        }
        sink.begin(entry).with_context(cannot)?;
        let content = files.open(&entry.path).with_context(cannot)?;
        each_chunk(&*content, |chunk| sink.write(chunk)).with_context(cannot)?;
        sink.end(entry).with_context(cannot)?;
    }
    Ok(())
}
