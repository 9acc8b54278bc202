//! Whether a file system has room, asked before anything is written.

use std::io;
use std::path::Path;

use super::outcome::bytes;

/// What stays free for others whatever is pushed, in bytes: the least that keeps
/// a node's logs and shells working.
const RESERVE: u64 = 4 << 20;
/// The same in inodes.
const RESERVE_INODES: u64 = 64;

/// What a file system lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Bytes.
    #[error("{} are needed, and the disk has {} free", bytes(*.needed), bytes(*.free))]
    Bytes {
        /// So many are needed.
        needed: u64,
        /// So many are there.
        free: u64,
    },
    /// Inodes.
    #[error("{needed} inodes are needed, and the disk has {free} free")]
    Inodes {
        /// So many are needed.
        needed: u64,
        /// So many are there.
        free: u64,
    },
}

/// Returns what the file system of `dir` lacks for `content` bytes in `inodes`
/// files, each of which may fill its last block badly.
///
/// # Errors
/// As `statvfs`.
pub fn check(dir: &Path, content: u64, inodes: u64) -> io::Result<Option<Lack>> {
    let stat = rustix::fs::statvfs(dir)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let slack = inodes.saturating_mul(stat.f_frsize / 2);
    let needed = content.saturating_add(slack).saturating_add(RESERVE);
    if needed > free {
        return Ok(Some(Lack::Bytes { needed, free }));
    }
    // File systems without a table of inodes report none at all.
    let needed = inodes.saturating_add(RESERVE_INODES);
    if stat.f_files > 0 && needed > stat.f_favail {
        return Ok(Some(Lack::Inodes { needed, free: stat.f_favail }));
    }
    Ok(None)
}

/// Whether `error` says that a disk or a quota is full.
pub fn is_full(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let full = |e: &io::Error| matches!(e.kind(), StorageFull | QuotaExceeded);
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_disk_holds_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(dir.path(), 0, 0).unwrap(), None);
        let lack = check(dir.path(), u64::MAX, 0).unwrap();
        assert!(matches!(lack, Some(Lack::Bytes { .. })), "{lack:?}");
    }
}
