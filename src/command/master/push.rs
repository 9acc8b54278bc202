//! `vzmaster push`: what a deployment would push, ahead of it; nothing is started.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use super::gather::{Gathered, gather};
use super::plan::{reached, say_left_out};
use super::session::Nodes;
use crate::cli::master::{Args, Plan, Push};
use crate::cli::push::{Push as Options, Require};
use crate::command::push::deploy;
use crate::fleet::revision::{RECORD, Record, Revision};
use crate::push::outcome::{Outcome, bytes};
use crate::push::plan::Mode;
use crate::push::target::Node;
use crate::report::{self, Status, hint_of};

pub(super) fn run(args: &Args, wish: &Push) -> anyhow::Result<ExitCode> {
    let plan = Plan { select: wish.select.clone(), ..Plan::default() };
    let gathered = gather(args, &plan, &Nodes::new(args)?)?;
    let known =
        gathered.hosts.iter().filter_map(|(node, known)| Some((node, known.as_ref().ok()?)));
    let all =
        known.flat_map(|(node, known)| known.wished.values().map(move |wished| (node, wished)));
    let failed = bundles((args, wish.parallel), &gathered, all)?;
    if args.ssh.json {
        let values = gathered.hosts.iter().map(|(node, known)| {
            let error = match known {
                Err(error) => Some((format!("{error:#}"), hint_of(error))),
                Ok(_) => failed.get(&node.label).map(|error| (error.clone(), None)),
            };
            match error {
                Some((error, hint)) => {
                    json!({ "node": node.label, "done": false, "error": error, "hint": hint })
                }
                None => json!({ "node": node.label, "done": true }),
            }
        });
        report::data(format!("{:#}\n", values.collect::<serde_json::Value>()).as_bytes())?;
    } else {
        say_left_out(&gathered);
    }
    let reached = reached(&gathered);
    let answered = gathered.hosts.iter().filter(|(_, known)| known.is_ok()).count();
    Ok(match failed.len() {
        0 => reached,
        count if count == answered => Status::Failed,
        _ => Status::Partly,
    }
    .into())
}

/// Pushes the bundles of these revisions to their hosts; returns the hosts where that
/// failed, and why.
///
/// # Errors
/// When a revision is none of ours, or nothing can be pushed from here.
pub(super) fn bundles<'a>(
    (args, parallel): (&Args, usize),
    gathered: &Gathered,
    revisions: impl Iterator<Item = (&'a Node, &'a Revision)>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut needed: BTreeMap<String, Vec<Node>> = BTreeMap::new();
    for (node, revision) in revisions {
        let record = revision.files.get(RECORD).map(|text| serde_json::from_str::<Record>(text));
        for placed in record.context("a revision has no record")??.containers {
            let hosts = needed.entry(placed.bundle_id).or_default();
            if !hosts.contains(node) {
                hosts.push(node.clone());
            }
        }
    }
    let options = Options {
        bundle: None,
        targets: Vec::new(),
        delta: Mode::Auto,
        plan: false,
        inventory: None,
        parallel,
        bwlimit: None,
        keep: 3,
        require: Require::All,
        name: None,
    };
    let mut failed = BTreeMap::new();
    for bundle in gathered.bundles.values() {
        let Some(hosts) = needed.get(&bundle.id) else { continue };
        let name = bundle.name().context("a bundle's directory has no name")?;
        let told = |node: &Node, result: &anyhow::Result<Outcome>| {
            let line = match result {
                Ok(Outcome { way, payload, full, .. }) => {
                    format!("{way}, sent {} of {}", bytes(*payload), bytes(*full))
                }
                Err(error) => format!("FAILED: {error:#}"),
            };
            report::say("vzmaster", format!("{node}: push {name}: {line}"));
        };
        let results = deploy::each_node((&options, &args.ssh), bundle, &name, hosts, &told)?;
        for (node, result) in hosts.iter().zip(results) {
            if let Err(error) = result {
                failed.insert(node.label.clone(), format!("cannot push `{name}`: {error:#}"));
            }
        }
    }
    Ok(failed)
}
