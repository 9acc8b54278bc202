//! A private directory for each run: the adapted `config.json`, the runtime's
//! state, and a lock that tells whether its run is over.
//!
//! The runtime's state lies in a directory of the run's own (`--root`), so that
//! nothing stale can stand in the way: crun as root with XDG_RUNTIME_DIR set
//! keeps its state elsewhere than its `delete` looks.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

use super::oci;

/// A directory that goes when the run is over.
#[derive(Debug)]
pub struct State {
    dir: tempfile::TempDir,
    _lock: File,
}

impl State {
    /// Makes one, and clears away what killed runs left.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn new() -> anyhow::Result<Self> {
        let base = base()?;
        let cannot = || format!("cannot keep state in `{}`", base.display());
        // Held while directories come and go, so that none is taken for stale
        // before it is locked.
        let all = File::create(base.join("lock")).with_context(cannot)?;
        flock(&all, FlockOperation::LockExclusive).with_context(cannot)?;
        sweep(&base);
        let dir = tempfile::Builder::new().prefix("vz-").tempdir_in(&base).with_context(cannot)?;
        let lock = File::create(dir.path().join("lock")).with_context(cannot)?;
        flock(&lock, FlockOperation::LockExclusive).with_context(cannot)?;
        Ok(State { dir, _lock: lock })
    }

    /// The directory, which serves the runtime as bundle.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A name that no other container of this machine has.
    pub fn id(&self) -> OsString {
        self.dir.path().file_name().unwrap_or_default().to_owned()
    }
}

/// `/run/vz` for root, else a directory of the user's own.
fn base() -> anyhow::Result<PathBuf> {
    let uid = nix::unistd::geteuid();
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !uid.is_root());
    let base = match runtime_dir.map(PathBuf::from).filter(|dir| is_own(dir)) {
        Some(dir) => dir.join("vz"),
        None if uid.is_root() => PathBuf::from("/run/vz"),
        None => std::env::temp_dir().join(format!("vz-{uid}")),
    };
    match fs::DirBuilder::new().mode(0o700).create(&base) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(e).with_context(|| format!("cannot make `{}`", base.display()));
        }
        _ => {}
    }
    // Someone else may have made it first in a directory that all can write.
    if !is_own(&base) {
        bail!("`{}` is not a directory of this user's alone", base.display());
    }
    Ok(base)
}

fn is_own(dir: &Path) -> bool {
    fs::symlink_metadata(dir).is_ok_and(|meta| {
        meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o022 == 0
    })
}

/// Removes the directories whose runs are over, with their containers.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let dir = entry.path();
        let Ok(lock) = File::open(dir.join("lock")) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // A failure here must not keep a new run from starting; the next
            // one tries again.
            oci::delete_stale(&dir, &entry.file_name());
            let _ = fs::remove_dir_all(&dir);
        }
    }
}
