//! `smith-strace`: trace a command, write its spec.

mod environment;
pub(super) mod exercise;
pub(super) mod foreign;
mod output;
mod summary;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use tracer::record::{BytePath, End, Host, Run, Until};
use tracer::{Command, Error, Options, Selection};

use self::exercise::{Exercise, Plan};
use self::output::Output;
use super::bundle::program::read;
use crate::cli::strace::Args;
use crate::report::Advice;

/// Exit statuses of `smith-strace` itself, as those of env(1) and timeout(1).
const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Traces the command and writes spec, spec.json and originals. Returns the
/// command's exit status; where a signal ended it, this process ends by that
/// signal too.
///
/// # Errors
/// With status 125 where tracing or writing failed, 126 or 127 where the
/// command could not be executed or found.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (mut output, selection, run) = prepare(args).status(FAILED)?;
    let user = args.user.as_ref().map(|_| tracer::User {
        uid: run.uid,
        gid: run.gid,
        groups: run.groups.clone(),
    });
    let command = Command {
        args: args.command.clone(),
        search: std::env::var_os("PATH"),
        root: args.root.clone(),
        isolate: args.isolate,
        cwd: args.cwd.clone(),
        user,
        env: None,
        foreign: foreign::stand_ins(args),
    };
    let exercise = Exercise::new(Plan::of(args)).status(FAILED)?;
    let options = Options {
        originals: Some(output.originals()),
        originals_limit: args.originals_limit,
        outcomes: args.outcomes,
        detach: args.detach,
        allow_io_uring: args.allow_io_uring,
        log: output.log(args.log.as_deref()).status(FAILED)?,
        timeout: args.timeout,
        started: exercise.starter(),
        ..Options::default()
    };
    let trace = tracer::trace(&command, options).map_err(advise)?;
    let (ended, was_ended, bytes) = (trace.end, trace.was_ended, trace.bytes(&selection));
    let mut record = trace.record(&selection, run, describe_host());
    environment::keep_paths(&mut record);
    let line = summary::of(args, &record, bytes);
    output.commit(record).status(FAILED)?;
    line.print(args);
    exercise.result().status(FAILED)?;
    Ok(end(ended, was_ended))
}

fn prepare(args: &Args) -> anyhow::Result<(Output, Selection, Run)> {
    let selection = Selection::new(&args.include, &args.exclude)?;
    let selection = selection.without(outputs(args.root.as_deref()));
    let output = Output::prepare(&args.output, args.append)?;
    Ok((output, selection, describe_run(args)?))
}

/// The files that standard output and standard error were directed to, as the command sees
/// them: what it prints is nothing that it needs, by whatever name it opens them.
fn outputs(root: Option<&Path>) -> Vec<Vec<u8>> {
    let path = |descriptor: u32| {
        let link = format!("/proc/self/fd/{descriptor}");
        let is_file = std::fs::metadata(&link).is_ok_and(|meta| meta.is_file());
        let path = std::fs::read_link(link).ok().filter(|_| is_file)?;
        match root.map(std::fs::canonicalize) {
            None => Some(path.into_os_string().into_vec()),
            Some(root) => {
                let inside = path.strip_prefix(root.ok()?).ok()?;
                Some(Path::new("/").join(inside).into_os_string().into_vec())
            }
        }
    };
    [1, 2].into_iter().filter_map(path).collect()
}

/// How `smith-strace` ends: as the command did, but for what it did itself.
fn end(end: End, was_ended: bool) -> ExitCode {
    match end {
        End::Exited(status) => ExitCode::from(status as u8),
        End::Signaled(SIGTERM) if was_ended => ExitCode::SUCCESS,
        End::Signaled(signal) => {
            tracer::die_by(signal);
            ExitCode::from(128u8.saturating_add(signal as u8))
        }
    }
}

/// `SIGTERM` of signal(7).
const SIGTERM: i32 = 15;

/// Adds what the user can do, and the exit status.
pub(super) fn advise(error: Error) -> anyhow::Error {
    let (status, hint) = match &error {
        Error::NotFound { .. } => (NOT_FOUND, None),
        Error::NoInterpreter { .. } => (NOT_FOUND, Some(FIND_INTERPRETER)),
        Error::Execute { .. } => (NOT_EXECUTABLE, None),
        Error::Ptrace(_) => (FAILED, Some(ALLOW_PTRACE)),
        Error::Filter(_) => (FAILED, Some(ALLOW_SECCOMP)),
        Error::Root { .. } => (FAILED, Some(ALLOW_NAMESPACES)),
        Error::User { .. } => (FAILED, Some(BE_ROOT)),
        _ => (FAILED, None),
    };
    let failed = Err::<(), _>(error).status(status);
    let advised = match hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    };
    advised.err().unwrap_or_else(|| anyhow::anyhow!("nothing failed"))
}

const FIND_INTERPRETER: &str = "`head -1` shows the one of a script, `readelf -l` that of an ELF \
    program; it must be in the root where the command runs";
const ALLOW_PTRACE: &str = "allow ptrace: in a container --cap-add SYS_PTRACE or a seccomp \
    profile that has it; with Yama, kernel.yama.ptrace_scope must be below 2 (3 forbids tracing \
    until the next boot)";
const ALLOW_SECCOMP: &str = "the kernel needs CONFIG_SECCOMP_FILTER, and a sandbox around this \
    must allow seccomp(2) and prctl(PR_SET_NO_NEW_PRIVS)";
const BE_ROOT: &str = "only root can run a command as somebody else";
const ALLOW_NAMESPACES: &str = "be root, or allow user namespaces: user.max_user_namespaces above \
    0, on Debian kernel.unprivileged_userns_clone=1, on Ubuntu \
    kernel.apparmor_restrict_unprivileged_userns=0";

fn describe_run(args: &Args) -> anyhow::Result<Run> {
    let (env, env_names) = environment::describe(&args.env);
    let cwd = match (&args.cwd, &args.root) {
        (Some(cwd), _) => cwd.clone(),
        (None, Some(_)) => PathBuf::from("/"),
        _ => std::env::current_dir().context("cannot tell the working directory")?,
    };
    let (uid, gid, groups) = match &args.user {
        Some(user) => find_user(user, args.root.as_deref())?,
        None => {
            let groups = nix::unistd::getgroups().unwrap_or_default();
            let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
            (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw(), groups)
        }
    };
    Ok(Run {
        args: args.command.iter().map(|word| BytePath(word.as_bytes().to_vec())).collect(),
        cwd: BytePath(cwd.into_os_string().into_vec()),
        env,
        env_names,
        uid,
        gid,
        groups,
        outcomes: args.outcomes,
        until: until(args),
        ..Run::default()
    })
}

/// Looks a user up where the command will run.
fn find_user(user: &str, root: Option<&Path>) -> anyhow::Result<(u32, u32, BTreeSet<u32>)> {
    let root = root.unwrap_or(Path::new("/"));
    let rootfs = bundler::Rootfs::open(root)
        .with_context(|| format!("cannot open the root `{}`", root.display()))?;
    let [passwd, group] = ["/etc/passwd", "/etc/group"].map(|path| read(&rootfs, path));
    bundler::accounts::find(user, &passwd, &group)
        .with_context(|| format!("the root has no user `{user}`"))
        .hint("give numbers, such as --user 1000:1000, for one that it does not know")
}

/// What ends the command, so that the run can be repeated.
fn until(args: &Args) -> Option<Until> {
    let timeout = args.timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok());
    let file = |file: &PathBuf| {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        BytePath(file.into_os_string().into_vec())
    };
    (args.until.is_some() || timeout.is_some()).then(|| Until {
        command: args.until.clone().unwrap_or_default(),
        ready_port: args.ready_port,
        ready_file: args.ready_file.as_ref().map(file),
        timeout,
        ..Until::default()
    })
}

pub(super) fn describe_host() -> Host {
    let system = rustix::system::uname();
    let text = |name: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(|value| value.to_string_lossy().into_owned())
    };
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| text(name));
    let zone = text("TZ").or_else(|| {
        let target = std::fs::read_link("/etc/localtime").ok()?;
        Some(target.to_string_lossy().into_owned())
    });
    Host {
        kernel: system.release().to_string_lossy().into_owned(),
        arch: system.machine().to_string_lossy().into_owned(),
        cpu_level: tracer::cpu_level().to_owned(),
        locale: locale.unwrap_or_default(),
        time_zone: zone.unwrap_or_default(),
    }
}

/// A path beside the spec: the spec's name with `suffix` at its end.
fn beside(spec: &OsStr, suffix: &str) -> OsString {
    let mut name = spec.to_owned();
    name.push(suffix);
    name
}
