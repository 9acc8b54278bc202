//! `--until`: what exercises the command once it is ready.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::net::{getsockname, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tracer::{Control, Record};

use crate::cli::strace::Args;
use crate::command::scenario::check_health;
use crate::process;
use crate::report::Advice;

/// How often it is looked whether the command is ready.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long a command gets that says nothing of when it is ready.
const WAIT: Duration = Duration::from_secs(1);
/// How long readiness is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a health check is tried.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// The exercise, and what comes of it.
pub(in crate::command) struct Exercise {
    plan: Option<Plan>,
    outcome: Receiver<anyhow::Result<Option<Record>>>,
    report: Sender<anyhow::Result<Option<Record>>>,
}

/// What exercises a command, and when.
#[derive(Clone, Debug)]
pub(in crate::command) struct Plan {
    /// Shell command that exercises it, on this machine.
    pub(in crate::command) shell: Option<String>,
    /// It is ready when this TCP port of 127.0.0.1 answers,
    pub(in crate::command) port: Option<u16>,
    /// and this file is there,
    pub(in crate::command) file: Option<PathBuf>,
    /// which is looked for in the command's own root,
    pub(in crate::command) inside: bool,
    /// and this health check in the same container says so.
    pub(in crate::command) health: Option<PathBuf>,
}

impl Exercise {
    /// What `plan` says, if anything.
    ///
    /// # Errors
    /// Something else answers already in the place of the command.
    pub(in crate::command) fn new(plan: Option<Plan>) -> anyhow::Result<Self> {
        let port = plan.as_ref().and_then(|plan| plan.port);
        if let Some(port) = port.filter(|&port| answers(port) && !is_inherited(port)) {
            return Err(anyhow::anyhow!("something else listens on port {port}"))
                .hint("stop it, or let the program listen elsewhere");
        }
        let (report, outcome) = channel();
        Ok(Exercise { plan, outcome, report })
    }

    /// What the tracer calls when the command is on its way.
    pub(in crate::command) fn starter(&self) -> Option<Box<dyn FnOnce(Control)>> {
        let plan = self.plan.clone()?;
        let report = self.report.clone();
        Some(Box::new(move |control: Control| {
            std::thread::spawn(move || {
                let result = plan.run(&control);
                // The tracer may be done already; then nobody asks.
                let _ = report.send(result);
                control.end();
            });
        }))
    }

    /// What the health check used, where there was one.
    ///
    /// # Errors
    /// The exercise failed, or the command ended before it did.
    pub(in crate::command) fn result(self) -> anyhow::Result<Option<Record>> {
        let Some(plan) = &self.plan else { return Ok(None) };
        match self.outcome.try_recv() {
            Ok(result) => result,
            Err(_) => match &plan.shell {
                Some(shell) => bail!("the command ended before `{shell}` did"),
                None => bail!("the command ended before it was ready"),
            },
        }
    }
}

impl Plan {
    /// What `smith-strace` was asked for.
    pub(super) fn of(args: &Args) -> Option<Self> {
        args.until.as_ref().map(|shell| Plan {
            shell: Some(shell.clone()),
            port: args.ready_port,
            file: args.ready_file.clone(),
            inside: false,
            health: None,
        })
    }

    fn run(&self, control: &Control) -> anyhow::Result<Option<Record>> {
        let main = control.main();
        self.wait_until_ready(main)?;
        control.ready();
        let health = self.health.as_deref().map(|dir| wait_until_healthy(dir, main)).transpose()?;
        if let Some(shell) = &self.shell {
            let mut command = process::command("/bin/sh");
            command.arg("-c").arg(shell);
            let status = process::status(&mut command)?;
            if !status.success() {
                bail!("`{shell}` ended with {status}");
            }
        }
        Ok(health)
    }

    fn wait_until_ready(&self, main: i32) -> anyhow::Result<()> {
        if self.port.is_none() && self.file.is_none() {
            if self.health.is_none() {
                std::thread::sleep(WAIT);
            }
            return Ok(());
        }
        let tries = PATIENCE.as_millis() / INTERVAL.as_millis();
        for _ in 0..tries {
            if self.is_ready(main) {
                return Ok(());
            }
            std::thread::sleep(INTERVAL);
        }
        let late = Err(anyhow::anyhow!("not ready after {} s", PATIENCE.as_secs()));
        match &self.shell {
            Some(shell) => late.with_context(|| format!("`{shell}` was not run")),
            None => late,
        }
    }

    fn is_ready(&self, main: i32) -> bool {
        let port = self.port.is_none_or(answers);
        let place = |file: &PathBuf| match file.strip_prefix("/") {
            Ok(inside) if self.inside => PathBuf::from(format!("/proc/{main}/root")).join(inside),
            _ => file.clone(),
        };
        port && self.file.as_ref().is_none_or(|file| place(file).exists())
    }
}

/// Whether somebody accepts connections to this port of 127.0.0.1.
fn answers(port: u16) -> bool {
    // Where nobody listens, the kernel may choose that very port for our end, and connect
    // the socket to itself.
    let is_other = |stream: TcpStream| stream.local_addr().ok() != stream.peer_addr().ok();
    TcpStream::connect(("127.0.0.1", port)).is_ok_and(is_other)
}

/// Whether this process has a socket that listens on `port`, and hands it on to the
/// command, as inetd and systemd do (Linux 5.6).
fn is_inherited(port: u16) -> bool {
    let listens = |this: &OwnedFd, fd: i32| {
        let socket = pidfd_getfd(this, fd, PidfdGetfdFlags::empty())?;
        let address = SocketAddr::try_from(getsockname(&socket)?)?;
        Ok::<_, Errno>(address.port() == port && sockopt::socket_acceptconn(&socket)?)
    };
    let Ok(this) = pidfd_open(getpid(), PidfdFlags::empty()) else { return false };
    let names = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let mut fds = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    fds.any(|fd| listens(&this, fd).unwrap_or(false))
}

fn wait_until_healthy(dir: &Path, main: i32) -> anyhow::Result<Record> {
    let tries = PATIENCE.as_secs() / HEALTH_INTERVAL.as_secs();
    for _ in 0..tries {
        if let Some(record) = check_health(dir, main)? {
            return Ok(record);
        }
        std::thread::sleep(HEALTH_INTERVAL);
    }
    bail!("its health check still fails after {} s", PATIENCE.as_secs())
}
