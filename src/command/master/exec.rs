//! `vzmaster exec HOST POD[/CONTAINER] -- CMD…`: a command in a running container.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::directory;
use super::logs::split;
use super::session::Nodes;
use crate::cli::master::{Args, Exec};
use crate::fleet::revision::{RECORD, Record};
use crate::fleet::shell::quoted;
use crate::fleet::unit;
use crate::process;
use crate::report::{self, Advice, Status};

pub(super) fn run(args: &Args, exec: &Exec) -> anyhow::Result<ExitCode> {
    let (pod, container) = split(&exec.pod)?;
    let found = directory::nodes(args, std::slice::from_ref(&exec.host))?;
    let [node] = found.as_slice() else {
        return Err(anyhow!("`{}` is several hosts", exec.host)).status(Status::Usage as u8);
    };
    let nodes = Nodes::new(args)?;
    let state = nodes.state(node, false)?;
    let there = state.pods.iter().find(|there| there.name == pod);
    let there = there.with_context(|| format!("there is no pod `{pod}` on `{node}`"))?;
    let record = there.files.get(RECORD).context("the pod has no record there")?;
    let record: Record = serde_json::from_str(record).context("the pod's record is damaged")?;
    let mut placed = record.containers.iter();
    let placed = match container {
        Some(name) => placed.find(|placed| placed.name == name),
        None => placed.next(),
    };
    let placed = placed.with_context(|| format!("`{pod}` has no such container on `{node}`"))?;
    let tty = std::io::stdin().is_terminal() && report::to_terminal();
    let mut remote = unit::exec(placed, tty);
    for word in &exec.command {
        remote.push_str(&format!(" {}", quoted(word)));
    }
    let status = process::status(&mut nodes.ssh.attached(node, &remote, tty))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(Status::Failed as u8)))
}
