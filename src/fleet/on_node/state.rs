//! What a node has of ours.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use delta::Digest;

use super::pending::monotonic;
use super::pods::list;
use super::{Pods, Site, Socket, Wanted};
use crate::fleet::network::{
    Opened, Published, RULES6, address6, dropping_for_good, listed, opened,
};
use crate::fleet::obstacle::Needs;
use crate::fleet::pod::{Probe, Probing};
use crate::fleet::preflight::{Facts, SCRIPT};
use crate::fleet::revision::{Placed, Record};
use crate::fleet::state::{ContainerState, PodState, State};
use crate::process;
use crate::push::outcome::short;
use crate::push::verify::Difference;

/// So long facts are taken to hold; they lie where a reboot takes them.
const FACTS_AGE: Duration = Duration::from_secs(3600);
/// The same where a runtime did not pass its trial: memory or time may have lacked only
/// then, and another runtime is another revision of every pod.
const FAILED_AGE: Duration = Duration::from_secs(60);
const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// Of what is altered in a bundle, so many files are named.
const NAMED: usize = 20;

/// Reads everything, what pods need included, and changes nothing; with `verify`, all files
/// of the pods' bundles.
///
/// # Errors
/// When systemd does not answer, or files cannot be read.
pub(super) fn read(
    site: &Site<'_>,
    verify: bool,
    needs: &Needs,
) -> anyhow::Result<(State, Vec<PodState>)> {
    let pods = Pods::new(&site.places);
    let ruleset = site.network.ruleset();
    let has_ipv6 = LazyCell::new(|| site.network.has_ipv6(&ruleset));
    let (rules, opened) = (listed(&ruleset), opened(&ruleset));
    let opened = match opened {
        None => firewalld(site)?,
        some => some,
    };
    let mut nobodys_open = opened.as_ref().map(|o| o.ours().to_vec()).unwrap_or_default();
    let mut states = Vec::new();
    let mut verified = verify.then(BTreeMap::new);
    for name in pods.names()? {
        let current = pods.link(&name, "current");
        let mut state = PodState {
            previous: pods.link(&name, "previous"),
            pending: pods.pending(&name).map(|pending| pending.id),
            rules: rules.iter().filter(|(pod, _)| *pod == name).map(|(_, r)| r.clone()).collect(),
            ..PodState::default()
        };
        if let Some(id) = &current {
            // What cannot be read is another state than the wished one.
            state.files = pods.files(&name, id).unwrap_or_default();
            if let Ok(record) = pods.record(&name, id) {
                state.containers = containers(site, &pods, &record)?;
                if let Some(verified) = &mut verified {
                    verify_bundles(&pods, &record, &mut state.containers, verified);
                }
                state.addresses.extend(pods.address(&record));
                // Those of an earlier vzmaster have IPv4 only.
                if state.files.contains_key(RULES6) && *has_ipv6 {
                    let address = state.addresses.first().and_then(|own| address6(own));
                    state.addresses.extend(address);
                }
                state.leftover = pods.linked(&name)?;
                state.leftover.retain(|unit| !record.all_units().contains(unit));
                let names = record.listens.iter().map(Published::name);
                let names: Vec<String> =
                    names.filter(|name| opened.as_ref().is_none_or(|o| o.has(name))).collect();
                nobodys_open.retain(|name| !names.contains(name));
                state.rules.extend(names);
                state.lacks_secrets = site.lacks_secrets(&record);
                state.keeps_secrets = site.keeps_secrets(&record);
                state.deaf = deaf(site, &record, &state.containers);
            }
        }
        states.push(PodState { name, current, ..state });
    }
    // One that failed at its first deployment has a history, and nothing else.
    states.retain(|pod| pod.current.is_some() || pod.pending.is_some());
    let mut stray = pods.stray()?;
    let there = |pod: &String| states.iter().any(|state| state.name == *pod);
    let nobodys = rules.iter().filter(|(pod, _)| !there(pod));
    stray.extend(nobodys.map(|(pod, rule)| format!("port {rule} of {pod}")));
    stray.extend(nobodys_open.iter().map(|name| format!("port {name} of no pod")));
    let mut needs = needs.clone();
    // Those lead to pods already, whoever else listens there.
    let led =
        |port: &String| rules.iter().any(|(_, rule)| rule.starts_with(&format!("{port} -> ")));
    needs.ports.retain(|port| !led(port));
    let (pods, found) = (Vec::new(), site.find(&needs));
    let (facts, dropping) = (facts(site)?, dropping_for_good(&ruleset));
    let state = State { facts, busy: site.busy(), pods, stray, dropping, found };
    Ok((state, states))
}

/// Hashes the bundles of a pod again; one that several containers have, once.
fn verify_bundles(
    pods: &Pods,
    record: &Record,
    containers: &mut [ContainerState],
    verified: &mut BTreeMap<String, Vec<String>>,
) {
    for (placed, state) in record.containers.iter().zip(containers) {
        if state.stored {
            let altered = verified.entry(placed.bundle_id.clone());
            state.altered = altered.or_insert_with(|| altered_files(pods, placed)).clone();
        }
    }
}

fn altered_files(pods: &Pods, placed: &Placed) -> Vec<String> {
    let differences = match pods.verify_bundle(placed) {
        Ok(differences) => differences,
        Err(error) => return vec![format!("{error:#}")],
    };
    let line = |found: &Difference| {
        format!("{} ({})", String::from_utf8_lossy(&found.path).escape_debug(), found.what.name())
    };
    let mut lines: Vec<String> = differences.iter().take(NAMED).map(line).collect();
    if let Some(more) = differences.len().checked_sub(NAMED).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// The ports that firewalld has open, where it runs.
fn firewalld(site: &Site<'_>) -> anyhow::Result<Option<Opened>> {
    let Some(listed) = site.network.firewalld() else { return Ok(None) };
    let noted = list(&site.places.run.join("firewalld"))?;
    let ours = noted.iter().map(|name| name.replacen('-', "/", 1)).collect();
    Ok(Some(Opened::new(&listed, ours)))
}

/// How the containers of a revision are.
///
/// # Errors
/// When systemd does not answer.
pub(super) fn containers(
    site: &Site<'_>,
    pods: &Pods,
    record: &Record,
) -> anyhow::Result<Vec<ContainerState>> {
    let units = site.show(record)?;
    let mut unasked = unasked(site, pods, record)?;
    let now = monotonic();
    let state = |(placed, unit): (&Placed, super::UnitState)| {
        let (linked, enabled) = pods.unit_links(record, placed);
        let since = Duration::from_micros(unit.since);
        ContainerState {
            name: placed.name.clone(),
            unit: placed.unit.clone(),
            bundle: placed.bundle_id.clone(),
            stored: pods.has_bundle(placed),
            altered: Vec::new(),
            linked: linked && !unit.stale,
            enabled,
            uptime: (unit.active == "active").then(|| now.saturating_sub(since).as_secs()),
            unasked: unasked.remove(&placed.name).filter(|_| unit.active == "active"),
            active: unit.active,
            sub: unit.sub,
            result: unit.result,
            restarts: unit.restarts + pods.unanswered(placed),
            pid: unit.pid,
            memory: unit.memory,
        }
    };
    Ok(record.containers.iter().zip(units).map(state).collect())
}

/// The timers that are to ask containers whether they are alive, and are not there, by
/// container.
fn unasked(
    site: &Site<'_>,
    pods: &Pods,
    record: &Record,
) -> anyhow::Result<BTreeMap<String, String>> {
    // HTTPS is asked by curl, and the pod's log says where it is missing.
    let tls = |probe: &Probe| matches!(probe.probing, Probing::Http { tls: true, .. });
    let asks = |probe: &Probe| !tls(probe) || process::find("curl").is_some();
    let asked =
        record.containers.iter().filter(|placed| placed.liveness.as_ref().is_some_and(asks));
    let (names, timers): (Vec<String>, Vec<String>) =
        asked.map(|placed| (placed.name.clone(), pods.timer(placed))).unzip();
    let states = site.systemd.show(&timers)?;
    let all = names.into_iter().zip(timers).zip(states);
    Ok(all.filter(|(_, state)| state.active != "active").map(|(pair, _)| pair).collect())
}

/// Ports of a pod on which nobody listens where it does.
pub(super) fn deaf(site: &Site<'_>, record: &Record, containers: &[ContainerState]) -> Vec<String> {
    // What does not run is said to.
    let Some(pid) = containers.iter().map(|state| state.pid).find(|pid| *pid != 0) else {
        return Vec::new();
    };
    let sockets = site.network.sockets(pid, Wanted::Listening);
    let ports = record.network.as_ref().unwrap_or(&record.listens);
    let heard = |port: &&Published| {
        let hears = |s: &Socket| (s.port, s.protocol) == (port.port, port.protocol);
        !sockets.iter().any(hears)
    };
    let deaf = ports.iter().filter(heard);
    deaf.map(|port| format!("{}/{}", port.port, port.protocol.name())).collect()
}

/// What the preflight script prints here, or printed lately.
fn facts(site: &Site<'_>) -> anyhow::Result<String> {
    // Another version of the script asks for other things.
    let version = Digest::of(SCRIPT.as_bytes()).to_string();
    let path = site.places.run.join(format!("facts-{}", short(&version)));
    let fresh = || {
        let age = fs::metadata(&path).ok()?.modified().ok()?.elapsed().ok()?;
        let text = fs::read_to_string(&path).ok()?;
        let runtime = |name: &str, facts: &Facts| {
            let path = facts.get(&format!("{name}.path"));
            path.is_empty() == process::find(name).is_none()
        };
        let facts = Facts::parse(&text).ok()?;
        let same = RUNTIMES.iter().all(|name| runtime(name, &facts));
        let same = same && facts.get("podman").is_empty() == process::find("podman").is_none();
        (age < holds(&facts) && same).then_some(text)
    };
    if let Some(text) = fresh() {
        return Ok(text);
    }
    let mut sh = process::command("sh");
    // In memory, since the disk may be full.
    let _ = fs::create_dir_all(&site.places.run);
    let sh = sh.arg("-c").arg(SCRIPT).env("TMPDIR", &site.places.run);
    let out = process::output(sh).context("cannot look at this machine")?;
    let text = String::from_utf8_lossy(&out).into_owned();
    // Kept for the next time; where it cannot be, the next time looks again.
    let _ = fs::write(&path, &text);
    Ok(text)
}

/// How long facts are taken to hold.
fn holds(facts: &Facts) -> Duration {
    let failed = |name: &&str| facts.get(&format!("{name}.trial")).starts_with("no");
    if RUNTIMES.iter().any(failed) { FAILED_AGE } else { FACTS_AGE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_failed_is_made_again_soon() {
        let check = |trial: &str, expected: Duration| {
            let facts = format!("vz-facts=1\ncrun.trial={trial}\nend=1\n");
            assert_eq!(holds(&Facts::parse(&facts).unwrap()), expected, "{trial}");
        };
        check("yes", FACTS_AGE);
        check("no: cannot fork", FAILED_AGE);
    }
}
