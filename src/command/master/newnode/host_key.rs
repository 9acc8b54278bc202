//! The machine's host key: seen once, compared where it can be, and pinned.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use super::{SHORT, expand};
use crate::process;
use crate::push::ssh::{Ssh, was_denied};
use crate::push::target::Node;
use crate::report::{self, Advice};

/// Makes the machine's host key a known one, if it is not; returns its fingerprint where
/// it was new. `expected` is the one that it must have.
///
/// # Errors
/// When it has another one, or the machine cannot be reached.
pub(super) fn pin(
    ssh: &Ssh,
    node: &Node,
    expected: Option<&str>,
) -> anyhow::Result<Option<String>> {
    let files = known_hosts(ssh, node)?;
    let dir = tempfile::tempdir().context("cannot make a folder for a host key")?;
    let new = dir.path().join("known_hosts");
    // A log-in that is bound to fail: ssh notes a key that it did not know in the first
    // file, and goes no further.
    let shown = |path: &PathBuf| path.display().to_string();
    let all: Vec<String> = [&new].into_iter().chain(&files).map(shown).collect();
    let look = with(
        ssh,
        &[
            "StrictHostKeyChecking=accept-new".to_owned(),
            format!("UserKnownHostsFile={}", all.join(" ")),
            "PreferredAuthentications=none".to_owned(),
            "PubkeyAuthentication=no".to_owned(),
        ],
    );
    let refused = look.run(node, "", SHORT);
    let lines = fs::read_to_string(&new).unwrap_or_default();
    if lines.is_empty() {
        if let Err(error) = refused
            && !was_denied(&error)
        {
            return Err(error.context("cannot see the machine's host key"));
        }
        let Some(expected) = expected else { return Ok(None) };
        return check_known(ssh, node, expected).map(|()| None);
    }
    let found = fingerprint(&new)?;
    if let Some(expected) = expected {
        compare(node, expected, &found)?;
    }
    let file = files.first().context("ssh has no file of known host keys")?;
    append(file, &lines).with_context(|| format!("cannot pin the key in `{}`", file.display()))?;
    let advice = match expected {
        Some(_) => "as it has to be",
        None => "seen for the first time: compare it with what the provider's console shows",
    };
    report::say("vzmaster", format!("{node}: pinned its host key {found}, {advice}"));
    Ok(Some(found))
}

/// The same, with options that come before all others.
pub(super) fn with(ssh: &Ssh, options: &[String]) -> Ssh {
    let options = options.iter().chain(&ssh.options).cloned().collect();
    Ssh { options, ..ssh.clone() }
}

fn compare(node: &Node, expected: &str, found: &str) -> anyhow::Result<()> {
    if found.split(' ').any(|word| word == expected) {
        return Ok(());
    }
    Err(anyhow!("the host key of `{node}` is {found}, and not {expected}"))
        .hint("either the fingerprint is of another kind of key, or somebody stands between")
}

/// A key that was known before has the right fingerprint, too.
fn check_known(ssh: &Ssh, node: &Node, expected: &str) -> anyhow::Result<()> {
    let said = ssh.host_key(node).context("cannot see the machine's host key")?;
    compare(node, expected, &said)
}

/// The files that ssh would note host keys of this machine in.
fn known_hosts(ssh: &Ssh, node: &Node) -> anyhow::Result<Vec<PathBuf>> {
    let said = process::output(&mut ssh.command(node, "true", &["-G"]))?;
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find_map(|line| line.strip_prefix("userknownhostsfile "));
    let files: Vec<PathBuf> = line.unwrap_or_default().split(' ').map(expand).collect();
    if files.iter().any(|file| file == Path::new("/dev/null")) {
        bail!("ssh is told to forget host keys: UserKnownHostsFile is /dev/null");
    }
    Ok(files)
}

/// Type and fingerprint of the first key in a file.
fn fingerprint(file: &Path) -> anyhow::Result<String> {
    let said = process::output(process::command("ssh-keygen").arg("-lf").arg(file))?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let mut words = said.lines().next().unwrap_or_default().split(' ').skip(1);
    let print = words.next().context("ssh-keygen shows no fingerprint")?;
    let kind = words.last().unwrap_or_default();
    Ok(format!("{print} {kind}"))
}

fn append(file: &Path, lines: &str) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let old = fs::read(file).unwrap_or_default();
    let gap = if old.is_empty() || old.ends_with(b"\n") { "" } else { "\n" };
    let mut file = File::options().append(true).create(true).mode(0o600).open(file)?;
    file.write_all(format!("{gap}{lines}").as_bytes())
}
