//! `vzmaster newnode`: keys, host key, the script, and proof that the node can still be
//! logged in to.

mod host_key;
mod login;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::json;

use super::directory;
use crate::cli::master::{Args, Newnode};
use crate::command::push::ssh;
use crate::fleet::newnode::user_data::render;
use crate::fleet::newnode::{KEEP, Report, Stage, Wish, provider};
use crate::push::ssh::Ssh;
use crate::push::target::Node;
use crate::report::{self, Advice, Status, plain};

/// How long the script may take: a slow machine that installs packages.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How long a word from the node may take.
pub(super) const SHORT: Duration = Duration::from_secs(20);
/// How often it is tried again to log in once more.
const TRIES: u32 = 4;
/// Between tries.
const AGAIN: Duration = Duration::from_secs(2);
/// Seconds after which the node takes back what may lock everybody out.
const GUARD: u32 = 120;

pub(super) fn run(args: &Args, wish: &Newnode) -> anyhow::Result<ExitCode> {
    let Some(target) = &wish.target else {
        return print_user_data(wish);
    };
    let node = node(args, target)?;
    let name = wish.name.clone().or_else(|| name_in_inventory(args, &node));
    let wished = wished(wish, name)?;
    // A connection that is shared would prove nothing.
    let ssh = Ssh { control: None, ..ssh(&args.ssh) };
    let pinned = host_key::pin(&ssh, &node, wish.host_key.as_deref())?;
    login::by_key(&ssh, &node, &wished, wish.password_file.as_deref())?;
    let mut told = |line: &str| {
        if let Some((word @ ("changed" | "warning"), what)) = line.trim_end().split_once(' ') {
            report::say("vzmaster", format!("{node}: {word}: {}", plain(what)));
        }
    };
    let script = wished.script(Stage::All);
    let said = ssh.run_aloud(&node, &script, PATIENCE, &[], &mut told)?;
    let report = Report::parse(&said).context("the script did not come to its end")?;
    confirm(&ssh, &node, report.guarded)?;
    if args.ssh.json {
        report::json(&json!({
            "node": node.label, "host-key": pinned, "changed": report.changed,
            "kept": report.kept, "warnings": report.warnings,
        }))?;
    } else {
        let line = match report.changed.len() {
            0 => "is as it should be: nothing was changed".to_owned(),
            count => format!("is a node now: {} changed", report::count(count, "thing")),
        };
        report::say("vzmaster", format!("{node}: {line}"));
    }
    Ok(Status::Done.into())
}

fn print_user_data(wish: &Newnode) -> anyhow::Result<ExitCode> {
    let form = wish.user_data.context("there is neither a target nor --user-data")?;
    let wished = wished(wish, wish.name.clone())?;
    let provider = wish.provider.as_deref().and_then(provider::find);
    let text = render(&wished, form, provider.as_ref())
        .context("the first-boot data is too long")
        .hint("give fewer keys, or put the nodes up by ssh")?;
    for quirk in provider.iter().flat_map(|provider| &provider.quirks) {
        report::say("vzmaster", format!("note: {quirk}"));
    }
    report::data(text.as_bytes())?;
    Ok(Status::Done.into())
}

/// The machine, which root is to be let in to.
fn node(args: &Args, target: &str) -> anyhow::Result<Node> {
    let usage = Status::Usage as u8;
    let mut nodes = directory::nodes(args, &[target.to_owned()])?.into_iter();
    let (Some(node), None) = (nodes.next(), nodes.next()) else {
        return Err(anyhow!("`{target}` is several machines, and one is meant")).status(usage);
    };
    match node.user.as_deref() {
        None | Some("root") => Ok(Node { user: Some("root".to_owned()), ..node }),
        Some(user) => Err(anyhow!("newnode logs in as root, and not as `{user}`"))
            .hint("say root@, or ansible_user=root")
            .status(usage),
    }
}

/// The inventory's name of the machine, where it has one.
fn name_in_inventory(args: &Args, node: &Node) -> Option<String> {
    let inventory = directory::read(args).ok()?.inventory;
    let nodes = inventory.nodes("all").ok()?;
    let same = |known: &Node| {
        known.label == node.label || known.host == node.host && known.port == node.port
    };
    let mut named = nodes.into_iter().filter(same).map(|known| known.label);
    // An address is no name.
    let name = named.next()?;
    (named.next().is_none() && name.parse::<std::net::IpAddr>().is_err()).then_some(name)
}

fn wished(wish: &Newnode, name: Option<String>) -> anyhow::Result<Wish> {
    let port = |text: &String| match text.contains('/') {
        true => text.clone(),
        false => format!("{text}/tcp"),
    };
    let wished = Wish {
        name,
        user: wish.user.clone().or_else(local_user).filter(|user| user != "root"),
        keys: keys(&wish.key)?,
        runtime: wish.runtime,
        firewall: !wish.no_firewall,
        open: wish.open.iter().map(port).collect(),
        guard: GUARD,
    };
    wished.check().status(Status::Usage as u8)?;
    Ok(wished)
}

fn local_user() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.map(|user| user.name)
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
}

/// The public keys in these files, or in the usual ones.
fn keys(files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let usual = || {
        let dir = home()?.join(".ssh");
        let mut files: Vec<PathBuf> =
            dir.read_dir().ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("id_") && name.ends_with(".pub")
        });
        files.sort();
        Some(files)
    };
    let files = if files.is_empty() { usual().unwrap_or_default() } else { files.to_vec() };
    let mut keys = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read `{}`", file.display()))?;
        let lines = text.lines().map(str::trim);
        keys.extend(lines.filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned));
    }
    if keys.is_empty() {
        return Err(anyhow!("there is no public key to log in with"))
            .hint("make one with `ssh-keygen -t ed25519`, or name a file with --key")
            .status(Status::Usage as u8);
    }
    Ok(keys)
}

/// Logs in once more, and tells the node that it need not take anything back; fails
/// where it was `guarded` and has taken it back already.
fn confirm(ssh: &Ssh, node: &Node, guarded: bool) -> anyhow::Result<()> {
    let script = if guarded { KEEP } else { "echo kept\n" };
    let mut confirmed = ssh.run(node, script, SHORT);
    // sshd does not listen for a moment while it reads its settings again.
    for _ in 0..TRIES {
        if confirmed.is_err() {
            std::thread::sleep(AGAIN);
            confirmed = ssh.run(node, script, SHORT);
        }
    }
    let said = confirmed.context("the node cannot be logged in to any more").hint(format!(
        "within {GUARD} s it takes sshd's settings and its firewall back by itself"
    ))?;
    if said.lines().next_back() == Some("kept") {
        return Ok(());
    }
    Err(anyhow!(
        "the node took sshd's settings and its firewall back before it was told to keep them"
    ))
    .hint("run it again: what was slow is done now")
}

/// The first of the files that ssh reads known host keys from.
fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => Path::new(path).to_owned(),
    }
}
