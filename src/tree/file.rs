//! Plain files: a tree of one entry, of which only the content counts.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use bundler::staging::{StagedFile, StagingError};
use delta::{Entry, Files, Manifest, ReadAt, Sink};

use super::FileAt;

/// A file that is no tree.
#[derive(Debug)]
pub struct PlainFile {
    content: FileAt,
    manifest: Manifest,
}

impl PlainFile {
    /// Reads and digests `file`.
    ///
    /// # Errors
    /// As `read`.
    pub fn open(file: File) -> io::Result<Self> {
        let content = FileAt::whole(file)?;
        let manifest = Manifest::of_file(content.len(), super::digest(&content)?);
        Ok(PlainFile { content, manifest })
    }

    /// Its one entry.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its content.
    pub fn content(&self) -> &FileAt {
        &self.content
    }
}

impl Files for PlainFile {
    fn open(&self, _: &[u8]) -> io::Result<Box<dyn ReadAt + '_>> {
        Ok(Box::new(self.content.clone()))
    }
}

/// A file that takes its name when it is whole, and goes away if it never is.
#[derive(Debug)]
pub struct FileSink {
    staged: StagedFile,
    /// Bytes written since the last went to the disk.
    unsynced: u64,
}

/// Written bytes go to the disk in pieces of so many, so that a tight memory limit
/// never finds all of the page cache dirty.
pub(super) const SYNC: u64 = 8 << 20;

impl FileSink {
    /// Starts a file beside `target`.
    ///
    /// # Errors
    /// When it cannot be made there.
    pub fn create(target: &Path) -> Result<Self, StagingError> {
        Ok(FileSink { staged: StagedFile::begin(target)?, unsynced: 0 })
    }

    /// What was written so far, to be read by position.
    ///
    /// # Errors
    /// As `fstat` and `dup`.
    pub fn content(&self) -> io::Result<FileAt> {
        FileAt::whole(self.file()?)
    }

    /// The open file itself.
    ///
    /// # Errors
    /// As `dup`.
    pub fn file(&self) -> io::Result<File> {
        self.staged.file().try_clone()
    }

    /// Gives the file its name; an older one there keeps its mode.
    ///
    /// # Errors
    /// As `fsync` and `rename`; what had the name before is then still there.
    pub fn finish(&mut self) -> Result<(), StagingError> {
        self.staged.commit(true)
    }
}

impl Write for FileSink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.staged.file().write(buf)?;
        self.unsynced += n as u64;
        if self.unsynced >= SYNC {
            self.staged.file().sync_data()?;
            self.unsynced = 0;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for FileSink {
    fn special(&mut self, _: &Entry) -> io::Result<()> {
        Err(io::Error::other("the delta makes a tree, not a file"))
    }

    fn again(&mut self, _: &Entry, _: &Entry) -> io::Result<()> {
        Err(io::Error::other("the delta makes a tree, not a file"))
    }

    fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        match entry.path.is_empty() {
            true => Ok(()),
            false => Err(io::Error::other("the delta makes a tree, not a file")),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    fn end(&mut self, _: &Entry) -> io::Result<()> {
        Ok(())
    }

    fn commit(&mut self) -> io::Result<()> {
        self.finish().map_err(io::Error::other)
    }
}
