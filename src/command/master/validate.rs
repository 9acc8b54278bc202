//! `vzmaster validate`: read all files, name everything that is wrong.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::directory::{self, Fleet};
use super::mount_points;
use crate::cli::master::Args;
use crate::fleet::deployment::{Finding, Source};
use crate::fleet::fields::{Place, Violation};
use crate::fleet::secret::{self, FILE};
use crate::report::{self, Status, count};

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut fleet = directory::read(args)?;
    let of_bundles = fleet.sources.iter().flat_map(|source| of_bundles(args, source));
    fleet.findings.extend(of_bundles.collect::<Vec<_>>());
    fleet.findings.sort();
    let warnings = warnings(args, &fleet);
    if args.ssh.json {
        print_json(&fleet, &warnings)?;
    } else {
        let lines: String = fleet.findings.iter().map(|finding| format!("{finding}\n")).collect();
        report::data(lines.as_bytes())?;
        warnings.iter().for_each(|warning| report::warn("vzmaster", warning));
        let hosts = fleet.deployment.hosts.len();
        let summary = match fleet.findings.len() {
            0 => {
                let (pods, hosts) = (count(fleet.sources.len(), "pod"), count(hosts, "host"));
                format!("{pods}, {hosts}: nothing is wrong")
            }
            number => count(number, "violation"),
        };
        let more = match warnings.len() {
            0 => String::new(),
            number => format!(", {}", count(number, "warning")),
        };
        report::say("vzmaster", summary + &more);
    }
    Ok(if fleet.findings.is_empty() { Status::Done } else { Status::No }.into())
}

/// What is wrong with the bundles of a pod, as far as they are there.
fn of_bundles(args: &Args, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for container in &source.pod.containers {
        let (name, dir) = (&container.bundle, args.directory.join(&container.bundle));
        if !is_there(&dir) {
            continue;
        }
        let mut find = |place: &Place, what: String| {
            let violation = Violation { line: place.line, path: place.path.clone(), what };
            findings.push(Finding { file: source.file.clone(), violation });
        };
        match mount_points::absent(&dir, container) {
            Err(error) => find(&container.place, format!("the bundle `{name}`: {error:#}")),
            Ok(absent) => absent.into_iter().for_each(|mount| {
                let (path, remedy) = (&mount.path, mount_points::remedy(&[mount]));
                let what = format!("the bundle `{name}` has nothing at `{path}`: {remedy}");
                find(&mount.place, what);
            }),
        }
    }
    findings
}

fn is_there(bundle: &Path) -> bool {
    bundle.join("config.json").is_file()
}

/// What may be meant so, and what is not of the files themselves and may be made later:
/// bundles, and files of secrets.
fn warnings(args: &Args, fleet: &Fleet) -> Vec<String> {
    let idle = fleet.deployment.idle.iter();
    let idle = idle.map(|name| format!("no group of groups.yaml has the pod `{name}`"));
    let mut warnings: Vec<String> = idle.collect();
    let pods = fleet.deployment.hosts.values().flat_map(|host| host.pods.values());
    let bundles: BTreeSet<(&str, &str)> = pods
        .flat_map(|pod| pod.containers.iter().map(|c| (c.bundle.as_str(), pod.name.as_str())))
        .collect();
    for (bundle, pod) in bundles {
        if !is_there(&args.directory.join(bundle)) {
            warnings.push(format!(
                "the pod `{pod}` has no bundle yet: `vzbuild bundle` or `minify` makes `{bundle}`"
            ));
        }
    }
    for (name, keys) in &fleet.secrets {
        for (key, source) in keys {
            if let secret::Source::File(file) = source
                && !args.directory.join(file).is_file()
            {
                let line = fleet.secret_lines.get(&(name.clone(), key.clone())).unwrap_or(&1);
                warnings.push(format!("{FILE}:{line}: {name}.{key}: there is no file `{file}`"));
            }
        }
    }
    warnings
}

fn print_json(fleet: &Fleet, warnings: &[String]) -> anyhow::Result<()> {
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
    let idle = &fleet.deployment.idle;
    let value = json!({
        "violations": violations, "warnings": warnings, "hosts": hosts, "idle": idle,
    });
    report::data(format!("{value:#}\n").as_bytes())
}
