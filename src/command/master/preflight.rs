//! `vzmaster preflight`: facts from each node, and the verdict on them.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde_json::{Value, json};

use super::directory;
use crate::cli::master::{Args, Preflight};
use crate::command::push::ssh;
use crate::fleet::preflight::{Facts, Grade, SCRIPT, Verdict, judge};
use crate::push::fanout;
use crate::report::{self, Status, hint_of};

/// How long the script may take: a slow machine and a few trials that time out.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How many nodes are asked at a time.
const PARALLEL: usize = 20;

pub(super) fn run(args: &Args, preflight: &Preflight) -> anyhow::Result<ExitCode> {
    if preflight.script {
        report::data(SCRIPT.as_bytes())?;
        return Ok(Status::Done.into());
    }
    let results = match &preflight.facts {
        Some(path) => {
            // The clock has gone on since the facts were printed.
            let verdict = read(path).map(|facts| (judge(&facts, None), facts))?;
            vec![(path.display().to_string(), Ok(verdict))]
        }
        None => ask(args, preflight)?,
    };
    let values: Vec<Value> = results.iter().map(|(name, result)| value(name, result)).collect();
    if args.ssh.json {
        report::data(format!("{:#}\n", Value::Array(values)).as_bytes())?;
    } else {
        for (name, result) in &results {
            report::data(text(name, result, preflight.verbose).as_bytes())?;
        }
    }
    Ok(status(&results).into())
}

type Judged = anyhow::Result<(Verdict, Facts)>;

fn ask(args: &Args, preflight: &Preflight) -> anyhow::Result<Vec<(String, Judged)>> {
    let nodes = match preflight.hosts.is_empty() {
        true => directory::nodes(args, &["@all".to_owned()])?,
        false => directory::nodes(args, &preflight.hosts)?,
    };
    let ssh = ssh(&args.ssh);
    let results = fanout::each(&nodes, PARALLEL, |node| {
        let said = ssh.run(node, SCRIPT, PATIENCE)?;
        let facts =
            Facts::parse(&said).with_context(|| format!("cannot read what `{node}` says"))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
        Ok((judge(&facts, now.map(|now| now.as_secs())), facts))
    });
    Ok(nodes.iter().map(|node| node.label.clone()).zip(results).collect())
}

fn read(path: &Path) -> anyhow::Result<Facts> {
    let mut text = String::new();
    let cannot = || format!("cannot read `{}`", path.display());
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).with_context(cannot)?;
    } else {
        text = std::fs::read_to_string(path).with_context(cannot)?;
    }
    Facts::parse(&text).with_context(cannot)
}

/// 0 where all are usable, with or without losses; 1 where one is not; else 3 or 4
/// where all or some could not be asked.
fn status(results: &[(String, Judged)]) -> Status {
    let failed = results.iter().filter(|(_, result)| result.is_err()).count();
    let unusable = |(_, result): &(String, Judged)| {
        result.as_ref().is_ok_and(|(verdict, _)| verdict.grade == Grade::Unusable)
    };
    match failed {
        0 if results.iter().any(unusable) => Status::No,
        0 => Status::Done,
        all if all == results.len() => Status::Failed,
        _ => Status::Partly,
    }
}

fn word(grade: Grade) -> &'static str {
    match grade {
        Grade::Usable => "usable",
        Grade::Degraded => "degraded",
        Grade::Unusable => "unusable",
    }
}

fn text(name: &str, result: &Judged, verbose: bool) -> String {
    let (verdict, facts) = match result {
        Ok(judged) => judged,
        Err(error) => {
            let hint = hint_of(error).map(|hint| format!("  hint: {hint}\n")).unwrap_or_default();
            return format!("{name}: FAILED: {error:#}\n{hint}");
        }
    };
    let runtime = verdict.runtime.as_ref().map_or_else(String::new, |runtime| {
        format!(", pods run by {} {}", runtime.name, facts.get(&runtime.name))
    });
    let mut text = format!("{name}: {}{runtime} ({})\n", word(verdict.grade), machine(facts));
    for reason in &verdict.reasons {
        let mark = match reason.grade {
            Grade::Usable => "note",
            Grade::Degraded => "lost",
            Grade::Unusable => "fatal",
        };
        text.push_str(&format!("  {mark:5} {}\n", reason.what));
        if !reason.fix.is_empty() {
            text.push_str(&format!("        fix: {}\n", reason.fix));
        }
    }
    if verbose {
        text.extend(facts.all().map(|(key, value)| format!("    {key}={value}\n")));
    }
    text
}

/// What kind of machine it is, in a few words.
fn machine(facts: &Facts) -> String {
    let kind = match (facts.get("container"), facts.get("vm")) {
        ("none" | "", "none" | "") => "no virtualisation known",
        ("none" | "", vm) => vm,
        (container, _) => container,
    };
    let megabytes = facts.number("memory.kb").unwrap_or(0) / 1000;
    let (name, kernel, cgroup) = (facts.get("os.name"), facts.get("kernel"), facts.get("cgroup"));
    let ipv6 = match facts.get("ipv6") {
        "yes" => ", IPv6",
        "local" => ", IPv6 without a way out",
        "off" => ", no IPv6",
        _ => "",
    };
    format!("{name}, {kind}, Linux {kernel}, cgroup {cgroup}, {megabytes} MB{ipv6}")
}

fn value(name: &str, result: &Judged) -> Value {
    match result {
        Ok((verdict, facts)) => {
            let facts: serde_json::Map<String, Value> =
                facts.all().map(|(key, value)| (key.to_owned(), json!(value))).collect();
            json!({ "node": name, "verdict": verdict, "facts": facts })
        }
        Err(error) => {
            json!({ "node": name, "error": format!("{error:#}"), "hint": hint_of(error) })
        }
    }
}
