//! `vzbuild verify`: make the recorded runs again in the bundle, and compare.

mod again;
mod compare;
mod fix;
mod narrow;
mod output;
mod places;
mod show;
mod trial;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use bundler::Rootfs;
use bundler::staging::Staging;
use tracer::Record;
use tracer::record::{BytePath, Run, Until};

pub(super) use self::again::{Bundle, Scenario, open, shown};
pub(super) use self::fix::ROUNDS;
pub(super) use self::narrow::{Narrowed, Narrowing, narrow};
pub(super) use self::output::last_line;
pub(super) use self::show::end_in_words;
pub(super) use self::trial::{Trial, Verdict};
use super::source;
use crate::cli::build;
use crate::report::{Advice, Status};
use crate::{evidence, interrupt};

/// Runs, compares, says; with `--fix` mends and repeats.
///
/// # Errors
/// What is no bundle; a first run that is not known; a container that cannot be
/// made here.
pub fn run(args: &build::Verify) -> anyhow::Result<ExitCode> {
    let stop = interrupt::flag()?;
    let mut round = 0;
    let (prepared, verdict) = loop {
        let prepared = Prepared::new(args)?;
        let trial = prepared.trial(&stop);
        let verdict = trial.run(&Narrowing::default(), &args.narrow.calls())?;
        round += 1;
        if !args.fix || verdict.is_settled() || !fix::mend(args, &verdict, round)? {
            break (prepared, verdict);
        }
    };
    let narrows = verdict.is_equal() && args.narrow.is_asked_for();
    let narrow = || narrow(&prepared.trial(&stop), &verdict, &args.narrow);
    let narrowed = narrows.then(narrow).transpose()?;
    if let Some(narrowed) = &narrowed {
        narrowed.write(&args.bundle)?;
    }
    show::print(args, &verdict, narrowed.as_ref())?;
    let is_proven = verdict.is_equal() && narrowed.is_none_or(|narrowed| narrowed.is_proven());
    Ok(if is_proven { Status::Done } else { Status::No }.into())
}

/// All that a verification needs.
struct Prepared {
    bundle: Bundle,
    first: Record,
    scenarios: Vec<Scenario>,
    original: Option<Rootfs>,
    work: Staging,
}

impl Prepared {
    fn new(args: &build::Verify) -> anyhow::Result<Self> {
        let mut bundle = open(&args.bundle)?;
        if args.narrow.seccomp.is_some() {
            bundle.forget_profile();
        }
        let mut first = first_run(args)?;
        let scenarios = scenarios(args, &bundle, &mut first)?;
        let original = Rootfs::open(&args.root).ok();
        // A name of its own: another one that begins at this moment must not take
        // it for what a killed one left.
        let name = format!("vz-verify-{}", std::process::id());
        let work = Staging::begin(&std::env::temp_dir().join(name), |_| false)?;
        Ok(Prepared { bundle, first, scenarios, original, work })
    }

    fn trial<'a>(&'a self, stop: &'a AtomicBool) -> Trial<'a> {
        Trial {
            bundle: &self.bundle,
            scenarios: &self.scenarios,
            first: &self.first,
            original: self.original.as_ref(),
            outputs: None,
            work: self.work.dir(),
            stop,
        }
    }
}

/// The record of what the bundle was made from.
fn first_run(args: &build::Verify) -> anyhow::Result<Record> {
    let mut first = Record::default();
    for name in &args.spec {
        let input = source::read(name)?;
        let record = input
            .record
            .with_context(|| format!("`{}` has no spec.json beside it", name.display()))
            .hint("only what smith-strace traced can be compared: trace it")?;
        first = first.unite(record);
    }
    if args.spec.is_empty() {
        let path = args.bundle.join(evidence::FOLDER).join("spec.json");
        let text = fs::read(&path)
            .with_context(|| {
                format!("the first run is not known: cannot read `{}`", path.display())
            })
            .hint("give the spec that the bundle was made from: --spec SPEC")?;
        first = Record::parse(&text)
            .with_context(|| format!("cannot use `{}`", path.display()))
            .hint("trace again, and make the bundle anew")?;
    }
    first.runs.retain(|run| !run.args.is_empty());
    Ok(first)
}

/// What is to be run: the recorded runs, or the commands that were given. The
/// runs of `first` are then those that the commands are compared with.
fn scenarios(
    args: &build::Verify,
    bundle: &Bundle,
    first: &mut Record,
) -> anyhow::Result<Vec<Scenario>> {
    let given = args.exercise.until();
    let mut scenarios = if args.run.is_empty() {
        bundle.runs_of(first)?
    } else {
        let recorded = std::mem::take(&mut first.runs);
        let as_recorded = |command: &String| {
            let is_it = |run: &&Run| run.args.last().is_some_and(|w| w.0 == command.as_bytes());
            // Of a command that was not traced, success is expected.
            recorded.iter().find(is_it).cloned().unwrap_or_default()
        };
        first.runs = args.run.iter().map(as_recorded).collect();
        let commands = args.run.iter().map(|command| bundle.command(command, None));
        commands.collect::<Result<Vec<_>, _>>()?
    };
    if scenarios.is_empty() {
        return Err(anyhow::anyhow!("the spec tells of no run"))
            .hint("--run CMD says what to run")
            .status(Status::Usage as u8);
    }
    if given.is_some() {
        scenarios.iter_mut().for_each(|scenario| scenario.until.clone_from(&given));
    }
    Ok(scenarios)
}

impl build::Exercise {
    /// As a record has it; nothing, where nothing was asked for.
    pub(super) fn until(&self) -> Option<Until> {
        let bytes = |path: &PathBuf| BytePath(path.as_os_str().as_encoded_bytes().into());
        (*self != build::Exercise::default()).then(|| Until {
            command: self.until.clone().unwrap_or_default(),
            ready_port: self.ready_port,
            ready_file: self.ready_file.as_ref().map(bytes),
            timeout: self.timeout.and_then(|time| u64::try_from(time.as_millis()).ok()),
            ..Until::default()
        })
    }
}
