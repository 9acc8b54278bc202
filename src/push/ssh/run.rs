//! A script of `sh` on a node, without the receiver.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use super::{LOGIN, Ssh, diagnosis, process};
use crate::push::target::Node;

/// So much of what it prints is read.
const MAX_OUTPUT: u64 = 1 << 20;

impl Ssh {
    /// A command that runs `remote`, a line for the login shell, on `node` with this
    /// program's own standard streams, or those that it is given; with a terminal
    /// where `tty` says so.
    pub fn attached(&self, node: &Node, remote: &str, tty: bool) -> Command {
        self.command(node, remote, if tty { &["-t"] } else { &[] })
    }

    /// Runs `script` on `node` by `sh`, whatever the login shell is, and returns what
    /// it printed. It may take `patience`, once the user is logged in.
    ///
    /// # Errors
    /// When the node cannot be reached or logged in to, or the script fails.
    pub fn run(&self, node: &Node, script: &str, patience: Duration) -> anyhow::Result<String> {
        self.run_aloud(node, script, patience, &[], &mut |_| ())
    }

    /// The same with variables in ssh's own environment; `told` hears each line as it
    /// comes.
    ///
    /// # Errors
    /// As [`Ssh::run`].
    pub fn run_aloud(
        &self,
        node: &Node,
        script: &str,
        patience: Duration,
        variables: &[(&str, OsString)],
        told: &mut dyn FnMut(&str),
    ) -> anyhow::Result<String> {
        let mut ssh = self.command(node, "exec sh -s", &[]);
        ssh.envs(variables.iter().map(|(name, value)| (name, value)));
        let (running, mut stdin, stdout) = process::start(&mut ssh)?;
        running.expect_within(self.connect_timeout + LOGIN + patience);
        // Where ssh ended before it read this, its own words say why.
        let _ = stdin.write_all(script.as_bytes());
        let _ = stdin.shutdown(Shutdown::Write);
        let mut out = Vec::new();
        let mut stdout = BufReader::new(stdout.take(MAX_OUTPUT));
        let read = loop {
            let start = out.len();
            match stdout.read_until(b'\n', &mut out) {
                Ok(0) => break Ok(()),
                Ok(_) => told(&String::from_utf8_lossy(out.get(start..).unwrap_or_default())),
                Err(error) => break Err(error),
            }
        };
        let late = running.was_late();
        let (status, said) = running.end();
        match status {
            Some(0) => {}
            Some(status) if status != 255 && !late => {
                let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
                bail!("a script on `{node}` ended with {status}: {last}");
            }
            _ => {
                let facts = diagnosis::Facts { status, said: &said, late };
                let key = || self.host_key(node);
                let error = anyhow::anyhow!("the session with `{node}` ended early");
                return Err(diagnosis::explain(&facts, error, key, &self.words(node), node));
            }
        }
        read.with_context(|| format!("cannot read what `{node}` says"))?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}
