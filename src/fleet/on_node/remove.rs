//! Taking a pod off a node.

use super::{Pods, Site};

/// Stops a pod and removes its units, revisions and history; volumes stay.
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
    pods.remove(pod)
}
