//! `vzbuild verify`: make the recorded runs again in the bundle or image, and compare.

mod again;
mod compare;
mod fix;
mod narrow;
mod output;
mod places;
mod show;
mod subject;
mod trial;

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
pub(super) use self::output::{Expected, last_line};
pub(super) use self::show::end_in_words;
pub(super) use self::subject::{private_directory, temporary_directory};
pub(super) use self::trial::{Trial, Verdict};
use super::source;
use crate::cli::build;
use crate::evidence::{self, Documents};
use crate::interrupt;
use crate::report::{Advice, Status};

/// Runs, compares, says; with `--fix` mends and repeats.
///
/// # Errors
/// What is no bundle; a first run that is not known; a container that cannot be
/// made here.
pub fn run(args: &build::Verify) -> anyhow::Result<ExitCode> {
    let stop = interrupt::flag()?;
    let mut round = 0;
    let (prepared, verdict) = loop {
        let prepared = Prepared::new(args, &stop)?;
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
    /// Whether it is an image, unpacked.
    is_image: bool,
    first: Record,
    scenarios: Vec<Scenario>,
    outputs: Vec<Expected>,
    original: Option<Rootfs>,
    work: Staging,
}

impl Prepared {
    fn new(args: &build::Verify, stop: &AtomicBool) -> anyhow::Result<Self> {
        let (documents, bundle) = subject::open(args, stop)?;
        let mut first = first_run(args, &documents)?;
        let work = temporary_directory("vz-verify")?;
        let is_image = bundle.is_none();
        let mut bundle = match (bundle, &documents) {
            (None, Documents::Image(opened, name)) => {
                subject::unpack(&opened.image, name, work.dir(), stop)?
            }
            (bundle, _) => bundle.context("it is no bundle")?,
        };
        if args.narrow.seccomp.is_some() {
            bundle.forget_profile();
        }
        let scenarios = scenarios(args, &bundle, &mut first)?;
        let outputs = outputs(args, &scenarios)?;
        let original = subject::original(args, &documents);
        let original = original.and_then(|root| Rootfs::open(&root).ok());
        Ok(Prepared { bundle, is_image, first, scenarios, outputs, original, work })
    }

    fn trial<'a>(&'a self, stop: &'a AtomicBool) -> Trial<'a> {
        Trial {
            bundle: &self.bundle,
            is_image: self.is_image,
            scenarios: &self.scenarios,
            first: &self.first,
            original: self.original.as_ref(),
            outputs: &self.outputs,
            work: self.work.dir(),
            stop,
        }
    }
}

/// What the runs are to write, where that was given.
fn outputs(args: &build::Verify, scenarios: &[Scenario]) -> anyhow::Result<Vec<Expected>> {
    let (given, runs) = (args.output.len(), scenarios.len());
    if given > 0 && given != runs {
        let runs = if runs == 1 { "is 1 run".to_owned() } else { format!("are {runs} runs") };
        return Err(anyhow::anyhow!("--output is given {given} times, and there {runs}"))
            .status(Status::Usage as u8);
    }
    let expected = |file: &PathBuf| Expected { stdout: file.clone(), stderr: None };
    Ok(args.output.iter().map(expected).collect())
}

/// The record of what the bundle or image was made from.
fn first_run(args: &build::Verify, documents: &Documents) -> anyhow::Result<Record> {
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
        let way_out = documents.way_out();
        let text = documents
            .read(evidence::RECORD)
            .context("the first run is not known")
            .hint(format!("{way_out}; or give the spec that it was made from: --spec SPEC"))?;
        first = Record::parse(&text)
            .with_context(|| format!("cannot use the `{}` of it", evidence::RECORD))
            .hint("trace again, and make it anew")?;
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
    if given.is_none() && args.spec.is_empty() && !args.trust_exercise {
        refuse_exercise(&scenarios)?;
    }
    if given.is_some() {
        scenarios.iter_mut().for_each(|scenario| scenario.until.clone_from(&given));
    }
    Ok(scenarios)
}

/// Refuses to run on this machine what only the evidence says: a stranger may have
/// written it.
fn refuse_exercise(scenarios: &[Scenario]) -> anyhow::Result<()> {
    let exercised = |scenario: &&Scenario| {
        scenario.until.as_ref().is_some_and(|until| !until.command.is_empty())
    };
    let Some(scenario) = scenarios.iter().find(exercised) else { return Ok(()) };
    let command = scenario.until.as_ref().map(|until| until.command.escape_debug().to_string());
    Err(anyhow::anyhow!("the first run was exercised by a command on the machine"))
        .with_context(|| format!("`{}` is not run", scenario.name))
        .hint(format!(
            "the evidence says `{}`: --trust-exercise runs that outside of the container, as this \
             user; --until CMD runs another one",
            command.unwrap_or_default()
        ))
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
