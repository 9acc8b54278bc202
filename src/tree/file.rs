//! Plain files: a tree of one entry, of which only the content counts.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
    file: File,
    staging: PathBuf,
    target: PathBuf,
    pending: bool,
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
    pub fn create(target: &Path) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut staging = std::ffi::OsString::from(".");
        staging.push(name);
        staging.push(format!(".vz-{}", std::process::id()));
        let staging = target.with_file_name(staging);
        match std::fs::remove_file(&staging) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = File::options().read(true).write(true).create_new(true).open(&staging)?;
        let target = target.to_owned();
        Ok(FileSink { file, staging, target, pending: true, unsynced: 0 })
    }

    /// What was written so far, to be read by position.
    ///
    /// # Errors
    /// As `fstat` and `dup`.
    pub fn content(&self) -> io::Result<FileAt> {
        FileAt::whole(self.file.try_clone()?)
    }

    /// The open file itself.
    ///
    /// # Errors
    /// As `dup`.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives the file its name; an older one there keeps its mode.
    ///
    /// # Errors
    /// As `fsync` and `rename`; what had the name before is then still there.
    pub fn finish(&mut self) -> io::Result<()> {
        match std::fs::symlink_metadata(&self.target) {
            Ok(old) if old.is_file() => {
                let mode = std::os::unix::fs::PermissionsExt::mode(&old.permissions());
                let mode: Permissions = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777);
                self.file.set_permissions(mode)?;
            }
            _ => {}
        }
        self.file.sync_all()?;
        std::fs::rename(&self.staging, &self.target)?;
        self.pending = false;
        Ok(())
    }
}

impl Write for FileSink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buf)?;
        self.unsynced += n as u64;
        if self.unsynced >= SYNC {
            self.file.sync_data()?;
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
        self.finish()
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if self.pending {
            let _ = std::fs::remove_file(&self.staging);
        }
    }
}
