//! What a deployment has begun and not ended: kept where a reboot takes it, since a
//! reboot ends it, by starting what was current before.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::Pods;
use super::pods::{gone, write};
use crate::fleet::state::Applied;

/// A deployment that was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The revision that is to run.
    pub id: String,
    /// The one that runs again where it does not; none where there is none.
    pub back: Option<String>,
    /// Who asks.
    pub by: String,
    /// What came of it; nothing while it is being tried.
    pub judged: Option<Applied>,
    /// Second of the monotonic clock until which a confirmation is waited for.
    pub until: u64,
    /// As [`Apply::forget`](crate::fleet::state::Apply::forget).
    pub forget: bool,
    /// Pods that ran, and run again where it does not do its work.
    #[serde(default)]
    pub instead: Vec<String>,
}

impl Pods {
    fn pending_path(&self, pod: &str) -> PathBuf {
        self.places.run.join("pending").join(pod)
    }

    /// What was begun with `pod` and not ended.
    pub fn pending(&self, pod: &str) -> Option<Pending> {
        serde_json::from_slice(&fs::read(self.pending_path(pod)).ok()?).ok()
    }

    /// Notes that a deployment was begun, how far it is, or that it has ended.
    ///
    /// # Errors
    /// When it cannot be noted.
    pub fn set_pending(&self, pod: &str, pending: Option<&Pending>) -> anyhow::Result<()> {
        let path = self.pending_path(pod);
        let put = || match pending {
            Some(pending) => {
                private(&self.places.run.join("pending"))?;
                write(&path, &serde_json::to_string(pending)?)
            }
            None => gone(fs::remove_file(&path)),
        };
        put().with_context(|| format!("cannot write `{}`", path.display()))
    }
}

impl Pods {
    /// What came of the last deployment of `pod` that failed, if it was that of `id`.
    pub fn outcome(&self, pod: &str, id: &str) -> Option<Applied> {
        let text = fs::read(self.places.run.join("outcomes").join(pod)).ok()?;
        let (of, applied): (String, Applied) = serde_json::from_slice(&text).ok()?;
        (of == id).then_some(applied)
    }

    /// Keeps what came of a deployment that failed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_outcome(&self, pod: &str, id: &str, applied: &Applied) -> anyhow::Result<()> {
        let dir = self.places.run.join("outcomes");
        let put = || {
            private(&dir)?;
            write(&dir.join(pod), &serde_json::to_string(&(id, applied))?)
        };
        put().with_context(|| format!("cannot write in `{}`", dir.display()))
    }
}

/// Makes a folder that nobody but root passes through.
pub(super) fn private(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))
}

/// The monotonic clock, which systemd's times are of.
pub(super) fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_passes_through_what_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outcomes");
        fs::create_dir(&path).unwrap();
        private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    }
}
