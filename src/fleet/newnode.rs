//! A node made of a bare machine: one shell script, over ssh or as first-boot data. Pure.

mod compact;
pub mod provider;
pub mod user_data;

use serde::Serialize;

use super::shell::quoted;

pub use compact::compact;

/// The script that does it; variables go before it.
const SETUP: &str = include_str!("newnode/setup.sh");
/// The line that says that the script came to its end.
const END: &str = "end";

/// The line that says that the node may take something back.
const GUARDED: &str = "guarded";
/// Tells the node to take nothing back; prints `undone` where it has, and else `kept`.
/// Whoever moves the file first is right.
pub const KEEP: &str = "cd /run/vz && { [ -e newnode-kept ] || mv newnode-undo newnode-kept; } 2>/dev/null || { echo undone; exit 0; }
systemctl -q stop vz-newnode-guard.timer 2>/dev/null
echo kept
";

/// What is wished of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its host name, if it is to have another.
    pub name: Option<String>,
    /// The deploy user, if there is to be one beside root.
    pub user: Option<String>,
    /// Public keys of root and the deploy user.
    pub keys: Vec<String>,
    /// What runs containers.
    pub runtime: Runtime,
    /// Whether all ports but ssh's and `open` are closed.
    pub firewall: bool,
    /// Ports that are open, as `80/tcp`.
    pub open: Vec<String>,
    /// Seconds after which it takes back what may lock everybody out; 0 for never.
    pub guard: u32,
}

/// What runs containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Runtime {
    /// The smaller one.
    #[default]
    Crun,
    /// The older one.
    Runc,
}

/// Why something cannot be given to the script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WishError {
    /// No name of a host.
    #[error("`{}` cannot be a host name: it has labels of letters, digits and `-`", .0.escape_debug())]
    Name(String),
    /// No name of a user.
    #[error("`{}` cannot be the name of a user", .0.escape_debug())]
    User(String),
    /// No public key.
    #[error("`{}` is no public key of ssh", .0.escape_debug())]
    Key(String),
    /// Nobody could log in.
    #[error("there is no public key to log in with")]
    NoKey,
    /// No port.
    #[error("`{}` is no port, as 80 or 53/udp", .0.escape_debug())]
    Port(String),
}

/// How much of the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Only root's keys are put in place.
    Keys,
    /// Everything.
    All,
}

impl Wish {
    /// Looks whether everything is what it has to be.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn check(&self) -> Result<(), WishError> {
        if let Some(name) = self.name.as_ref().filter(|name| !is_host_name(name)) {
            return Err(WishError::Name(name.clone()));
        }
        if let Some(user) = self.user.as_ref().filter(|user| !is_user(user)) {
            return Err(WishError::User(user.clone()));
        }
        if let Some(key) = self.keys.iter().find(|key| !is_key(key)) {
            return Err(WishError::Key(key.clone()));
        }
        if self.keys.is_empty() {
            return Err(WishError::NoKey);
        }
        match self.open.iter().find(|port| !is_port(port)) {
            Some(port) => Err(WishError::Port(port.clone())),
            None => Ok(()),
        }
    }

    /// The script, with what is wished before it.
    pub fn script(&self, stage: Stage) -> String {
        let runtime = match self.runtime {
            Runtime::Crun => "crun",
            Runtime::Runc => "runc",
        };
        let stage = match stage {
            Stage::Keys => "keys",
            Stage::All => "all",
        };
        let values = [
            ("stage", stage.to_owned()),
            ("name", self.name.clone().unwrap_or_default()),
            ("user", self.user.clone().unwrap_or_default()),
            ("keys", self.keys.join("\n")),
            ("runtime", runtime.to_owned()),
            ("firewall", if self.firewall { "yes" } else { "no" }.to_owned()),
            ("open", self.open.join(" ")),
            ("guard", self.guard.to_string()),
        ];
        let line = |(name, value): &(&str, String)| format!("{name}={}\n", quoted(value));
        values.iter().map(line).chain([SETUP.to_owned()]).collect()
    }
}

/// What the script did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What it changed.
    pub changed: Vec<String>,
    /// What was as it should be.
    pub kept: Vec<String>,
    /// What could not be had.
    pub warnings: Vec<String>,
    /// Whether the node takes back what may lock out, unless it is told not to.
    pub guarded: bool,
}

impl Report {
    /// Reads what the script printed; nothing where it did not come to its end. A login
    /// shell may have said something before.
    pub fn parse(said: &str) -> Option<Report> {
        let mut report = Report::default();
        for line in said.lines() {
            match line.split_once(' ') {
                Some(("changed", what)) => report.changed.push(what.trim_end().to_owned()),
                Some(("kept", what)) => report.kept.push(what.trim_end().to_owned()),
                Some(("warning", what)) => report.warnings.push(what.trim_end().to_owned()),
                _ if line == GUARDED => report.guarded = true,
                _ if line == END => return Some(report),
                _ => {}
            }
        }
        None
    }
}

/// Labels of letters, digits and `-` (RFC 1123), 64 characters at most as Linux has it.
fn is_host_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 64 && name.split('.').all(label)
}

/// What useradd(8) of Debian takes without being forced.
fn is_user(name: &str) -> bool {
    let first = |c: u8| c.is_ascii_lowercase() || c == b'_';
    let plain = |c: u8| first(c) || c.is_ascii_digit() || c == b'-';
    name.len() <= 32 && name.bytes().next().is_some_and(first) && name.bytes().all(plain)
}

/// A line of `authorized_keys` without options: type, key, comment.
fn is_key(line: &str) -> bool {
    let mut words = line.split(' ');
    let kind = words.next().unwrap_or_default();
    let kinds = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"];
    let base64 = |c: u8| c.is_ascii_alphanumeric() || b"+/=".contains(&c);
    // The first field of every key is the length of its type.
    let key = words.next().is_some_and(|key| key.starts_with("AAAA") && key.bytes().all(base64));
    key && kinds.iter().any(|start| kind.starts_with(start)) && !line.contains(char::is_control)
}

fn is_port(text: &str) -> bool {
    let Some((number, "tcp" | "udp")) = text.split_once('/') else { return false };
    number.bytes().all(|c| c.is_ascii_digit()) && number.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests;
