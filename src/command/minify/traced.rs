//! The runs in the whole image.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use bundler::resolve::Resolver;
use bundler::{Container, RootPath};
use tracer::record::{BytePath, Until};
use tracer::{Record, Spec};

use super::input::Input;
use crate::cli::build;
use crate::command::bundle::mounts;
use crate::command::scenario::{self, Calls, Request};
use crate::command::settings;
use crate::command::verify::{end_in_words, last_line, shown};
use crate::report::{self, Advice, Status};
use crate::runner::around::{Around, Overlay};

/// Milliseconds after which a command is ended that nothing exercises.
const PATIENCE: u64 = 10_000;

/// What the image did.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) spec: Spec,
    pub(super) record: Record,
    /// Directory of each run, with its `stdout` and `stderr`.
    pub(super) outputs: Vec<PathBuf>,
}

/// One run to make.
struct Scenario {
    args: Vec<String>,
    until: Option<Until>,
}

/// Runs each scenario in a container of the whole image.
///
/// # Errors
/// A command that the image does not have, an exercise that fails there.
pub(super) fn trace(
    args: &build::Minify,
    input: &Input,
    work: &Path,
    stop: &AtomicBool,
) -> anyhow::Result<Traced> {
    let mut container = input.settings.container(args.user.as_deref(), &args.env, &input.rootfs)?;
    let machines: Vec<PathBuf> =
        container.binds.iter().map(|bind| PathBuf::from(&bind.destination)).collect();
    let volumes = args.volume.iter().map(|word| mounts::volume(word));
    container.binds.extend(volumes.collect::<anyhow::Result<Vec<_>>>()?);
    let mut traced =
        Traced { spec: Spec::default(), record: Record::default(), outputs: Vec::new() };
    let scenarios = scenarios(args, input)?;
    for (index, scenario) in scenarios.iter().enumerate() {
        let dir = work.join(format!("run-{index}"));
        fs::create_dir_all(dir.join("overlay"))?;
        let request = request(&container, scenario, input, &machines, &dir);
        let report = scenario::perform(&request, &dir, stop)
            .with_context(|| format!("cannot run `{}` in the image", scenario.args.join(" ")))?;
        let trouble = report.not_started.or(report.exercise);
        let name =
            shown(&report.record.runs.iter().flat_map(|r| r.args.clone()).collect::<Vec<_>>());
        if let Some(trouble) = trouble {
            let last_words = last_line(&dir.join("stderr")).unwrap_or_default();
            let said = match last_words.trim() {
                "" => String::new(),
                words => format!("; it said: {}", words.escape_debug()),
            };
            return Err(anyhow::anyhow!("{trouble}{said}"))
                .with_context(|| format!("`{name}` does not run in the image itself"))
                .hint("choose another command, or exercise it otherwise, so that it does");
        }
        let record = of_the_image(report.record, input);
        say(&record, &name, index + 1, scenarios.len());
        traced.record = std::mem::take(&mut traced.record).unite(record);
        traced.outputs.push(dir);
    }
    traced.spec = traced.record.files.iter().map(|file| file.path.0.clone()).collect();
    Ok(traced)
}

fn scenarios(args: &build::Minify, input: &Input) -> anyhow::Result<Vec<Scenario>> {
    let words = args.command.iter().map(|word| word.to_str().map(str::to_owned));
    let words: Option<Vec<String>> = words.collect();
    let command = input.settings.command(&words.context("the command is not UTF-8")?);
    let mut scenarios = Vec::new();
    if !command.is_empty() {
        let mut until = args.exercise.until().unwrap_or_default();
        until.health = input.settings.health_check();
        if args.exercise.until.is_none() && until.health.is_empty() && until.ready_port.is_none() {
            until.timeout.get_or_insert(PATIENCE);
        }
        scenarios.push(Scenario { args: command, until: Some(until) });
    }
    let has_shell = Resolver::new(&input.rootfs).resolve(b"/bin/sh").is_ok();
    for line in &args.run {
        let args = match has_shell {
            true => ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
            false => line.split_whitespace().map(str::to_owned).collect(),
        };
        scenarios.push(Scenario { args, until: None });
    }
    if scenarios.is_empty() {
        return Err(anyhow::anyhow!("the image does not say what to run"))
            .hint("say it: vzbuild minify IMAGE -- CMD, or --run CMD")
            .status(Status::Usage as u8);
    }
    if scenarios.iter().any(|scenario| scenario.args.is_empty()) {
        bail!("an empty command cannot be run");
    }
    Ok(scenarios)
}

fn request(
    container: &Container,
    scenario: &Scenario,
    input: &Input,
    machines: &[PathBuf],
    dir: &Path,
) -> Request {
    let container = Container { args: scenario.args.clone(), ..container.clone() };
    let spec = settings::spec(&container, &input.root);
    let places = input.settings.places();
    let overlay = Overlay { dir: dir.join("overlay"), places, replaced: machines.to_vec() };
    let foreign = container.binds.iter().map(|bind| PathBuf::from(&bind.destination)).collect();
    let around = Around {
        spec,
        overlay: Some(overlay),
        join: None,
        stdout: dir.join("stdout"),
        stderr: dir.join("stderr"),
    };
    Request { around, until: scenario.until.clone(), foreign, calls: Calls::OfFiles }
}

/// Leaves out what was made beside the run: places of mounts, and what a
/// health check found of the program's own.
fn of_the_image(mut record: Record, input: &Input) -> Record {
    let is_there = |path: &BytePath| {
        RootPath::new(&path.0).is_ok_and(|path| input.rootfs.lstat(&path).is_ok())
    };
    let (files, others): (Vec<_>, Vec<_>) =
        record.files.into_iter().partition(|file| is_there(&file.path));
    record.files = files;
    record.created.extend(others.into_iter().map(|file| file.path));
    record
}

fn say(record: &Record, name: &str, index: usize, count: usize) {
    let Some(run) = record.runs.first() else { return };
    let (end, paths) = (end_in_words(run.end), report::count(record.files.len(), "path"));
    report::say("vzbuild", format_args!("traced {index} of {count}: {name}: {end}, {paths}"));
    if run.end != tracer::record::End::Exited(0) && !run.ended {
        report::warn("vzbuild", "it fails in the image itself: is that the test that you mean?");
    }
    let is_idle = run.until.as_ref().is_some_and(|until| !until.is_exercise());
    if run.ended && is_idle {
        report::warn(
            "vzbuild",
            format_args!(
                "it still ran after {} s and was ended, and nothing had exercised it: --until CMD \
                 does, so that what it needs to do its work is seen; --timeout TIME waits longer \
                 for what ends by itself",
                run.until.as_ref().and_then(|until| until.timeout).unwrap_or(PATIENCE) / 1000
            ),
        );
    }
    for unseen in &record.unseen {
        report::warn("vzbuild", &unseen.message);
    }
}

impl Traced {
    /// Writes spec and spec.json. Returns where the spec is.
    pub(super) fn write(&self, path: PathBuf) -> anyhow::Result<PathBuf> {
        let cannot = || format!("cannot write `{}`", path.display());
        fs::write(&path, self.spec.print()).with_context(cannot)?;
        fs::write(path.with_extension("json"), self.record.print()?).with_context(cannot)?;
        Ok(path)
    }
}
