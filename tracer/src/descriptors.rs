//! What /proc tells of a task's open files and directories.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, readlinkat_raw};
use rustix::io::Errno;
use rustix::path::DecInt;

use crate::sys::Tid;

/// What a link such as `/proc/TID/cwd` or `/proc/TID/fd/3` says.
pub(crate) fn proc_link(tid: Tid, name: &str) -> Option<Vec<u8>> {
    let link = format!("/proc/{tid}/{name}");
    match rustix::fs::readlink(&link, Vec::with_capacity(256)) {
        Ok(target) => Some(target.into_bytes()),
        Err(Errno::NAMETOOLONG) => deep_path(&link),
        Err(_) => None,
    }
}

/// What is kept open of `/proc/TID/fd` for tasks that often name files by
/// descriptor: that saves the way through /proc, most of the cost.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    asked: u32,
    dir: Option<OwnedFd>,
    last: Last,
}

/// The descriptor that was asked for last.
#[derive(Debug)]
struct Last {
    fd: i32,
    /// How often in a row.
    asked: u32,
    /// Its link in the directory. That is read anew each time: it tells what the
    /// descriptor is now.
    link: Option<OwnedFd>,
    path: Rc<[u8]>,
}

impl Default for Last {
    fn default() -> Self {
        Last { fd: -1, asked: 0, link: None, path: Rc::default() }
    }
}

impl Descriptors {
    /// The path of the open descriptor `fd` of `tid`, where it has one.
    pub(crate) fn path(&mut self, tid: Tid, fd: i32) -> Option<Rc<[u8]>> {
        /// So many questions cost as much as opening and closing.
        const OFTEN: u32 = 4;
        if fd < 0 {
            return None;
        }
        if self.last.fd != fd {
            self.last = Last { fd, path: Rc::clone(&self.last.path), ..Last::default() };
        }
        self.asked = self.asked.saturating_add(1);
        self.last.asked = self.last.asked.saturating_add(1);
        if self.asked == OFTEN {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.dir = rustix::fs::open(format!("/proc/{tid}/fd"), flags, Mode::empty()).ok();
        }
        if let (OFTEN, Some(dir)) = (self.last.asked, &self.dir) {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            self.last.link = rustix::fs::openat(dir, DecInt::new(fd), flags, Mode::empty()).ok();
        }
        let mut text = [MaybeUninit::uninit(); 1024];
        let read = match (&self.last.link, &self.dir) {
            (Some(link), _) => readlinkat_raw(link, c"", &mut text),
            (None, Some(dir)) => readlinkat_raw(dir, DecInt::new(fd), &mut text),
            (None, None) => readlinkat_raw(CWD, format!("/proc/{tid}/fd/{fd}"), &mut text),
        };
        match read {
            // A longer one may be cut off.
            Ok((path, [_, ..])) if path.first() != Some(&b'/') => None,
            Ok((path, [_, ..])) => {
                if *path != *self.last.path {
                    self.last.path = Rc::from(&*path);
                }
                Some(Rc::clone(&self.last.path))
            }
            _ => {
                self.last = Last::default();
                let path = proc_link(tid, &format!("fd/{fd}"))?;
                (path.first() == Some(&b'/')).then(|| path.into())
            }
        }
    }
}

/// The path of a directory that is longer than the kernel tells at once: the
/// names are looked up in the parents until the rest is short enough.
fn deep_path(link: &str) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(link, flags, Mode::empty()).ok()?;
    let mut names: Vec<Vec<u8>> = Vec::new();
    // A path of one-letter names has at most 2,048 of them in 4 KiB.
    for _ in 0..65536 {
        let known = format!("/proc/self/fd/{}", dir.as_raw_fd());
        if let Ok(path) = rustix::fs::readlink(known, Vec::new()) {
            let mut path = path.into_bytes();
            for name in names.iter().rev() {
                path = crate::mounts::join(&path, name);
            }
            return Some(path);
        }
        let stat = rustix::fs::fstat(&dir).ok()?;
        let parent = rustix::fs::openat(&dir, "..", flags, Mode::empty()).ok()?;
        let mut entries = rustix::fs::Dir::read_from(&parent).ok()?;
        let name = entries.find_map(|entry| {
            let name = entry.ok()?.file_name().to_owned();
            let found = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let same = (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino);
            (same && !matches!(name.to_bytes(), b"." | b"..")).then(|| name.to_bytes().to_vec())
        })?;
        names.push(name);
        dir = parent;
    }
    None
}
