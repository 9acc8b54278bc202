//! `vzbuild run`: run a bundle with runc, crun or the embedded runner.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use bundler::bundle::is_bundle;
use bundler::resolve::Resolver;
use bundler::{Rootfs, config, rootless};
use nix::unistd::{Pid, getegid, geteuid};
use oci_spec::runtime::Spec;

use super::init;
use crate::cli::build;
use crate::report::{self, Advice};
use crate::runner::embedded;
use crate::runner::oci::{Container, Runtime};
use crate::runner::state::State;
use crate::runner::supervise::Supervisor;

/// Runs the bundle's command, or another one in its place, and ends as it did.
///
/// # Errors
/// What is no bundle; when nothing here can run it.
pub fn run(args: &build::Run) -> anyhow::Result<ExitCode> {
    let spec = adapted(args)?;
    refuse_absent(&spec)?;
    let mut supervisor = Supervisor::new(args.stop_timeout)?;
    let state = State::new()?;
    fs::write(state.dir().join("config.json"), config::print(&spec)?)
        .with_context(|| format!("cannot write to `{}`", state.dir().display()))?;
    let code = match args.runtime {
        build::Runtime::Embedded => run_embedded(&spec, &state, &mut supervisor)?,
        build::Runtime::Runc => run_with("runc", &state, &mut supervisor)?,
        build::Runtime::Crun => run_with("crun", &state, &mut supervisor)?,
        build::Runtime::Auto => {
            match with_first(&Runtime::installed(None), &state, &mut supervisor)? {
                Some(code) => code,
                None => run_embedded(&spec, &state, &mut supervisor)?,
            }
        }
    };
    Ok(ExitCode::from(code))
}

/// The bundle's `config.json` with its root's real path (runc refuses links),
/// the command asked for, and what this user can have of it.
fn adapted(args: &build::Run) -> anyhow::Result<Spec> {
    let mut spec = read_bundle(&args.bundle)?;
    let process = spec.process_mut().as_mut().context("config.json has no process")?;
    if !args.command.is_empty() {
        let words = args.command.iter().map(|word| word.to_str().map(str::to_owned));
        let words: Option<Vec<String>> = words.collect();
        process.set_args(Some(words.context("the command is not UTF-8, and config.json is")?));
    }
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        bail!("the bundle does not say what to run: vzbuild run BUNDLE -- CMD");
    }
    if !geteuid().is_root() {
        rootless::make_rootless(&mut spec, geteuid().as_raw(), getegid().as_raw());
    }
    Ok(spec)
}

/// The `config.json` of the bundle at `dir`, with its root's real path.
///
/// # Errors
/// What is no bundle, or a config.json that is none.
pub(super) fn read_bundle(dir: &Path) -> anyhow::Result<Spec> {
    let not_bundle = || format!("`{}` is no bundle", dir.display());
    let real = dir.canonicalize().with_context(not_bundle)?;
    if !is_bundle(&real) {
        return Err(anyhow::anyhow!("it has no config.json and rootfs"))
            .with_context(not_bundle)
            .hint("`vzbuild bundle SPEC` writes one");
    }
    let text = fs::read(real.join("config.json")).with_context(not_bundle)?;
    let mut spec: Spec = serde_json::from_slice(&text)
        .with_context(|| format!("the config.json of `{}` is none", dir.display()))?;
    let root = spec.root_mut().as_mut().context("config.json has no root")?;
    let path = real.join(root.path());
    let path = path.canonicalize().with_context(|| format!("cannot find `{}`", path.display()))?;
    root.set_path(path);
    Ok(spec)
}

/// Refuses a command that the bundle does not have, before any runtime is
/// asked; where a volume may have it, that is left to the runtime.
fn refuse_absent(spec: &Spec) -> anyhow::Result<()> {
    let has_volume = spec.mounts().iter().flatten().any(|m| m.typ().as_deref() == Some("bind"));
    let (Some(root), Some(process)) = (spec.root(), spec.process()) else { return Ok(()) };
    let name = process.args().iter().flatten().next().map(String::as_str).unwrap_or_default();
    let rootfs = Rootfs::open(root.path())
        .with_context(|| format!("cannot open `{}`", root.path().display()))?;
    let resolver = Resolver::new(&rootfs);
    let variables = process.env().iter().flatten();
    let path = variables.filter_map(|variable| variable.strip_prefix("PATH=")).next_back();
    let is_there = match name.split_once('/') {
        Some(("", _)) => resolver.resolve(name.as_bytes()).is_ok(),
        Some(_) => {
            resolver.resolve(process.cwd().join(name).as_os_str().as_encoded_bytes()).is_ok()
        }
        None => path.is_none_or(|path| {
            path.split(':').any(|dir| resolver.resolve(format!("{dir}/{name}").as_bytes()).is_ok())
        }),
    };
    if is_there || has_volume {
        return Ok(());
    }
    Err(anyhow::anyhow!("the bundle has no program `{name}`"))
        .hint("is it in the spec? `vzbuild run BUNDLE -- /PATH/OF/PROGRAM` names it fully")
        .status(init::NOT_FOUND)
}

/// Runs with the first of `runtimes` that can make the container.
fn with_first(
    runtimes: &[Runtime],
    state: &State,
    supervisor: &mut Supervisor,
) -> anyhow::Result<Option<u8>> {
    for runtime in runtimes {
        match Container::create(runtime, state) {
            Ok(created) => return started(created, supervisor).map(Some),
            Err(error) => report::warn("vzbuild", format_args!("{error:#}; trying the next way")),
        }
    }
    Ok(None)
}

fn run_with(name: &str, state: &State, supervisor: &mut Supervisor) -> anyhow::Result<u8> {
    let (hint, runtimes) =
        ("`--runtime embedded` needs neither runc nor crun", Runtime::installed(Some(name)));
    let Some((last, others)) = runtimes.split_last() else {
        return Err(anyhow::anyhow!("`{name}` is not installed")).hint(hint);
    };
    match with_first(others, state, supervisor)? {
        Some(code) => Ok(code),
        None => started(Container::create(last, state).hint(hint)?, supervisor),
    }
}

/// Starts a container that is made, and waits for it; it goes when it is dropped.
fn started(
    (container, program): (Container<'_>, Pid),
    supervisor: &mut Supervisor,
) -> anyhow::Result<u8> {
    container.start()?;
    supervisor.wait(program)
}

fn run_embedded(spec: &Spec, state: &State, supervisor: &mut Supervisor) -> anyhow::Result<u8> {
    let child = embedded::start(spec, state)?;
    let pid = i32::try_from(child.id()).context("a process id out of range")?;
    supervisor.wait(Pid::from_raw(pid))
}
