//! `vzbuild verify`: make the recorded runs again in the bundle or image, and compare.

mod again;
mod compare;
mod fix;
mod output;
mod places;
mod show;
mod subject;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use bundler::Rootfs;
use tracer::Record;
use tracer::record::{BytePath, End, Run, Until};

use self::again::{Bundle, Scenario};
pub(super) use self::again::{open, shown};
use self::compare::Comparison;
pub(super) use self::fix::ROUNDS;
pub(super) use self::output::{Expected, last_line};
pub(super) use self::show::end_in_words;
pub(super) use self::subject::private_directory;
use super::scenario::{self, Request};
use super::source;
use crate::cli::build;
use crate::evidence::{self, Documents};
use crate::interrupt;
use crate::report::{Advice, Status};
use crate::runner::around::{Around, Overlay};

/// Runs, compares, says; with `--fix` mends and repeats.
///
/// # Errors
/// What is no bundle; a first run that is not known; a container that cannot be
/// made here.
pub fn run(args: &build::Verify) -> anyhow::Result<ExitCode> {
    let stop = interrupt::flag()?;
    let mut round = 0;
    let verdict = loop {
        let verdict = verify(args, &stop)?;
        round += 1;
        if !args.fix || verdict.is_settled() || !fix::mend(args, &verdict, round)? {
            break verdict;
        }
    };
    show::print(args, &verdict)?;
    let status = if verdict.is_equal() { Status::Done } else { Status::No };
    Ok(status.into())
}

fn verify(args: &build::Verify, stop: &AtomicBool) -> anyhow::Result<Verdict> {
    let (documents, bundle) = subject::open(args)?;
    let mut first = first_run(args, &documents)?;
    // A name of its own: another one that begins at this moment must not take
    // it for what a killed one left.
    let name = format!("vz-verify-{}", std::process::id());
    let work = private_directory(&std::env::temp_dir().join(name))?;
    let is_image = bundle.is_none();
    let bundle = match (bundle, &documents) {
        (None, Documents::Image(opened, name)) => {
            subject::unpack(&opened.image, name, work.dir(), stop)?
        }
        (bundle, _) => bundle.context("it is no bundle")?,
    };
    let scenarios = scenarios(args, &bundle, &mut first)?;
    let outputs = outputs(args, &scenarios)?;
    let original = subject::original(args, &documents).and_then(|root| Rootfs::open(&root).ok());
    let original = original.as_ref();
    let mut verdict = check(&bundle, &scenarios, &first, original, &outputs, work.dir(), stop)?;
    verdict.is_image = is_image;
    Ok(verdict)
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

/// A scenario that was run in the bundle.
#[derive(Debug)]
pub(super) struct Done {
    name: String,
    /// How it ended before.
    first: End,
    second: End,
    /// How many paths it used.
    paths: usize,
    /// Why it did not start, or its exercise failed.
    trouble: Option<String>,
    /// The last line that it wrote to standard error.
    last_words: String,
}

/// What came of all scenarios.
#[derive(Debug)]
pub(super) struct Verdict {
    scenarios: Vec<Done>,
    comparison: Comparison,
    /// What may be otherwise on another machine.
    of_machine: Vec<String>,
    /// Whether it was an image that was run, and not a bundle.
    is_image: bool,
}

impl Verdict {
    /// Whether the bundle did as the first run did.
    pub(super) fn is_equal(&self) -> bool {
        self.comparison.is_equal() && self.scenarios.iter().all(|done| done.trouble.is_none())
    }
}

impl Verdict {
    /// Whether there is nothing to mend.
    pub(super) fn is_settled(&self) -> bool {
        self.is_equal() && self.comparison.courses.is_empty()
    }
}

/// Runs each of `scenarios` in the bundle, with files in `work`, and compares;
/// also what each writes, where `outputs` has what they are to write.
///
/// # Errors
/// A container that cannot be made, a program that cannot be traced.
pub(super) fn check(
    bundle: &Bundle,
    scenarios: &[Scenario],
    first: &Record,
    original: Option<&Rootfs>,
    outputs: &[Expected],
    work: &Path,
    stop: &AtomicBool,
) -> anyhow::Result<Verdict> {
    let mut second = Record::default();
    let mut done = Vec::new();
    for (index, (scenario, before)) in scenarios.iter().zip(&first.runs).enumerate() {
        let dir = work.join(index.to_string());
        fs::create_dir_all(dir.join("overlay"))?;
        let around = Around {
            spec: scenario.spec.clone(),
            overlay: Some(Overlay {
                dir: dir.join("overlay"),
                places: bundle.places.clone(),
                replaced: bundle.replaced.clone(),
            }),
            join: None,
            stdout: dir.join("stdout"),
            stderr: dir.join("stderr"),
        };
        let foreign = again::foreign(&scenario.spec);
        let request = Request { around, until: scenario.until.clone(), foreign };
        let report = scenario::perform(&request, &dir, stop)
            .with_context(|| format!("cannot run `{}` in it", scenario.name))?;
        let expected = outputs.get(index);
        let other_output = expected.map(|before| output::differs(before, &dir)).transpose()?;
        let other_output = other_output.flatten();
        done.push(Done {
            name: scenario.name.clone(),
            first: before.end,
            second: report.record.runs.first().map(|run| run.end).unwrap_or_default(),
            paths: report.record.files.len(),
            trouble: report.not_started.or(report.exercise).or(other_output),
            last_words: last_line(&dir.join("stderr")).unwrap_or_default(),
        });
        second = second.unite(report.record);
    }
    let places = places::Roots::open(&bundle.dir.join("rootfs"), &bundle.spec, first, original)?;
    let comparison = compare::compare(first, &second, &places);
    let of_machine = source::only_seen_here(first, &second.host);
    Ok(Verdict { scenarios: done, comparison, of_machine, is_image: false })
}
