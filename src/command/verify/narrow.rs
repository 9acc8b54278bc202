//! `--seccomp`, `--least-caps`: what a bundle can do without, found by running it
//! without.

mod show;
mod write;

use std::collections::BTreeSet;
use std::time::Duration;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxSeccomp, Spec};
use tracer::Record;
use tracer::record::Syscall;

use super::ROUNDS;
use super::again::Scenario;
use super::trial::{Done, Trial, Verdict};
use crate::cli::build;
use crate::command::scenario::Calls;
use crate::profile::{self, Beyond, Use};
use crate::report;

/// How much longer a run may take than the one with everything allowed, beside a
/// multiple of that.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is taken away from a container.
#[derive(Clone, Debug, Default)]
pub(in crate::command) struct Narrowing {
    /// The capabilities that stay; nothing where all do.
    capabilities: Option<Capabilities>,
    /// The system calls that stay.
    seccomp: Option<LinuxSeccomp>,
}

impl Narrowing {
    /// Takes it away from `spec`.
    pub(super) fn apply(&self, spec: &mut Spec) {
        if let (Some(kept), Some(process)) = (&self.capabilities, spec.process_mut()) {
            let sets = process.capabilities().as_ref().map(|sets| intersection(sets, kept));
            process.set_capabilities(sets);
        }
        if let (Some(profile), Some(linux)) = (&self.seccomp, spec.linux_mut().as_mut()) {
            linux.set_seccomp(Some(profile.clone()));
        }
    }
}

/// What a bundle was found to need.
#[derive(Debug)]
pub(in crate::command) struct Narrowed {
    narrowing: Narrowing,
    /// Capabilities that it had and does not need, by name.
    dropped: BTreeSet<String>,
    /// Those that it keeps.
    kept: BTreeSet<String>,
    /// The calls of all runs, where a profile was asked for.
    syscalls: Vec<Syscall>,
    wanted: Option<Use>,
    /// How often it was run, beside the first time.
    runs: usize,
    /// The run that differs under every profile that was tried.
    failed: Option<Verdict>,
}

impl Narrowed {
    /// Whether a run under what is to be written did as the first run.
    pub(in crate::command) fn is_proven(&self) -> bool {
        self.failed.is_none()
    }
}

/// Finds out what of `wanted` the bundle does without; `base` is what it did with
/// everything.
///
/// # Errors
/// As [`Trial::run`].
pub(in crate::command) fn narrow(
    trial: &Trial<'_>,
    base: &Verdict,
    wanted: &build::Narrow,
) -> anyhow::Result<Narrowed> {
    let scenarios = limited(trial.scenarios, base);
    let trial = Trial { scenarios: &scenarios, ..*trial };
    let mut search = Search { trial, refused: refusals(&base.second), runs: 0 };
    let mut calls = Record { syscalls: base.second.syscalls.clone(), ..Record::default() };
    let mut narrowing = Narrowing::default();
    let all = capabilities(&trial.bundle.spec);
    let mut kept = all.clone();
    if wanted.least_caps {
        kept = search.least_capabilities(all.clone(), &mut calls)?;
        narrowing.capabilities = Some(kept.iter().copied().collect());
    }
    let mut failed = None;
    let mut last_use = None;
    if let Some(beyond) = wanted.seccomp {
        let process = trial.bundle.spec.process().as_ref();
        let new_privileges = process.is_none_or(|p| p.no_new_privileges() != Some(true));
        let mut wanted = Use { beyond: Beyond::Errno, new_privileges, clone3: false };
        failed = search.profile(&mut narrowing, &mut calls, &mut wanted)?;
        wanted.beyond = beyond.into();
        narrowing.seccomp = Some(profile::seccomp(&calls.syscalls, wanted)?);
        last_use = Some(wanted);
    }
    let names = |list: &[Capability]| list.iter().map(|one| format!("CAP_{one}")).collect();
    let dropped: Vec<Capability> = all.into_iter().filter(|one| !kept.contains(one)).collect();
    Ok(Narrowed {
        narrowing,
        dropped: names(&dropped),
        kept: names(&kept),
        syscalls: calls.syscalls,
        wanted: last_use,
        runs: search.runs,
        failed,
    })
}

struct Search<'a> {
    trial: Trial<'a>,
    /// What the kernel refused with everything allowed: call and error.
    refused: BTreeSet<(String, String)>,
    runs: usize,
}

impl Search<'_> {
    fn run(&mut self, narrowing: &Narrowing) -> anyhow::Result<Verdict> {
        self.runs += 1;
        self.trial.run(narrowing, &Calls::UntilRefused(self.refused.clone()))
    }

    /// Whether all went as with everything allowed.
    fn is_as_before(&self, verdict: &Verdict) -> bool {
        verdict.is_equal() && refusals(&verdict.second).is_subset(&self.refused)
    }

    /// Tries without any capability, then without each one that is left.
    fn least_capabilities(
        &mut self,
        mut kept: Vec<Capability>,
        calls: &mut Record,
    ) -> anyhow::Result<Vec<Capability>> {
        let mut attempts = vec![Vec::new()];
        attempts.extend(kept.iter().map(|one| vec![*one]));
        for attempt in attempts {
            let fewer: Vec<Capability> = match attempt.as_slice() {
                [] => Vec::new(),
                one => kept.iter().filter(|other| !one.contains(other)).copied().collect(),
            };
            if fewer.len() == kept.len() {
                continue;
            }
            let capabilities = Some(fewer.iter().copied().collect());
            let verdict = self.run(&Narrowing { capabilities, seccomp: None })?;
            if self.is_as_before(&verdict) {
                kept = fewer;
                *calls = std::mem::take(calls).unite(verdict.second);
            }
        }
        Ok(kept)
    }

    /// Runs under a profile of `calls`, and adds what only that run makes, until
    /// nothing is added. Returns the last run if it differs.
    fn profile(
        &mut self,
        narrowing: &mut Narrowing,
        calls: &mut Record,
        wanted: &mut Use,
    ) -> anyhow::Result<Option<Verdict>> {
        let mut rounds = 0;
        loop {
            rounds += 1;
            let profile = profile::seccomp(&calls.syscalls, *wanted)?;
            narrowing.seccomp = Some(profile.clone());
            let verdict = self.run(narrowing)?;
            let beyond = profile::beyond(&verdict.second.syscalls, &profile);
            let is_as_before = self.is_as_before(&verdict);
            if beyond.is_empty() && is_as_before {
                // What is written is what was run, to the letter.
                return Ok(None);
            }
            if beyond.is_empty() || rounds >= ROUNDS {
                if wanted.clone3 || !calls.syscalls.iter().any(|call| call.name == "clone3") {
                    return Ok(Some(verdict));
                }
                wanted.clone3 = true;
                let why = "seccomp: clone3 is allowed, with whatever flags: it does not go on \
                           without it";
                report::warn("vzbuild", why);
            }
            *calls = std::mem::take(calls).unite(verdict.second);
        }
    }
}

/// Ends each scenario in time: without a right that it needs, it may wait for ever.
fn limited(scenarios: &[Scenario], base: &Verdict) -> Vec<Scenario> {
    let limit = |(scenario, done): (&Scenario, &Done)| {
        let mut scenario = scenario.clone();
        let time = u64::try_from((PATIENCE + 4 * done.time).as_millis()).ok();
        let until = scenario.until.get_or_insert_default();
        until.timeout = until.timeout.or(time);
        scenario
    };
    scenarios.iter().zip(&base.scenarios).map(limit).collect()
}

/// Calls that the kernel refused for want of a right, and how.
fn refusals(record: &Record) -> BTreeSet<(String, String)> {
    let each = |call: &Syscall| {
        let name = call.name.clone();
        call.errors.clone().into_iter().map(move |error| (name.clone(), error)).collect::<Vec<_>>()
    };
    record.syscalls.iter().flat_map(each).collect()
}

/// All capabilities that the process of `spec` could ever have, by name.
fn capabilities(spec: &Spec) -> Vec<Capability> {
    let process = spec.process().as_ref();
    let sets = process.and_then(|process| process.capabilities().as_ref());
    let all = sets.into_iter().flat_map(|sets| {
        [sets.bounding(), sets.effective(), sets.permitted(), sets.inheritable(), sets.ambient()]
    });
    let all: Capabilities = all.flatten().flatten().copied().collect();
    let mut all: Vec<Capability> = all.into_iter().collect();
    all.sort_by_key(ToString::to_string);
    all
}

fn intersection(sets: &LinuxCapabilities, kept: &Capabilities) -> LinuxCapabilities {
    let only = |set: &Option<Capabilities>| {
        set.as_ref().map(|set| set.intersection(kept).copied().collect::<Capabilities>())
    };
    let mut fewer = sets.clone();
    fewer
        .set_bounding(only(sets.bounding()))
        .set_effective(only(sets.effective()))
        .set_permitted(only(sets.permitted()))
        .set_inheritable(only(sets.inheritable()))
        .set_ambient(only(sets.ambient()));
    fewer
}

impl build::Narrow {
    /// Which calls a run has to record for it.
    pub(in crate::command) fn calls(&self) -> Calls {
        if self.is_asked_for() { Calls::All } else { Calls::OfFiles }
    }
}

impl From<build::Beyond> for Beyond {
    fn from(beyond: build::Beyond) -> Self {
        match beyond {
            build::Beyond::Errno => Beyond::Errno,
            build::Beyond::Log => Beyond::Log,
        }
    }
}
