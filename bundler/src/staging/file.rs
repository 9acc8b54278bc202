//! Replaces a file at once: a new one is written beside it and takes its name
//! when it is whole.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{StagingError, locked, sweep};

/// A file on its way to a name; removed when it is dropped before that.
#[derive(Debug)]
pub struct StagedFile {
    file: File,
    staging: PathBuf,
    target: PathBuf,
    parent: File,
    pending: bool,
}

impl StagedFile {
    /// Makes an empty file that is to become `target`, and removes what killed
    /// makers of the same target left.
    ///
    /// # Errors
    /// When something that is no regular file is at `target`, or the file cannot
    /// be made.
    pub fn begin(target: &Path) -> Result<Self, StagingError> {
        let name = target.file_name().ok_or_else(|| StagingError::Name(target.to_owned()))?;
        let above = target.parent().filter(|above| !above.as_os_str().is_empty());
        let above = above.unwrap_or(Path::new("."));
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| StagingError::Io { what, path, source }
        };
        if fs::metadata(target).is_ok_and(|meta| !meta.is_file()) {
            return Err(StagingError::NotFile(target.to_owned()));
        }
        let parent = File::open(above).map_err(failed("open", above))?;
        sweep(above, name).map_err(failed("look into", above))?;
        let (staging, file) = locked(above, name, |path| {
            File::options().read(true).write(true).create_new(true).open(path)
        })?;
        Ok(StagedFile { file, staging, target: target.to_owned(), parent, pending: true })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, with `sync` after it is on the disk; an older one
    /// there keeps its mode.
    ///
    /// # Errors
    /// As `fsync` and `rename`; what had the name before is then still there.
    pub fn commit(&mut self, sync: bool) -> Result<(), StagingError> {
        let done = || {
            if let Ok(old) = fs::symlink_metadata(&self.target).map(|old| old.permissions()) {
                let mode = old.mode() & 0o777;
                self.file.set_permissions(Permissions::from_mode(mode))?;
            }
            if sync {
                self.file.sync_all()?;
            }
            fs::rename(&self.staging, &self.target)?;
            if sync { self.parent.sync_all() } else { Ok(()) }
        };
        let failed = |source| StagingError::Io { what: "write", path: self.target.clone(), source };
        done().map_err(failed)?;
        self.pending = false;
        Ok(())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if self.pending {
            // What cannot be removed now is removed by the next one.
            let _ = fs::remove_file(&self.staging);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_old_or_new() {
        let above = tempfile::tempdir().unwrap();
        let target = above.path().join("out");
        fs::write(&target, "old").unwrap();
        fs::write(above.path().join(".out.vz-1"), "left by a killed one").unwrap();
        let staged = StagedFile::begin(&target).unwrap();
        staged.file().write_all(b"new").unwrap();
        drop(staged);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        let mut staged = StagedFile::begin(&target).unwrap();
        staged.file().write_all(b"new").unwrap();
        staged.commit(true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_is_not_replaced_by_a_file() {
        let above = tempfile::tempdir().unwrap();
        let begun = StagedFile::begin(above.path());
        assert!(matches!(begun, Err(StagingError::NotFile(_))), "{begun:?}");
    }
}
