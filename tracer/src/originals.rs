//! Keeps the original of what the run is about to change: content and
//! metadata, before the call runs.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::resolve::Resolver;

/// What became of an original.
#[derive(Debug)]
pub(crate) enum Kept {
    /// It lies in the folder now.
    Now,
    /// It does since an earlier change, or was passed over then.
    Before,
    /// Originals are not wanted.
    Unwanted,
    /// It would go over the limit.
    TooBig,
    /// It could not be read or written.
    Failed(io::Error),
}

/// The folder of originals: each lies there under its own path.
#[derive(Debug)]
pub(crate) struct Originals {
    dir: Option<PathBuf>,
    /// Bytes that may still be kept.
    left: u64,
    looked_at: HashSet<Vec<u8>>,
}

impl Originals {
    /// Keeps up to `limit` bytes below `dir`, which is made when it is needed.
    pub(crate) fn new(dir: Option<&Path>, limit: u64) -> Self {
        Originals { dir: dir.map(Path::to_owned), left: limit, looked_at: HashSet::new() }
    }

    /// Keeps the original of `path`, which `stat` describes.
    pub(crate) fn keep(&mut self, resolver: &Resolver, path: &[u8], stat: &Stat) -> Kept {
        let Some(dir) = &self.dir else { return Kept::Unwanted };
        if !self.looked_at.insert(path.to_vec()) {
            return Kept::Before;
        }
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let size = if regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        if size > self.left {
            return Kept::TooBig;
        }
        match copy(resolver, path, stat, dir) {
            Ok(()) => {
                self.left -= size;
                Kept::Now
            }
            Err(error) => Kept::Failed(error.into()),
        }
    }
}

fn copy(resolver: &Resolver, path: &[u8], stat: &Stat, dir: &Path) -> Result<(), Errno> {
    let (to_dir, name) = make_parents(dir, path)?;
    let (from_dir, from_name) = resolver.open_parent(path)?;
    let name = if name.is_empty() { b"." } else { name };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let from = open_source(&from_dir, from_name)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let to = rustix::fs::openat(&to_dir, name, flags, Mode::RUSR | Mode::WUSR)?;
            copy_content(&File::from(from.try_clone().map_err(|e| errno(&e))?), &File::from(to))?;
            copy_xattrs(from.as_fd(), &to_dir, name)?;
        }
        FileType::Directory => match rustix::fs::mkdirat(&to_dir, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        },
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&from_dir, from_name, Vec::new())?;
            rustix::fs::symlinkat(target, &to_dir, name)?;
        }
        kind => {
            let mode = Mode::from_raw_mode(stat.st_mode);
            rustix::fs::mknodat(&to_dir, name, kind, mode, stat.st_rdev)?;
        }
    }
    copy_metadata(stat, &to_dir, name)
}

/// Makes the directories above `path` below `dir`; returns the last and the name.
fn make_parents<'a>(dir: &Path, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8]), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let make = |at: BorrowedFd<'_>, name: &[u8]| match rustix::fs::mkdirat(at, name, all()) {
        Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(at, name, flags, Mode::empty()),
        Err(error) => Err(error),
    };
    match rustix::fs::mkdirat(CWD, dir, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let mut at = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
    let mut names = path.split(|&b| b == b'/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            return Ok((at, name));
        }
        at = make(at.as_fd(), name)?;
    }
    Ok((at, b""))
}

fn all() -> Mode {
    Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH
}

/// Opens without touching the access time where that is allowed.
fn open_source(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(dir, name, flags, Mode::empty()),
        other => other,
    }
}

/// Shares the blocks where the file system can, else copies.
fn copy_content(mut from: &File, mut to: &File) -> Result<(), Errno> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    io::copy(&mut from, &mut to).map(drop).map_err(|e| errno(&e))
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

/// Copies extended attributes; those that may not be set here (`security.`
/// without privilege) are passed over, as cp(1) does.
fn copy_xattrs(from: BorrowedFd<'_>, dir: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let mut names = vec![0u8; 65536];
    let Ok(length) = rustix::fs::flistxattr(from, &mut names[..]) else { return Ok(()) };
    if length == 0 {
        return Ok(());
    }
    let to = rustix::fs::openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let names = names.get(..length).unwrap_or_default();
    for name in names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 65536];
        if let Ok(length) = rustix::fs::fgetxattr(from, name, &mut value[..]) {
            let value = value.get(..length).unwrap_or_default();
            let _ = rustix::fs::fsetxattr(&to, name, value, XattrFlags::empty());
        }
    }
    Ok(())
}

/// Owner before mode, since chown(2) clears the setuid bit; times last.
fn copy_metadata(stat: &Stat, dir: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match rustix::fs::chownat(dir, name, Some(owner), Some(group), flags) {
        // Not root: the record's reader takes the owner from elsewhere.
        Ok(()) | Err(Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(stat.st_mode);
        rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?;
    }
    let time = |seconds: i64, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(dir, name, &times, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn kept(limit: u64, path: &str) -> (tempfile::TempDir, Kept) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc/deep")).unwrap();
        std::fs::write(root.join("etc/deep/f"), "original").unwrap();
        let mode = std::fs::Permissions::from_mode(0o4640);
        std::fs::set_permissions(root.join("etc/deep/f"), mode).unwrap();
        symlink("deep/f", root.join("etc/link")).unwrap();
        let fd = rustix::fs::open(&root, OFlags::PATH, Mode::empty()).unwrap();
        let resolver = Resolver::new(fd, std::process::id() as i32);
        let stat = resolver.lstat(path.as_bytes()).unwrap();
        let mut originals = Originals::new(Some(&dir.path().join("kept")), limit);
        let kept = originals.keep(&resolver, path.as_bytes(), &stat);
        assert!(matches!(originals.keep(&resolver, path.as_bytes(), &stat), Kept::Before));
        (dir, kept)
    }

    #[test]
    fn content_mode_and_time_are_the_originals() {
        let (dir, kept) = kept(100, "/etc/deep/f");
        assert!(matches!(kept, Kept::Now), "{kept:?}");
        let [from, to] = ["root", "kept"].map(|d| dir.path().join(d).join("etc/deep/f"));
        assert_eq!(std::fs::read(&to).unwrap(), b"original");
        let (from, to) = (from.metadata().unwrap(), to.metadata().unwrap());
        assert_eq!((from.mode(), from.mtime(), from.uid()), (to.mode(), to.mtime(), to.uid()));
    }

    #[test]
    fn a_link_is_kept_as_a_link() {
        let (dir, _) = kept(0, "/etc/link");
        let target = std::fs::read_link(dir.path().join("kept/etc/link")).unwrap();
        assert_eq!(target, Path::new("deep/f"));
    }

    #[test]
    fn what_is_over_the_limit_is_said() {
        let (dir, kept) = kept(7, "/etc/deep/f");
        assert!(matches!(kept, Kept::TooBig));
        assert!(!dir.path().join("kept").exists());
    }
}
