//! Running a bundle by runc or crun.
//!
//! `create`, `start` and `delete` instead of `run`: a runtime that does not
//! work here is then known before the program starts, so another can be tried;
//! and the program becomes this process's child, so its status and signals
//! need no go-between and no runtime stays in memory.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use nix::unistd::Pid;

use super::state::State;
use crate::process;

/// A container that is made and not started.
#[derive(Debug)]
pub struct Container<'a> {
    runtime: Runtime,
    state: &'a State,
}

/// A runtime, and what it needs to work here.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The program.
    pub program: PathBuf,
    /// Options before its verb.
    pub options: &'static [&'static str],
}

impl Runtime {
    /// What of runc and crun is installed, in the order to try them. crun comes
    /// a second time without control groups: it wants version 2 of them, or
    /// rights that it does not have everywhere.
    pub fn installed(name: Option<&str>) -> Vec<Runtime> {
        let all: [(&str, &[&str]); 3] =
            [("runc", &[]), ("crun", &[]), ("crun", &["--cgroup-manager=disabled"])];
        let wanted = all.into_iter().filter(|(known, _)| name.is_none_or(|name| name == *known));
        wanted
            .filter_map(|(name, options)| Some(Runtime { program: process::find(name)?, options }))
            .collect()
    }
}

impl<'a> Container<'a> {
    /// Makes the container of `state` with `runtime`; returns it
    /// and its process. The runtime itself says what is wrong on standard error.
    ///
    /// # Errors
    /// When the runtime cannot make it.
    pub fn create(runtime: &Runtime, state: &'a State) -> anyhow::Result<(Self, Pid)> {
        // The container's process loses its parent when `create` ends.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .context("cannot become the parent of the container's processes")?;
        let program = &runtime.program;
        fs::write(state.dir().join("runtime"), program.as_os_str().as_encoded_bytes())?;
        let container = Container { runtime: runtime.clone(), state };
        let pid_file = state.dir().join("pid");
        let mut create = container.command("create");
        create.arg("--bundle").arg(state.dir()).arg("--pid-file").arg(&pid_file).arg(state.id());
        let status = process::status(&mut create)?;
        if !status.success() {
            bail!("`{} create` ended with {status}", program.display());
        }
        let pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok());
        let pid = pid.with_context(|| format!("`{}` wrote no pid", program.display()))?;
        Ok((container, Pid::from_raw(pid)))
    }

    /// Lets the program begin.
    ///
    /// # Errors
    /// When the runtime cannot.
    pub fn start(&self) -> anyhow::Result<()> {
        let status = process::status(self.command("start").arg(self.state.id()))?;
        if !status.success() {
            bail!("`{} start` ended with {status}", self.runtime.program.display());
        }
        Ok(())
    }

    fn command(&self, verb: &str) -> Command {
        command(&self.runtime.program, self.runtime.options, self.state.dir(), verb)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        delete(&self.runtime.program, self.runtime.options, self.state.dir(), &self.state.id());
    }
}

/// Removes the container of a run that was killed.
pub(super) fn delete_stale(dir: &Path, id: &OsStr) {
    if let Ok(runtime) = fs::read(dir.join("runtime")) {
        let runtime: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&runtime);
        delete(Path::new(runtime), &[], dir, id);
    }
}

/// A container that is gone already is no failure.
fn delete(runtime: &Path, options: &[&str], dir: &Path, id: &OsStr) {
    let mut delete = command(runtime, options, dir, "delete");
    delete.arg("--force").arg(id);
    let _ = delete.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn command(runtime: &Path, options: &[&str], dir: &Path, verb: &str) -> Command {
    let mut command = process::command(runtime);
    command.args(options).arg("--root").arg(dir.join("state")).arg(verb);
    command
}
