//! `vzmaster start|stop|kill|restart POD`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::deploy::by;
use super::directory;
use super::gather::PARALLEL;
use super::session::Nodes;
use crate::cli::master::{Args, OnePod, Select};
use crate::fleet::deployment::Host;
use crate::fleet::fields::or_near;
use crate::fleet::state::{Answer, Control, Order, State};
use crate::push::fanout;
use crate::push::ssh::was_unreached;
use crate::push::target::Node;
use crate::report::{self, Advice, Status};

pub(super) fn run(args: &Args, one: &OnePod, verb: Control) -> anyhow::Result<ExitCode> {
    let order = Order::Control { pod: one.pod.clone(), verb, by: by() };
    let answers = match verb {
        Control::Restart => one_by_one(args, &one.pod, &one.select, &order)?,
        _ => everywhere(args, &one.pod, &one.select, &order)?,
    };
    print(args, &one.pod, &answers, |_| verb.words().1.to_owned())
}

/// The hosts that are to have a pod; where none is, those that have it.
///
/// # Errors
/// When none has it either.
pub(super) fn hosts(args: &Args, pod: &str, select: &Select) -> anyhow::Result<Vec<Node>> {
    let fleet = directory::read_hosts(args, &select.limit)?;
    let known: Vec<String> = fleet.sources.into_iter().map(|source| source.pod.name).collect();
    let (wished, others): (Vec<Host>, Vec<Host>) =
        fleet.deployment.hosts.into_values().partition(|host| host.pods.contains_key(pod));
    if !wished.is_empty() {
        return Ok(wished.into_iter().map(|host| host.node).collect());
    }
    let nodes = Nodes::new(args)?;
    let states = fanout::each(&others, PARALLEL, |host| nodes.state(&host.node));
    let has = |state: &anyhow::Result<State>| {
        state.as_ref().is_ok_and(|state| state.pods.iter().any(|there| there.name == pod))
    };
    let having = others.into_iter().zip(&states).filter(|(_, state)| has(state));
    let hosts: Vec<Node> = having.map(|(host, _)| host.node).collect();
    if hosts.is_empty() {
        let near = or_near(pod, known.iter().filter(|name| *name != pod));
        return Err(anyhow::anyhow!("no host has the pod `{pod}`, or is to have it{near}"))
            .hint("groups.yaml says which hosts have which pods; `vzmaster ps` what they have")
            .status(Status::Usage as u8);
    }
    Ok(hosts)
}

/// What each host answered.
pub(super) type Answers = Vec<(Node, anyhow::Result<Answer>)>;

/// Gives an order to all hosts that are to have `pod`.
///
/// # Errors
/// When none is.
pub(super) fn everywhere(
    args: &Args,
    pod: &str,
    select: &Select,
    order: &Order,
) -> anyhow::Result<Answers> {
    let hosts = hosts(args, pod, select)?;
    let nodes = Nodes::new(args)?;
    let answers = fanout::each(&hosts, PARALLEL, |node| give(&nodes, node, pod, order));
    Ok(hosts.into_iter().zip(answers).collect())
}

/// The same, one host after another, until a host says that it failed.
fn one_by_one(args: &Args, pod: &str, select: &Select, order: &Order) -> anyhow::Result<Answers> {
    let hosts = hosts(args, pod, select)?;
    let nodes = Nodes::new(args)?;
    let mut failed = None;
    let mut answer = |node: Node| {
        let answer = match &failed {
            Some(before) => Err(anyhow::anyhow!("not tried, since it failed on {before}")),
            None => give(&nodes, &node, pod, order),
        };
        if answer.as_ref().is_err_and(|error| !was_unreached(error)) {
            failed.get_or_insert_with(|| node.clone());
        }
        (node, answer)
    };
    Ok(hosts.into_iter().map(&mut answer).collect())
}

/// Gives an order to a host, and says what that tells.
fn give(nodes: &Nodes, node: &Node, pod: &str, order: &Order) -> anyhow::Result<Answer> {
    nodes.order(node, order, &mut |answer| {
        if let Answer::Progress(what) = answer {
            report::say("vzmaster", format!("{node}: {pod}: {what}"));
        }
    })
}

/// Prints what became of each host, by `line` where it answered.
pub(super) fn print(
    args: &Args,
    pod: &str,
    answers: &Answers,
    line: impl Fn(&Answer) -> String,
) -> anyhow::Result<ExitCode> {
    let failed = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    if args.ssh.json {
        let value = |(node, answer): &(Node, anyhow::Result<Answer>)| match answer {
            Ok(answer) => json!({ "node": node.label, "pod": pod, "answer": answer }),
            Err(error) => json!({ "node": node.label, "pod": pod, "error": format!("{error:#}") }),
        };
        let values: Vec<Value> = answers.iter().map(value).collect();
        report::data(format!("{:#}\n", Value::Array(values)).as_bytes())?;
    } else {
        for (node, answer) in answers {
            let line = answer.as_ref().map_or_else(|error| format!("FAILED: {error:#}"), &line);
            report::data(format!("{node}: {pod}: {line}\n").as_bytes())?;
        }
    }
    Ok(match failed {
        0 => Status::Done,
        all if all == answers.len() => Status::Failed,
        _ => Status::Partly,
    }
    .into())
}
