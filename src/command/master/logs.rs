//! `vzmaster logs [-f] POD[/CONTAINER]`: the journal of each host that has it.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, anyhow};
use serde_json::Value;

use super::absent;
use super::control::hosts;
use super::session::Nodes;
use crate::cli::master::{Args, Logs};
use crate::fleet::fields::is_label;
use crate::fleet::unit;
use crate::push::target::Node;
use crate::report::{self, Advice, Status, with_hint};

pub(super) fn run(args: &Args, logs: &Logs) -> anyhow::Result<ExitCode> {
    let (pod, container) = split(&logs.pod)?;
    let hosts = hosts(args, pod, &logs.select)?;
    let nodes = Nodes::new(args)?;
    // A pattern: journalctl takes it as systemd does.
    let unit = unit::name(pod, container.unwrap_or("*"), "*");
    let follow = if logs.follow { " --follow" } else { "" };
    let output = if args.ssh.json { "json" } else { "short-iso" };
    let remote = format!(
        "exec journalctl --no-pager --quiet --output={output} --lines={}{follow} --unit='{unit}'",
        logs.lines
    );
    let form = match hosts.len() {
        _ if args.ssh.json => Form::Json,
        1 => Form::Plain,
        _ => Form::Named,
    };
    let results: Vec<anyhow::Result<bool>> = std::thread::scope(|scope| {
        let (nodes, remote) = (&nodes, &remote);
        let start = |node| scope.spawn(move || log(nodes, node, remote, (pod, container), form));
        let running: Vec<_> = hosts.iter().map(start).collect();
        let end = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<bool>>| {
            thread.join().unwrap_or(Ok(false))
        };
        running.into_iter().map(end).collect()
    });
    let mut failed = 0;
    for (node, result) in hosts.iter().zip(results) {
        match result {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                report::warn("vzmaster", format_args!("{node}: {}", with_hint(&error)));
            }
        }
        failed += 1;
    }
    Ok(match failed {
        0 => Status::Done,
        all if all == hosts.len() => Status::Failed,
        _ => Status::Partly,
    }
    .into())
}

/// `POD` or `POD/CONTAINER`.
///
/// # Errors
/// What is neither.
pub(super) fn split(text: &str) -> anyhow::Result<(&str, Option<&str>)> {
    let (pod, container) = match text.split_once('/') {
        Some((pod, container)) => (pod, Some(container)),
        None => (text, None),
    };
    match is_label(pod) && container.is_none_or(is_label) {
        true => Ok((pod, container)),
        false => Err(anyhow!("`{}` is no pod, and no POD/CONTAINER", text.escape_debug()))
            .status(Status::Usage as u8),
    }
}

/// What a line looks like.
#[derive(Clone, Copy)]
enum Form {
    /// As journalctl has it.
    Plain,
    /// With the host's name before it.
    Named,
    /// An object of journalctl's fields, and `node`.
    Json,
}

/// Copies a host's lines, and says why there are none. Returns whether all went well.
fn log(
    nodes: &Nodes,
    node: &Node,
    remote: &str,
    (pod, container): (&str, Option<&str>),
    form: Form,
) -> anyhow::Result<bool> {
    let (lines, failure) = copy(nodes, node, remote, form)?;
    if lines > 0 {
        return match failure {
            None => Ok(true),
            Some(said) => Err(anyhow!("its log ended: {said}")),
        };
    }
    // A node that does not answer says it here, too.
    absent::find(node, &nodes.state(node)?, pod, container)?;
    report::say("vzmaster", format!("{node}: {pod} has logged nothing"));
    Ok(true)
}

/// Copies a host's lines. Returns how many there were, and what was said where that failed.
fn copy(
    nodes: &Nodes,
    node: &Node,
    remote: &str,
    form: Form,
) -> anyhow::Result<(usize, Option<String>)> {
    let mut ssh = nodes.ssh.attached(node, remote, false);
    // A file, since the process that shares a connection may keep it open.
    let mut said = tempfile::tempfile().context("cannot make a file")?;
    ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said.try_clone()?);
    let mut child = ssh.spawn().context("cannot run ssh")?;
    let mut lines = 0;
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(|out| out.split(b'\n'))
    {
        let mut line = line.context("cannot read the log")?;
        match form {
            Form::Plain => {}
            Form::Named => line.splice(..0, format!("{node}: ").bytes()).for_each(drop),
            Form::Json => {
                let fields: Value = serde_json::from_slice(&line).context("cannot read the log")?;
                let mut fields = fields.as_object().cloned().unwrap_or_default();
                fields.insert("node".to_owned(), node.label.clone().into());
                line = serde_json::to_vec(&fields)?;
            }
        }
        line.push(b'\n');
        report::data(&line)?;
        lines += 1;
    }
    let status = child.wait().context("cannot wait for ssh")?;
    if status.success() {
        return Ok((lines, None));
    }
    let mut text = String::new();
    said.seek(SeekFrom::Start(0)).and_then(|_| said.read_to_string(&mut text))?;
    let said = text.trim_end();
    let said = if said.is_empty() { status.to_string() } else { said.to_owned() };
    Ok((lines, Some(said)))
}
