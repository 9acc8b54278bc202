//! Putting a revision in place: stop, switch, start, judge; and back where it fails.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::{Instant, SystemTime};

use anyhow::{Context, bail};

use super::watch::judge;
use super::{Pods, Site};
use crate::fleet::revision::{RECORD, Record, digest};
use crate::fleet::state::{Applied, Apply, Entry};
use crate::push::outcome::short;
use crate::report::Advice;

/// So many of the last lines of a container that failed are told.
const LOG: usize = 15;

/// Makes an earlier revision the wished one: the previous, or the one whose digest
/// begins so.
pub(super) fn earlier(
    pods: &Pods,
    pod: String,
    revision: Option<&str>,
    by: String,
) -> anyhow::Result<Apply> {
    let current = pods.link(&pod, "current");
    if current.is_none() {
        bail!("there is no pod `{pod}` on this node");
    }
    let id = match revision {
        None => pods.link(&pod, "previous").context("there is no previous revision")?,
        Some(start) => {
            let ids = pods.ids(&pod)?;
            let mut found = ids.iter().filter(|id| !start.is_empty() && id.starts_with(start));
            let first = found.next().with_context(|| {
                let known: Vec<&str> = ids.iter().map(|id| short(id)).collect();
                format!("there is no revision `{start}`; there are {}", known.join(", "))
            })?;
            if found.next().is_some() {
                bail!("several revisions begin with `{start}`");
            }
            first.clone()
        }
    };
    let files = pods.files(&pod, &id)?;
    Ok(Apply { pod, id, files, expected: current, by })
}

/// Makes a revision the one that runs. Where it does not do its work, what ran before
/// runs again.
///
/// # Errors
/// When it was not even tried, and nothing was changed; or when neither runs and the
/// node itself refuses.
pub(super) fn apply(
    site: &Site<'_>,
    wished: &Apply,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<Applied> {
    let pods = Pods::new(&site.places);
    let (pod, id) = (wished.pod.as_str(), wished.id.as_str());
    let record = check(&pods, wished)?;
    let current = pods.link(pod, "current");
    if current != wished.expected {
        return Err(anyhow::anyhow!("`{pod}` was changed on this node since it was planned"))
            .hint("plan again");
    }
    // What was never judged is nothing to go back to.
    let unjudged = pods.pending(pod).filter(|_| current.is_some());
    let back = match &current {
        Some(now) if unjudged.as_ref() == Some(now) || now == id => pods.link(pod, "previous"),
        now => now.clone(),
    };
    let back = back.filter(|back| back != id);
    // Environments may have what is nobody else's business.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&site.places.pods);
    made.and_then(|()| fs::create_dir_all(site.places.pods.join(pod).join("revs")))
        .with_context(|| format!("cannot make the folder of `{pod}`"))?;
    pods.write(pod, id, &wished.files)?;
    pods.pin()?;

    // In this order: a node that loses power from here on knows what to go back to.
    let before = pods.link(pod, "previous");
    pods.set_pending(pod, Some(id))?;
    if let Some(back) = &back {
        pods.set_link(pod, "previous", Some(back))?;
    }
    let tried = switch(site, &pods, current.as_deref(), id, &record, say);
    let (gap, why) = match tried {
        Ok((gap, Ok(()))) => {
            pods.set_pending(pod, None)?;
            pods.note(pod, entry(wished, "runs"))?;
            pods.prune(pod)?;
            let current = Some(id.to_owned());
            let applied = Applied { current, failure: None, restored: None, log: Vec::new(), gap };
            return Ok(applied);
        }
        Ok((gap, Err(why))) => (gap, why),
        Err(error) => (0, format!("{error:#}")),
    };
    let log = log(site, &record);
    let (current, restored) = go_back(site, &pods, pod, id, back.as_deref(), say)?;
    if back.is_some() {
        let before = before.filter(|before| current.as_ref() != Some(before));
        pods.set_link(pod, "previous", before.as_deref())?;
    }
    pods.set_pending(pod, None)?;
    let outcome = match restored {
        Some(true) => format!("failed, and the one before runs again: {why}"),
        Some(false) => format!("failed, and the one before does not run either: {why}"),
        None => format!("failed: {why}"),
    };
    pods.note(pod, entry(wished, &outcome))?;
    pods.prune(pod)?;
    Ok(Applied { current, failure: Some(why), restored, log, gap })
}

fn entry(wished: &Apply, outcome: &str) -> Entry {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Entry {
        time: time.map_or(0, |time| time.as_secs()),
        revision: wished.id.clone(),
        outcome: outcome.to_owned(),
        by: wished.by.clone(),
    }
}

/// Looks at what was sent before anything is touched.
fn check(pods: &Pods, wished: &Apply) -> anyhow::Result<Record> {
    if digest(&wished.files) != wished.id {
        bail!("the files of the revision {} are not the ones it names", short(&wished.id));
    }
    let record = wished.files.get(RECORD).context("the revision has no record")?;
    let record: Record =
        serde_json::from_str(record).context("the revision's record is damaged")?;
    for placed in &record.containers {
        if !pods.has_bundle(placed) {
            return Err(anyhow::anyhow!(
                "the bundle {} {} is not in the node's store",
                placed.bundle,
                short(&placed.bundle_id)
            ))
            .hint("deploy from the fleet's directory, which pushes it");
        }
    }
    Ok(record)
}

/// Stops what runs, switches, starts, judges. Returns for how many milliseconds
/// nothing was ready, and the verdict.
fn switch(
    site: &Site<'_>,
    pods: &Pods,
    from: Option<&str>,
    to: &str,
    record: &Record,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<(u64, Result<(), String>)> {
    let stopped = Instant::now();
    if let Some(from) = from {
        say(format!("stops {}", short(from)));
        if let Ok(old) = pods.record(&record.pod, from) {
            site.systemd.stop(&old.units())?;
        }
    }
    pods.set_link(&record.pod, "current", Some(to))?;
    pods.link_units(&record.pod, Some(record))?;
    make_dirs(site, record)?;
    site.systemd.reload()?;
    say(format!("starts {}", short(to)));
    // The job's failure is told better by the unit's state.
    let job = site.systemd.start(&record.units());
    let verdict = judge(record, site.systemd, site.prober, &site.patience)?;
    let gap = stopped.elapsed().saturating_sub(site.patience.settle).as_millis();
    let verdict = match (verdict, job) {
        (Err(why), Err(job)) => Err(format!("{why} ({job:#})")),
        (verdict, _) => verdict,
    };
    Ok((u64::try_from(gap).unwrap_or(u64::MAX), verdict))
}

fn make_dirs(site: &Site<'_>, record: &Record) -> anyhow::Result<()> {
    let own = site.places.store.join(".volumes");
    for dir in record.dirs.iter().map(Path::new) {
        let made = || {
            if dir.is_dir() {
                return Ok(());
            }
            fs::create_dir_all(dir)?;
            // As Kubernetes has an emptyDir: whoever the container runs as writes to it.
            let mode = if dir.starts_with(&own) { 0o777 } else { 0o755 };
            fs::set_permissions(dir, fs::Permissions::from_mode(mode))
        };
        made().with_context(|| format!("cannot make `{}`", dir.display()))?;
    }
    Ok(())
}

/// Runs the revision `back` again, or nothing where there is none. Returns what is
/// current then, and whether it does its work.
fn go_back(
    site: &Site<'_>,
    pods: &Pods,
    pod: &str,
    from: &str,
    back: Option<&str>,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<(Option<String>, Option<bool>)> {
    let Some(back) = back else {
        say("failed, and there is nothing to go back to".to_owned());
        if let Ok(record) = pods.record(pod, from) {
            site.systemd.stop(&record.units())?;
        }
        pods.link_units(pod, None)?;
        pods.set_link(pod, "current", None)?;
        site.systemd.reload()?;
        return Ok((None, None));
    };
    say(format!("failed; goes back to {}", short(back)));
    let record = pods.record(pod, back)?;
    let (_, verdict) = switch(site, pods, Some(from), back, &record, say)?;
    Ok((Some(back.to_owned()), Some(verdict.is_ok())))
}

/// The last lines of all containers, each with its name where there are several.
fn log(site: &Site<'_>, record: &Record) -> Vec<String> {
    let mut lines = Vec::new();
    for placed in &record.containers {
        for line in site.systemd.log(&placed.unit, LOG) {
            lines.push(match record.containers.len() {
                1 => line,
                _ => format!("{}: {line}", placed.name),
            });
        }
    }
    lines
}

#[cfg(test)]
mod tests;
