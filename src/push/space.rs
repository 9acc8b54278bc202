//! Whether a file system has room, asked before anything is written.

use std::io;
use std::path::Path;

use super::outcome::bytes;

/// What stays free for others whatever is pushed, in bytes: the least that keeps
/// a node's logs and shells working.
const RESERVE: u64 = 4 << 20;
/// Bytes of a block of most file systems.
const BLOCK: u64 = 4096;
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

/// Returns what the file system of `dir` lacks for `bytes` of content in `inodes`
/// files, each of which may fill its last block badly, and for the reserve.
///
/// # Errors
/// As `statvfs`.
pub fn check(dir: &Path, bytes: u64, inodes: u64) -> io::Result<Option<Lack>> {
    let bytes = bytes.saturating_add(inodes.saturating_mul(BLOCK / 2));
    lack(dir, bytes.saturating_add(RESERVE), inodes.saturating_add(RESERVE_INODES))
}

/// Returns what the file system of `dir` lacks for so many bytes and inodes.
///
/// # Errors
/// As `statvfs`.
pub fn lack(dir: &Path, bytes: u64, inodes: u64) -> io::Result<Option<Lack>> {
    let stat = rustix::fs::statvfs(dir)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if bytes > free {
        return Ok(Some(Lack::Bytes { needed: bytes, free }));
    }
    // File systems without a table of inodes report none at all.
    if stat.f_files > 0 && inodes > stat.f_favail {
        return Ok(Some(Lack::Inodes { needed: inodes, free: stat.f_favail }));
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
