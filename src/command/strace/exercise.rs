//! `--until`: what exercises the command once it is ready.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, bail};
use tracer::Control;

use crate::cli::strace::Args;
use crate::process;

/// How often it is looked whether the command is ready.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long a command gets that says nothing of when it is ready.
const WAIT: Duration = Duration::from_secs(1);
/// How long readiness is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The exercise, and what comes of it.
pub(super) struct Exercise {
    plan: Option<Plan>,
    outcome: Receiver<anyhow::Result<()>>,
    report: Sender<anyhow::Result<()>>,
}

#[derive(Clone, Debug)]
struct Plan {
    shell: String,
    port: Option<u16>,
    file: Option<PathBuf>,
}

impl Exercise {
    pub(super) fn new(args: &Args) -> Self {
        let (report, outcome) = channel();
        let plan = args.until.clone().map(|shell| Plan {
            shell,
            port: args.ready_port,
            file: args.ready_file.clone(),
        });
        Exercise { plan, outcome, report }
    }

    /// What the tracer calls when the command is on its way.
    pub(super) fn starter(&self) -> Option<Box<dyn FnOnce(Control)>> {
        let plan = self.plan.clone()?;
        let report = self.report.clone();
        Some(Box::new(move |control: Control| {
            std::thread::spawn(move || {
                let result = plan.run();
                // The tracer may be done already; then nobody asks.
                let _ = report.send(result);
                control.end();
            });
        }))
    }

    /// Whether the exercise succeeded.
    ///
    /// # Errors
    /// It failed, or the command ended before it did.
    pub(super) fn result(self) -> anyhow::Result<()> {
        let Some(plan) = &self.plan else { return Ok(()) };
        match self.outcome.try_recv() {
            Ok(result) => result,
            Err(_) => bail!("the command ended before `{}` did", plan.shell),
        }
    }
}

impl Plan {
    fn run(&self) -> anyhow::Result<()> {
        self.wait_until_ready()?;
        let mut command = process::command("/bin/sh");
        command.arg("-c").arg(&self.shell);
        let status = process::status(&mut command)?;
        if !status.success() {
            bail!("`{}` ended with {status}", self.shell);
        }
        Ok(())
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        if self.port.is_none() && self.file.is_none() {
            std::thread::sleep(WAIT);
            return Ok(());
        }
        let tries = PATIENCE.as_millis() / INTERVAL.as_millis();
        for _ in 0..tries {
            if self.is_ready() {
                return Ok(());
            }
            std::thread::sleep(INTERVAL);
        }
        Err(anyhow::anyhow!("not ready after {} s", PATIENCE.as_secs()))
            .with_context(|| format!("`{}` was not run", self.shell))
    }

    fn is_ready(&self) -> bool {
        let port = self.port.is_none_or(|port| TcpStream::connect(("127.0.0.1", port)).is_ok());
        let file = self.file.as_ref().is_none_or(|file| file.exists());
        port && file
    }
}
