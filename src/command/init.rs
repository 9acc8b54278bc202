//! `vzbuild init`: the first process of a container of the embedded runner,
//! which sets it up and becomes the program.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use oci_spec::runtime::{Process, Spec};
use rustix::process::Signal;

use crate::cli::build;
use crate::process;
use crate::report::Advice;
use crate::runner::seccomp::Seccomp;
use crate::runner::{identity, mounts};

/// Exit status where the command cannot be executed, as shells give it.
const NOT_EXECUTABLE: u8 = 126;
/// Exit status where there is no such command.
pub(super) const NOT_FOUND: u8 = 127;

/// Sets up the container of the bundle and becomes its program.
///
/// # Errors
/// What cannot be set up; a program that cannot be executed.
pub fn run(args: &build::Init) -> anyhow::Result<ExitCode> {
    let text = fs::read(args.bundle.join("config.json")).context("cannot read config.json")?;
    let spec: Spec = serde_json::from_slice(&text).context("cannot read config.json")?;
    let process = spec.process().as_ref().context("config.json has no process")?;
    // A session of its own, as under runc: the terminal's signals come through
    // the runner alone, and once.
    rustix::process::setsid().context("cannot make a session")?;
    if let Some(name) = spec.hostname() {
        nix::unistd::sethostname(name).context("cannot set the host name")?;
    }
    mounts::close_inherited().context("cannot close the caller's files")?;
    mounts::enter(&spec)?;
    mounts::enter_directory(process.cwd())?;
    let seccomp = Seccomp::of(&spec)?;
    seccomp.begin()?;
    identity::assume(process)?;
    // After the change of user, which clears it: the program ends with its runner.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot ask for the runner's death")?;
    execute(process, &seccomp)
}

fn execute(process: &Process, seccomp: &Seccomp) -> anyhow::Result<ExitCode> {
    let words = process.args().clone().unwrap_or_default();
    let (name, rest) = words.split_first().context("config.json has no command")?;
    let env = process.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    let mut env: HashMap<&str, &str> = env.collect();
    let home = home(process.user().uid());
    env.entry("HOME").or_insert(&home);
    let program = find(name, env.get("PATH").copied().unwrap_or_default())
        .with_context(|| format!("the bundle has no program `{name}`"))
        .hint("is it in the spec? `vzbuild run BUNDLE -- /PATH/OF/PROGRAM` names it fully")
        .status(NOT_FOUND)?;
    let mut command = process::command(&program);
    command.arg0(name).args(rest).env_clear().envs(&env);
    seccomp.end()?;
    let error = command.exec();
    let status = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    };
    Err(error)
        .with_context(|| format!("cannot execute `{}`", program.display()))
        .hint("is its interpreter in the bundle? `vzbuild closure` names what a spec needs")
        .status(status)
}

/// Where `name` lies in `path`, as execvp(3) looks for it.
fn find(name: &str, path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    let candidates = path.split(':').map(|dir| Path::new(dir).join(name));
    let mut candidates = candidates.filter(|file| file.is_file());
    candidates.find(|file| access(file, AccessFlags::X_OK).is_ok())
}

/// The user's home directory of the container's passwd(5), else `/`.
fn home(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let home = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, id, _, _, home, ..] = fields.as_slice() else { return None };
        (id.parse() == Ok(uid)).then(|| (*home).to_owned())
    });
    home.unwrap_or_else(|| "/".to_owned())
}
