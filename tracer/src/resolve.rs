//! What a path names, found as the kernel finds it: component by component,
//! through links, from the task's root. Never by text: `..` after a link is
//! the parent of what the link leads to.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::hash::{NumberMap, PathMap, PathSet};
use crate::mounts::{FsKind, Mounts};
use crate::open_dirs::OpenDirs;
use crate::sys::Tid;
use crate::walk::{Walk, parent, push, relative};

/// Most links that the kernel follows in one path (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// What is asked: a path, and from where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    /// The task's root directory, as seen from the traced root, without links.
    pub(crate) root: &'a [u8],
    /// Where a relative path begins, likewise.
    pub(crate) base: &'a [u8],
    /// The path itself.
    pub(crate) path: &'a [u8],
    /// Whether a link as last component is followed.
    pub(crate) follow: bool,
    /// Whose `/proc/self` it is.
    pub(crate) process: Tid,
}

/// What a path names.
#[derive(Debug)]
pub(crate) enum Target {
    /// This is there.
    There(Box<Stat>),
    /// Nothing, but the directory that would hold it is there.
    Absent,
    /// The way there fails: a directory is missing, is none, or links go round.
    NoWay,
}

/// The answer.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The links crossed, each without links on its own way.
    pub(crate) links: Vec<Vec<u8>>,
    /// What is named, without links on the way; where there is no way, without
    /// links as far as it goes.
    pub(crate) path: Vec<u8>,
    pub(crate) target: Target,
    /// Another process may get another answer for the same text (`/proc/self`).
    pub(crate) personal: bool,
}

/// Resolves paths below one root directory.
#[derive(Debug)]
pub(crate) struct Resolver {
    root: OwnedFd,
    /// Tells the mounts below the root, also when its first reader is gone.
    mountinfo: Option<File>,
    mounts: Mounts,
    kinds: NumberMap<u64, FsKind>,
    /// Directories without links on their way; forgotten when names may lead elsewhere.
    directories: PathSet,
    /// Where links lead that are crossed on the way, likewise; none of /proc.
    links: PathMap<Vec<u8>>,
    open: OpenDirs,
    caching: bool,
    /// The tasks' /proc numbers them as their own pid namespace does.
    pub(crate) own_pids: bool,
}

impl Resolver {
    /// A resolver below `root`; `of` is a task that has these mounts.
    pub(crate) fn new(root: OwnedFd, of: Tid) -> Self {
        let mut resolver = Resolver {
            root,
            mountinfo: File::open(format!("/proc/{of}/mountinfo")).ok(),
            mounts: Mounts::default(),
            kinds: NumberMap::default(),
            directories: PathSet::default(),
            links: PathMap::default(),
            open: OpenDirs::default(),
            caching: true,
            own_pids: false,
        };
        resolver.forget_mounts();
        resolver
    }

    /// A resolver below the root that the task `of` has now.
    ///
    /// # Errors
    /// As open(2) of `/proc/TID/root`.
    pub(crate) fn of_task(of: Tid) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Resolver::new(rustix::fs::open(format!("/proc/{of}/root"), flags, Mode::empty())?, of))
    }

    /// Moves the root so many directories up.
    ///
    /// # Errors
    /// As open(2).
    pub(crate) fn climb(&mut self, depth: usize) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for _ in 0..depth {
            self.root = rustix::fs::openat(&self.root, "..", flags, Mode::empty())?;
        }
        Ok(())
    }

    /// Takes `mounts` for the mounts below the root, and asks no more.
    pub(crate) fn assume_mounts(&mut self, mounts: &Mounts) {
        self.mountinfo = None;
        self.mounts = mounts.clone();
    }

    /// The root directory.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The mounts below it, as last read.
    pub(crate) fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// Forgets what was learned, since names may lead elsewhere now; without
    /// `caching` it learns nothing until told so again.
    pub(crate) fn forget(&mut self, caching: bool) {
        self.directories.clear();
        self.links.clear();
        self.open.close();
        self.caching = caching;
    }

    /// Reads the mounts again.
    pub(crate) fn forget_mounts(&mut self) {
        // Each read makes the kernel write some lines anew.
        let mut text = Vec::with_capacity(16 * 1024);
        if let Some(file) = &mut self.mountinfo {
            let read = file.rewind().and_then(|()| file.read_to_end(&mut text));
            if read.is_ok_and(|length| length > 0) {
                self.mounts = Mounts::parse(&text);
            }
        }
        self.kinds.clear();
    }

    /// As [`Resolver::lstat`], of a path in a known directory.
    fn lstat_in(&mut self, path: &[u8], slash: usize) -> Result<Stat, Errno> {
        let (dir, name) = path.split_at(slash);
        let name = name.get(1..).unwrap_or_default();
        match self.open.get(&self.root, dir) {
            Some(dir) => rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW),
            None => self.lstat(path),
        }
    }

    /// lstat(2) of a path without links on its way.
    pub(crate) fn lstat(&self, path: &[u8]) -> Result<Stat, Errno> {
        rustix::fs::statat(&self.root, relative(path), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What kind of file system `path` with this `st_dev` lies on.
    pub(crate) fn kind(&mut self, path: &[u8], device: u64) -> FsKind {
        if let Some(kind) = self.kinds.get(&device) {
            return *kind;
        }
        if self.mounts.kind(device).is_none() {
            self.forget_mounts();
        }
        let kind = self.mounts.kind(device).unwrap_or_else(|| self.kind_by_magic(path));
        self.kinds.insert(device, kind);
        kind
    }

    /// For file systems whose `st_dev` is not that of the mount (btrfs).
    fn kind_by_magic(&self, path: &[u8]) -> FsKind {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.root, relative(path), flags, Mode::empty());
        let found = file.and_then(rustix::fs::fstatfs);
        found.map_or(FsKind::Plain, |found| FsKind::of_magic(found.f_type))
    }

    /// Finds what `query` names now.
    pub(crate) fn resolve(&mut self, query: &Query<'_>) -> Resolved {
        self.short_way(query).unwrap_or_else(|| self.long_way(query))
    }

    /// Most paths: no `.` or `..`, the directory is known, and there is no
    /// link at the end to follow. One lstat.
    fn short_way(&mut self, query: &Query<'_>) -> Option<Resolved> {
        if !self.caching || query.root != b"/" {
            return None;
        }
        let absolute = query.path.first() == Some(&b'/');
        let mut path = Vec::with_capacity(query.base.len() + query.path.len() + 1);
        if !absolute {
            path.extend_from_slice(query.base);
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
        }
        path.extend_from_slice(query.path);
        let slash = path.iter().rposition(|&b| b == b'/')?;
        let name = path.get(slash + 1..)?;
        if matches!(name, b"" | b"." | b"..") || name.len() > 255 || path.len() > 4000 {
            return None;
        }
        // Only a path in its one spelling is found here.
        if slash > 0 && !self.directories.contains(path.get(..slash)?) {
            return None;
        }
        let target = match self.lstat_in(&path, slash) {
            Ok(stat) => {
                let kind = FileType::from_raw_mode(stat.st_mode);
                if kind == FileType::Symlink && query.follow {
                    return None;
                }
                if kind == FileType::Directory {
                    self.directories.insert(path.clone());
                }
                Target::There(Box::new(stat))
            }
            Err(Errno::NOENT) => Target::Absent,
            Err(_) => Target::NoWay,
        };
        // A directory in /proc/PID is another process's business too.
        Some(Resolved { links: Vec::new(), path, target, personal: false })
    }

    fn long_way(&mut self, query: &Query<'_>) -> Resolved {
        let mut walk = Walk {
            at: if query.path.first() == Some(&b'/') { query.root } else { query.base }.to_vec(),
            rest: query.path.to_vec(),
            links: Vec::new(),
            personal: false,
        };
        let target = self.walk(query, &mut walk);
        if matches!(target, Target::NoWay) && !walk.rest.is_empty() {
            let rest = std::mem::take(&mut walk.rest);
            for name in rest.split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b".")) {
                push(&mut walk.at, name);
            }
        }
        Resolved { links: walk.links, path: walk.at, target, personal: walk.personal }
    }

    fn walk(&mut self, query: &Query<'_>, walk: &mut Walk) -> Target {
        if query.path.is_empty() {
            return Target::NoWay;
        }
        let mut followed = 0;
        let mut last_stat = None;
        while let Some((name, last, must_be_dir)) = walk.next() {
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    if walk.at != query.root {
                        parent(&mut walk.at);
                    }
                    last_stat = None;
                    continue;
                }
                _ => {}
            }
            push(&mut walk.at, &name);
            if !last && self.directories.contains(&walk.at) {
                last_stat = None;
                continue;
            }
            let crosses = !last || query.follow || must_be_dir;
            if let Some(target) = self.links.get(&walk.at).filter(|_| crosses) {
                followed += 1;
                if followed > MAX_LINKS {
                    return Target::NoWay;
                }
                walk.cross(target, query.root, true);
                last_stat = None;
                continue;
            }
            let stat = match self.look(&walk.at) {
                Ok(stat) => stat,
                // A slash at the end is fine where a directory is to be made.
                Err(Errno::NOENT) if last => return Target::Absent,
                Err(_) => return Target::NoWay,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink if crosses => {
                    followed += 1;
                    if followed > MAX_LINKS {
                        return Target::NoWay;
                    }
                    match self.cross(query, walk, &name, &stat) {
                        Ok(true) => {}
                        Ok(false) => return Target::There(Box::new(stat)),
                        Err(_) => return Target::NoWay,
                    }
                    last_stat = None;
                }
                FileType::Directory => {
                    if self.caching {
                        self.directories.insert(walk.at.clone());
                    }
                    last_stat = Some(stat);
                }
                _ if !last || must_be_dir => return Target::NoWay,
                _ => last_stat = Some(stat),
            }
        }
        match last_stat.map_or_else(|| self.look(&walk.at), Ok) {
            Ok(stat) => Target::There(Box::new(stat)),
            Err(_) => Target::NoWay,
        }
    }

    /// Goes through the link at `walk.at`. Returns whether there is a way: a
    /// link of /proc may lead to something without a path, such as a pipe.
    fn cross(
        &mut self,
        query: &Query<'_>,
        walk: &mut Walk,
        name: &[u8],
        stat: &Stat,
    ) -> Result<bool, Errno> {
        let kind = self.kind(&walk.at, stat.st_dev);
        let target = match (kind, name) {
            (FsKind::Proc, b"self") => self.number(query.process).to_string().into_bytes(),
            (FsKind::Proc, b"thread-self") => {
                format!("{0}/task/{0}", self.number(query.process)).into_bytes()
            }
            _ => self.read_link(&walk.at)?,
        };
        walk.personal |= kind == FsKind::Proc;
        if kind == FsKind::Proc && name != b"self" && name != b"thread-self" {
            let magic = walk.at.split(|&b| b == b'/').any(|part| {
                matches!(part, b"fd" | b"map_files" | b"ns")
                    || matches!(part, b"exe" | b"cwd" | b"root")
            });
            // What such a link says is seen from the tracer's root, and may be
            // a name like `pipe:[7]`.
            if magic && target.first() != Some(&b'/') {
                return Ok(false);
            }
        }
        if kind == FsKind::Plain && self.caching {
            self.links.insert(walk.at.clone(), target.clone());
        }
        let root = if kind == FsKind::Proc { b"/" } else { query.root };
        walk.cross(&target, root, kind == FsKind::Plain);
        Ok(true)
    }

    /// The name of a process in the tasks' /proc.
    fn number(&self, process: Tid) -> Tid {
        if self.own_pids { crate::task::innermost_pid(process).unwrap_or(process) } else { process }
    }

    /// lstat(2); a path too long for one call is walked by descriptors.
    fn look(&self, path: &[u8]) -> Result<Stat, Errno> {
        if path.len() < 4000 {
            return self.lstat(path);
        }
        let (dir, name) = self.open_parent(path)?;
        rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let read = |dir: BorrowedFd<'_>, path: &[u8]| {
            rustix::fs::readlinkat(dir, path, Vec::with_capacity(256))
        };
        let target = if path.len() < 4000 {
            read(self.root(), relative(path))
        } else {
            let (dir, name) = self.open_parent(path)?;
            read(dir.as_fd(), name)
        };
        target.map(std::ffi::CString::into_bytes)
    }

    /// Opens the directory that holds `path`, however long it is, and returns
    /// the last component too.
    pub(crate) fn open_parent<'a>(&self, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8]), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open =
            |dir: BorrowedFd<'_>, path: &[u8]| rustix::fs::openat(dir, path, flags, Mode::empty());
        let mut rest = relative(path);
        let mut dir = open(self.root(), b".")?;
        while rest.len() >= 4000 {
            let cut = rest.get(..4000).unwrap_or_default().iter().rposition(|&b| b == b'/');
            let cut = cut.ok_or(Errno::NAMETOOLONG)?;
            dir = open(dir.as_fd(), &rest[..cut])?;
            rest = &rest[cut + 1..];
        }
        match rest.iter().rposition(|&b| b == b'/') {
            Some(slash) => Ok((open(dir.as_fd(), &rest[..slash])?, &rest[slash + 1..])),
            None => Ok((dir, rest)),
        }
    }
}

#[cfg(test)]
mod tests;
