//! `vzmaster deploy`: plan, ask, push, then pod by pod: one host first, the others in
//! batches; and back everywhere where a revision does not do its work.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use super::gather::{Gathered, Known, gather};
use super::interruption::{Stage, Watched};
use super::plan::{all_free, reached, say_left_out, text};
use super::push;
use super::session::{Nodes, Unconfirmed};
use super::{missing, secrets};
use crate::cli::master::{Args, Deploy};
use crate::fleet::missing::advice;
use crate::fleet::plan::{Action, Step};
use crate::fleet::revision::Update;
use crate::fleet::state::{Answer, Applied, Apply, Control, Order};
use crate::push::bundle::Bundle;
use crate::push::fanout;
use crate::push::outcome::short;
use crate::push::target::Node;
use crate::report::{self, Advice, Status, hint_of, with_hint};

/// What became of one pod on one host.
enum Outcome {
    /// It is as wished.
    Done(Applied),
    /// It does not do its work; the node went back.
    Failed(Applied),
    /// It was taken back since it failed elsewhere; with the failure, if that failed.
    TakenBack(Option<String>),
    /// It was removed.
    Removed,
    /// The node could not be reached, or refused.
    Lost(anyhow::Error),
}

struct Job<'a> {
    nodes: &'a Nodes,
    course: &'a Watched,
    bundles: &'a BTreeMap<String, Bundle>,
    parallel: usize,
    by: String,
}

/// A step on its host.
type Task<'a> = (&'a Node, &'a Known, &'a Step);

pub(super) fn run(args: &Args, wish: &Deploy) -> anyhow::Result<ExitCode> {
    let nodes = Nodes::new(args)?;
    let course = Watched::start("while nodes were asked")?;
    let gathered = gather(args, &wish.plan, &nodes)?;
    if !args.ssh.json {
        report::data(text(&gathered, true).as_bytes())?;
    }
    let mut tasks: Vec<Task<'_>> = Vec::new();
    for (node, known) in &gathered.hosts {
        let Ok(known) = known else { continue };
        let todo = |step: &&Step| !matches!(step.action, Action::Keep | Action::Leave);
        tasks.extend(known.steps.iter().filter(todo).map(|step| (node, known, step)));
    }
    all_free(args, &gathered)?;
    secrets::all_found(&gathered)?;
    if tasks.is_empty() {
        let failed = secrets::bring(wish, &nodes, &gathered);
        let lost = |(host, error): (String, String)| {
            (host, String::new(), Outcome::Lost(anyhow!("{error}")))
        };
        let outcomes: Vec<_> = failed.into_iter().map(lost).collect();
        if !outcomes.is_empty() {
            return finish(args, &gathered, &outcomes, false);
        }
        let had = gathered
            .hosts
            .iter()
            .any(|(_, known)| known.as_ref().is_ok_and(|known| !known.numbers.is_empty()));
        let what = match wish.encrypt_at_rest.filter(|_| had) {
            Some(true) => "there is nothing to do but that secrets are kept encrypted from now on",
            Some(false) => "there is nothing to do but that secrets are not kept any more",
            None => "there is nothing to do",
        };
        report::say("vzmaster", what);
        return finish(args, &gathered, &[], false);
    }
    course.phase("before anybody said yes");
    if !wish.yes && !confirmed(tasks.len())? {
        bail!("nothing was done");
    }
    course.phase("while bundles and secrets were being pushed");
    tasks.iter().for_each(|(node, _, step)| course.set(node, step, Stage::Waiting));
    let needed =
        tasks.iter().filter_map(|(node, known, step)| Some((*node, known.wished.get(&step.pod)?)));
    let mut unpushed = push::bundles((args, wish.parallel), &gathered, needed)?;
    unpushed.extend(secrets::bring(wish, &nodes, &gathered));
    let bundles = &gathered.bundles;
    let job = Job { nodes: &nodes, course: &course, bundles, parallel: wish.parallel, by: by() };
    let mut outcomes: Vec<(String, String, Outcome)> = Vec::new();
    for (host, error) in &unpushed {
        outcomes.push((host.clone(), String::new(), Outcome::Lost(anyhow!("{error}"))));
    }
    // What goes, goes last: it runs again where what is in its place does not do its work.
    let goes = |step: &Step| step.action == Action::Remove;
    let names: BTreeSet<(bool, &String)> =
        tasks.iter().map(|(_, _, step)| (goes(step), &step.pod)).collect();
    let mut failed = false;
    for (gone, name) in names {
        let of_pod = |(node, _, step): &&Task<'_>| {
            step.pod == *name && goes(step) == gone && !unpushed.contains_key(&node.label)
        };
        let of_pod: Vec<Task<'_>> = tasks.iter().filter(of_pod).copied().collect();
        course.phase(&format!("while {name} was being deployed"));
        failed = job.deploy(name, &of_pod, &mut outcomes);
        if failed {
            report::say("vzmaster", format!("{name} failed; what comes after it was not tried"));
            break;
        }
    }
    finish(args, &gathered, &outcomes, failed)
}

/// Asks on the terminal.
fn confirmed(count: usize) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(anyhow!("nobody can be asked: standard input is no terminal"))
            .hint("-y deploys without asking")
            .status(Status::Usage as u8);
    }
    report::say("vzmaster", format!("do {}? [y/N]", report::count(count, "step")));
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("cannot read the answer")?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Who deploys, as far as this machine knows.
pub(super) fn by() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let user = user.unwrap_or_else(|| {
        let id = nix::unistd::geteuid();
        let known = nix::unistd::User::from_uid(id).ok().flatten();
        known.map_or_else(|| id.to_string(), |user| user.name)
    });
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("{user}@{}", host.to_string_lossy())
}

impl Job<'_> {
    /// Deploys one pod to its hosts: the first alone, then batches. Returns whether it
    /// failed, and was taken back where it had gone.
    fn deploy(
        &self,
        pod: &str,
        tasks: &[Task<'_>],
        outcomes: &mut Vec<(String, String, Outcome)>,
    ) -> bool {
        let mut done: Vec<Task<'_>> = Vec::new();
        let mut rest = tasks;
        let mut proved = false;
        while !rest.is_empty() {
            let count = if proved { self.parallel } else { 1 };
            let (batch, later) = rest.split_at(count.min(rest.len()));
            rest = later;
            let results = fanout::each(batch, self.parallel, |task| self.watched(task));
            let mut failed = false;
            for (task, outcome) in batch.iter().zip(results) {
                match &outcome {
                    Outcome::Done(_) => {
                        proved = true;
                        done.push(*task);
                    }
                    Outcome::Failed(_) => failed = true,
                    // The first one may have cut its node off; later, it is the node.
                    Outcome::Lost(error) if !proved && error.is::<Unconfirmed>() => failed = true,
                    _ => {}
                }
                outcomes.push((task.0.label.clone(), pod.to_owned(), outcome));
            }
            if failed {
                let back = fanout::each(&done, self.parallel, |task| self.take_back(task));
                for (task, outcome) in done.iter().zip(back) {
                    outcomes.push((task.0.label.clone(), pod.to_owned(), outcome));
                }
                return true;
            }
        }
        false
    }

    /// Does a step, and says how far it is.
    fn watched(&self, task: &Task<'_>) -> Outcome {
        let (node, known, step) = task;
        let removes = !known.wished.contains_key(&step.pod);
        self.course.set(node, step, if removes { Stage::Removing } else { Stage::Trying });
        let outcome = self.step(task);
        let stage = match outcome {
            Outcome::Done(_) => Stage::Done,
            Outcome::Removed => Stage::Removed,
            _ => Stage::Failed,
        };
        self.course.set(node, step, stage);
        outcome
    }

    fn step(&self, (node, known, step): &Task<'_>) -> Outcome {
        let pod = &step.pod;
        let Some(revision) = known.wished.get(pod) else {
            let removed = self.nodes.order(node, &Order::Remove { pod: pod.clone() }, &mut |_| ());
            return match removed {
                Ok(_) => {
                    report::say("vzmaster", format!("{node}: {pod}: removed"));
                    Outcome::Removed
                }
                Err(error) => {
                    let what = with_hint(&error);
                    report::say("vzmaster", format!("{node}: {pod}: FAILED: {what}"));
                    Outcome::Lost(error)
                }
            };
        };
        let order = Order::Apply(Apply {
            pod: pod.clone(),
            id: revision.id.clone(),
            files: revision.files.clone(),
            expected: step.from.clone(),
            by: self.by.clone(),
            forget: false,
            instead: step.instead.clone(),
            ports: step.goes_on(),
        });
        match self.apply(node, pod, &order) {
            Ok(applied) if applied.failure.is_none() => {
                let id = short(&revision.id);
                let gap = match (&step.from, &step.how) {
                    (None, _) => String::new(),
                    (Some(_), Some(Update::StartFirst)) => ", without a gap".to_owned(),
                    (Some(_), _) if applied.gap == 0 => ", without a gap".to_owned(),
                    (Some(_), _) => format!(", after {} ms", applied.gap),
                };
                report::say("vzmaster", format!("{node}: {pod}: {id} runs{gap}"));
                Outcome::Done(applied)
            }
            Ok(applied) => {
                say_failure(node, pod, &applied);
                for what in missing::sentences(self.bundles, revision, &applied.log) {
                    report::say("vzmaster", format!("{node}: {pod}: {what}"));
                }
                if let Some(advice) = advice(&applied.log) {
                    report::say("vzmaster", format!("{node}: {pod}: {advice}"));
                }
                Outcome::Failed(applied)
            }
            Err(error) => {
                let what = with_hint(&error);
                report::say("vzmaster", format!("{node}: {pod}: FAILED: {what}"));
                Outcome::Lost(error)
            }
        }
    }

    fn apply(&self, node: &Node, pod: &str, order: &Order) -> anyhow::Result<Applied> {
        let mut told = |answer| {
            if let Answer::Progress(what) = answer {
                report::say("vzmaster", format!("{node}: {pod}: {what}"));
            }
        };
        self.nodes.apply(node, order, &mut told)
    }

    /// Makes a host run again what ran before this deployment.
    fn take_back(&self, (node, _, step): &Task<'_>) -> Outcome {
        self.course.set(node, step, Stage::TakingBack);
        let pod = step.pod.clone();
        let by = format!("{}, since it failed elsewhere", self.by);
        let result = match &step.from {
            Some(from) if Some(from) != step.to.as_ref() => {
                let (revision, by) = (Some(from.clone()), by.clone());
                let order = Order::Rollback { pod, revision, by, forget: true };
                self.apply(node, &step.pod, &order).map(|applied| applied.failure)
            }
            // It was repaired, and is what it was.
            Some(_) => return Outcome::TakenBack(None),
            None => self.nodes.order(node, &Order::Remove { pod }, &mut |_| ()).map(|_| None),
        };
        let failure = result.and_then(|failure| {
            for pod in &step.instead {
                let (pod, by) = (pod.clone(), by.clone());
                let order = Order::Control { pod, verb: Control::Start, by };
                self.nodes.order(node, &order, &mut |_| ())?;
            }
            Ok(failure)
        });
        let failure = failure.unwrap_or_else(|error| Some(format!("{error:#}")));
        let line = failure.as_ref().map_or_else(
            || "taken back".to_owned(),
            |why| format!("FAILED to be taken back: {why}"),
        );
        report::say("vzmaster", format!("{node}: {}: {line}", step.pod));
        if failure.is_none() {
            self.course.set(node, step, Stage::TakenBack);
        }
        Outcome::TakenBack(failure)
    }
}

/// Why a revision failed, what the node did about it, and what the pod said last.
pub(super) fn say_failure(node: &Node, pod: &str, applied: &Applied) {
    let why = applied.failure.as_deref().unwrap_or_default();
    let current = applied.current.as_deref().map(short).unwrap_or_default();
    let then = match applied.restored {
        Some(true) => format!("{current} runs again"),
        Some(false) => format!("{current} was started again, and does NOT do its work"),
        None => "nothing of it ran before, and nothing does now".to_owned(),
    };
    let mut text = format!("{node}: {pod}: FAILED: {why}; {then}");
    for line in &applied.log {
        text.push_str(&format!("\n    {line}"));
    }
    report::say("vzmaster", text);
}

/// The result as JSON where it is asked for, and the exit status: 3 where a revision
/// failed, 4 where hosts could not be reached.
fn finish(
    args: &Args,
    gathered: &Gathered,
    outcomes: &[(String, String, Outcome)],
    failed: bool,
) -> anyhow::Result<ExitCode> {
    if args.ssh.json {
        let down =
            gathered.hosts.iter().filter_map(|(node, known)| Some((node, known.as_ref().err()?)));
        let mut values: Vec<Value> = outcomes.iter().map(value).collect();
        values.extend(down.map(|(node, error)| {
            json!({ "node": node.label, "done": false, "error": format!("{error:#}"), "hint": hint_of(error) })
        }));
        report::data(format!("{:#}\n", Value::Array(values)).as_bytes())?;
    } else {
        say_left_out(gathered);
    }
    let lost =
        outcomes.iter().filter(|(_, _, outcome)| matches!(outcome, Outcome::Lost(_))).count();
    Ok(match reached(gathered) {
        _ if failed => Status::Failed,
        Status::Done if lost == 0 => Status::Done,
        Status::Failed => Status::Failed,
        _ if lost > 0 && lost == outcomes.len() => Status::Failed,
        _ => Status::Partly,
    }
    .into())
}

fn value((host, pod, outcome): &(String, String, Outcome)) -> Value {
    let mut value = json!({ "node": host, "pod": pod, "done": false });
    let more = match outcome {
        Outcome::Done(applied) => json!({ "done": true, "applied": applied }),
        Outcome::Failed(applied) => json!({ "applied": applied }),
        Outcome::TakenBack(failure) => json!({ "taken-back": failure.is_none(), "error": failure }),
        Outcome::Removed => json!({ "done": true, "removed": true }),
        Outcome::Lost(error) => json!({ "error": format!("{error:#}") }),
    };
    if let (Some(value), Some(more)) = (value.as_object_mut(), more.as_object()) {
        value.extend(more.clone());
    }
    value
}
