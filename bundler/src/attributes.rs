//! Gives an open file or directory its owner, mode, attributes and time.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::tar_header::Xattrs;
use crate::tree::Lost;
use crate::xattr;

/// setuid and setgid, which only mean something with the right owner.
const SET_IDS: u32 = 0o6000;

/// What a file is to have beside its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: &'a Xattrs,
    /// Whether it is a regular file: only there setuid gives rights away.
    pub(crate) is_file: bool,
}

impl Attributes<'_> {
    /// Sets them in this order: a new owner clears setuid and capabilities. Returns
    /// what this user may not set.
    pub(crate) fn set(&self, file: impl AsFd) -> io::Result<Vec<Lost>> {
        let mut lost = Vec::new();
        let stat = rustix::fs::fstat(&file)?;
        let mut mode = self.mode;
        if (stat.st_uid, stat.st_gid) != (self.uid, self.gid) {
            let (uid, gid) = owner(self.uid, self.gid);
            match rustix::fs::fchown(&file, uid, gid) {
                Ok(()) => {}
                // INVAL: the user namespace does not have this user.
                Err(Errno::PERM | Errno::INVAL) => {
                    lost.push(Lost::Owner);
                    if self.is_file && mode & SET_IDS != 0 {
                        mode &= !SET_IDS;
                        lost.push(Lost::SetIds);
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        lost.extend(xattr::write(&file, self.xattrs)?.into_iter().map(Lost::Xattr));
        rustix::fs::futimens(&file, &times(self.mtime))?;
        Ok(lost)
    }
}

/// An owner as chown(2) takes it.
pub(crate) fn owner(uid: u32, gid: u32) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// Access and modification at this time.
pub(crate) fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
