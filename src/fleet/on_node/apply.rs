//! Putting a revision in place: start, judge, move the ports, wait to be confirmed,
//! stop the one before (or stop it first); and back where anything fails.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};

use super::pending::{Pending, monotonic, private};
use super::watch::judge;
use super::{Pods, Site, displaced, state};
use crate::fleet::network;
use crate::fleet::revision::{RECORD, Record, Update, digest};
use crate::fleet::state::{Applied, Apply, ContainerState, Entry};
use crate::push::outcome::short;
use crate::push::store::sync_dir;
use crate::report::Advice;

/// So many of the last lines of a container that failed are told.
const LOG: usize = 15;
/// So many characters of each; the journal has lines of 48 KiB.
const LINE: usize = 1000;
/// Bytes of them all: they travel in one frame.
const LOGS: usize = 32 << 10;

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
        None => {
            // Where a switch was broken off they are the same.
            let previous = pods.link(&pod, "previous").filter(|id| current.as_ref() != Some(id));
            previous.context("there is no previous revision")?
        }
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
    // What runs already has nothing to be stopped for.
    Ok(Apply {
        pod,
        id,
        files,
        expected: current,
        by,
        forget: false,
        instead: Vec::new(),
        ports: true,
    })
}

/// Tries a revision. Where it does not do its work, what ran before runs again; where it
/// does, it waits for [`confirm`], and is taken back without.
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
    if let Some(obstacle) = site.taken(&record, &wished.instead) {
        return Err(anyhow::anyhow!("{}", obstacle.what)).hint(obstacle.fix);
    }
    if site.lost_secrets(&record) {
        return Err(anyhow::anyhow!("the secrets of this revision are not on the node any more"))
            .hint("deploy from the fleet's directory, which brings them");
    }
    if let Err(error) = abandon(site, &pods, pod, say) {
        // What is damaged there must not keep a good revision out.
        say(format!("the deployment before cannot be ended: {error:#}"));
    }
    let current = pods.link(pod, "current");
    if current != wished.expected {
        return Err(anyhow::anyhow!("`{pod}` was changed on this node since it was planned"))
            .hint("plan again");
    }
    // A repair that fails leaves what is wished: what ails it may be something else.
    let back = current.clone();
    // Environments may have what is nobody else's business.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&site.places.pods);
    made.and_then(|()| fs::create_dir_all(site.places.pods.join(pod).join("revs")))
        .with_context(|| format!("cannot make the folder of `{pod}`"))?;
    // What is synced below a folder whose own name is not is lost with it.
    for folder in site.places.pods.ancestors().take(3) {
        sync_dir(folder)?;
    }
    // What cannot be read cannot be stopped by its record; its units are, below.
    let old = pods.current(pod).unwrap_or_default();
    let is_same = current.as_deref() == Some(id);
    let beside = old.as_ref().is_some_and(|old| record.replaces(old) == Update::StartFirst);
    let goes_on = is_same && wished.ports && is_whole(site, &pods, &record, wished)?;
    let start_first = beside || goes_on;
    pods.write(pod, id, &wished.files)?;
    pods.pin()?;
    pods.tag(&record, id, old.as_ref(), beside)?;
    let mut pending = Pending {
        id: id.to_owned(),
        back,
        by: wished.by.clone(),
        judged: None,
        until: 0,
        forget: wished.forget,
        instead: displaced::running(site, &pods, &wished.instead)?,
    };
    // It finds nothing to do where this is broken off before the next line, and waits
    // for the lock after it.
    site.guard.arm(pod).context("cannot start what would take a failed deployment back")?;
    if let Err(error) = pods.set_pending(pod, Some(&pending)) {
        site.guard.disarm(pod);
        return Err(error);
    }
    let tried = attempt(site, &pods, (old.as_ref(), &pending.instead), &record, start_first, say);
    let (gap, why) = match tried {
        Ok((gap, Ok(()))) => {
            let mut applied = Applied::good(id);
            applied.gap = gap;
            pending.judged = Some(applied.clone());
            pending.until = (monotonic() + site.patience.confirm).as_secs();
            match pods.set_pending(pod, Some(&pending)) {
                Ok(()) => return Ok(applied),
                Err(error) => (gap, format!("{error:#}")),
            }
        }
        Ok((gap, Err(why))) => (gap, why),
        Err(error) => (0, format!("{error:#}")),
    };
    let mut applied = take_back(site, &pods, pod, &pending, why, say)?;
    site.guard.disarm(pod);
    applied.gap = gap;
    Ok(applied)
}

/// Whether the revision runs as it is, so that nothing has to be stopped; its ports may
/// lead elsewhere.
fn is_whole(site: &Site<'_>, pods: &Pods, record: &Record, wished: &Apply) -> anyhow::Result<bool> {
    let containers = state::containers(site, pods, record)?;
    let runs = |container: &ContainerState| {
        container.active == "active" && container.linked && container.enabled
    };
    let nets = site.systemd.show(&record.network_unit())?;
    let files = pods.files(&record.pod, &wished.id);
    Ok(files.is_ok_and(|files| files == wished.files)
        && containers.iter().all(runs)
        && nets.iter().all(|net| net.active == "active")
        && state::deaf(site, record, &containers).is_empty())
}

/// Makes a revision that was tried the current one, and stops the one before; the
/// master says so over a connection that it opened after the change.
///
/// # Errors
/// When there is no such revision any more, or nothing is known of it.
pub(super) fn confirm(
    site: &Site<'_>,
    pod: &str,
    id: &str,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<Applied> {
    let pods = Pods::new(&site.places);
    match pods.pending(pod).filter(|pending| pending.id == id) {
        Some(pending) => {
            let Some(applied) = pending.judged.clone() else {
                abandon(site, &pods, pod, say)?;
                let ended = pods.outcome(pod, id);
                return ended.context("the deployment was broken off, and was taken back");
            };
            let previous = pods.link(pod, "current").filter(|current| current != id);
            let put = || {
                match &previous {
                    Some(_) if pending.forget => pods.set_link(pod, "previous", None)?,
                    Some(previous) => pods.set_link(pod, "previous", Some(previous))?,
                    None => {}
                }
                pods.set_link(pod, "current", Some(id))
            };
            if let Err(error) = put() {
                let why = format!("it cannot be made the current one: {error:#}");
                let applied = take_back(site, &pods, pod, &pending, why, say)?;
                site.guard.disarm(pod);
                return Ok(applied);
            }
            match finish(site, &pods, pod, &pending, say) {
                Ok(()) => site.guard.disarm(pod),
                // It is the current one all the same; the guard tries again.
                Err(error) => say(format!("the one before is not stopped yet: {error:#}")),
            }
            Ok(applied)
        }
        None if pods.link(pod, "current").as_deref() == Some(id) => Ok(Applied::good(id)),
        None => pods.outcome(pod, id).context("this node knows nothing of the deployment"),
    }
}

/// Ends a deployment that nobody works at any more: forward where it was confirmed,
/// else back.
///
/// # Errors
/// When neither can be done.
pub(super) fn abandon(
    site: &Site<'_>,
    pods: &Pods,
    pod: &str,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<()> {
    let Some(pending) = pods.pending(pod) else { return Ok(()) };
    let current = pods.link(pod, "current");
    if pending.judged.is_some() && current.as_ref() == Some(&pending.id) {
        return finish(site, pods, pod, &pending, say);
    }
    let why = match pending.judged {
        Some(_) => "the connection that was to confirm it did not come",
        None => "it was broken off before it was judged",
    };
    say(format!("the deployment of {} before: {why}", short(&pending.id)));
    take_back(site, pods, pod, &pending, why.to_owned(), say).map(drop)
}

/// Stops what is not the current revision, and forgets what was begun: last, so that
/// the guard ends it where this is broken off, or fails.
fn finish(
    site: &Site<'_>,
    pods: &Pods,
    pod: &str,
    pending: &Pending,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<()> {
    let record = pods.record(pod, &pending.id)?;
    site.point(pods, &record)?;
    let old = pending.back.as_deref().and_then(|back| pods.record(pod, back).ok());
    let mut others = pods.linked(pod)?;
    others.retain(|unit| !record.all_units().contains(unit));
    if !others.is_empty() {
        if let Some(old) = old.filter(|_| record.network.is_some()) {
            say("waits for connections to the one before to end".to_owned());
            site.drain(&old)?;
        }
        site.systemd.stop(&others)?;
    }
    displaced::stop(site, pods, &pending.instead)?;
    pods.link_units(pod, &[&record])?;
    pods.allow(pod, None)?;
    site.systemd.reload()?;
    pods.set_pending(pod, None)?;
    told(pods.note(pod, Entry::now(&pending.id, "runs".to_owned(), &pending.by)), say);
    told(pods.prune(pod), say);
    Ok(())
}

/// What fails here must not undo or hide what was done.
fn told(result: anyhow::Result<()>, say: &mut dyn FnMut(String)) {
    if let Err(error) = result {
        say(format!("{error:#}"));
    }
}

/// Makes what ran before run again, and says what came of the deployment.
fn take_back(
    site: &Site<'_>,
    pods: &Pods,
    pod: &str,
    pending: &Pending,
    why: String,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<Applied> {
    let record = pods.record(pod, &pending.id)?;
    let log = log(site, &record);
    let gone = go_back(site, pods, &record, pending.back.as_deref(), say);
    match displaced::come_back(site, pods, &pending.instead) {
        Ok(()) => pending.instead.iter().for_each(|name| say(format!("{name} runs again"))),
        Err(error) => say(format!("{error:#}")),
    }
    let (current, restored) = gone?;
    let outcome = match restored {
        _ if pending.back.as_ref() == Some(&pending.id) => {
            format!("was repaired, and failed: {why}")
        }
        Some(true) => format!("failed, and the one before runs again: {why}"),
        Some(false) => format!("failed, and the one before does not run either: {why}"),
        None => format!("failed: {why}"),
    };
    let applied = Applied { current, failure: Some(why), restored, log, gap: 0 };
    // Who lost the connection asks for it later.
    told(pods.set_outcome(pod, &pending.id, &applied), say);
    pods.set_pending(pod, None)?;
    told(pods.note(pod, Entry::now(&pending.id, outcome, &pending.by)), say);
    told(pods.prune(pod), say);
    Ok(applied)
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

/// Starts a revision beside the old one or in its place, judges it, and makes the
/// node's ports lead to it. Returns for how many milliseconds nothing was ready, and the
/// verdict.
fn attempt(
    site: &Site<'_>,
    pods: &Pods,
    (old, instead): (Option<&Record>, &[String]),
    record: &Record,
    start_first: bool,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<(u64, Result<(), String>)> {
    let stopped = Instant::now();
    let pod = &record.pod;
    if let Some(old) = old.filter(|_| !start_first) {
        say("stops the one before".to_owned());
        site.systemd.stop(&old.all_units())?;
    }
    displaced::make_way(site, pods, instead, record)?;
    let old: Vec<&Record> = old.filter(|old| old.tag != record.tag).into_iter().collect();
    let known = [old, vec![record]].concat();
    // What is of neither revision would run on, and nobody would see it.
    let mut strays = pods.linked(pod)?;
    strays.retain(|unit| !known.iter().any(|record| record.all_units().contains(unit)));
    site.systemd.stop(&strays)?;
    pods.link_units(pod, &known)?;
    pods.allow(pod, Some(record))?;
    make_dirs(site, record)?;
    site.systemd.reload()?;
    say("starts it".to_owned());
    // The job's failure is told better by the unit's state.
    let begun = monotonic();
    let job = site.systemd.start(&record.all_units());
    let verdict = judge(site, pods, record, begun, say)?;
    if verdict.is_ok() {
        site.point(pods, record)?;
        // Until then the ports lead to either of them.
        displaced::withdraw(site, instead)?;
    }
    let gap = stopped.elapsed().saturating_sub(site.patience.settle).as_millis();
    let gap = if start_first { 0 } else { u64::try_from(gap).unwrap_or(u64::MAX) };
    let verdict = match (verdict, job) {
        (Err(why), Err(job)) => Err(format!("{why} ({job:#})")),
        (verdict, _) => verdict,
    };
    Ok((gap, verdict))
}

fn make_dirs(site: &Site<'_>, record: &Record) -> anyhow::Result<()> {
    let own = site.places.store.join(".volumes");
    if record.dirs.iter().any(|dir| Path::new(dir).starts_with(&own)) {
        // Anybody writes to those in it.
        private(&own).with_context(|| format!("cannot make `{}`", own.display()))?;
    }
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
    failed: &Record,
    back: Option<&str>,
    say: &mut dyn FnMut(String),
) -> anyhow::Result<(Option<String>, Option<bool>)> {
    let pod = failed.pod.as_str();
    let Some(back) = back else {
        site.systemd.stop(&pods.linked(pod)?)?;
        say("failed, and there is nothing to go back to".to_owned());
        site.network.withdraw(pod)?;
        pods.set_link(pod, "current", None)?;
        pods.allow(pod, None)?;
        pods.link_units(pod, &[])?;
        site.systemd.reload()?;
        return Ok((None, None));
    };
    let record = pods.record(pod, back)?;
    // Nothing that fails from here on, such as a write to a full disk, must keep it from
    // starting. Where it runs still, it has its ports again at once.
    told(site.point(pods, &record), say);
    let mut others = pods.linked(pod)?;
    others.retain(|unit| !record.all_units().contains(unit));
    told(site.systemd.stop(&others), say);
    say("failed; goes back to the one before".to_owned());
    let is_current = || pods.link(pod, "current").as_deref() == Some(back);
    if !is_current() {
        told(pods.set_link(pod, "current", Some(back)), say);
    }
    told(pods.tag(&record, back, None, false), say);
    told(pods.allow(pod, Some(&record).filter(|_| !is_current())), say);
    told(pods.link_units(pod, &[&record]), say);
    told(site.systemd.reload(), say);
    let begun = monotonic();
    let job = site.systemd.start(&record.all_units());
    let verdict = judge(site, pods, &record, begun, say)?;
    told(site.point(pods, &record), say);
    if verdict.is_err() {
        told(job, say);
    }
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
    if record.network.is_some() && lines.iter().any(|line| line.contains("Dependency failed")) {
        lines.extend(site.systemd.log(&network::unit(&record.pod, &record.tag), LOG));
    }
    let mut left = LOGS;
    let mut fits = |line: &String| {
        left = left.saturating_sub(line.len());
        left > 0
    };
    let cut = lines.iter().map(|line| line.chars().take(LINE).collect::<String>());
    cut.take_while(|line| fits(line)).collect()
}

#[cfg(test)]
mod tests;
