//! What the container runs, as whom and where.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use anyhow::{Context, bail};
use bundler::config::PATH;
use bundler::elf::Elf;
use bundler::image::runtime::EXPOSED_PORTS;
use bundler::resolve::Resolver;
use bundler::{Container, Kind, Rootfs, accounts, shebang};
use oci_spec::runtime::{Capability, Spec};
use tracer::record::{BytePath, FileUse, Run, Use};

use crate::cli::build::{Bundle, Network};
use crate::command::source::Gathered;
use crate::report::{self, Advice, Status};

/// Decides all but the mounts, from the flags, else from the first traced run,
/// else from what is obvious.
///
/// # Errors
/// A command that nothing tells, an unknown user or capability, words that
/// are not UTF-8, which `config.json` cannot hold.
pub(super) fn decide(
    args: &Bundle,
    gathered: &Gathered,
    base: Option<&Spec>,
) -> anyhow::Result<Container> {
    let run = runs(gathered).next();
    let mut container = Container {
        writable: args.writable,
        own_network: args.network == Network::None,
        ..Container::default()
    };
    let user = user(args, gathered, run)?;
    (container.uid, container.gid, container.groups) = user;
    container.env = env(args, run)?;
    if !container.env.contains_key("HOME") {
        container.env.insert(
            "HOME".to_owned(),
            accounts::home(&read(&gathered.rootfs, "/etc/passwd"), container.uid),
        );
    }
    container.args = command(args, gathered, run, &container.env, base.is_some())?;
    container.cwd = cwd(args, gathered, run)?;
    container.hostname = hostname(&container.args);
    container.capabilities =
        args.cap.iter().map(|name| capability(name)).collect::<anyhow::Result<_>>()?;
    let ports = ports(gathered);
    if !ports.is_empty() {
        container.annotations.insert(EXPOSED_PORTS.to_owned(), ports);
    }
    let set_id = executed(gathered).find(|file| gains_rights(&gathered.rootfs, file));
    if let Some(file) = set_id {
        container.new_privileges = true;
        report::warn(
            "vzbuild",
            format_args!(
                "the run executed {}, which gains rights: noNewPrivileges is off",
                file.path.0.escape_ascii()
            ),
        );
    }
    Ok(container)
}

/// Puts the container over a `config.json` of the user's: only what a flag
/// says replaces what is there, and mounts come on top.
pub(super) fn over(base: Option<Spec>, args: &Bundle, container: &Container) -> Spec {
    let ours = container.spec();
    let Some(mut spec) = base else { return ours };
    if let (Some(process), Some(ours)) = (spec.process_mut(), ours.process()) {
        if !args.program.args.is_empty() {
            process.set_args(ours.args().clone());
        }
        if !args.program.env.is_empty() {
            process.set_env(ours.env().clone());
        }
        if args.program.cwd.is_some() {
            process.set_cwd(ours.cwd().clone());
        }
        if args.program.user.is_some() {
            process.set_user(ours.user().clone());
        }
        if !args.cap.is_empty() {
            process.set_capabilities(ours.capabilities().clone());
        }
    } else if spec.process().is_none() {
        spec.set_process(ours.process().clone());
    }
    if let Some(root) = spec.root_mut() {
        root.set_path("rootfs".into());
    } else {
        spec.set_root(ours.root().clone());
    }
    spec
}

fn runs(gathered: &Gathered) -> impl Iterator<Item = &Run> {
    let records = gathered.inputs.iter().filter_map(|input| input.record.as_ref());
    records.flat_map(|record| &record.runs).filter(|run| !run.args.is_empty())
}

/// The ports that the runs listened on and others can reach.
fn ports(gathered: &Gathered) -> String {
    let records = gathered.inputs.iter().filter_map(|input| input.record.as_ref());
    let is_local = |address: &str| {
        address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let reached = records.flat_map(|record| &record.ports).filter(|p| !is_local(&p.address));
    let ports: BTreeSet<_> = reached.map(|port| (port.port, &port.protocol)).collect();
    let ports: Vec<_> = ports.iter().map(|(port, protocol)| format!("{port}/{protocol}")).collect();
    ports.join(",")
}

fn executed(gathered: &Gathered) -> impl Iterator<Item = &FileUse> {
    let records = gathered.inputs.iter().filter_map(|input| input.record.as_ref());
    records.flat_map(|record| &record.files).filter(|file| file.uses.contains(&Use::Execute))
}

fn gains_rights(rootfs: &Rootfs, file: &FileUse) -> bool {
    let Ok(found) = Resolver::new(rootfs).resolve(&file.path.0) else { return false };
    let has_capability = || {
        let open = rootfs.open_file(&found.path).ok();
        let name = "security.capability";
        open.is_some_and(|open| {
            rustix::fs::fgetxattr(open, name, &mut [0_u8; 64][..]).is_ok_and(|size| size > 0)
        })
    };
    found.meta.kind == Kind::File && (found.meta.mode & 0o6000 != 0 || has_capability())
}

fn command(
    args: &Bundle,
    gathered: &Gathered,
    run: Option<&Run>,
    env: &BTreeMap<String, String>,
    has_base: bool,
) -> anyhow::Result<Vec<String>> {
    if !args.program.args.is_empty() {
        return args
            .program
            .args
            .iter()
            .map(|word| text(word.as_encoded_bytes(), "argument"))
            .collect();
    }
    if let Some(run) = run {
        let mut words: Vec<String> =
            run.args.iter().map(|word| text(&word.0, "argument")).collect::<Result<_, _>>()?;
        if let Some(first) = words.first_mut() {
            *first = as_traced(first, gathered, env);
        }
        return Ok(words);
    }
    if has_base || args.tar.is_some() {
        return Ok(Vec::new());
    }
    let resolver = Resolver::new(&gathered.rootfs);
    let paths = gathered.inputs.iter().flat_map(|input| input.spec.paths());
    let programs: BTreeSet<&[u8]> = paths.filter(|path| is_program(&resolver, path)).collect();
    match programs.iter().collect::<Vec<_>>().as_slice() {
        [only] => Ok(vec![text(only, "path")?]),
        [] => Err(anyhow::anyhow!("the spec does not say what to run, and has no program in it")),
        several => {
            let names: Vec<_> =
                several.iter().map(|path| path.escape_ascii().to_string()).collect();
            Err(anyhow::anyhow!("the spec does not say which to run: {}", names.join(", ")))
        }
    }
    .hint("say it with --arg, such as: --arg redis-server --arg --port --arg 7000")
    .status(Status::Usage as u8)
}

/// The name that leads to what the run executed: its own where PATH leads
/// there too, else the path of the file.
fn as_traced(name: &str, gathered: &Gathered, env: &BTreeMap<String, String>) -> String {
    if name.contains('/') {
        return name.to_owned();
    }
    let resolver = Resolver::new(&gathered.rootfs);
    let path = env.get("PATH").map_or(PATH, String::as_str);
    let is_entry = |file: &str| {
        resolver.resolve(file.as_bytes()).is_ok_and(|found| {
            found.meta.mode & 0o111 != 0 && gathered.closure.entries.contains_key(&found.path)
        })
    };
    if path.split(':').any(|dir| is_entry(&format!("{dir}/{name}"))) {
        return name.to_owned();
    }
    let named =
        |file: &&FileUse| file.path.0.rsplit(|&b| b == b'/').next() == Some(name.as_bytes());
    let found = executed(gathered).find(named).and_then(|f| text(&f.path.0, "path").ok());
    found.unwrap_or_else(|| name.to_owned())
}

/// A script, or an ELF file that can be started; a library that is marked
/// executable is none.
fn is_program(resolver: &Resolver<'_>, path: &[u8]) -> bool {
    let Ok(found) = resolver.resolve(path) else { return false };
    if found.meta.kind != Kind::File || found.meta.mode & 0o111 == 0 {
        return false;
    }
    let Ok(file) = resolver.rootfs().open_file(&found.path) else { return false };
    match Elf::read(&file) {
        Ok(Some(elf)) => elf.interpreter.is_some() || elf.soname.is_none() && !elf.dynamic,
        Ok(None) => {
            let mut start = [0; 256];
            let read = std::os::unix::fs::FileExt::read_at(&file, &mut start, 0).unwrap_or(0);
            shebang::parse(start.get(..read).unwrap_or_default()).is_some()
        }
        Err(_) => false,
    }
}

fn env(args: &Bundle, run: Option<&Run>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut env = run.map(|run| run.env.clone()).unwrap_or_default();
    env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
    for word in &args.program.env {
        env.extend([variable(word)?]);
    }
    Ok(env)
}

/// The name and value of `--env NAME=VALUE`; of `--env NAME` the value that it has here.
pub(in crate::command) fn variable(word: &OsStr) -> anyhow::Result<(String, String)> {
    let word = text(word.as_encoded_bytes(), "variable")?;
    match word.split_once('=') {
        Some(("", _)) => bail!("`--env {word}` has no name"),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(&word) {
            Ok(value) => Ok((word, value)),
            Err(_) => bail!("the environment has no variable `{word}` with a value in UTF-8"),
        },
    }
}

type User = (u32, u32, BTreeSet<u32>);

fn user(args: &Bundle, gathered: &Gathered, run: Option<&Run>) -> anyhow::Result<User> {
    if let Some(name) = &args.program.user {
        let [passwd, group] =
            ["/etc/passwd", "/etc/group"].map(|file| read(&gathered.rootfs, file));
        return accounts::find(name, &passwd, &group)
            .with_context(|| format!("the root has no user `{name}`"))
            .hint("give numbers, such as --user 1000:1000, for one that it does not know");
    }
    let Some(run) = run else { return Ok(User::default()) };
    let mut groups = run.groups.clone();
    groups.remove(&run.gid);
    Ok((run.uid, run.gid, groups))
}

/// The content of a file of the root, or nothing.
pub(in crate::command) fn read(rootfs: &Rootfs, path: &str) -> Vec<u8> {
    let found = Resolver::new(rootfs).resolve(path.as_bytes()).ok();
    found.and_then(|found| rootfs.read(&found.path).ok()).unwrap_or_default()
}

fn cwd(args: &Bundle, gathered: &Gathered, run: Option<&Run>) -> anyhow::Result<String> {
    if let Some(cwd) = &args.program.cwd {
        let cwd = text(cwd.as_encoded_bytes(), "directory")?;
        anyhow::ensure!(cwd.starts_with('/'), "--cwd `{cwd}` does not begin with `/`");
        return Ok(cwd);
    }
    let Some(BytePath(cwd)) = run.map(|run| &run.cwd) else { return Ok("/".to_owned()) };
    let found = Resolver::new(&gathered.rootfs).resolve(cwd);
    if found.is_ok_and(|found| found.meta.kind == Kind::Directory) {
        return text(cwd, "working directory");
    }
    report::warn(
        "vzbuild",
        format_args!(
            "the run's working directory {} is not there: `/` instead",
            cwd.escape_ascii()
        ),
    );
    Ok("/".to_owned())
}

/// The program's name as far as it can be a host's: RFC 1123, at most 63 letters.
pub(in crate::command) fn hostname(args: &[String]) -> String {
    let name = args.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let keep = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(keep).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "bundle".to_owned() } else { name.to_owned() }
}

fn capability(name: &str) -> anyhow::Result<Capability> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    serde_json::from_value(full.into())
        .map_err(|_| anyhow::anyhow!("there is no capability `{name}`"))
        .hint("man 7 capabilities lists them")
        .status(Status::Usage as u8)
}

/// # Errors
/// Bytes that are not UTF-8, which JSON cannot hold.
pub(in crate::command) fn text(bytes: &[u8], what: &str) -> anyhow::Result<String> {
    let text = OsStr::to_str(std::os::unix::ffi::OsStrExt::from_bytes(bytes));
    text.map(str::to_owned).with_context(|| {
        format!("the {what} `{}` is not UTF-8, and config.json is", bytes.escape_ascii())
    })
}
