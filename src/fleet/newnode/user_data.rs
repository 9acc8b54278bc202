//! The script as first-boot data.

use serde_json::json;

use super::provider::Provider;
use super::{Stage, Wish, compact};

/// Forms of first-boot data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// cloud-config, which cloud-init reads
    CloudInit,
    /// Ignition's JSON, for Fedora CoreOS
    Ignition,
    /// A shell script, which cloud-init and others run
    Sh,
}

/// Why there is no first-boot data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserDataError {
    /// The provider does not take so much.
    #[error("it has {len} bytes, and {provider} takes {limit}")]
    TooLong {
        /// Who.
        provider: String,
        /// Bytes, as the provider counts.
        len: usize,
        /// Most bytes.
        limit: usize,
    },
}

/// Where the script lies on a node that runs it at its first boot.
const PATH: &str = "/usr/local/sbin/vz-newnode";

/// Returns first-boot data that does what `newnode` does over ssh, with nobody there to
/// say whether the node can still be logged in to.
///
/// # Errors
/// When the provider does not take so much.
pub fn render(
    wish: &Wish,
    form: Form,
    provider: Option<&Provider>,
) -> Result<String, UserDataError> {
    let wish = Wish { guard: 0, ..wish.clone() };
    let script = compact(&format!("#!/bin/sh\n{}", wish.script(Stage::All)));
    let text = match form {
        Form::Sh => script,
        Form::CloudInit => cloud_config(&script),
        Form::Ignition => ignition(&wish, &script),
    };
    if let Some(provider) = provider
        && let Some(limit) = provider.userdata.limit
    {
        let len = provider.userdata.counted(text.len());
        if len > limit {
            let provider = provider.name.official.clone();
            return Err(UserDataError::TooLong { provider, len, limit });
        }
    }
    Ok(text)
}

/// One command, which cloud-init hands to sh after it has made users and its network; one
/// space is all that a block needs, and bytes are few.
fn cloud_config(script: &str) -> String {
    // Empty lines may stand without the indentation of a block.
    let line = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!(" {line}\n") };
    let script: String = script.lines().map(line).collect();
    format!(
        "#cloud-config\n# Written by `vzmaster newnode`.\nssh_pwauth: false\ndisable_root: false\n\
         runcmd:\n- |\n{script}"
    )
}

/// Ignition 3.4.0, which Fedora CoreOS 38 and later read.
fn ignition(wish: &Wish, script: &str) -> String {
    let mut users = vec![json!({ "name": "root", "sshAuthorizedKeys": wish.keys })];
    users.extend(
        wish.user.iter().map(|name| json!({ "name": name, "sshAuthorizedKeys": wish.keys })),
    );
    let unit = format!(
        "[Unit]\nDescription=First boot by vzmaster newnode\nWants=network-online.target\n\
         After=network-online.target\nConditionPathExists=!/var/lib/vz-newnode\n\n[Service]\n\
         Type=oneshot\nRemainAfterExit=yes\nExecStart={PATH}\nExecStart=/usr/bin/touch /var/lib/vz-newnode\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    let file = json!({
        "path": PATH, "mode": 0o700, "overwrite": true,
        "contents": { "source": format!("data:,{}", percent(script)) },
    });
    let config = json!({
        "ignition": { "version": "3.4.0" },
        "passwd": { "users": users },
        "storage": { "files": [file] },
        "systemd": { "units": [{ "name": "vz-newnode.service", "enabled": true, "contents": unit }] },
    });
    format!("{config}\n")
}

/// The text of a data URL (RFC 2397): all but unreserved characters as `%` and two
/// hexadecimal digits (RFC 3986).
fn percent(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
    let mut out = String::new();
    for byte in text.bytes() {
        match plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;
