//! `vzmaster ps`: what is on the nodes.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::directory;
use super::gather::PARALLEL;
use super::session::Nodes;
use crate::cli::master::{Args, Select};
use crate::fleet::revision::Files;
use crate::fleet::state::{ContainerState, PodState, State};
use crate::push::fanout;
use crate::push::outcome::{bytes, short};
use crate::push::target::Node;
use crate::report::{self, Status, hint_of};

pub(super) fn run(args: &Args, select: &Select) -> anyhow::Result<ExitCode> {
    let fleet = directory::read_hosts(args, &select.limit)?;
    let hosts: Vec<Node> = fleet.deployment.hosts.into_values().map(|host| host.node).collect();
    let nodes = Nodes::new(args)?;
    let states = fanout::each(&hosts, PARALLEL, |node| nodes.state(node));
    let failed = states.iter().filter(|state| state.is_err()).count();
    let pairs: Vec<(&Node, anyhow::Result<State>)> = hosts.iter().zip(states).collect();
    if args.ssh.json {
        let values: Vec<Value> = pairs.iter().map(value).collect();
        report::data(format!("{:#}\n", Value::Array(values)).as_bytes())?;
    } else {
        report::data(table(&pairs).as_bytes())?;
        let has = |(_, state): &(&Node, anyhow::Result<State>)| {
            state.as_ref().is_ok_and(|state| !state.pods.is_empty())
        };
        if failed < hosts.len() && !pairs.iter().any(has) {
            report::say("vzmaster", "no host has a pod; `vzmaster deploy` starts what is wished");
        }
    }
    Ok(match failed {
        0 => Status::Done,
        all if all == hosts.len() => Status::Failed,
        _ => Status::Partly,
    }
    .into())
}

const HEAD: [&str; 8] =
    ["NODE", "POD", "CONTAINER", "REVISION", "BUNDLE", "STATE", "RESTARTS", "MEMORY"];

fn table(pairs: &[(&Node, anyhow::Result<State>)]) -> String {
    let mut rows: Vec<[String; 8]> = vec![HEAD.map(str::to_owned)];
    let mut down = String::new();
    for (node, state) in pairs {
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                down.push_str(&format!("{node}: {error:#}\n"));
                continue;
            }
        };
        for pod in &state.pods {
            let revision = pod.current.as_deref().map_or("-", short).to_owned();
            for container in &pod.containers {
                rows.push([
                    node.label.clone(),
                    pod.name.clone(),
                    container.name.clone(),
                    revision.clone(),
                    short(&container.bundle).to_owned(),
                    condition(container),
                    container.restarts.to_string(),
                    container.memory.map_or_else(|| "-".to_owned(), bytes),
                ]);
            }
        }
    }
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; 8]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect::<String>() + &down
}

fn condition(container: &ContainerState) -> String {
    let since = |seconds: u64| match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    };
    match container.uptime {
        Some(seconds) => format!("{} {}", container.sub, since(seconds)),
        None if container.result == "success" => container.active.clone(),
        None => format!("{}: {}", container.active, container.result),
    }
}

fn value((node, state): &(&Node, anyhow::Result<State>)) -> Value {
    match state {
        Ok(state) => {
            // The files of a revision are what `plan` compares, and nobody's state.
            let without = |pod: &PodState| PodState { files: Files::new(), ..pod.clone() };
            let pods: Vec<PodState> = state.pods.iter().map(without).collect();
            json!({ "node": node.label, "pods": pods, "stray": state.stray })
        }
        Err(error) => {
            json!({ "node": node.label, "error": format!("{error:#}"), "hint": hint_of(error) })
        }
    }
}
