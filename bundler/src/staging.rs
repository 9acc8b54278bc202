//! Replaces a directory at once: a new one is filled beside it and takes its
//! name when it is whole.
//!
//! Until then it lies at `.NAME.vz-NUMBER`, locked by its maker. The lock ends
//! with the maker, so what a killed one left behind is known by a lock that
//! can be had, and the next one removes it.

mod file;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

pub use file::StagedFile;

/// Comes between the name of the target and a random number of the maker's.
const MARK: &str = ".vz-";

/// Why a directory could not be replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StagingError {
    /// The path does not end in a name.
    #[error("`{}` is no name for a new directory", .0.display())]
    Name(PathBuf),
    /// There is something at the path that must not be replaced.
    #[error("`{}` is there already and is no bundle", .0.display())]
    Occupied(PathBuf),
    /// A file is to be written where something else is.
    #[error("`{}` is there already and is no file", .0.display())]
    NotFile(PathBuf),
    /// A step failed.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// The step, as a verb.
        what: &'static str,
        /// The directory in question.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A directory on its way to a name; removed when it is dropped before that.
#[derive(Debug)]
pub struct Staging {
    /// Where the directory is filled.
    dir: PathBuf,
    target: PathBuf,
    parent: File,
    /// Held until the directory has its name or is removed.
    _lock: File,
    /// Whether `dir` has something that is to be removed.
    pending: bool,
}

impl Staging {
    /// Makes an empty directory that is to become `target`, and removes what
    /// killed makers of the same target left. `replaceable` judges a directory
    /// that is at `target` now; an empty one is always replaced.
    ///
    /// # Errors
    /// When `target` is something that must not be replaced, or when the
    /// directory cannot be made.
    pub fn begin(target: &Path, replaceable: impl Fn(&Path) -> bool) -> Result<Self, StagingError> {
        let name = target.file_name().ok_or_else(|| StagingError::Name(target.to_owned()))?;
        let above = match target.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| StagingError::Io { what, path, source }
        };
        // Real paths: a runtime refuses a rootfs that lies behind a link.
        let above = above.canonicalize().map_err(failed("find", above))?;
        let target = above.join(name);
        if !may_replace(&target, replaceable).map_err(failed("look at", &target))? {
            return Err(StagingError::Occupied(target));
        }
        Self::make(&above, name)
    }

    /// Makes an empty directory in `above` that is never to become anything, and removes
    /// what killed makers of the same `name` left.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn scratch(above: &Path, name: &OsStr) -> Result<Self, StagingError> {
        let failed = |source| StagingError::Io { what: "find", path: above.to_owned(), source };
        Self::make(&above.canonicalize().map_err(failed)?, name)
    }

    fn make(above: &Path, name: &OsStr) -> Result<Self, StagingError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| StagingError::Io { what, path, source }
        };
        let parent = File::open(above).map_err(failed("open", above))?;
        sweep(above, name).map_err(failed("look into", above))?;
        let (dir, lock) = locked(above, name, |dir| {
            fs::create_dir(dir)?;
            File::open(dir)
        })?;
        Ok(Staging { dir, target: above.join(name), parent, _lock: lock, pending: true })
    }

    /// The directory to fill.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path that the directory is to get.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Gives the directory its name, and removes what had the name before.
    ///
    /// # Errors
    /// When the rename fails; the old directory is then as it was.
    pub fn commit(mut self) -> Result<PathBuf, StagingError> {
        let rename = |flags| renameat_with(CWD, &self.dir, CWD, &self.target, flags);
        let renamed = match rename(RenameFlags::EXCHANGE) {
            // Nothing is there to exchange it with.
            Err(Errno::NOENT) => rename(RenameFlags::NOREPLACE).map(|()| self.pending = false),
            // A file system without exchange: for a moment there is neither.
            Err(Errno::INVAL | Errno::NOSYS) => self.exchange_in_two_steps(),
            other => other,
        };
        let failed =
            |what, source: io::Error| StagingError::Io { what, path: self.target.clone(), source };
        renamed.map_err(|e| failed("replace", e.into()))?;
        self.parent.sync_all().map_err(|e| failed("sync the directory of", e))?;
        Ok(self.target.clone())
    }

    fn exchange_in_two_steps(&mut self) -> rustix::io::Result<()> {
        let mut old = self.dir.clone().into_os_string();
        old.push("-old");
        let old = PathBuf::from(old);
        let none = RenameFlags::empty();
        match renameat_with(CWD, &self.target, CWD, &old, none) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
        if let Err(e) = renameat_with(CWD, &self.dir, CWD, &self.target, none) {
            renameat_with(CWD, &old, CWD, &self.target, none)?;
            return Err(e);
        }
        self.dir = old;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.pending {
            // What cannot be removed now is removed by the next one.
            let _ = remove(&self.dir);
        }
    }
}

fn may_replace(target: &Path, replaceable: impl Fn(&Path) -> bool) -> io::Result<bool> {
    match fs::symlink_metadata(target) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e),
        Ok(meta) if !meta.is_dir() => Ok(false),
        Ok(_) => Ok(replaceable(target) || fs::read_dir(target)?.next().is_none()),
    }
}

/// Makes something under a new name by `make`, and locks it before a sweeper does.
fn locked(
    above: &Path,
    name: &OsStr,
    make: impl Fn(&Path) -> io::Result<File>,
) -> Result<(PathBuf, File), StagingError> {
    loop {
        // Process ids are not enough: containers that share a directory have the same ones.
        let maker = RandomState::new().build_hasher().finish().to_string();
        let path = above.join(staging_name(name, &maker));
        let failed = |what| {
            let path = path.clone();
            move |source| StagingError::Io { what, path, source }
        };
        let file = match make(&path) {
            // Swept away at once, or there is one of that name already.
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) =>
            {
                // But where there is no directory for it, there never will be.
                fs::metadata(above).map_err(failed("make"))?;
                continue;
            }
            other => other.map_err(failed("make"))?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // A sweeper was faster.
            Err(Errno::WOULDBLOCK) => continue,
            other => other.map_err(|e| failed("lock")(e.into()))?,
        }
        let ours = file.metadata().map_err(failed("look at"))?;
        let is_there = fs::symlink_metadata(&path)
            .is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino()));
        if is_there {
            return Ok((path, file));
        }
    }
}

fn staging_name(name: &OsStr, maker: &str) -> OsString {
    let mut staging = OsString::from(".");
    staging.push(name);
    staging.push(MARK);
    staging.push(maker);
    staging
}

/// Removes what makers of `name` that are no more left.
fn sweep(above: &Path, name: &OsStr) -> io::Result<()> {
    let prefix = staging_name(name, "");
    for entry in fs::read_dir(above)? {
        let entry = entry?;
        let found = entry.file_name();
        let Some(maker) = found.as_bytes().strip_prefix(prefix.as_bytes()) else { continue };
        let maker = maker.strip_suffix(b"-old").unwrap_or(maker);
        if maker.is_empty() || !maker.iter().all(u8::is_ascii_digit) {
            continue;
        }
        let kind = entry.file_type();
        let is_ours = kind.as_ref().is_ok_and(|kind| kind.is_dir() || kind.is_file());
        let Some(lock) = is_ours.then(|| File::open(entry.path())).and_then(Result::ok) else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Not ours to fail over: another user's, perhaps.
            let _ = match kind.is_ok_and(|kind| kind.is_dir()) {
                true => remove(&entry.path()),
                false => fs::remove_file(entry.path()),
            };
        }
    }
    Ok(())
}

/// Removes a tree, directories closed to us included.
fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(dir)?;
            fs::remove_dir_all(dir)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_up(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn has_mark(dir: &Path) -> bool {
        dir.join("mark").exists()
    }

    #[test]
    fn a_new_directory_appears_when_it_is_whole() {
        let above = tempfile::tempdir().unwrap();
        let target = above.path().join("out");
        let staging = Staging::begin(&target, has_mark).unwrap();
        fs::write(staging.dir().join("mark"), "new").unwrap();
        assert!(!target.exists());
        staging.commit().unwrap();
        assert_eq!(names(above.path()), ["out"]);

        let staging = Staging::begin(&target, has_mark).unwrap();
        fs::write(staging.dir().join("mark"), "newer").unwrap();
        staging.commit().unwrap();
        assert_eq!(names(above.path()), ["out"]);
        assert_eq!(fs::read(target.join("mark")).unwrap(), b"newer");
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let above = tempfile::tempdir().unwrap();
        let staging = Staging::begin(&above.path().join("out"), has_mark).unwrap();
        fs::create_dir(staging.dir().join("closed")).unwrap();
        fs::write(staging.dir().join("closed/f"), "").unwrap();
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o000);
        fs::set_permissions(staging.dir().join("closed"), closed).unwrap();
        drop(staging);
        assert!(names(above.path()).is_empty());
    }

    #[test]
    fn what_a_killed_maker_left_is_swept_and_a_living_ones_is_not() {
        let above = tempfile::tempdir().unwrap();
        fs::create_dir(above.path().join(".out.vz-1")).unwrap();
        fs::create_dir(above.path().join(".out.vz-2")).unwrap();
        fs::create_dir(above.path().join(".out.vz-mine")).unwrap();
        let living = File::open(above.path().join(".out.vz-2")).unwrap();
        flock(&living, FlockOperation::NonBlockingLockExclusive).unwrap();
        drop(Staging::begin(&above.path().join("out"), has_mark).unwrap());
        assert_eq!(names(above.path()), [".out.vz-2", ".out.vz-mine"]);
    }

    #[test]
    fn two_makers_with_one_number_do_not_meet() {
        let above = tempfile::tempdir().unwrap();
        let target = above.path().join("out");
        let one = Staging::begin(&target, has_mark).unwrap();
        fs::write(one.dir().join("mark"), "").unwrap();
        // As in containers that share the directory, and have the same process ids.
        let two = Staging::begin(&target, has_mark).unwrap();
        assert!(has_mark(one.dir()) && !has_mark(two.dir()));
    }

    #[test]
    fn makers_and_sweepers_at_once_lose_nothing() {
        let above = tempfile::tempdir().unwrap();
        let make = || {
            for _ in 0..200 {
                let scratch = Staging::scratch(above.path(), "work".as_ref()).unwrap();
                fs::write(scratch.dir().join("mark"), "").unwrap();
                assert!(has_mark(scratch.dir()));
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(make))));
        assert!(names(above.path()).is_empty());
    }

    #[test]
    fn scratch_goes_with_its_maker_or_with_the_next_one() {
        let above = tempfile::tempdir().unwrap();
        fs::create_dir(above.path().join(".work.vz-1")).unwrap();
        // Whatever has the name is no concern of it.
        fs::write(above.path().join("work"), "").unwrap();
        drop(Staging::scratch(above.path(), "work".as_ref()).unwrap());
        assert_eq!(names(above.path()), ["work"]);
    }

    #[test]
    fn what_is_not_ours_is_not_replaced() {
        let above = tempfile::tempdir().unwrap();
        fs::create_dir(above.path().join("home")).unwrap();
        fs::write(above.path().join("home/letter"), "").unwrap();
        fs::write(above.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("home", above.path().join("link")).unwrap();
        for name in ["home", "file", "link"] {
            let begun = Staging::begin(&above.path().join(name), has_mark);
            assert!(matches!(begun, Err(StagingError::Occupied(_))), "{name}: {begun:?}");
        }
        assert!(matches!(Staging::begin(Path::new("/"), has_mark), Err(StagingError::Name(_))));
    }
}
