//! A deployment that is listened to while it goes on.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

pub(super) struct Deployment {
    child: Child,
    lines: Receiver<String>,
    /// What it said so far.
    pub(super) said: Vec<String>,
}

fn pass_on(pipe: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
}

impl Deployment {
    pub(super) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn().unwrap();
        let (sender, lines) = channel();
        pass_on(child.stdout.take().unwrap(), sender.clone());
        pass_on(child.stderr.take().unwrap(), sender);
        Deployment { child, lines, said: Vec::new() }
    }

    /// Waits for a line; returns whether it came before the end.
    pub(super) fn says(&mut self, wished: impl Fn(&str) -> bool) -> bool {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(300)) {
            let found = wished(&line);
            self.said.push(line);
            if found {
                return true;
            }
        }
        false
    }

    pub(super) fn kill(&self) {
        // It may have ended.
        let _ = kill(self.pid(), Signal::SIGKILL);
    }

    pub(super) fn interrupt(&self) {
        let _ = killpg(self.pid(), Signal::SIGINT);
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for its end, and not for all that it said.
    pub(super) fn wait(&mut self) {
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(super) fn end(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(1)) {
            self.said.push(line);
        }
        status
    }
}
