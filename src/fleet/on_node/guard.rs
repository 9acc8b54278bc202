//! The dead man's switch of a deployment: a process of systemd's that waits for the
//! node's lock, which it gets when whoever deploys has ended, however. What was not
//! confirmed then, or is not in time, is taken back.

use std::path::PathBuf;
use std::time::Duration;

use super::pending::monotonic;
use super::{Pods, Site, apply};
use crate::process;
use crate::push::lock;

/// What starts and ends it.
pub trait Guard {
    /// Starts watching a deployment of `pod`.
    ///
    /// # Errors
    /// When it cannot be started.
    fn arm(&self, pod: &str) -> anyhow::Result<()>;
    /// Stops watching.
    fn disarm(&self, pod: &str);
}

/// This very program as a transient unit of systemd.
pub struct Watchdog {
    /// It.
    pub program: PathBuf,
    /// The store that it is to know.
    pub store: PathBuf,
}

fn unit(pod: &str) -> String {
    format!("vz-guard-{pod}.service")
}

impl Guard for Watchdog {
    fn arm(&self, pod: &str) -> anyhow::Result<()> {
        self.disarm(pod);
        let mut run = process::command("systemd-run");
        run.args(["--quiet", "--collect", "--property=Restart=on-failure"]);
        // However often: what keeps it from going back may pass.
        run.args(["--property=RestartSec=5", "--property=StartLimitIntervalSec=0"]);
        run.args(["--unit", &unit(pod), "--"]);
        run.arg(&self.program).arg("--store").arg(&self.store).args(["guard", "--pod", pod]);
        process::output(&mut run).map(drop)
    }

    fn disarm(&self, pod: &str) {
        let mut stop = process::command("systemctl");
        // It may have ended by itself.
        let _ = process::output(stop.args(["stop", "--", &unit(pod)]));
        let mut reset = process::command("systemctl");
        let _ = process::output(reset.args(["reset-failed", "--", &unit(pod)]));
    }
}

/// Longest wait for the lock at a time.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Waits until a deployment of `pod` is confirmed, or takes it back.
///
/// # Errors
/// When it cannot be taken back.
pub fn watch(site: &Site<'_>, pod: &str) -> anyhow::Result<()> {
    let pods = Pods::new(&site.places);
    loop {
        let Some(lock) = lock::take(&site.places.run.join("lock"), PATIENCE)? else { continue };
        let Some(pending) = pods.pending(pod) else { return Ok(()) };
        let left = pending.until.saturating_sub(monotonic().as_secs());
        let confirmed = pods.link(pod, "current").as_ref() == Some(&pending.id);
        if pending.judged.is_none() || confirmed || left == 0 {
            apply::abandon(site, &pods, pod, &mut |_| ())?;
            return Ok(());
        }
        drop(lock);
        std::thread::sleep(Duration::from_secs(left.min(1)));
    }
}
