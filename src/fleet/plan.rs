//! What differs between wish and state, and what is to be done. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::network::{Published, RULES, RULES6};
use super::pod::Restart;
use super::preflight::{Facts, Runtime};
use super::revision::{Files, Placed, RECORD, Record, Revision, Update, describe, digest, record};
use super::secret;
use super::state::{ContainerState, PodState, State};
use crate::push::outcome::short;

/// How a port is called that is open to nobody.
const DEAF: &str = "nobody listens on";

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drift {
    /// The pod is not there.
    Missing,
    /// Another revision is there.
    Revision {
        /// It.
        from: String,
        /// The wished one.
        to: String,
        /// What is different.
        changes: Vec<String>,
    },
    /// A deployment was broken off, or waits to be confirmed.
    Unjudged,
    /// A deployment is under way.
    UnderWay,
    /// Files of the revision were changed on the node.
    Changed,
    /// A unit is not as it should be.
    Unit {
        /// Which.
        unit: String,
        /// What is wrong with it.
        what: String,
    },
    /// A unit of another revision is left.
    Leftover {
        /// Which.
        unit: String,
    },
    /// A bundle is not in the store any more.
    NoBundle {
        /// Of which container.
        container: String,
    },
    /// Its secrets are not in the node's memory.
    Secrets,
    /// Files of a bundle were changed in the store.
    Altered {
        /// Of which container.
        container: String,
        /// Which, and in what.
        files: Vec<String>,
    },
    /// A port of the node leads elsewhere, nowhere, or to nobody who listens.
    Port {
        /// What is wrong, with the port.
        what: String,
    },
    /// A pod that nothing wishes.
    Unexpected,
    /// A unit or port of ours that is of no pod.
    Stray,
}

/// What is to be done with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nothing: it is as wished.
    Keep,
    /// Start it.
    Create,
    /// Put the new revision in the place of the old one.
    Update,
    /// Put the same revision in place again.
    Repair,
    /// Stop it and remove it; only where that was asked for.
    Remove,
    /// Nothing: it is not ours to decide.
    Leave,
}

/// One pod of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The pod, or the stray unit.
    pub pod: String,
    /// What is to be done.
    pub action: Action,
    /// Revision that is there.
    pub from: Option<String>,
    /// Revision that is wished.
    pub to: Option<String>,
    /// How an update is done.
    pub how: Option<Update>,
    /// Pods that are to be removed, and make way for this one.
    pub instead: Vec<String>,
    /// Why.
    pub drift: Vec<Drift>,
}

/// Plans one host: what is wished, against what it said. `prune` removes pods that
/// nothing wishes.
pub fn plan(wished: &BTreeMap<String, Revision>, state: &State, prune: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, revision) in wished {
        let there = state.pods.iter().find(|pod| pod.name == *name);
        let mut drift = there.map_or_else(|| vec![Drift::Missing], |pod| compare(revision, pod));
        for drift in drift.iter_mut().filter(|drift| state.busy && **drift == Drift::Unjudged) {
            *drift = Drift::UnderWay;
        }
        let from = there.and_then(|pod| pod.current.clone());
        let action = match &from {
            _ if drift.is_empty() => Action::Keep,
            None => Action::Create,
            Some(id) if *id == revision.id => Action::Repair,
            Some(_) => Action::Update,
        };
        let how = there.filter(|_| action != Action::Keep).and_then(|pod| how(revision, pod));
        let to = Some(revision.id.clone());
        let instead = match prune && action != Action::Keep {
            true => displaced(wished, revision, state, action),
            false => Vec::new(),
        };
        let mut step = Step { pod: name.clone(), action, from, to, how, instead, drift };
        if action == Action::Repair && step.goes_on() {
            step.how = None;
        }
        steps.push(step);
    }
    let action = if prune { Action::Remove } else { Action::Leave };
    for pod in state.pods.iter().filter(|pod| !wished.contains_key(&pod.name)) {
        let drift = vec![Drift::Unexpected];
        steps.push(Step {
            pod: pod.name.clone(),
            action,
            from: pod.current.clone(),
            to: None,
            how: None,
            instead: Vec::new(),
            drift,
        });
    }
    for unit in &state.stray {
        let drift = vec![Drift::Stray];
        let action = Action::Leave;
        let (pod, instead) = (unit.clone(), Vec::new());
        steps.push(Step { pod, action, from: None, to: None, how: None, instead, drift });
    }
    steps
}

/// What runs a pod and goes on doing so although its trial failed: a pod that runs says
/// more than a trial on a busy machine.
pub fn proven(there: &PodState, facts: &Facts) -> Option<Runtime> {
    let runs = there.containers.iter().any(|container| container.active == "active");
    let runtime = record(&there.files)?.containers.into_iter().next()?.runtime;
    let fact = |what: &str| facts.get(&format!("{}.{what}", runtime.name));
    let doubted = fact("trial").starts_with("no") && fact("path") == runtime.path;
    (runs && doubted).then_some(runtime)
}

/// The pods that nothing wishes, and that cannot stay beside a revision: they have a port of
/// it, or are such as stop before another one of theirs starts, and it is a new one.
fn displaced(
    all: &BTreeMap<String, Revision>,
    wished: &Revision,
    state: &State,
    action: Action,
) -> Vec<String> {
    let ports = |record: &Record| -> Vec<String> {
        let ports = record.network.as_ref().unwrap_or(&record.listens);
        ports.iter().map(Published::name).collect()
    };
    let Some(new) = record(&wished.files) else { return Vec::new() };
    let makes_way = |there: &&PodState| {
        let Some(old) = record(&there.files) else { return false };
        let takes = ports(&new).iter().any(|port| ports(&old).contains(port));
        takes || action == Action::Create && matches!(old.update, Update::StopFirst(_))
    };
    let unwished = state.pods.iter().filter(|there| !all.contains_key(&there.name));
    unwished.filter(makes_way).map(|there| there.name.clone()).collect()
}

/// How the revision takes the place of what is there.
fn how(wished: &Revision, there: &PodState) -> Option<Update> {
    Some(record(&wished.files)?.replaces(&record(&there.files)?))
}

fn compare(wished: &Revision, there: &PodState) -> Vec<Drift> {
    let mut drift = Vec::new();
    match &there.current {
        Some(id) if *id == wished.id => {
            if digest(&there.files) != wished.id {
                drift.push(Drift::Changed);
            }
        }
        current => {
            let changes = changes(wished, there);
            let from = current.clone().unwrap_or_default();
            drift.push(Drift::Revision { from, to: wished.id.clone(), changes });
        }
    }
    if there.pending.is_some() {
        drift.push(Drift::Unjudged);
    }
    if there.lacks_secrets {
        drift.push(Drift::Secrets);
    }
    for container in &there.containers {
        if !container.stored {
            drift.push(Drift::NoBundle { container: container.name.clone() });
        }
        if !container.altered.is_empty() {
            let files = container.altered.clone();
            drift.push(Drift::Altered { container: container.name.clone(), files });
        }
        let unasked = |timer: &String| Drift::Unit {
            unit: timer.clone(),
            what: "does not ask whether it is alive".to_owned(),
        };
        drift.extend(container.unasked.iter().map(unasked));
        let unit = container.unit.clone();
        drift.extend(
            unit_fault(container, may_end(there, &container.name))
                .map(|what| Drift::Unit { unit, what }),
        );
    }
    let leftover = |unit: &String| Drift::Leftover { unit: unit.clone() };
    drift.extend(there.leftover.iter().map(leftover));
    drift.extend(ports(there).into_iter().map(|what| Drift::Port { what }));
    drift
}

/// What is wrong with a pod's ports.
fn ports(there: &PodState) -> Vec<String> {
    let Some(record) = record(&there.files) else { return Vec::new() };
    let addresses = match there.addresses.as_slice() {
        [] => &["?".to_owned()],
        addresses => addresses,
    };
    let ports = record.network.as_deref().unwrap_or_default();
    let led = addresses.iter().flat_map(|address| ports.iter().map(|port| port.rule(address)));
    let listens = record.listens.iter().map(Published::name);
    let wished: Vec<String> = led.chain(listens.clone()).collect();
    // The ports of a pod that shares the node's network are closed when it has ended.
    let ended = there.containers.iter().all(|container| container.active == "inactive");
    let closed: Vec<String> = listens.filter(|_| ended).collect();
    let absent = wished.iter().filter(|rule| !there.rules.contains(rule) && !closed.contains(rule));
    // One that leads there for some only is as the node shows it, `RULE, from …`.
    let partly = |rule: &&String| {
        let of =
            |other: &&String| other.strip_prefix(*rule).is_some_and(|rest| rest.starts_with(", "));
        there.rules.iter().find(of)
    };
    let stale = there.rules.iter().filter(|rule| {
        !wished.contains(rule) && !wished.iter().any(|wish| partly(&wish) == Some(rule))
    });
    let deaf = there.deaf.iter().map(|port| format!("{DEAF} {port}"));
    let absent = absent.map(|rule| match partly(&rule) {
        Some(partly) => format!("port {partly}"),
        None => format!("port {rule} is closed"),
    });
    absent.chain(stale.map(|rule| format!("port {rule} is open"))).chain(deaf).collect()
}

/// Whether a container is done when it ended well.
fn may_end(there: &PodState, container: &str) -> bool {
    let containers = record(&there.files).map(|record| record.containers).unwrap_or_default();
    let placed = containers.iter().find(|placed| placed.name == container);
    placed.is_some_and(|placed| placed.restart != Restart::Always)
}

/// What is wrong with a container's unit, if anything is; one that `ends` is no more
/// where all is well.
fn unit_fault(container: &ContainerState, ends: bool) -> Option<String> {
    if !container.linked {
        return Some("is not the revision's own".to_owned());
    }
    if !container.enabled {
        return Some("does not start at boot".to_owned());
    }
    match (container.active.as_str(), container.result.as_str()) {
        ("active", _) => None,
        ("inactive", "success") if ends => None,
        (active, "success" | "") => Some(format!("is {active}")),
        (active, result) => Some(format!("is {active}: {result}")),
    }
}

/// What differs, in words.
fn changes(wished: &Revision, there: &PodState) -> Vec<String> {
    let [new, old] = [&wished.files, &there.files].map(record);
    let mut changes = match (&old, &new) {
        (Some(old), Some(new)) => of_records(old, new),
        _ => vec![describe(RECORD)],
    };
    let has = |record: &Option<Record>, name: &str| {
        record.iter().flat_map(|record| &record.containers).any(|placed| placed.name == name)
    };
    let [wished, there] = [plain(&wished.files, new.as_ref()), plain(&there.files, old.as_ref())];
    let paths: BTreeSet<&String> = wished.keys().chain(there.keys()).collect();
    let ports = describe(RULES);
    for path in paths.into_iter().filter(|path| *path != RECORD) {
        let container = path.split_once('/').map_or("", |(container, _)| container);
        match (there.get(path), wished.get(path)) {
            (Some(old), Some(new)) if old == new => {}
            // The same ports.
            _ if path == RULES6 && changes.iter().any(|said| said.starts_with(&ports)) => {}
            (Some(_), Some(_)) => changes.push(describe(path)),
            // Said already.
            _ if has(&old, container) != has(&new, container) => {}
            (None, _) => changes.push(format!("{} (new)", describe(path))),
            (_, None) => changes.push(format!("{} (gone)", describe(path))),
        }
    }
    if changes.is_empty() {
        changes.push("how it is updated".to_owned());
    }
    changes
}

/// What differs of what the node itself has to know.
fn of_records(old: &Record, new: &Record) -> Vec<String> {
    let of = |record: &Record, name: &str| -> Option<Placed> {
        record.containers.iter().find(|placed| placed.name == name).cloned()
    };
    let names: BTreeSet<&String> =
        old.containers.iter().chain(&new.containers).map(|placed| &placed.name).collect();
    let mut changes = Vec::new();
    for name in names {
        let mut note = |what: String| changes.push(format!("container {name}{what}"));
        let (old, new) = match (of(old, name), of(new, name)) {
            (Some(old), Some(new)) => (old, new),
            (None, _) => {
                note(" is new".to_owned());
                continue;
            }
            (_, None) => {
                note(" is gone".to_owned());
                continue;
            }
        };
        if old.bundle_id != new.bundle_id {
            note(format!(": bundle {} -> {}", short(&old.bundle_id), short(&new.bundle_id)));
        }
        if old.runtime != new.runtime {
            note(format!(": run by {}, no more by {}", new.runtime.name, old.runtime.name));
        }
        let probes = |placed: &Placed| {
            (placed.startup.clone(), placed.readiness.clone(), placed.liveness.clone())
        };
        if probes(&old) != probes(&new) {
            note(": probes".to_owned());
        }
    }
    if old.secrets.is_some() && new.secrets.is_some() && old.secrets != new.secrets {
        changes.push("secrets".to_owned());
    }
    if old.listens != new.listens {
        changes.push("ports".to_owned());
    }
    if old.dirs != new.dirs {
        changes.push("volumes".to_owned());
    }
    changes
}

/// The files without what all revisions, or those of another bundle or other secrets, have
/// different in them: the tag in their names, and where bundles and secrets lie.
fn plain(files: &Files, record: Option<&Record>) -> Files {
    let Some(record) = record else { return files.clone() };
    let secrets = record.secrets.as_ref().map(|n| format!("/{}/", secret::dir(&record.pod, n)));
    let own = |text: &String| {
        let mut tagless = text.replace(&record.tag, "TAG");
        if let Some(dir) = &secrets {
            tagless = tagless.replace(dir, "/SECRETS/");
        }
        let rootfs = |text: String, placed: &Placed| text.replace(&placed.rootfs, "ROOTFS");
        record.containers.iter().fold(tagless, rootfs)
    };
    files.iter().map(|(path, text)| (path.replace(&record.tag, "TAG"), own(text))).collect()
}

/// Whether anything would be done or is wrong.
pub fn differs(steps: &[Step]) -> bool {
    steps.iter().any(|step| step.action != Action::Keep)
}

impl Drift {
    /// In a few words.
    pub fn line(&self) -> String {
        match self {
            Drift::Missing => "is not there".to_owned(),
            Drift::Revision { changes, .. } => changes.join("; "),
            Drift::Unjudged => "a deployment was not ended".to_owned(),
            Drift::UnderWay => "another deployment is under way".to_owned(),
            Drift::Changed => "its files were changed on the node".to_owned(),
            Drift::Unit { unit, what } => format!("{unit} {what}"),
            Drift::Leftover { unit } => format!("{unit} is of another revision"),
            Drift::NoBundle { container } => {
                format!("the bundle of container {container} is gone from the store")
            }
            Drift::Secrets => "its secrets are not on the node".to_owned(),
            Drift::Altered { container, files } => {
                format!("the bundle of container {container} was changed: {}", files.join(", "))
            }
            Drift::Port { what } => what.clone(),
            Drift::Unexpected => "nothing wishes it".to_owned(),
            Drift::Stray => "it is of no pod".to_owned(),
        }
    }
}

impl Step {
    /// Whether what runs can go on meanwhile.
    pub fn goes_on(&self) -> bool {
        let beside = |drift: &Drift| match drift {
            Drift::Port { what } => !what.starts_with(DEAF),
            other => matches!(other, Drift::Leftover { .. }),
        };
        self.drift.iter().all(beside)
    }

    /// One line: what, which, why.
    pub fn line(&self) -> String {
        let word = match self.action {
            Action::Keep => "keep",
            Action::Create => "create",
            Action::Update => "update",
            Action::Repair => "repair",
            Action::Remove => "remove",
            Action::Leave => "leave",
        };
        let revisions = match (self.from.as_deref().map(short), self.to.as_deref().map(short)) {
            (Some(from), Some(to)) if from != to => format!("{from} -> {to}"),
            (_, Some(id)) | (Some(id), None) => id.to_owned(),
            (None, None) => String::new(),
        };
        let how = match &self.how {
            Some(Update::StartFirst) => " (start first)".to_owned(),
            Some(Update::StopFirst(why)) => format!(" (stop first: {why})"),
            None => String::new(),
        };
        let instead = match self.instead.is_empty() {
            true => String::new(),
            false => format!(" (in the place of {})", self.instead.join(", ")),
        };
        let why: Vec<String> = self.drift.iter().map(Drift::line).collect();
        let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(", ")) };
        let left = self.action == Action::Leave && self.drift.contains(&Drift::Unexpected);
        let fix = if left { "; `vzmaster deploy --prune` removes it" } else { "" };
        format!("{word:7} {} {revisions}{how}{instead}{why}{fix}", self.pod)
    }
}

#[cfg(test)]
mod tests;
