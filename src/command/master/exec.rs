//! `vzmaster exec HOST POD[/CONTAINER] -- CMD…`: a command in a running container.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;

use super::logs::split;
use super::session::Nodes;
use super::{absent, directory};
use crate::cli::master::{Args, Exec};
use crate::fleet::revision::{RECORD, Record};
use crate::fleet::shell::quoted;
use crate::fleet::unit;
use crate::process;
use crate::report::{self, Status};

pub(super) fn run(args: &Args, exec: &Exec) -> anyhow::Result<ExitCode> {
    let (pod, container) = split(&exec.pod)?;
    let node = &directory::host(args, &exec.host)?;
    let nodes = Nodes::new(args)?;
    let state = nodes.state(node)?;
    let there = absent::find(node, &state, pod, container)?;
    let record = there.files.get(RECORD).context("the pod has no record there")?;
    let record: Record = serde_json::from_str(record).context("the pod's record is damaged")?;
    let mut placed = record.containers.iter();
    let placed = match container {
        Some(name) => placed.find(|placed| placed.name == name),
        None => placed.next(),
    };
    let placed = placed.context("the pod has no container there")?;
    if container.is_none() && record.containers.len() > 1 {
        say_chosen(pod, &record, &placed.name);
    }
    let state = there.containers.iter().find(|container| container.name == placed.name);
    state.map_or(Ok(()), |container| absent::runs(node, pod, container))?;
    let tty = std::io::stdin().is_terminal() && report::to_terminal();
    let mut remote = unit::exec(placed, tty);
    for word in &exec.command {
        remote.push_str(&format!(" {}", quoted(word)));
    }
    let status = process::status(&mut nodes.ssh.attached(node, &remote, tty))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(Status::Failed as u8)))
}

/// Says which container it is where nobody said which.
fn say_chosen(pod: &str, record: &Record, name: &str) {
    let names: Vec<&str> = record.containers.iter().map(|placed| placed.name.as_str()).collect();
    let names = names.join(", ");
    report::say(
        "vzmaster",
        format!("in container {name} of {names}: {pod}/CONTAINER names another"),
    );
}
