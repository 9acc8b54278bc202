//! Pods that nothing wishes any more, while another pod takes their ports over: they stop,
//! and stay on the disk until that one is known to do its work everywhere.

use super::{Pods, Site};
use crate::fleet::revision::{Record, Update};

/// Those of `names` that run.
///
/// # Errors
/// When a record cannot be read, or systemd does not answer.
pub(super) fn running(
    site: &Site<'_>,
    pods: &Pods,
    names: &[String],
) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for name in names {
        let Some(record) = pods.current(name)? else { continue };
        let states = site.systemd.show(&record.all_units())?;
        if states.iter().any(|state| state.active != "inactive" && state.active != "failed") {
            found.push(name.clone());
        }
    }
    Ok(found)
}

/// Stops those that cannot run beside `record`.
///
/// # Errors
/// When one cannot be stopped.
pub(super) fn make_way(
    site: &Site<'_>,
    pods: &Pods,
    names: &[String],
    record: &Record,
) -> anyhow::Result<()> {
    let beside = |record: &Record| record.network.is_some() && record.update == Update::StartFirst;
    for name in names {
        let Some(old) = pods.current(name)? else { continue };
        if !beside(record) || !beside(&old) {
            site.systemd.stop(&old.all_units())?;
        }
    }
    Ok(())
}

/// Takes the node's ports from them.
///
/// # Errors
/// When they cannot be taken.
pub(super) fn withdraw(site: &Site<'_>, names: &[String]) -> anyhow::Result<()> {
    names.iter().try_for_each(|name| site.network.withdraw(name))
}

/// Stops them for good: they do not start at boot, either.
///
/// # Errors
/// When one cannot be stopped.
pub(super) fn stop(site: &Site<'_>, pods: &Pods, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        if let Some(old) = pods.current(name)? {
            site.drain(&old)?;
            site.systemd.stop(&old.all_units())?;
        }
        pods.link_units(name, &[])?;
    }
    Ok(())
}

/// Makes them run again, with their ports.
///
/// # Errors
/// When one does not start.
pub(super) fn come_back(site: &Site<'_>, pods: &Pods, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        let Some(record) = pods.current(name)? else { continue };
        // What is being tried has its own beside them.
        if pods.linked(name)?.is_empty() {
            pods.link_units(name, &[&record])?;
            site.systemd.reload()?;
        }
        site.systemd.start(&record.all_units())?;
        site.point(pods, &record)?;
    }
    Ok(())
}
