//! One traced run in a container, in a process of its own: the tracer wants no
//! other threads, and the program nothing of ours.
//!
//! [`perform`] starts `vzbuild scenario DIR`, which reads `DIR/request.json`
//! and leaves `DIR/report.json`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tracer::record::{BytePath, Run, Until};
use tracer::{Command, Error, Options, Record, Selection};

use super::strace::exercise::{Exercise, Plan};
use super::strace::{advise, describe_host};
use crate::cli::build;
use crate::process;
use crate::report::Status;
use crate::runner::around::Around;
use crate::runner::mounts;

const REQUEST: &str = "request.json";
const REPORT: &str = "report.json";

/// What is to be run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The container, with the process to run.
    pub(super) around: Around,
    /// What exercises and ends it.
    pub(super) until: Option<Until>,
    /// What is the machine's and not the root's.
    pub(super) foreign: Vec<PathBuf>,
    pub(super) calls: Calls,
}

/// Which system calls a run records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Calls {
    /// Those about files.
    OfFiles,
    /// All.
    All,
    /// All, until the kernel refuses one otherwise than these, by their names and
    /// their errors': the run ends then.
    UntilRefused(BTreeSet<(String, String)>),
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// What the run showed; the health check's uses are in it.
    pub(super) record: Record,
    /// Why the program did not even start.
    pub(super) not_started: Option<String>,
    /// Why the exercise failed.
    pub(super) exercise: Option<String>,
}

/// Exit status of a shell for a program that it does not find.
const NOT_FOUND: i32 = 127;

/// Runs `request` in a fresh process, with `dir` for its files.
///
/// # Errors
/// When the container cannot be made or the program not be traced; when
/// `stop` was set meanwhile.
pub(super) fn perform(request: &Request, dir: &Path, stop: &AtomicBool) -> anyhow::Result<Report> {
    let cannot = || format!("cannot write to `{}`", dir.display());
    fs::write(dir.join(REQUEST), serde_json::to_vec(request)?).with_context(cannot)?;
    let report = dir.join(REPORT);
    let _ = fs::remove_file(&report);
    let mut command = process::command("/proc/self/exe");
    command.arg("scenario").arg(dir).stdin(Stdio::null()).stdout(Stdio::null());
    process::run_unless(&mut command, stop)?;
    let text = fs::read(&report).with_context(|| format!("cannot read `{}`", report.display()))?;
    serde_json::from_slice(&text).context("a scenario's report is none")
}

/// `vzbuild scenario`: the fresh process.
///
/// # Errors
/// As [`perform`].
pub fn run(args: &build::Scenario) -> anyhow::Result<ExitCode> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    mounts::close_inherited().context("cannot close the caller's files")?;
    let text = fs::read(args.dir.join(REQUEST)).context("cannot read the request")?;
    let request: Request = serde_json::from_slice(&text).context("the request is none")?;
    let report = serde_json::to_vec(&trace(request, &args.dir)?)?;
    fs::write(args.dir.join(REPORT), report).context("cannot write the report")?;
    Ok(Status::Done.into())
}

fn trace(request: Request, dir: &Path) -> anyhow::Result<Report> {
    let health = leave_health_check(&request, dir).context("cannot prepare the health check")?;
    let Request { around, until, foreign, calls } = request;
    let command = command(&around, foreign)?;
    let run = describe(&around, until.clone());
    let timeout = until.as_ref().and_then(|until| until.timeout).map(Duration::from_millis);
    let port = until.as_ref().and_then(|until| until.ready_port);
    let exercise = Exercise::new(plan(until, health))?;
    let namespaces = around.namespaces()?;
    around.prepare()?;
    let options = Options {
        outcomes: true,
        syscalls: !matches!(calls, Calls::OfFiles),
        refusals: match calls {
            Calls::UntilRefused(expected) => Some(expected),
            _ => None,
        },
        timeout,
        started: exercise.starter(),
        namespaces: Some(namespaces),
        surroundings: Some(Box::new(around)),
        ..Options::default()
    };
    let mut report = match tracer::trace(&command, options) {
        Ok(trace) => {
            let record = trace.record(&Selection::default(), run, describe_host());
            Report { record, not_started: None, exercise: None }
        }
        Err(
            error @ (Error::NotFound { .. } | Error::NoInterpreter { .. } | Error::Execute { .. }),
        ) => {
            let mut run = run;
            run.end = tracer::record::End::Exited(NOT_FOUND);
            let record = Record { runs: vec![run], host: describe_host(), ..Record::default() };
            let why = format!("{:#}", anyhow::Error::new(error));
            return Ok(Report { record, not_started: Some(why), exercise: None });
        }
        Err(error) => return Err(advise(error)),
    };
    match exercise.result() {
        Ok(_) if port.is_some_and(|port| !has_bound(&report.record, port)) => {
            report.exercise = port.map(|port| {
                format!("port {port} answered, and nothing in the container listens on it")
            });
        }
        Ok(None) => {}
        Ok(Some(mut health)) => {
            health.runs.clear();
            report.record = report.record.unite(health);
        }
        Err(error) => report.exercise = Some(format!("{error:#}")),
    }
    Ok(report)
}

/// Whether it was a program of the run that answered on the port: it inherits no socket,
/// so it has bound the port itself. What could not be seen may be that.
fn has_bound(record: &Record, port: u16) -> bool {
    let mut ports = record.ports.iter().filter(|bound| bound.protocol == "tcp");
    ports.any(|bound| bound.port == port) || !record.unseen.is_empty()
}

fn plan(until: Option<Until>, health: Option<PathBuf>) -> Option<Plan> {
    let until = until.unwrap_or_default();
    let shell = Some(until.command).filter(|command| !command.is_empty());
    if shell.is_none() && health.is_none() && until.ready_port.is_none() {
        return None;
    }
    let file = until.ready_file.map(|file| PathBuf::from(OsString::from_vec(file.0)));
    Some(Plan { shell, port: until.ready_port, file, inside: true, health })
}

/// Runs the health check of `dir` in the container of the process `main`.
///
/// # Errors
/// As [`perform`]; a check that says no is [`Ok`] with nothing in it.
pub(super) fn check_health(dir: &Path, main: i32) -> anyhow::Result<Option<Record>> {
    let text = fs::read(dir.join(REQUEST)).context("cannot read the health check's request")?;
    let mut request: Request = serde_json::from_slice(&text)?;
    request.around.join = Some(main);
    let report = perform(&request, dir, &AtomicBool::new(false))?;
    let end = report.record.runs.first().map(|run| run.end);
    Ok((end == Some(tracer::record::End::Exited(0))).then_some(report.record))
}

/// Writes the request of the health check, which is run when the container is
/// there. Returns its directory.
fn leave_health_check(request: &Request, dir: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Some(words) = request.until.as_ref().map(|until| &until.health).filter(|w| !w.is_empty())
    else {
        return Ok(None);
    };
    let dir = dir.join("health");
    fs::create_dir_all(&dir)?;
    let mut around = request.around.clone();
    (around.stdout, around.stderr) = (dir.join("stdout"), dir.join("stderr"));
    if let Some(process) = around.spec.process_mut() {
        let words = words.iter().map(|word| String::from_utf8(word.0.clone()));
        process.set_args(Some(words.collect::<Result<_, _>>()?));
    }
    let (foreign, calls) = (request.foreign.clone(), request.calls.clone());
    let request = Request { around, until: None, foreign, calls };
    fs::write(dir.join(REQUEST), serde_json::to_vec(&request)?)?;
    Ok(Some(dir))
}

fn command(around: &Around, foreign: Vec<PathBuf>) -> anyhow::Result<Command> {
    let process = around.spec.process().as_ref().context("config.json has no process")?;
    let env = process.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    let env: Vec<(OsString, OsString)> =
        env.map(|(name, value)| (name.into(), value.into())).collect();
    let search = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    Ok(Command {
        args: process.args().iter().flatten().map(OsString::from).collect(),
        search,
        env: Some(env),
        foreign,
        ..Command::default()
    })
}

/// The run as its record has it.
fn describe(around: &Around, until: Option<Until>) -> Run {
    let bytes = |text: &str| BytePath(text.as_bytes().to_vec());
    let Some(process) = around.spec.process() else { return Run::default() };
    let env = process.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    Run {
        args: process.args().iter().flatten().map(|word| bytes(word)).collect(),
        cwd: BytePath(process.cwd().clone().into_os_string().into_vec()),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        uid: process.user().uid(),
        gid: process.user().gid(),
        groups: process.user().additional_gids().iter().flatten().copied().collect(),
        outcomes: true,
        until,
        ..Run::default()
    }
}
