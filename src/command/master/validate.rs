//! `vzmaster validate`: read all files, name everything that is wrong.

use std::process::ExitCode;

use serde_json::json;

use super::directory::{self, Fleet};
use crate::cli::master::Args;
use crate::report::{self, Status};

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let fleet = directory::read(args)?;
    if args.ssh.json {
        print_json(&fleet)?;
    } else {
        let lines: String = fleet.findings.iter().map(|finding| format!("{finding}\n")).collect();
        report::data(lines.as_bytes())?;
        warn_of_idle(&fleet);
        let hosts = fleet.deployment.hosts.len();
        let summary = match fleet.findings.len() {
            0 => format!("{} pods, {hosts} hosts: nothing is wrong", fleet.pods),
            1 => "1 violation".to_owned(),
            count => format!("{count} violations"),
        };
        report::say("vzmaster", summary);
    }
    Ok(if fleet.findings.is_empty() { Status::Done } else { Status::No }.into())
}

fn warn_of_idle(fleet: &Fleet) {
    for name in &fleet.deployment.idle {
        report::warn("vzmaster", format_args!("no group of groups.yaml has the pod `{name}`"));
    }
}

fn print_json(fleet: &Fleet) -> anyhow::Result<()> {
    let violations: Vec<_> = fleet
        .findings
        .iter()
        .map(|finding| {
            let violation = &finding.violation;
            json!({
                "file": finding.file,
                "line": violation.line,
                "path": violation.path,
                "what": violation.what,
            })
        })
        .collect();
    let hosts: serde_json::Map<String, serde_json::Value> = fleet
        .deployment
        .hosts
        .iter()
        .map(|(name, host)| (name.clone(), json!(host.pods.keys().collect::<Vec<_>>())))
        .collect();
    let value = json!({ "violations": violations, "hosts": hosts, "idle": fleet.deployment.idle });
    report::data(format!("{value:#}\n").as_bytes())
}
