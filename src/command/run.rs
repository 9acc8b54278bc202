//! `vzbuild run`: run a bundle with runc, crun or the embedded runner.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bundler::bundle::is_bundle;
use bundler::{config, rootless};
use nix::unistd::{Pid, getegid, geteuid};
use oci_spec::runtime::Spec;

use crate::cli::build::{self, Runtime};
use crate::report::{self, Advice};
use crate::runner::embedded;
use crate::runner::oci::Container;
use crate::runner::state::State;
use crate::runner::supervise::Supervisor;

/// Runs the bundle's command, or another one in its place, and ends as it did.
///
/// # Errors
/// What is no bundle; when nothing here can run it.
pub fn run(args: &build::Run) -> anyhow::Result<ExitCode> {
    let spec = adapted(args)?;
    let mut supervisor = Supervisor::new()?;
    let state = State::new()?;
    fs::write(state.dir().join("config.json"), config::print(&spec)?)
        .with_context(|| format!("cannot write to `{}`", state.dir().display()))?;
    let code = match args.runtime {
        Runtime::Embedded => run_embedded(&spec, &state, &mut supervisor)?,
        Runtime::Runc => run_with(&installed("runc")?, &state, &mut supervisor)?,
        Runtime::Crun => run_with(&installed("crun")?, &state, &mut supervisor)?,
        Runtime::Auto => first_that_works(&spec, &state, &mut supervisor)?,
    };
    Ok(ExitCode::from(code))
}

/// The bundle's `config.json` with its root's real path (runc refuses links),
/// the command asked for, and what this user can have of it.
fn adapted(args: &build::Run) -> anyhow::Result<Spec> {
    let not_bundle = || format!("`{}` is no bundle", args.bundle.display());
    let dir = args.bundle.canonicalize().with_context(not_bundle)?;
    if !is_bundle(&dir) {
        return Err(anyhow::anyhow!("it has no config.json and rootfs"))
            .with_context(not_bundle)
            .hint("`vzbuild bundle SPEC` writes one");
    }
    let text = fs::read(dir.join("config.json")).with_context(not_bundle)?;
    let mut spec: Spec = serde_json::from_slice(&text)
        .with_context(|| format!("the config.json of `{}` is none", args.bundle.display()))?;
    let root = spec.root_mut().as_mut().context("config.json has no root")?;
    let path = dir.join(root.path());
    let path = path.canonicalize().with_context(|| format!("cannot find `{}`", path.display()))?;
    root.set_path(path);
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

fn installed(program: &str) -> anyhow::Result<PathBuf> {
    crate::process::find(program)
        .with_context(|| format!("`{program}` is not installed"))
        .hint("`--runtime embedded` needs neither runc nor crun")
}

fn first_that_works(spec: &Spec, state: &State, supervisor: &mut Supervisor) -> anyhow::Result<u8> {
    for name in ["runc", "crun"] {
        let Some(program) = crate::process::find(name) else { continue };
        match Container::create(&program, state) {
            Ok(created) => return started(created, supervisor),
            Err(error) => report::warn(
                "vzbuild",
                format_args!("{name} cannot run it here ({error:#}); trying the next"),
            ),
        }
    }
    run_embedded(spec, state, supervisor)
}

fn run_with(program: &Path, state: &State, supervisor: &mut Supervisor) -> anyhow::Result<u8> {
    started(Container::create(program, state)?, supervisor)
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
