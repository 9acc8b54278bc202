//! `vzmaster plan` and `vzmaster diff`: what would be done, what differs.

use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::{Value, json};

use super::gather::{Gathered, Known, gather};
use super::session::Nodes;
use crate::cli::master::{Args, Plan};
use crate::fleet::plan::{Action, Step, differs};
use crate::fleet::revision::record;
use crate::push::bundle::Bundle;
use crate::push::outcome::short;
use crate::push::target::Node;
use crate::report::{self, Advice, Status, hint_of, with_hint};

pub(super) fn plan(args: &Args, plan: &Plan) -> anyhow::Result<ExitCode> {
    let gathered = gather(args, plan, &Nodes::new(args)?)?;
    if args.ssh.json {
        print_json(&gathered)?;
    } else {
        report::data(text(&gathered, true).as_bytes())?;
    }
    Ok(match reached(&gathered) {
        Status::Done if blocked(&gathered) > 0 => Status::No,
        status => status,
    }
    .into())
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

/// Looks whether nothing is in the way of any step.
///
/// # Errors
/// When something is: nothing is changed anywhere then. As JSON it is printed here.
pub(super) fn all_free(args: &Args, gathered: &Gathered) -> anyhow::Result<()> {
    let count = blocked(gathered);
    if count == 0 {
        return Ok(());
    }
    if args.ssh.json {
        let values = gathered.hosts.iter().map(|(node, known)| {
            let blocked = known.as_ref().map(|known| known.obstacles.as_slice());
            json!({ "node": node.label, "done": false, "blocked": blocked.unwrap_or_default() })
        });
        report::data(format!("{:#}\n", values.collect::<Value>()).as_bytes())?;
    }
    let what = report::count(count, "obstacle");
    Err(anyhow!("nothing was done: the plan has {what}"))
        .hint("it names them after BLOCKED; -l HOST deploys to other hosts only")
}

/// How many obstacles there are.
pub(super) fn blocked(gathered: &Gathered) -> usize {
    let known = gathered.hosts.iter().filter_map(|(_, known)| known.as_ref().ok());
    known.map(|known| known.obstacles.len()).sum()
}

/// Warns of each host that did not answer.
pub(super) fn say_left_out(gathered: &Gathered) {
    for (node, known) in &gathered.hosts {
        if let Err(error) = known {
            let what = format_args!("{node} was left out: {}", with_hint(error));
            report::warn("vzmaster", what);
        }
    }
}

/// A block of lines for each host; with `keep`, what is as wished is there, too.
pub(super) fn text(gathered: &Gathered, keep: bool) -> String {
    let mut text = if keep { bundles(gathered) } else { String::new() };
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
                let blocked = known.obstacles.iter();
                let blocked = blocked.map(|found| format!("  BLOCKED {}\n", found.line()));
                let blocked: String = blocked.collect();
                if !steps.is_empty() || !notes.is_empty() {
                    text.push_str(&format!("{node}\n{}{blocked}{notes}", steps.concat()));
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

/// A line for each bundle: what it is called on nodes, and by `vzbuild`.
fn bundles(gathered: &Gathered) -> String {
    let line = |(dir, bundle): (&String, &Bundle)| {
        let layer = gathered.layers.get(&bundle.id);
        let layer = layer.map(|digest| format!(" (layer {digest})")).unwrap_or_default();
        format!("bundle {}  {dir}{layer}\n", short(&bundle.id))
    };
    gathered.bundles.iter().map(line).collect()
}

/// A step, and the bundles of the containers that it wishes.
fn with_bundles(gathered: &Gathered, known: &Known, step: &Step) -> Value {
    let mut value = json!(step);
    let record = known.wished.get(&step.pod).and_then(|revision| record(&revision.files));
    let bundles = record.into_iter().flat_map(|record| record.containers).map(|placed| {
        let layer = gathered.layers.get(&placed.bundle_id);
        let bundle = json!({ "name": placed.bundle, "revision": placed.bundle_id, "layer": layer });
        (placed.name, bundle)
    });
    if let Some(value) = value.as_object_mut() {
        value.insert("bundles".to_owned(), Value::Object(bundles.collect()));
    }
    value
}

fn print_json(gathered: &Gathered) -> anyhow::Result<()> {
    let value = |(node, known): &(Node, anyhow::Result<Known>)| match known {
        Ok(known) => {
            let Known { obstacles, lost, unseen, .. } = known;
            let step = |step| with_bundles(gathered, known, step);
            let steps: Vec<Value> = known.steps.iter().map(step).collect();
            json!({ "node": node.label, "steps": steps, "blocked": obstacles, "lost": lost, "unseen": unseen })
        }
        Err(error) => {
            json!({ "node": node.label, "error": format!("{error:#}"), "hint": hint_of(error) })
        }
    };
    let values: Vec<Value> = gathered.hosts.iter().map(value).collect();
    report::data(format!("{:#}\n", Value::Array(values)).as_bytes())
}
