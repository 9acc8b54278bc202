//! Attributes of directories that would get in the way while files are still to
//! come: a default ACL would be inherited, and a closed directory is closed to an
//! ordinary user, too.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::inside::Made;
use super::losses::Losses;
use crate::image::error::ImageError;
use crate::path::RootPath;
use crate::rootfs::open_beneath;
use crate::tar_header::Xattrs;
use crate::tar_reader::Member;
use crate::tree::Lost;

const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// What an owner needs to fill a directory and to remove it again.
const OPEN: u32 = 0o700;
/// The most bytes of names and ACLs that are kept back: more than any image has.
const MAX_BYTES: usize = 64 << 20;

/// What is to be set at the end; directories without such attributes are not here.
#[derive(Debug)]
pub(super) struct Late {
    is_root: bool,
    directories: BTreeMap<RootPath, (Option<u32>, Option<Vec<u8>>)>,
    /// What they take, with those that were replaced.
    bytes: usize,
}

impl Default for Late {
    fn default() -> Self {
        let is_root = nix::unistd::geteuid().is_root();
        Late { is_root, directories: BTreeMap::new(), bytes: 0 }
    }
}

impl Late {
    /// Keeps back what must wait; returns the mode and attributes for now.
    ///
    /// # Errors
    /// When that is more than memory should hold.
    pub(super) fn keep(
        &mut self,
        path: &RootPath,
        member: &Member,
    ) -> Result<(u32, Xattrs), ImageError> {
        let mut xattrs = member.xattrs.clone();
        let acl = xattrs.iter().position(|(name, _)| name == DEFAULT_ACL);
        let acl = acl.map(|at| xattrs.swap_remove(at).1);
        let closed = !self.is_root && member.mode & OPEN != OPEN;
        let mode = closed.then_some(member.mode);
        match (mode, acl) {
            (None, None) => drop(self.directories.remove(path)),
            late => {
                let bytes = path.as_bytes().len() + late.1.as_ref().map_or(0, Vec::len);
                self.bytes = self.bytes.saturating_add(bytes);
                if self.bytes > MAX_BYTES {
                    let unit = "bytes of default ACLs and names of closed directories";
                    return Err(ImageError::TooLarge { limit: MAX_BYTES as u64, unit });
                }
                self.directories.insert(path.clone(), late);
            }
        }
        Ok((if closed { member.mode | OPEN } else { member.mode }, xattrs))
    }

    /// Forgets `path` and what is below it, but for what `kept` has.
    pub(super) fn forget(&mut self, path: &RootPath, kept: Option<&Made>) {
        // What is below a directory comes right after it.
        let below = self.directories.range(path..).map(|(dir, _)| dir);
        let below = below.take_while(|dir| dir.starts_with(path));
        let gone: Vec<_> =
            below.filter(|dir| !kept.is_some_and(|kept| kept.contains(dir))).cloned().collect();
        for dir in gone {
            self.directories.remove(&dir);
        }
    }

    /// Sets what was kept back, the deepest first.
    pub(super) fn set(&mut self, root: &OwnedFd, losses: &mut Losses) -> Result<(), ImageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        while let Some((path, (mode, acl))) = self.directories.pop_last() {
            let target = |source| ImageError::Target { dir: path.relative().to_owned(), source };
            let dir = open_beneath(root, &path, flags).map_err(target)?;
            if let Some(acl) = acl {
                match rustix::fs::fsetxattr(&dir, DEFAULT_ACL, &acl, XattrFlags::empty()) {
                    Ok(()) => {}
                    Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL) => {
                        losses.add(&path, Lost::Xattr(DEFAULT_ACL.to_vec()));
                    }
                    Err(e) => return Err(target(e.into())),
                }
            }
            if let Some(mode) = mode {
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))
                    .map_err(|e| target(e.into()))?;
            }
        }
        Ok(())
    }
}
