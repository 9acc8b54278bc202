//! The way to a node: the system's `ssh`, and the receiver put there by digest.
//!
//! One ssh session does all: its command is a line of `sh` that starts the receiver
//! `bin/vzpush-DIGEST` of the store with the `Hello`, which so needs no round trip of
//! its own. Where it is not there, the line says so, takes it from standard input,
//! checks its digest, gives it its name and starts it.

mod diagnosis;
mod process;
mod run;
mod script;
mod shared;

use std::io::{BufReader, Cursor, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use delta::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::frame::MAGIC;
use super::link::Link;
use super::target::Node;
use crate::process::command;
pub(crate) use diagnosis::{was_denied, was_unreached};
use process::Running;
pub(crate) use script::greeting;
pub use shared::control_dir;

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
    packed: OnceLock<Option<Vec<u8>>>,
}

impl Receiver {
    /// The program of these bytes, which is to serve by `verb`.
    pub fn new(program: Vec<u8>, verb: &'static str) -> Self {
        let digest = Digest::of(&program).to_string();
        Receiver { program, digest, verb, packed: OnceLock::new() }
    }

    /// A gzip file of it, made once for all nodes that lack it. The fastest level is
    /// within a tenth of the smallest.
    fn packed(&self) -> Option<&[u8]> {
        let pack = || {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(&self.program).ok()?;
            gzip.finish().ok()
        };
        self.packed.get_or_init(pack).as_deref()
    }
}

/// A session with a receiver that has the `Hello`.
pub struct Session {
    /// The link to it.
    pub link: Link,
    /// Bytes of the receiver, where it had to be sent.
    pub uploaded: u64,
    /// From the start of ssh to the first answer of the node.
    pub begun: Duration,
    running: Running,
    ssh: Ssh,
    node: Node,
}

impl Ssh {
    /// A command for `node` that runs `remote` there; `more` are flags of ssh.
    pub(crate) fn command(&self, node: &Node, remote: &str, more: &[&str]) -> Command {
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
        if let Some(path) = self.control_path(node) {
            ssh.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o"]);
            ssh.arg(format!("ControlPath={path}"));
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

    /// Starts a session on `node` with `hello`. With `renew`, or where the one
    /// that is there does not answer, the receiver is put in place anew; `progress` is
    /// told how many bytes of it are there, of how many.
    ///
    /// # Errors
    /// When the node cannot be reached, logged in to, or cannot run the receiver.
    pub fn connect(
        &self,
        node: &Node,
        receiver: &Receiver,
        hello: &impl Serialize,
        renew: bool,
        progress: &dyn Fn(u64, u64),
    ) -> anyhow::Result<Session> {
        let mut tried = self.attempt(node, receiver, hello, renew, progress);
        if tried.as_ref().is_err_and(anyhow::Error::is::<Stale>) {
            tried = self.attempt(node, receiver, hello, renew, progress);
        }
        match tried {
            Err(error) if error.is::<Mute>() => self.attempt(node, receiver, hello, true, progress),
            other => other,
        }
    }

    fn attempt(
        &self,
        node: &Node,
        receiver: &Receiver,
        hello: &impl Serialize,
        renew: bool,
        progress: &dyn Fn(u64, u64),
    ) -> anyhow::Result<Session> {
        let hello = serde_json::to_string(hello)?;
        let script = script::start(receiver, self.store.as_deref(), &hello, self.silence, renew)?;
        let mut ssh = self.command(node, &script, &[]);
        let shared = self.is_shared(node);
        let started = Instant::now();
        let (running, mut stdin, stdout) = process::start(&mut ssh)?;
        let mut stdout = BufReader::new(stdout);
        let login = if shared { Duration::ZERO } else { LOGIN };
        running.expect_within(self.connect_timeout + login);
        let mut begun = Duration::ZERO;
        let answered = first_answer(&mut stdout, || ()).and_then(|answer| {
            begun = started.elapsed();
            match answer {
                Answer::Needs { arch, gzip } => {
                    let io = (&mut stdin, &mut stdout);
                    if arch != std::env::consts::ARCH {
                        return Err(OtherArchitecture(arch).into());
                    }
                    self.install(&running, receiver, gzip, io, progress)
                }
                Answer::Greeting => Ok(0),
                Answer::OtherVersion => Err(Mute.into()),
            }
        });
        let uploaded = match answered {
            Ok(uploaded) => uploaded,
            Err(error) => {
                let error = self.diagnose(node, running, error, renew);
                // The shared connection may be one to a machine that is no more.
                let may_be_stale = shared && begun.is_zero() && !error.is::<Mute>();
                let stale = may_be_stale && self.hang_up(node);
                return Err(if stale { Stale.into() } else { error });
            }
        };
        running.expect_no_more();
        let input = Cursor::new(MAGIC).chain(stdout);
        let hang_up = running.killer();
        let link = Link::resume(input, stdin, script.len() as u64, self.silence, hang_up);
        Ok(Session { link, uploaded, begun, running, ssh: self.clone(), node: node.clone() })
    }

    /// Sends the receiver to a node that waits for it, compressed where the node has
    /// gzip; returns how many bytes that took.
    fn install(
        &self,
        running: &Running,
        receiver: &Receiver,
        gzip: bool,
        (stdin, stdout): (&mut UnixStream, &mut BufReader<UnixStream>),
        progress: &dyn Fn(u64, u64),
    ) -> anyhow::Result<u64> {
        let packed = Some(receiver).filter(|_| gzip).and_then(Receiver::packed);
        let program = packed.unwrap_or(&receiver.program);
        let install = script::install(&receiver.digest, program.len(), packed.is_some());
        let ends = stdin.try_clone().context("cannot keep the socket of ssh")?;
        running.expect_within(self.silence);
        // What is written is on its way for long; each part that arrives is told.
        let (all, mut there) = (program.len() as u64, 0);
        let arrived = || {
            running.expect_within(self.silence);
            there += script::CHUNK as u64;
            progress(all.min(there), all);
        };
        let write = || stdin.write_all(install.as_bytes()).and_then(|()| stdin.write_all(program));
        let (sent, answer) = thread::scope(|scope| {
            let writing = scope.spawn(write);
            let answer = first_answer(stdout, arrived);
            if answer.is_err() {
                // Nobody takes the rest.
                let _ = ends.shutdown(Shutdown::Write);
            }
            (writing.join(), answer)
        });
        match (answer?, sent) {
            (Answer::Greeting, Ok(Ok(()))) => Ok(all),
            (_, Ok(Err(error))) => Err(error).context("cannot send the receiver"),
            _ => bail!("the receiver was put in place, but is not there"),
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
        let other = error.is::<OtherArchitecture>();
        if other || (error.is::<Mute>() && !renewed) {
            // It waits for words that this end does not have.
            running.killer()();
            running.end();
            return match other {
                true => error.context("the receiver cannot be put on the node"),
                false => error,
            };
        }
        let late = running.was_late();
        let (status, said) = running.end();
        // A receiver that a signal ends makes ssh end with 255 too, but without a word.
        let ssh_failed = status.is_none() || (status == Some(255) && !said.trim().is_empty());
        if !renewed && !late && !ssh_failed && !script::is_own(status) {
            return Mute.into();
        }
        let facts = diagnosis::Facts { status, said: &said, late };
        let key = || self.host_key(node);
        let pin = self.words(node);
        diagnosis::explain(&facts, error, key, &pin, node)
    }

    /// Type and fingerprint of the host key that a node shows, if it shows one.
    pub(crate) fn host_key(&self, node: &Node) -> Option<String> {
        diagnosis::host_key(&mut self.command(node, "true", &["-v"]))
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
        let silent = self.link.was_silent();
        drop(self.link);
        let said = self.running.end().1;
        if silent {
            // Others would wait on the same dead connection.
            self.ssh.hang_up(&self.node);
        }
        said
    }
}

/// The receiver that is on the node ended without a greeting.
#[derive(Debug, thiserror::Error)]
#[error("the receiver on the node does not answer")]
struct Mute;

/// The node cannot run this very program.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is of architecture {0}, this program of {own}: run one that was built for it",
    own = std::env::consts::ARCH
)]
struct OtherArchitecture(String);

/// A shared connection was there that led nowhere; it is ended.
#[derive(Debug, thiserror::Error)]
#[error("the shared connection to the node had ended")]
struct Stale;

enum Answer {
    /// The receiver's greeting.
    Greeting,
    /// The greeting of a receiver of another version.
    OtherVersion,
    /// The receiver is needed on a node of this architecture.
    Needs { arch: String, gzip: bool },
}

/// Reads up to the greeting or the line that asks for the receiver, whatever a
/// login shell prints before; calls `alive` for each byte.
fn first_answer(stdout: &mut impl Read, mut alive: impl FnMut()) -> anyhow::Result<Answer> {
    let mut line = Vec::new();
    for _ in 0..MAX_NOISE {
        let mut byte = [0];
        stdout.read_exact(&mut byte).context("the session ended before it began")?;
        alive();
        line.push(byte[0]);
        if line.ends_with(&MAGIC) {
            return Ok(Answer::Greeting);
        }
        if byte == *b"\n" {
            let version = line.len().checked_sub(MAGIC.len()).and_then(|at| line.get(at..));
            if version.is_some_and(|greeting| greeting.starts_with(&MAGIC[..6])) {
                return Ok(Answer::OtherVersion);
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            if let Some((_, node)) = text.split_once(script::NEEDS) {
                let mut words = node.split_whitespace();
                let arch = words.next().unwrap_or_default().to_owned();
                return Ok(Answer::Needs { arch, gzip: words.next() == Some("gzip") });
            }
            line.clear();
        }
    }
    bail!("the node's shell prints without end where the receiver should answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_before_the_answer_is_skipped() {
        for (words, has) in [("aarch64 gzip", true), ("aarch64 ", false)] {
            let motd = format!("Welcome to node-a\n\x1b[0mVZPUSH-NEEDS {words}\n");
            let answer = first_answer(&mut motd.as_bytes(), || ()).unwrap();
            assert!(
                matches!(answer, Answer::Needs { arch, gzip } if arch == "aarch64" && gzip == has)
            );
        }
        assert!(matches!(
            first_answer(&mut &b"hi VZPUSH1\n"[..], || ()).unwrap(),
            Answer::Greeting
        ));
        let other = first_answer(&mut &b"hi VZPUSH2\n"[..], || ()).unwrap();
        assert!(matches!(other, Answer::OtherVersion));
        assert!(first_answer(&mut &b"bye\n"[..], || ()).is_err());
    }
}
