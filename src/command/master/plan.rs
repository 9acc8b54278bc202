//! `vzmaster plan` and `vzmaster diff`: what would be done, what differs.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::gather::{Gathered, gather};
use super::session::Nodes;
use crate::cli::master::{Args, Plan};
use crate::fleet::plan::{Action, differs};
use crate::report::{self, Status, hint_of};

pub(super) fn plan(args: &Args, plan: &Plan) -> anyhow::Result<ExitCode> {
    let gathered = gather(args, plan, &Nodes::new(args)?)?;
    if args.ssh.json {
        print_json(&gathered)?;
    } else {
        report::data(text(&gathered, true).as_bytes())?;
    }
    Ok(reached(&gathered).into())
}

pub(super) fn diff(args: &Args, plan: &Plan) -> anyhow::Result<ExitCode> {
    let gathered = gather(args, plan, &Nodes::new(args)?)?;
    if args.ssh.json {
        print_json(&gathered)?;
    } else {
        report::data(text(&gathered, false).as_bytes())?;
    }
    let drift =
        gathered.hosts.iter().any(|(_, known)| known.as_ref().is_ok_and(|k| differs(&k.steps)));
    Ok(match reached(&gathered) {
        Status::Done if drift => Status::No,
        status => status,
    }
    .into())
}

/// Whether all hosts answered, some, or none.
pub(super) fn reached(gathered: &Gathered) -> Status {
    match gathered.hosts.iter().filter(|(_, known)| known.is_err()).count() {
        0 => Status::Done,
        count if count == gathered.hosts.len() => Status::Failed,
        _ => Status::Partly,
    }
}

/// Warns of each host that did not answer.
pub(super) fn say_left_out(gathered: &Gathered) {
    for (node, known) in &gathered.hosts {
        if let Err(error) = known {
            report::warn("vzmaster", format_args!("{node} was left out: {error:#}"));
        }
    }
}

/// A block of lines for each host; with `keep`, what is as wished is there, too.
pub(super) fn text(gathered: &Gathered, keep: bool) -> String {
    let mut text = String::new();
    for (node, known) in &gathered.hosts {
        match known {
            Ok(known) => {
                let steps: Vec<String> = known
                    .steps
                    .iter()
                    .filter(|step| keep || step.action != Action::Keep)
                    .map(|step| format!("  {}\n", step.line()))
                    .collect();
                let lost = known.lost.iter().filter(|_| !steps.is_empty());
                let notes = lost.chain(&known.unseen).map(|what| format!("  note    {what}\n"));
                let notes: String = notes.collect();
                if !steps.is_empty() || !notes.is_empty() {
                    text.push_str(&format!("{node}\n{}{notes}", steps.concat()));
                }
            }
            Err(error) => {
                text.push_str(&format!("{node}\n  FAILED  {error:#}\n"));
                text.extend(hint_of(error).map(|hint| format!("          hint: {hint}\n")));
            }
        }
    }
    text
}

fn print_json(gathered: &Gathered) -> anyhow::Result<()> {
    let value = |(node, known): &(crate::push::target::Node, anyhow::Result<_>)| match known {
        Ok(super::gather::Known { steps, lost, unseen, .. }) => {
            json!({ "node": node.label, "steps": steps, "lost": lost, "unseen": unseen })
        }
        Err(error) => {
            json!({ "node": node.label, "error": format!("{error:#}"), "hint": hint_of(error) })
        }
    };
    let values: Vec<Value> = gathered.hosts.iter().map(value).collect();
    report::data(format!("{:#}\n", Value::Array(values)).as_bytes())
}
