//! `vzpush BUNDLE TARGET…`: hash the bundle, ask each node, send what it lacks.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, anyhow};
use serde_json::json;

use super::{receiver, source, ssh, targets};
use crate::cli::push::{Push as PushArgs, SshArgs};
use crate::progress::{Bar, Bars};
use crate::push::bundle::Bundle;
use crate::push::cache::Cache;
use crate::push::fanout::{self, Deltas};
use crate::push::outcome::{Outcome, bytes, short};
use crate::push::plan::{Mode, files_are_sooner};
use crate::push::protocol::valid_name;
use crate::push::sender::{self, Push, Stage, WrongReceiver};
use crate::push::ssh::{Receiver, Ssh};
use crate::push::target::Node;
use crate::report::{self, Advice, Status};

/// What all nodes have in common.
struct Job<'a> {
    args: &'a PushArgs,
    ssh: Ssh,
    receiver: Receiver,
    bundle: &'a Bundle,
    name: String,
    cache: &'a Cache,
    deltas: Deltas<'a>,
    bars: Bars,
    /// How many nodes share the line from here.
    share: usize,
}

pub(super) fn run(args: &PushArgs, ssh_args: &SshArgs) -> anyhow::Result<ExitCode> {
    let source = args.bundle.as_deref().context("BUNDLE is needed")?;
    let nodes = targets::resolve(&args.targets, args.inventory.as_deref())?;
    let pushed = source::open(source)?;
    let bundle = &pushed.bundle;
    let name = name(args, pushed.name.as_deref())?;
    let alone = nodes.len() == 1;
    let results = each_node((args, ssh_args), bundle, &name, &nodes, &|node, result| {
        if !alone && !ssh_args.json {
            say(node, result);
        }
    })?;
    let mut pairs: Vec<_> = nodes.iter().zip(results).collect();
    if ssh_args.json {
        print_json((&name, &bundle.id, args.plan), &pairs)?;
    }
    if alone
        && !ssh_args.json
        && let Some((node, result)) = pairs.pop()
    {
        let outcome =
            result.with_context(|| format!("cannot push `{}` to `{node}`", source.display()))?;
        print_plan(args, &outcome)?;
        report::say("vzpush", format!("{node}: {}", outcome.line()));
        return Ok(Status::Done.into());
    }
    if !ssh_args.json {
        table(&name, bundle, &pairs);
    }
    Ok(verdict(args, &pairs).into())
}

/// Pushes a bundle to `nodes`, as `name` there, and returns what became of each;
/// `told` hears of each as soon as it is known.
///
/// # Errors
/// When there is no cache, or this program cannot be read.
pub(in crate::command) fn each_node(
    (args, ssh_args): (&PushArgs, &SshArgs),
    bundle: &Bundle,
    name: &str,
    nodes: &[Node],
    told: &(dyn Fn(&Node, &anyhow::Result<Outcome>) + Sync),
) -> anyhow::Result<Vec<anyhow::Result<Outcome>>> {
    let cache = Cache::new(cache_dir()?);
    let receiver = receiver("receive")?;
    let deltas = Deltas::new(bundle, &cache);
    let bars = Bars::new(nodes.iter().map(|node| node.label.chars().count()).max().unwrap_or(0));
    let name = name.to_owned();
    let share = nodes.len().min(args.parallel).max(1);
    let ssh = ssh(ssh_args);
    let job = Job { args, ssh, receiver, bundle, name, cache: &cache, deltas, bars, share };
    Ok(std::thread::scope(|scope| {
        // While nodes are reached: the likely delta, where it is another one no harm, and
        // then what the next push needs. In one thread, since ssh computes meanwhile too.
        let kept = scope.spawn(|| {
            let wanted = |id: &String| *id != bundle.id && job.wants_delta(id, nodes);
            let likely = cache.last(&job.name).filter(|id| job.deltas.knows(id)).filter(wanted);
            if let Some(base) = likely {
                drop(job.deltas.get(&base, &[]));
            }
            if args.plan {
                return Ok(());
            }
            cache.keep(&bundle.manifest, bundle).and_then(|()| cache.note(&job.name, &bundle.id))
        });
        let results = fanout::each(nodes, args.parallel, |node| {
            let result = job.push(node);
            if let Ok(Outcome { rate: Some(rate), .. }) = &result {
                // A guess where it is not kept.
                let _ = cache.note_rate(&node.label, *rate);
            }
            job.bars.suspend(|| told(node, &result));
            result
        });
        if let Ok(Err(error)) = kept.join() {
            report::warn("vzpush", format!("the next push can make no delta: {error:#}"));
        }
        results
    }))
}

fn verdict(args: &PushArgs, pairs: &[(&Node, anyhow::Result<Outcome>)]) -> Status {
    let done = pairs.iter().filter(|(_, result)| result.is_ok()).count();
    match done {
        done if done >= args.require.of(pairs.len()) => Status::Done,
        0 => Status::Failed,
        _ => Status::Partly,
    }
}

fn name(args: &PushArgs, own: Option<&str>) -> anyhow::Result<String> {
    let hint = "choose one of letters, digits, `.`, `_`, `-` with --name";
    let name = match &args.name {
        Some(name) => name.clone(),
        None => own.context("the bundle's directory has no name").hint(hint)?.to_owned(),
    };
    match valid_name(&name) {
        true => Ok(name),
        false => Err(anyhow!("`{}` cannot be the name of a bundle on a node", name.escape_debug()))
            .hint(hint)
            .status(Status::Usage as u8),
    }
}

/// The user's cache, by the XDG base directory specification.
fn cache_dir() -> anyhow::Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    cache.map(|dir| dir.join("vz")).context("neither XDG_CACHE_HOME nor HOME is set")
}

impl Job<'_> {
    /// Bytes a second that a node gets, if that is known.
    fn rate(&self, node: &Node) -> Option<f64> {
        let rate = self.cache.rate(&node.label)?;
        let limit = self.args.bwlimit.map_or(f64::INFINITY, |limit| limit as f64);
        Some(rate.min(limit) / self.share as f64)
    }

    /// Whether any node is the better for a delta against `base`.
    fn wants_delta(&self, base: &str, nodes: &[Node]) -> bool {
        let slow = |node| !files_are_sooner(self.deltas.changed(base), self.rate(node));
        match self.args.delta {
            Mode::Smaller | Mode::Always => true,
            Mode::Auto => self.deltas.is_begun(base) || nodes.iter().any(slow),
            Mode::Never => false,
        }
    }

    fn push(&self, node: &Node) -> anyhow::Result<Outcome> {
        let bar = self.bars.add(&node.label);
        let progress = |stage| match stage {
            Stage::Preparing => bar.wait("preparing what to send"),
            Stage::Sending(done, all) => bar.set("sending", done, all),
            Stage::Installing => bar.wait("the node checks it and puts it in place"),
        };
        let push = Push {
            bundle: self.bundle,
            name: &self.name,
            deltas: &self.deltas,
            mode: self.args.delta,
            rate: self.rate(node),
            keep: self.args.keep,
            plan: self.args.plan,
            receiver: &self.receiver.digest,
            progress: &progress,
        };
        match self.session(node, &push, &bar, false) {
            Err(error) if error.downcast_ref::<WrongReceiver>().is_some() => {
                self.session(node, &push, &bar, true)
            }
            other => other,
        }
    }

    fn session(
        &self,
        node: &Node,
        push: &Push<'_>,
        bar: &Bar,
        renew: bool,
    ) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        bar.wait("connecting");
        let put = |done, all| bar.set("receiver", done, all);
        let mut session = self.ssh.connect(node, &self.receiver, &push.hello(), renew, &put)?;
        if let Some(rate) = self.args.bwlimit {
            session.link.limit(rate);
        }
        let result = push.run(&mut session.link, session.begun);
        let mut outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                let said = session.end();
                if error.is::<WrongReceiver>() {
                    // Advice would hide what it is.
                    return Err(error);
                }
                let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
                return match last.filter(|_| crate::report::hint_of(&error).is_none()) {
                    Some(last) => Err(error).hint(format!("the node said: {last}")),
                    None => Err(error),
                };
            }
        };
        outcome.receiver = session.uploaded;
        sender::count(&mut outcome, &session.link, started);
        session.end();
        Ok(outcome)
    }
}

fn say(node: &Node, result: &anyhow::Result<Outcome>) {
    match result {
        Ok(outcome) => report::say("vzpush", format!("{node}: {}", outcome.line())),
        Err(error) => report::say("vzpush", format!("{node}: FAILED: {error:#}")),
    }
}

fn print_plan(args: &PushArgs, outcome: &Outcome) -> anyhow::Result<()> {
    if !args.plan {
        return Ok(());
    }
    let mut text = String::new();
    for step in &outcome.files {
        let cost = step.bytes.map_or_else(|| "?".to_owned(), bytes);
        text.push_str(&format!(
            "{:7} {:>9} of {:>9}  {}\n",
            step.how,
            cost,
            bytes(step.size),
            step.path
        ));
    }
    report::data(report::plain(text).as_bytes())
}

fn print_json(
    (name, id, plan): (&str, &str, bool),
    pairs: &[(&Node, anyhow::Result<Outcome>)],
) -> anyhow::Result<()> {
    let nodes: Vec<_> = pairs
        .iter()
        .map(|(node, result)| match result {
            Ok(outcome) => json!({ "node": node.label, "done": true, "outcome": outcome.json() }),
            Err(error) => {
                let hint = report::hint_of(error);
                json!({ "node": node.label, "done": false, "error": format!("{error:#}"), "hint": hint })
            }
        })
        .collect();
    let value = json!({ "name": name, "revision": id, "plan": plan, "nodes": nodes });
    report::data(format!("{value:#}\n").as_bytes())
}

/// The table at the end: each node, and how it went.
fn table(name: &str, bundle: &Bundle, pairs: &[(&Node, anyhow::Result<Outcome>)]) {
    let width = pairs.iter().map(|(node, _)| node.label.chars().count()).max().unwrap_or(0);
    let mut text = format!(
        "summary of {} {}, full {}\n  {:width$}  {:7} {:>9} {:>9} {:>9}  base\n",
        name,
        short(&bundle.id),
        bytes(bundle.manifest.size()),
        "node",
        "way",
        "sent",
        "saved",
        "time",
    );
    for (node, result) in pairs {
        let line = match result {
            Ok(o) => format!(
                "{:7} {:>9} {:>9} {:>7.2} s  {}",
                o.way,
                bytes(o.payload),
                bytes(o.full.saturating_sub(o.payload)),
                o.time.as_secs_f64(),
                o.base.as_deref().map_or("-", short)
            ),
            Err(error) => format!("FAILED  {error:#}"),
        };
        text.push_str(&format!("  {:width$}  {line}\n", node.label));
    }
    let done = pairs.iter().filter(|(_, result)| result.is_ok()).count();
    text.push_str(&format!("  {done} of {} done", report::count(pairs.len(), "node")));
    report::say("vzpush", text);
}
