//! Connections that several calls of ssh share, one process of ssh each ([`ControlMaster`]).
//!
//! [`ControlMaster`]: https://man.openbsd.org/ssh_config#ControlMaster

use std::fs::{self, DirEntry};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use delta::Digest;

use super::{Ssh, process};
use crate::push::target::Node;

/// Characters of [`Ssh::key`].
const KEY: usize = 8;

/// How long the process that shares a connection may take to end.
const CONTROL: Duration = Duration::from_secs(2);

impl Ssh {
    /// How the names of sockets begin that share a connection to `node`: that ssh is called
    /// alike. What its configuration makes of that is in the rest of the name ([`%C`]).
    ///
    /// [`%C`]: https://man.openbsd.org/ssh_config#TOKENS
    fn key(&self, node: &Node) -> String {
        let words = (&self.config, &self.options, &node.host, &node.user, node.port);
        let mut key = Digest::of(format!("{words:?}").as_bytes()).to_string();
        key.truncate(KEY);
        key
    }

    /// Where the socket of `node` lies, for ssh to read; none where no connection is shared.
    pub(super) fn control_path(&self, node: &Node) -> Option<String> {
        let dir = self.control.as_ref()?;
        Some(format!("{}/{}%C", dir.display(), self.key(node)))
    }

    /// Whether a process shares its connection to `node`. ssh would tell (`-O check`), for
    /// half of what a whole session costs here.
    pub(super) fn is_shared(&self, node: &Node) -> bool {
        let Some(dir) = &self.control else { return false };
        let key = self.key(node);
        let its =
            |socket: &DirEntry| socket.file_name().as_encoded_bytes().starts_with(key.as_bytes());
        let mut sockets = fs::read_dir(dir).into_iter().flatten().flatten().filter(its);
        // One that nobody listens on was left.
        sockets.any(|socket| UnixStream::connect(socket.path()).is_ok())
    }

    /// Ends the connection to `node` that others share, if there is one; returns whether there
    /// was.
    pub(super) fn hang_up(&self, node: &Node) -> bool {
        if !self.is_shared(node) {
            return false;
        }
        let asked = process::start(&mut self.command(node, "true", &["-O", "exit"]));
        asked.is_ok_and(|(running, ..)| {
            running.expect_within(CONTROL);
            running.end().0 == Some(0)
        })
    }
}

/// Makes the private folder for the sockets of shared connections; nothing where
/// none can be had that is this user's alone.
pub fn control_dir(runtime: Option<&Path>) -> Option<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let dir = match runtime {
        Some(runtime) => runtime.join("vz-ssh"),
        None => std::env::temp_dir().join(format!("vz-ssh-{uid}")),
    };
    let _ = fs::DirBuilder::new().mode(0o700).create(&dir);
    let meta = fs::symlink_metadata(&dir).ok()?;
    let ours = meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0;
    // A socket's path has at most 107 bytes (unix(7)); to the folder's come `/`, the key, 40
    // digits of ssh, and for a moment a suffix of 17.
    (ours && dir.as_os_str().len() <= 107 - 1 - KEY - 40 - 17).then_some(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_connection_is_shared_while_somebody_listens_on_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let control = Some(dir.path().to_owned());
        let ssh = Ssh {
            config: None,
            options: Vec::new(),
            control,
            connect_timeout: Duration::from_secs(1),
            store: None,
            silence: Duration::from_secs(1),
        };
        let [node, other] = ["a", "b"].map(|host| Node {
            label: host.to_owned(),
            host: host.to_owned(),
            user: None,
            port: None,
        });
        let path = ssh.control_path(&node).unwrap().replace("%C", "0123456789");
        assert!(!ssh.is_shared(&node));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(ssh.is_shared(&node));
        assert!(!ssh.is_shared(&other));
        drop(listener);
        assert!(!ssh.is_shared(&node), "{path} is left");
    }
}
