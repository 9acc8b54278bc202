//! Why a session did not begin, in words that say what to do.

use std::process::Command;
use std::time::Duration;

use anyhow::anyhow;

use super::process;
use crate::push::target::Node;
use crate::report::Advice;

/// How long to wait for a host key that is only to be shown.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is known of a session that failed.
pub(super) struct Facts<'a> {
    /// Exit status of ssh, if it had one.
    pub(super) status: Option<i32>,
    /// What it said on standard error.
    pub(super) said: &'a str,
    /// Whether it was killed since nothing came.
    pub(super) late: bool,
}

/// Makes an error of the facts; `key` asks for the node's host key, `pin` is the
/// command that pins it.
pub(super) fn explain(
    facts: &Facts<'_>,
    error: anyhow::Error,
    key: impl Fn() -> Option<String>,
    pin: &str,
    node: &Node,
) -> anyhow::Error {
    let said = facts.said;
    let last: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let end = last.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join("; ");
    let (message, hint) = if said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        let shown = key().unwrap_or_else(|| "unknown".to_owned());
        let offending = said.lines().find(|line| line.contains("Offending")).unwrap_or_default();
        // ssh names the file and the host as they stand there.
        let remove = said.lines().map(str::trim).find(|line| line.starts_with("ssh-keygen -f"));
        let remove = remove.unwrap_or("ssh-keygen -R HOST");
        (
            format!(
                "the host key of `{node}` has changed: it is now {shown} ({})",
                offending.trim()
            ),
            format!(
                "if the node was set up anew, compare the fingerprint with the node's own (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there), remove the old key (`{remove}`), and pin the new one: {pin}"
            ),
        )
    } else if said.contains("Host key verification failed") {
        let shown = key().unwrap_or_else(|| "unknown".to_owned());
        (
            format!("the host key of `{node}` is not known: {shown}"),
            format!(
                "compare the fingerprint with the node's own (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there), then pin it: {pin}"
            ),
        )
    } else if said.contains("Permission denied (") {
        (
            format!("`{node}` {DENIED}: {end}"),
            "vzpush asks for no passwords: put a key into the node's authorized_keys, or into the agent".to_owned(),
        )
    } else if facts.late {
        (LATE.to_owned(), String::new())
    } else if facts.status == Some(255) {
        (format!("{UNREACHED} `{node}`: {end}"), String::new())
    } else if matches!(facts.status, Some(72 | 126 | 127)) {
        (
            format!("the node cannot run the receiver: {end}"),
            "is its store on a file system mounted noexec, or its C library older than this one's? `cargo static` builds a vzpush that needs none".to_owned(),
        )
    } else if facts.status == Some(70) {
        (
            format!("the receiver could not be put on the node: {end}"),
            "the store needs room, and a user who may write there; --store names another folder"
                .to_owned(),
        )
    } else if said.is_empty() {
        return error;
    } else {
        (format!("the receiver could not be started: {end}"), String::new())
    };
    let error = Err::<(), _>(match hint_in(&error) {
        Some(()) => return error,
        None => anyhow!(message),
    });
    let error = if hint.is_empty() { error } else { error.hint(hint) };
    match error {
        Err(error) => error,
        Ok(()) => anyhow!("{UNREACHED} `{node}`"),
    }
}

/// What is said of a node that took none of the keys.
const DENIED: &str = "does not let this user in";

/// Whether a session failed since the node took none of the keys.
pub(crate) fn was_denied(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains(DENIED))
}

/// What is said of a node that there is no way to, and of one that says nothing.
const UNREACHED: &str = "cannot reach";
const LATE: &str = "it did not answer in time";

/// Whether a session failed since the node may be no more.
pub(crate) fn was_unreached(error: &anyhow::Error) -> bool {
    error.chain().map(ToString::to_string).any(|text| text.starts_with(UNREACHED) || text == LATE)
}

/// An error that has advice already knows better.
fn hint_in(error: &anyhow::Error) -> Option<()> {
    crate::report::hint_of(error).map(drop)
}

/// Type and fingerprint of the key that a node shows.
pub(super) fn host_key(ssh: &mut Command) -> Option<String> {
    let (running, ..) = process::start(ssh).ok()?;
    running.expect_within(PATIENCE);
    let (_, said) = running.end();
    said.lines().find_map(|line| Some(line.split_once("Server host key: ")?.1.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::target::Target;

    fn check(status: i32, said: &str, expected: &str, hint: &str) {
        let facts = Facts { status: Some(status), said, late: false };
        let Ok(Target::Node(node)) = Target::parse("node-a") else { panic!("no node") };
        let key = || Some("ssh-ed25519 SHA256:abc".to_owned());
        let error = explain(&facts, anyhow!("ended"), key, "ssh -o X node-a true", &node);
        assert!(error.to_string().contains(expected), "{error}");
        let given = crate::report::hint_of(&error).unwrap_or_default();
        assert!(given.contains(hint), "{given}");
    }

    #[test]
    fn a_host_key_is_refused_with_its_fingerprint_and_the_way_to_pin_it() {
        let unknown = "No ED25519 host key is known for x\nHost key verification failed.\n";
        check(255, unknown, "is not known: ssh-ed25519 SHA256:abc", "ssh -o X node-a true");
        let changed = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nOffending ED25519 key in f:1\nHost key verification failed.";
        check(255, changed, "has changed: it is now ssh-ed25519 SHA256:abc", "ssh-keygen -R HOST");
        let advised = format!("{changed}\n  remove with:\n  ssh-keygen -f \"f\" -R \"x\"\n");
        check(255, &advised, "f:1", "`ssh-keygen -f \"f\" -R \"x\"`");
    }

    #[test]
    fn ssh_and_shell_failures_are_told_apart() {
        check(
            255,
            "ssh: connect to host x port 22: Connection refused\n",
            "cannot reach `node-a`",
            "",
        );
        check(
            255,
            "u@x: Permission denied (publickey).\n",
            "does not let this user in",
            "authorized_keys",
        );
        check(
            72,
            "/lib/libc.so.6: version `GLIBC_2.38' not found\n",
            "cannot run the receiver",
            "cargo static",
        );
    }
}
