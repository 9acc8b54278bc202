//! Where files of an image are put: below a directory, or into a tar.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Artifact, EVIDENCE};
use crate::digest::BlobDigest;
use crate::staging::{StagedFile, StagingError};
use crate::tar_header;

/// Takes files one after the other, each with a name that is known only when all
/// of it is there: a blob's name is its digest.
pub(super) trait Place {
    /// Begins a file.
    fn begin(&mut self) -> io::Result<()>;
    /// Adds to the file begun last.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Names the file begun last, in place of any of that name.
    fn end(&mut self, name: &str) -> io::Result<()>;

    /// Puts a whole file.
    fn put(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.begin()?;
        self.write(content)?;
        self.end(name)
    }
}

/// Name of a file in a layout that has none yet.
const PART: &str = ".vz-part";

/// A directory that is ours alone for now; forgets what was put into it unless
/// it is kept.
#[derive(Debug)]
pub(super) struct Directory {
    dir: PathBuf,
    part: Option<File>,
    sync: bool,
    /// What was made in it, in order.
    made: Vec<PathBuf>,
    /// Held until all is kept or removed.
    lock: Option<File>,
}

impl Directory {
    pub(super) fn new(dir: &Path, sync: bool) -> Self {
        Directory { dir: dir.to_owned(), part: None, sync, made: Vec::new(), lock: None }
    }

    /// Makes the directory `name`, unless it is there; the empty name is the place itself.
    pub(super) fn make(&mut self, name: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        match fs::create_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(e) => Err(e),
            Ok(()) => {
                self.made.push(path);
                Ok(())
            }
        }
    }

    /// Makes sure that the names in these directories are on the disk.
    pub(super) fn settle(&self, directories: &[&str]) -> io::Result<()> {
        for name in directories.iter().filter(|_| self.sync) {
            File::open(self.dir.join(name))?.sync_all()?;
        }
        Ok(())
    }

    /// Takes the lock that makes it ours.
    pub(super) fn hold(&mut self, lock: File) {
        self.lock = Some(lock);
    }

    /// Keeps what was put.
    pub(super) fn keep(&mut self) {
        self.made.clear();
    }
}

impl Place for Directory {
    fn begin(&mut self) -> io::Result<()> {
        // What a killed one left is overwritten.
        self.part = Some(File::create(self.dir.join(PART))?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.part.as_mut().ok_or(io::ErrorKind::NotFound)?.write_all(bytes)
    }

    fn end(&mut self, name: &str) -> io::Result<()> {
        let part = self.part.take().ok_or(io::ErrorKind::NotFound)?;
        if self.sync {
            part.sync_all()?;
        }
        let path = self.dir.join(name);
        let is_new = fs::symlink_metadata(&path).is_err();
        fs::rename(self.dir.join(PART), &path)?;
        if is_new {
            self.made.push(path);
        }
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed does no harm: nothing refers to it.
        if self.part.is_some() {
            let _ = fs::remove_file(self.dir.join(PART));
        }
        for path in self.made.iter().rev() {
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
    }
}

/// A tar of files that belong to root and have no time.
#[derive(Debug)]
pub(super) struct Archive {
    staged: StagedFile,
    /// Where the file begun last has its header, and where its content ends.
    at: (u64, u64),
}

impl Archive {
    pub(super) fn begin(target: &Path) -> Result<Self, StagingError> {
        Ok(Archive { staged: StagedFile::begin(target)?, at: (0, 0) })
    }

    /// Adds a directory.
    pub(super) fn directory(&mut self, name: &str) -> io::Result<()> {
        let header = header(name, tar::EntryType::Directory, 0)?;
        self.append(header.as_bytes())
    }

    /// Adds the documents about its image. Returns their titles.
    pub(super) fn put_evidence(
        &mut self,
        artifacts: &[Artifact],
    ) -> io::Result<Vec<(String, Option<BlobDigest>)>> {
        if !artifacts.is_empty() {
            self.directory(EVIDENCE)?;
        }
        let mut titles = Vec::new();
        for artifact in artifacts {
            self.put(&format!("{EVIDENCE}/{}", artifact.title), &artifact.content)?;
            titles.push((artifact.title.clone(), None));
        }
        Ok(titles)
    }

    /// Ends the tar.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.append(&tar_header::END)
    }

    /// Gives it its name.
    pub(super) fn commit(mut self, sync: bool) -> Result<(), StagingError> {
        self.staged.commit(sync)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.staged.file().write_all_at(bytes, self.at.1)?;
        self.at.1 += bytes.len() as u64;
        Ok(())
    }
}

impl Place for Archive {
    fn begin(&mut self) -> io::Result<()> {
        self.at.0 = self.at.1;
        // Its header comes when its name and size are known.
        self.append(&[0; tar_header::BLOCK])
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.append(bytes)
    }

    fn end(&mut self, name: &str) -> io::Result<()> {
        let size = self.at.1 - self.at.0 - tar_header::BLOCK as u64;
        let header = header(name, tar::EntryType::Regular, size)?;
        self.staged.file().write_all_at(header.as_bytes(), self.at.0)?;
        self.append(&[0; tar_header::BLOCK][..tar_header::padding(size)])
    }
}

/// A header; sizes over 8 GiB are written in base 256, as GNU tar does.
fn header(name: &str, kind: tar::EntryType, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}
