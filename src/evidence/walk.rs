//! All files of a root, on its own file system.

use std::collections::HashSet;

use anyhow::{Context, ensure};
use bundler::{Kind, RootPath, Rootfs};

/// The most bytes that the paths of a root may have together, since they are held in
/// memory: those of a million files have some 80 MB.
const MAX_PATHS: usize = 256 << 20;

/// The files of a root.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// In the order of their paths; no directories.
    pub(super) files: Vec<Walked>,
}

/// A file of the root.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) path: RootPath,
    /// Bytes of content; of a file with several names the first one counts.
    pub(super) size: u64,
}

/// Counts the bytes of a file once, whatever number of names it has.
#[derive(Default)]
pub(super) struct Sizes(HashSet<(u64, u64)>);

impl Sizes {
    pub(super) fn count(&mut self, meta: &bundler::Meta) -> u64 {
        let is_first = meta.links < 2 || self.0.insert(meta.inode);
        if meta.kind == Kind::File && is_first { meta.size } else { 0 }
    }
}

impl Walk {
    /// Lists `rootfs`; what is mounted in it and what this user may not list is
    /// no part of it.
    ///
    /// # Errors
    /// A root that cannot be looked at, or whose paths do not fit into memory.
    pub(super) fn of(rootfs: &Rootfs) -> anyhow::Result<Walk> {
        let top = RootPath::root();
        let device = rootfs.lstat(&top).context("cannot look at the root")?.inode.0;
        let mut walk = Walk::default();
        let mut sizes = Sizes::default();
        let mut directories = vec![top];
        let mut bytes = 0;
        while let Some(dir) = directories.pop() {
            for name in rootfs.read_dir(&dir).unwrap_or_default() {
                let Ok(path) = dir.join(&name) else { continue };
                let Ok(meta) = rootfs.lstat(&path) else { continue };
                bytes += path.as_bytes().len();
                ensure!(bytes <= MAX_PATHS, "the root has too many files to account for");
                if meta.kind != Kind::Directory {
                    walk.files.push(Walked { size: sizes.count(&meta), path });
                } else if meta.inode.0 == device {
                    directories.push(path);
                }
            }
        }
        walk.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(walk)
    }
}

/// Whether the root is the one that this machine runs in, most of which has
/// nothing to do with any program.
pub(super) fn is_own_root(rootfs: &Rootfs) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata("/").map(|meta| (meta.dev(), meta.ino())).ok();
    rootfs.lstat(&RootPath::root()).is_ok_and(|meta| Some(meta.inode) == own)
}
