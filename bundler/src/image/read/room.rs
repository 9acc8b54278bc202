//! How much an image may take: what the caller allows, and what the disk has.

use std::path::{Path, PathBuf};

use crate::image::error::ImageError;

/// Bytes that stay free for others whatever is unpacked.
const RESERVE: u64 = 64 << 20;
/// Inodes that stay free for others.
const RESERVE_INODES: u64 = 1024;
/// More entries than any image has; each takes a few bytes of memory.
const MAX_ENTRIES: u64 = 5_000_000;
/// The disk is asked again after so many bytes.
const BYTES: u64 = 16 << 20;
/// The disk is asked again after so many entries.
const ENTRIES: u64 = 1024;

/// What was taken so far.
#[derive(Debug)]
pub(super) struct Room {
    dir: PathBuf,
    max_bytes: Option<u64>,
    entries: u64,
    bytes: u64,
    /// Since the disk was asked.
    new_bytes: u64,
}

impl Room {
    pub(super) fn new(dir: &Path, max_bytes: Option<u64>) -> Self {
        Room { dir: dir.to_owned(), max_bytes, entries: 0, bytes: 0, new_bytes: BYTES }
    }

    /// Entries and bytes that were taken.
    pub(super) fn taken(&self) -> (u64, u64) {
        (self.entries, self.bytes)
    }

    /// Takes room for one more entry.
    pub(super) fn add_entry(&mut self) -> Result<(), ImageError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(ImageError::TooLarge { limit: MAX_ENTRIES, unit: "entries" });
        }
        match self.entries % ENTRIES {
            0 => self.ask(0),
            _ => Ok(()),
        }
    }

    /// Takes room for the `bytes` of a file, before they are written.
    pub(super) fn add_bytes(&mut self, bytes: u64) -> Result<(), ImageError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(limit) = self.max_bytes.filter(|limit| self.bytes > *limit) {
            return Err(ImageError::TooLarge { limit, unit: "bytes" });
        }
        self.new_bytes = self.new_bytes.saturating_add(bytes);
        match self.new_bytes >= BYTES {
            true => self.ask(bytes),
            false => Ok(()),
        }
    }

    fn ask(&mut self, bytes: u64) -> Result<(), ImageError> {
        self.new_bytes = 0;
        let target = |source: rustix::io::Errno| ImageError::Target {
            dir: self.dir.clone(),
            source: source.into(),
        };
        let stat = rustix::fs::statvfs(&self.dir).map_err(target)?;
        let full = |free, unit| Err(ImageError::Full { dir: self.dir.clone(), free, unit });
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if bytes.saturating_add(RESERVE) > free {
            return full(free, "bytes");
        }
        // File systems without a table of inodes report none at all.
        if stat.f_files > 0 && stat.f_favail < RESERVE_INODES + ENTRIES {
            return full(stat.f_favail, "inodes");
        }
        Ok(())
    }
}
