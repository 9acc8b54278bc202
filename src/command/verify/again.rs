//! The runs to be made again in a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bundler::resolve::Resolver;
use bundler::{Kind, Rootfs, rootless};
use oci_spec::runtime::{Process, Spec, User};
use tracer::Record;
use tracer::record::{BytePath, Run, Until};

use crate::command::bundle::program::text;
use crate::command::settings;
use crate::command::strace::foreign::OF_THE_MACHINE;

/// A run to be made in the bundle.
#[derive(Clone, Debug)]
pub(in crate::command) struct Scenario {
    /// What is said of it: the command as it was given.
    pub(super) name: String,
    /// The container, with the process.
    pub(super) spec: Spec,
    pub(super) until: Option<Until>,
}

/// A bundle, read.
#[derive(Debug)]
pub(in crate::command) struct Bundle {
    /// Its real path.
    pub(super) dir: PathBuf,
    /// Its config.json, with the root by its real path.
    pub(super) spec: Spec,
    /// Directories that are made where the root lacks them.
    pub(super) places: Vec<PathBuf>,
    /// Files that mounts take the place of, be they links.
    pub(super) replaced: Vec<PathBuf>,
    /// What a run by this user leaves open.
    pub(super) unproven: Option<String>,
}

impl Bundle {
    /// One scenario for each run of `first`.
    ///
    /// # Errors
    /// Words that are not UTF-8, which `config.json` cannot hold.
    pub(in crate::command) fn runs_of(&self, first: &Record) -> anyhow::Result<Vec<Scenario>> {
        let runs = first.runs.iter().filter(|run| !run.args.is_empty());
        runs.enumerate().map(|(index, run)| self.again(index, run)).collect()
    }

    fn again(&self, index: usize, run: &Run) -> anyhow::Result<Scenario> {
        let mut spec = self.spec.clone();
        let rootfs = self.rootfs()?;
        let process = spec.process_mut().as_mut().context("config.json has no process")?;
        let words: Vec<String> =
            run.args.iter().map(|word| text(&word.0, "argument")).collect::<Result<_, _>>()?;
        let own = process.args().clone().unwrap_or_default();
        // The bundle may call the same program by its path.
        let name =
            |words: &[String]| words.first().and_then(|w| w.rsplit('/').next()).map(str::to_owned);
        if words.get(1..) != own.get(1..) || name(&words) != name(&own) {
            process.set_args(Some(words));
        }
        if index > 0 {
            let found = Resolver::new(&rootfs).resolve(&run.cwd.0);
            if found.is_ok_and(|found| found.meta.kind == Kind::Directory) {
                process.set_cwd(text(&run.cwd.0, "working directory")?.into());
            }
            become_user(process, run);
            let mut env: BTreeMap<String, String> = variables(process);
            env.extend(run.env.clone());
            let env = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
            process.set_env(Some(env));
        }
        let name = shown(&run.args);
        Ok(Scenario { name, spec, until: run.until.clone() })
    }

    /// Another command in the same container, by the bundle's shell where it
    /// has one.
    pub(super) fn command(&self, command: &str, until: Option<Until>) -> anyhow::Result<Scenario> {
        let mut spec = self.spec.clone();
        let rootfs = self.rootfs()?;
        let process = spec.process_mut().as_mut().context("config.json has no process")?;
        let resolver = Resolver::new(&rootfs);
        let shell = ["/bin/sh", "/usr/bin/sh"]
            .into_iter()
            .find(|shell| resolver.resolve(shell.as_bytes()).is_ok());
        let words = match shell {
            Some(shell) => [shell, "-c", command].map(str::to_owned).to_vec(),
            None => command.split_whitespace().map(str::to_owned).collect(),
        };
        process.set_args(Some(words));
        Ok(Scenario { name: command.to_owned(), spec, until })
    }

    /// Lets all calls happen again, as before a profile was made.
    pub(super) fn forget_profile(&mut self) {
        if let Some(linux) = self.spec.linux_mut() {
            linux.set_seccomp(None);
        }
    }

    pub(super) fn rootfs(&self) -> anyhow::Result<Rootfs> {
        let dir = self.dir.join("rootfs");
        Rootfs::open(&dir).with_context(|| format!("cannot open `{}`", dir.display()))
    }
}

/// Reads the bundle at `dir`, as this user can run it; what such a run leaves open the
/// caller may know better than its config.json.
///
/// # Errors
/// What is no bundle, or a config.json that is none.
pub(in crate::command) fn open(dir: &Path, unproven: Option<String>) -> anyhow::Result<Bundle> {
    let mut spec = crate::command::run::read_bundle(dir)?;
    let dir = dir.canonicalize().with_context(|| format!("cannot find `{}`", dir.display()))?;
    let user = spec.process().as_ref().context("config.json has no process")?.user();
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    // Who is that user runs it in no other way.
    let is_own = (user.uid(), user.gid()) == (uid.as_raw(), gid.as_raw());
    let (user, group) = if is_own { (0, 0) } else { (user.uid(), user.gid()) };
    let unproven = unproven.or_else(|| settings::unproven(user, group, false));
    if !uid.is_root() {
        rootless::make_rootless(&mut spec, uid.as_raw(), gid.as_raw());
    }
    let process = spec.process_mut().as_mut().context("config.json has no process")?;
    process.set_terminal(Some(false));
    Ok(Bundle { dir, spec, places: Vec::new(), replaced: Vec::new(), unproven })
}

fn become_user(process: &mut Process, run: &Run) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut user = User::default();
    user.set_uid(run.uid).set_gid(run.gid);
    let others: Vec<u32> = run.groups.iter().copied().filter(|&gid| gid != run.gid).collect();
    if !others.is_empty() {
        user.set_additional_gids(Some(others));
    }
    process.set_user(user);
}

fn variables(process: &Process) -> BTreeMap<String, String> {
    let variables = process.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The command line, for a reader.
pub(in crate::command) fn shown(words: &[BytePath]) -> String {
    let words = words.iter().map(|word| {
        let text = String::from_utf8_lossy(&word.0);
        let plain = |c: char| c.is_alphanumeric() || "/._-+,:=@%".contains(c);
        match !text.is_empty() && text.chars().all(plain) {
            true => text.into_owned(),
            false => format!("'{}'", text.escape_debug()),
        }
    });
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What of `spec`'s mounts is the machine's, in the bundle.
pub(super) fn foreign(spec: &Spec) -> Vec<PathBuf> {
    let binds = spec.mounts().iter().flatten().filter(|m| m.typ().as_deref() == Some("bind"));
    binds
        .map(|mount| mount.destination().clone())
        .filter(|place| OF_THE_MACHINE.iter().any(|own| place == Path::new(own)))
        .collect()
}
