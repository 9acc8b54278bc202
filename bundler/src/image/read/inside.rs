//! Directories inside the root that an image is unpacked to, as the root sees them:
//! links lead to other places of it and never out.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::attributes::times;
use crate::image::error::EntryError;
use crate::path::RootPath;
use crate::rootfs::open_beneath;

/// Symbolic links that one path may cross (`MAXSYMLINKS` of Linux).
const MAX_LINKS: usize = 40;
/// Components that one path may have once its links are followed.
const MAX_STEPS: usize = 4096;
/// Longest path in bytes, without its NUL (`PATH_MAX` - 1).
const MAX_PATH: usize = 4095;
/// Directories in one another. Removing a tree holds a descriptor of each, and
/// 1024 is the usual limit of them.
const MAX_DEPTH: usize = 512;
/// Mode of directories that a layer takes for granted.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Paths that the present layer has made, as hashes: whiteouts do not touch them.
/// Eight bytes a path, so that a million of them do not matter.
#[derive(Debug)]
pub(super) struct Made {
    /// Whether everything is of this layer, since there is none below.
    all: bool,
    hashes: HashSet<u64>,
    /// Its whiteouts so far.
    whiteouts: HashSet<u64>,
    hasher: RandomState,
}

impl Made {
    /// Nothing so far; or everything, in the lowest layer.
    pub(super) fn new(is_lowest: bool) -> Self {
        let (hashes, whiteouts) = (HashSet::new(), HashSet::new());
        Made { all: is_lowest, hashes, whiteouts, hasher: RandomState::new() }
    }

    /// Adds `path` and the directories that hold it.
    pub(super) fn insert(&mut self, path: &RootPath) {
        if self.all || !self.hashes.insert(self.hasher.hash_one(path.as_bytes())) {
            return;
        }
        if let Some(parent) = path.parent() {
            self.insert(&parent);
        }
    }

    pub(super) fn contains(&self, path: &RootPath) -> bool {
        self.all || self.hashes.contains(&self.hasher.hash_one(path.as_bytes()))
    }

    /// Whether the layer had no such whiteout before.
    pub(super) fn is_first(&mut self, whiteout: &RootPath) -> bool {
        self.whiteouts.insert(self.hasher.hash_one(whiteout.as_bytes()))
    }

    /// Whether there is nothing below that could be removed.
    pub(super) fn is_everything(&self) -> bool {
        self.all
    }
}

/// A directory to put entries into.
#[derive(Debug)]
pub(super) struct Place {
    asked: RootPath,
    /// Where it lies, with all links followed.
    pub(super) path: RootPath,
    pub(super) fd: OwnedFd,
    /// Its times as they were, which entries must not change.
    times: Timestamps,
}

/// The root, and the directory of it that was used last.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) root: OwnedFd,
    place: Option<Place>,
}

impl Inside {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        // The user named it, and may have named a link.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Inside { root: rustix::fs::open(dir, flags, Mode::empty())?, place: None })
    }

    /// Goes to the directory `dir` and makes it where it is missing. What has to be
    /// made on the way is added to `made`.
    pub(super) fn enter(&mut self, dir: &RootPath, made: &mut Made) -> Result<&Place, EntryError> {
        if self.place.as_ref().is_none_or(|place| place.asked != *dir) {
            self.leave()?;
            let (path, fd) = self.find(dir, Some(made))?.ok_or(Errno::NOENT)?;
            let times = times_of(&rustix::fs::fstat(&fd)?);
            self.place = Some(Place { asked: dir.clone(), path, fd, times });
        }
        // It was put there just now.
        self.place.as_ref().ok_or_else(|| Errno::NOENT.into())
    }

    /// As [`Inside::enter`]; nothing where there is no such directory.
    pub(super) fn visit(
        &mut self,
        dir: &RootPath,
        made: &mut Made,
    ) -> Result<Option<&Place>, EntryError> {
        if self.place.as_ref().is_none_or(|place| place.asked != *dir) {
            match self.find(dir, None) {
                Ok(Some(_)) => {}
                Ok(None) | Err(EntryError::NotDirectory(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        self.enter(dir, made).map(Some)
    }

    /// Leaves the directory as old as it was.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        if let Some(place) = self.place.take() {
            rustix::fs::futimens(&place.fd, &place.times)?;
        }
        Ok(())
    }

    /// Finds the directory `dir`; where something on the way is missing it is made
    /// if `made` is given, and else nothing is returned.
    pub(super) fn find(
        &self,
        dir: &RootPath,
        made: Option<&mut Made>,
    ) -> Result<Option<(RootPath, OwnedFd)>, EntryError> {
        match open_beneath(&self.root, dir, DIRECTORY) {
            Ok(fd) => return Ok(Some((dir.clone(), fd))),
            Err(e) if is(&e, &[Errno::NOENT, Errno::LOOP, Errno::NOTDIR]) => {}
            Err(e) => return Err(e.into()),
        }
        self.walk(dir, made)
    }

    fn walk(
        &self,
        dir: &RootPath,
        mut made: Option<&mut Made>,
    ) -> Result<Option<(RootPath, OwnedFd)>, EntryError> {
        // What is still to walk, the next component last.
        let mut ahead: Vec<Vec<u8>> = dir.components().rev().map(<[u8]>::to_vec).collect();
        let mut at = RootPath::root();
        let mut fd = open_beneath(&self.root, &at, DIRECTORY)?;
        let (mut links, mut steps) = (0, 0);
        while let Some(name) = ahead.pop() {
            steps += 1;
            if steps > MAX_STEPS {
                return Err(EntryError::TooLong);
            }
            if name == b".." {
                at = at.parent().unwrap_or(at);
                fd = open_beneath(&self.root, &at, DIRECTORY)?;
                continue;
            }
            let next = below(&at, &name)?;
            match rustix::fs::openat(&fd, name.as_slice(), DIRECTORY, Mode::empty()) {
                Ok(found) => (at, fd) = (next, found),
                Err(Errno::NOENT) => {
                    let Some(made) = made.as_deref_mut() else { return Ok(None) };
                    fd = make_directory(&fd, &name)?;
                    at = next;
                    made.insert(&at);
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let target = match rustix::fs::readlinkat(&fd, name.as_slice(), Vec::new()) {
                        Ok(target) => target.into_bytes(),
                        Err(Errno::INVAL) => {
                            return Err(EntryError::NotDirectory(next.to_string()));
                        }
                        Err(e) => return Err(e.into()),
                    };
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(EntryError::Loop);
                    }
                    if target.first() == Some(&b'/') {
                        at = RootPath::root();
                        fd = open_beneath(&self.root, &at, DIRECTORY)?;
                    }
                    let parts = target.rsplit(|&b| b == b'/');
                    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
                    ahead.extend(parts.map(<[u8]>::to_vec));
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Some((at, fd)))
    }
}

/// The path of `name` in `dir`, if that is not too long or too deep.
pub(super) fn below(dir: &RootPath, name: &[u8]) -> Result<RootPath, EntryError> {
    let path = dir.join(name).map_err(|_| EntryError::DotDot(name.to_vec()))?;
    match path.as_bytes().len() > MAX_PATH || path.components().count() > MAX_DEPTH {
        true => Err(EntryError::TooLong),
        false => Ok(path),
    }
}

/// What `name` in `dir` is, itself and not what it leads to.
pub(super) fn look(dir: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether `stat` is of a directory.
pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}

/// A directory that nothing was said of: made at the beginning of time, so that
/// equal images unpack to equal trees.
fn make_directory(dir: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let before = times_of(&rustix::fs::fstat(dir)?);
    rustix::fs::mkdirat(dir, name, DIRECTORY_MODE)?;
    rustix::fs::futimens(dir, &before)?;
    let made = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty())?;
    rustix::fs::fchmod(&made, DIRECTORY_MODE)?;
    rustix::fs::futimens(&made, &times((0, 0)))?;
    Ok(made)
}

/// Removes `name` from `dir`, which lies at `above`, with all that is in it, but
/// for what `kept` has; whether it is gone.
pub(super) fn remove(
    dir: BorrowedFd<'_>,
    above: &RootPath,
    name: &[u8],
    kept: Option<&Made>,
) -> Result<bool, EntryError> {
    let path = below(above, name)?;
    let is_kept = kept.is_some_and(|kept| kept.contains(&path));
    let Some(stat) = look(dir, name)? else { return Ok(true) };
    if !is_directory(&stat) {
        if !is_kept {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        }
        return Ok(!is_kept);
    }
    let inside = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty())?;
    empty(Dir::new(inside)?, &path, kept)?;
    if is_kept {
        return Ok(false);
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    Ok(true)
}

/// Removes what is in `dir`, which lies at `path`, but for what `kept` has. The
/// directory stays as old as it was.
pub(super) fn empty(mut dir: Dir, path: &RootPath, kept: Option<&Made>) -> Result<(), EntryError> {
    let before = times_of(&rustix::fs::fstat(dir.fd()?)?);
    // What is removed while a directory is read may hide something else.
    let mut again = true;
    while again {
        again = false;
        dir.rewind();
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                again |= remove(dir.fd()?, path, name, kept)?;
            }
        }
    }
    rustix::fs::futimens(dir.fd()?, &before)?;
    Ok(())
}

fn times_of(stat: &Stat) -> Timestamps {
    let time = |tv_sec, nanos| Timespec { tv_sec, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn is(error: &io::Error, any: &[Errno]) -> bool {
    any.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
