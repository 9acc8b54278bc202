//! Getting in by key; by root's password once, where there is nothing else.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::SHORT;
use super::host_key::with;
use crate::fleet::newnode::{Report, Stage, Wish};
use crate::push::ssh::{Ssh, was_denied};
use crate::push::target::Node;
use crate::report::{self, Advice};

/// How long a user may look for a password.
const TYPING: Duration = Duration::from_secs(300);

/// Makes sure that root can be logged in as by key.
///
/// # Errors
/// When it cannot; then nothing but keys was changed on the machine.
pub(super) fn by_key(
    ssh: &Ssh,
    node: &Node,
    wish: &Wish,
    password: Option<&Path>,
) -> anyhow::Result<()> {
    let denied = match ssh.run(node, "exit 0\n", SHORT) {
        Ok(_) => return Ok(()),
        Err(error) if was_denied(&error) => error,
        Err(error) => return Err(error),
    };
    // ssh itself asks there, whatever the standard streams are.
    if password.is_none() && fs::File::open("/dev/tty").is_err() {
        return Err(denied)
            .hint("where root has a password only, --password-file names a file with it");
    }
    report::say("vzmaster", format!("{node}: takes no key of ours yet: logs in by password"));
    let asking = with(
        ssh,
        &[
            "BatchMode=no".to_owned(),
            "PubkeyAuthentication=no".to_owned(),
            "PreferredAuthentications=password,keyboard-interactive".to_owned(),
            format!("NumberOfPasswordPrompts={}", if password.is_some() { 1 } else { 3 }),
        ],
    );
    let dir = tempfile::tempdir().context("cannot make a folder for ssh's helper")?;
    let variables = match password {
        Some(file) => answering(dir.path(), file)?,
        None => Vec::new(),
    };
    let script = wish.script(Stage::Keys);
    let said = asking.run_aloud(node, &script, TYPING, &variables, &mut |_| ())?;
    Report::parse(&said).context("the keys were not put in place")?;
    ssh.run(node, "exit 0\n", SHORT)
        .map(drop)
        .context("the keys are in place, and none of them lets this user in")
        .hint("the private key has to be known to ssh: an agent, or IdentityFile in ssh_config")
}

/// Variables with which ssh takes its password from a file: its first line, by a program
/// that answers to nothing else.
fn answering(dir: &Path, file: &Path) -> anyhow::Result<Vec<(&'static str, OsString)>> {
    let cannot = || format!("cannot read the password in `{}`", file.display());
    let path = file.canonicalize().with_context(cannot)?;
    if fs::read(&path).with_context(cannot)?.first().is_none_or(|c| *c == b'\n') {
        return Err(anyhow!("its first line is empty")).with_context(cannot);
    }
    let path = path.to_str().context("its path is no text").with_context(cannot)?;
    let quoted = path.replace('\'', "'\\''");
    let helper = dir.join("askpass");
    let text =
        format!("#!/bin/sh\ncase $1 in *assword*) exec head -n 1 -- '{quoted}' ;; esac\nexit 1\n");
    fs::write(&helper, text)?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o700))?;
    Ok(vec![
        ("SSH_ASKPASS", helper.into_os_string()),
        // OpenSSH 8.4 and later; older ones ask only where there is a display.
        ("SSH_ASKPASS_REQUIRE", "force".into()),
        ("DISPLAY", "none".into()),
    ])
}
