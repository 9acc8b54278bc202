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
    if let Some(current) = pods.link(pod, "current") {
        site.systemd.stop(&pods.record(pod, &current)?.units())?;
    }
    pods.link_units(pod, None)?;
    site.systemd.reload()?;
    pods.remove(pod)
}
