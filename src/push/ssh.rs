//! The way to a node: the system's `ssh`, and the receiver put there by digest.
//!
//! One ssh session does all: its command is a line of `sh` that starts the receiver
//! `bin/vzpush-DIGEST` of the store. Where it is not there, the line says so, takes
//! it from standard input, checks its digest, gives it its name and starts it.

mod diagnosis;
mod process;
mod run;
mod script;

use std::io::{BufReader, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;

use super::frame::{self, MAGIC};
use super::link::Link;
use super::target::Node;
use crate::process::command;
use crate::report::Advice;
use process::Running;

/// Bytes of noise of a login shell that are skipped.
const MAX_NOISE: usize = 64 << 10;
/// How long a node may take for logging in, once it is connected: slow ones hash
/// passwords of PAM modules, look names up, wake from a disk.
const LOGIN: Duration = Duration::from_secs(30);

/// How ssh is called.
#[derive(Clone, Debug)]
pub struct Ssh {
    /// `-F`.
    pub config: Option<PathBuf>,
    /// `-o`, each.
    pub options: Vec<String>,
    /// Folder for the sockets of shared connections, which is this user's alone.
    pub control: Option<PathBuf>,
    /// How long to wait for a node that does not answer.
    pub connect_timeout: Duration,
    /// Folder of the store on the node, if not the usual one.
    pub store: Option<String>,
    /// How long the other end may be silent.
    pub silence: Duration,
}

/// The receiver that is to run on nodes.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Its bytes: this very program.
    pub program: Vec<u8>,
    /// Their SHA-256, in hexadecimal.
    pub digest: String,
    /// The verb with which it serves a session.
    pub verb: &'static str,
}

/// A session with a receiver that has the `Hello`.
pub struct Session {
    /// The link to it.
    pub link: Link,
    /// Bytes of the receiver, where it had to be sent.
    pub uploaded: u64,
    running: Running,
}

impl Ssh {
    /// A command for `node` that runs `remote` there.
    fn command(&self, node: &Node, remote: &str, more: &[&str]) -> Command {
        let mut ssh = command("ssh");
        ssh.arg("-T").args(more);
        if let Some(config) = &self.config {
            ssh.arg("-F").arg(config);
        }
        // The first value counts, so what the user asks for comes first.
        for option in &self.options {
            ssh.arg("-o").arg(option);
        }
        let timeout = self.connect_timeout.as_secs().max(1);
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "ServerAliveInterval=10",
            "ServerAliveCountMax=3",
            "ClearAllForwardings=yes",
        ] {
            ssh.arg("-o").arg(option);
        }
        ssh.arg("-o").arg(format!("ConnectTimeout={timeout}"));
        if let Some(dir) = &self.control {
            ssh.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o"]);
            ssh.arg(format!("ControlPath={}/%C", dir.display()));
        }
        if let Some(port) = node.port {
            ssh.arg("-p").arg(port.to_string());
        }
        if let Some(user) = &node.user {
            ssh.arg("-l").arg(user);
        }
        ssh.arg("--").arg(&node.host).arg(remote);
        ssh
    }

    /// Starts a session on `node` and sends `hello`. With `renew`, or where the one
    /// that is there does not answer, the receiver is put in place anew.
    ///
    /// # Errors
    /// When the node cannot be reached, logged in to, or cannot run the receiver.
    pub fn connect(
        &self,
        node: &Node,
        receiver: &Receiver,
        hello: &impl Serialize,
        renew: bool,
    ) -> anyhow::Result<Session> {
        match self.attempt(node, receiver, hello, renew) {
            Err(error) if error.downcast_ref::<Mute>().is_some() => {
                self.attempt(node, receiver, hello, true)
            }
            other => other,
        }
    }

    fn attempt(
        &self,
        node: &Node,
        receiver: &Receiver,
        hello: &impl Serialize,
        renew: bool,
    ) -> anyhow::Result<Session> {
        let mut greeting = MAGIC.to_vec();
        frame::write(&mut greeting, frame::Type::Message, &serde_json::to_vec(hello)?)?;
        let script =
            script::start(receiver, self.store.as_deref(), greeting.len(), self.silence, renew)?;
        let mut ssh = self.command(node, &script, &[]);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (running, mut stdin, stdout) = process::start(&mut ssh)?;
        let mut stdout = BufReader::new(stdout);
        running.expect_within(self.connect_timeout + LOGIN);
        let begun = self.begin(&running, receiver, &greeting, &mut stdin, &mut stdout);
        let uploaded = match begun {
            Ok(uploaded) => uploaded,
            Err(error) => return Err(self.diagnose(node, running, error, renew)),
        };
        running.expect_no_more();
        let input = Cursor::new(MAGIC).chain(stdout);
        let hang_up = running.killer();
        let link = Link::resume(input, stdin, greeting.len() as u64, self.silence, hang_up);
        Ok(Session { link, uploaded, running })
    }

    fn begin(
        &self,
        running: &Running,
        receiver: &Receiver,
        greeting: &[u8],
        stdin: &mut ChildStdin,
        stdout: &mut BufReader<ChildStdout>,
    ) -> anyhow::Result<u64> {
        // Where ssh ended before it read this, its own words say why.
        let _ = stdin.write_all(greeting).and_then(|()| stdin.flush());
        let answer = first_answer(stdout)?;
        let Answer::Needs(arch) = answer else { return Ok(0) };
        if arch != std::env::consts::ARCH {
            return Err(anyhow!(
                "the node is of architecture {arch}, this vzpush of {}",
                std::env::consts::ARCH
            ))
            .hint("run a vzpush that was built for the node's architecture");
        }
        for chunk in receiver.program.chunks(64 << 10) {
            running.expect_within(self.silence);
            stdin.write_all(chunk).context("cannot send the receiver")?;
        }
        stdin
            .write_all(greeting)
            .and_then(|()| stdin.flush())
            .context("cannot send the receiver")?;
        running.expect_within(self.silence);
        match first_answer(stdout)? {
            Answer::Greeting => Ok(receiver.program.len() as u64),
            Answer::Needs(_) => bail!("the receiver was put in place, but is not there"),
        }
    }

    /// Says why a session did not begin, as far as ssh or the node's shell told.
    fn diagnose(
        &self,
        node: &Node,
        running: Running,
        error: anyhow::Error,
        renewed: bool,
    ) -> anyhow::Error {
        let late = running.was_late();
        let (status, said) = running.end();
        // A receiver that a signal ends makes ssh end with 255 too, but without a word.
        let ssh_failed = status.is_none() || (status == Some(255) && !said.trim().is_empty());
        if !renewed && !late && !ssh_failed && !script::is_own(status) {
            return Mute.into();
        }
        let facts = diagnosis::Facts { status, said: &said, late };
        let key = || {
            let ssh = &mut self.command(node, "true", &["-v"]);
            diagnosis::host_key(ssh)
        };
        let pin = self.words(node);
        diagnosis::explain(&facts, error, key, &pin, node)
    }

    /// What a user types to reach the node as this does.
    fn words(&self, node: &Node) -> String {
        let mut words = vec!["ssh".to_owned()];
        if let Some(config) = &self.config {
            words.push(format!("-F {}", config.display()));
        }
        words.extend(self.options.iter().map(|option| format!("-o {option}")));
        words.extend(node.port.map(|port| format!("-p {port}")));
        let user = node.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        words.push("-o StrictHostKeyChecking=accept-new".to_owned());
        words.push(format!("{user}{} true", node.host));
        words.join(" ")
    }
}

impl Session {
    /// Ends the session; what ssh or the receiver said on standard error comes back.
    pub fn end(self) -> String {
        drop(self.link);
        self.running.end().1
    }
}

/// The receiver that is on the node ended without a greeting.
#[derive(Debug, thiserror::Error)]
#[error("the receiver on the node does not answer")]
struct Mute;

enum Answer {
    /// The receiver's greeting.
    Greeting,
    /// The receiver is needed on a node of this architecture.
    Needs(String),
}

/// Reads up to the greeting or the line that asks for the receiver, whatever a
/// login shell prints before.
fn first_answer(stdout: &mut impl Read) -> anyhow::Result<Answer> {
    let mut line = Vec::new();
    for _ in 0..MAX_NOISE {
        let mut byte = [0];
        stdout.read_exact(&mut byte).context("the session ended before it began")?;
        line.push(byte[0]);
        if line.ends_with(&MAGIC) {
            return Ok(Answer::Greeting);
        }
        if byte == *b"\n" {
            let text = String::from_utf8_lossy(&line).into_owned();
            if let Some((_, arch)) = text.split_once(script::NEEDS) {
                return Ok(Answer::Needs(arch.trim().to_owned()));
            }
            line.clear();
        }
    }
    bail!("the node's shell prints without end where the receiver should answer")
}

/// Makes the private folder for the sockets of shared connections; nothing where
/// none can be had that is this user's alone.
pub fn control_dir(runtime: Option<&Path>) -> Option<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let uid = rustix::process::geteuid().as_raw();
    let dir = match runtime {
        Some(runtime) => runtime.join("vz-ssh"),
        None => std::env::temp_dir().join(format!("vz-ssh-{uid}")),
    };
    let _ = std::fs::DirBuilder::new().mode(0o700).create(&dir);
    let meta = std::fs::symlink_metadata(&dir).ok()?;
    let ours = meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0;
    // A socket's path has at most 107 bytes; ssh adds 40 and a suffix of its own.
    (ours && dir.as_os_str().len() <= 48).then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_before_the_answer_is_skipped() {
        let motd = b"Welcome to node-a\n\x1b[0mVZPUSH-NEEDS aarch64\n";
        let answer = first_answer(&mut &motd[..]).unwrap();
        assert!(matches!(answer, Answer::Needs(arch) if arch == "aarch64"));
        assert!(matches!(first_answer(&mut &b"hi VZPUSH1\n"[..]).unwrap(), Answer::Greeting));
        assert!(first_answer(&mut &b"bye\n"[..]).is_err());
    }
}
