//! `vzmaster validate`: read all files, name everything that is wrong.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde_json::json;

use super::directory::{self, Fleet};
use crate::cli::master::Args;
use crate::fleet::secret::{FILE, Source};
use crate::report::{self, Status, count};

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let fleet = directory::read(args)?;
    if args.ssh.json {
        print_json(&fleet)?;
    } else {
        let lines: String = fleet.findings.iter().map(|finding| format!("{finding}\n")).collect();
        report::data(lines.as_bytes())?;
        warn_of_idle(&fleet);
        warn_of_absent(args, &fleet);
        let hosts = fleet.deployment.hosts.len();
        let summary = match fleet.findings.len() {
            0 => {
                let (pods, hosts) = (count(fleet.pods, "pod"), count(hosts, "host"));
                format!("{pods}, {hosts}: nothing is wrong")
            }
            number => count(number, "violation"),
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

/// What is not of the files themselves, and may be made later: bundles, and files of secrets.
fn warn_of_absent(args: &Args, fleet: &Fleet) {
    let pods = fleet.deployment.hosts.values().flat_map(|host| host.pods.values());
    let bundles: BTreeSet<(&str, &str)> = pods
        .flat_map(|pod| pod.containers.iter().map(|c| (c.bundle.as_str(), pod.name.as_str())))
        .collect();
    for (bundle, pod) in bundles {
        if !args.directory.join(bundle).join("config.json").is_file() {
            let what = format_args!(
                "the pod `{pod}` has no bundle yet: `vzbuild bundle` or `minify` makes `{bundle}`"
            );
            report::warn("vzmaster", what);
        }
    }
    for (name, keys) in &fleet.secrets {
        for (key, source) in keys {
            if let Source::File(file) = source
                && !args.directory.join(file).is_file()
            {
                let line = fleet.secret_lines.get(&(name.clone(), key.clone())).unwrap_or(&1);
                let what = format_args!("{FILE}:{line}: {name}.{key}: there is no file `{file}`");
                report::warn("vzmaster", what);
            }
        }
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
