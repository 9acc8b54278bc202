//! Starting and stopping what a node has, by hand.

use anyhow::{Context, anyhow};

use super::pending::monotonic;
use super::watch::judge;
use super::{Pods, Site, displaced};
use crate::fleet::state::{Control, Entry};

/// Starts, stops, kills or restarts a pod, and notes who asked for it; that this cannot be
/// noted is told, and undoes nothing.
///
/// # Errors
/// When there is no such pod, systemd does not do it, or what was started does not do its work.
pub(super) fn control(
    site: &Site<'_>,
    pods: &Pods,
    (pod, by): (&str, &str),
    verb: Control,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<()> {
    let current = pods.link(pod, "current");
    let current = current.with_context(|| format!("there is no pod `{pod}` on this node"))?;
    let record = pods.record(pod, &current)?;
    let units = record.all_units();
    let mut start = || {
        let begun = monotonic();
        displaced::come_back(site, pods, &[pod.to_owned()])?;
        judge(site, pods, &record, begun, say)?.map_err(|why| anyhow!(why))
    };
    let done = match verb {
        Control::Start => start(),
        Control::Stop => site.systemd.stop(&units),
        Control::Kill => site.systemd.kill(&units),
        Control::Restart => site.systemd.stop(&units).and_then(|()| start()),
    };
    let (word, past) = verb.words();
    let outcome = match &done {
        Ok(()) => past.to_owned(),
        Err(error) => format!("was to {word}, which failed: {error:#}"),
    };
    // A disk that is full keeps nothing from being stopped.
    let noted = pods.note(pod, Entry::now(&current, outcome, by));
    if let Err(error) = noted {
        say(format!("its history does not have that: {error:#}"));
    }
    done.with_context(|| format!("cannot {word} `{pod}`"))
}
