//! A few directories kept open: looking at a name in one of them spares the
//! kernel the whole way from the root.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::walk::relative;

/// How many are kept open.
const MOST: usize = 16;

/// The directories, and those that were asked for once.
#[derive(Debug, Default)]
pub(crate) struct OpenDirs {
    open: Vec<(Vec<u8>, OwnedFd)>,
    /// Directories asked for lately, not worth a descriptor yet.
    asked: Vec<Vec<u8>>,
    turn: usize,
}

impl OpenDirs {
    /// The directory `path` without links on its way, below `root`; opened when
    /// it is asked for the second time.
    pub(crate) fn get(&mut self, root: &OwnedFd, path: &[u8]) -> Option<&OwnedFd> {
        let place = match self.open.iter().position(|(known, _)| known == path) {
            Some(place) => place,
            None => self.open(root, path)?,
        };
        self.open.get(place).map(|(_, dir)| dir)
    }

    fn open(&mut self, root: &OwnedFd, path: &[u8]) -> Option<usize> {
        self.turn = (self.turn + 1) % MOST;
        if !self.asked.iter().any(|asked| asked == path) {
            match self.asked.get_mut(self.turn) {
                Some(slot) => {
                    slot.clear();
                    slot.extend_from_slice(path);
                }
                None => self.asked.push(path.to_vec()),
            }
            return None;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(root.as_fd(), relative(path), flags, Mode::empty()).ok()?;
        let entry = (path.to_vec(), dir);
        match self.open.get_mut(self.turn) {
            Some(slot) => {
                *slot = entry;
                Some(self.turn)
            }
            None => {
                self.open.push(entry);
                Some(self.open.len() - 1)
            }
        }
    }

    /// Closes all, since names may lead elsewhere; an open directory would also
    /// keep its file system from being unmounted.
    pub(crate) fn close(&mut self) {
        self.open.clear();
        self.asked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_opened_when_it_is_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let root = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        let mut dirs = OpenDirs::default();
        assert!(dirs.get(&root, b"/d").is_none());
        assert!(dirs.get(&root, b"/d").is_some());
        assert!(dirs.get(&root, b"/none").is_none());
        assert!(dirs.get(&root, b"/none").is_none());
        dirs.close();
        assert!(dirs.get(&root, b"/d").is_none());
    }

    #[test]
    fn only_a_few_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        let mut dirs = OpenDirs::default();
        for i in 0..100 {
            let name = format!("/d{i}");
            std::fs::create_dir(dir.path().join(&name[1..])).unwrap();
            dirs.get(&root, name.as_bytes());
            assert!(dirs.get(&root, name.as_bytes()).is_some());
        }
        assert!(dirs.open.len() <= MOST);
    }
}
