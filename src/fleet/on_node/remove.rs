//! Taking a pod off a node.

use std::fs;

use anyhow::Context;

use super::pods::{gone, list};
use super::{Pods, Site};
use crate::process;

/// Stops a pod and removes its units, revisions, secrets and history; volumes stay but for
/// those in memory.
///
/// # Errors
/// When it is not there, or cannot be stopped or removed.
pub(super) fn remove(site: &Site<'_>, pods: &Pods, pod: &str) -> anyhow::Result<()> {
    if !pods.names()?.iter().any(|name| name == pod) {
        anyhow::bail!("there is no pod `{pod}` on this node");
    }
    site.guard.disarm(pod);
    site.systemd.stop(&pods.linked(pod)?)?;
    site.network.withdraw(pod)?;
    pods.set_pending(pod, None)?;
    pods.allow(pod, None)?;
    pods.link_units(pod, &[])?;
    site.systemd.reload()?;
    site.forget_secrets(pod)?;
    let memory = site.places.run.join("volumes").join(pod);
    for volume in list(&memory)? {
        // Where it is no mount, it goes with the folder.
        let _ = process::output(process::command("umount").arg(memory.join(volume)));
    }
    gone(fs::remove_dir_all(&memory))
        .with_context(|| format!("cannot remove `{}`", memory.display()))?;
    pods.remove(pod)
}
