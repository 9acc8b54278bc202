//! `vzmaster retire NODE`: a machine that is no more, or is to be no more. It is never
//! asked.

use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;

use super::deploy::by;
use super::directory::{self, RETIRED};
use crate::cli::master::{Args, Retire};
use crate::fleet::fields::or_near;
use crate::report::{self, Advice, Status};

pub(super) fn run(args: &Args, retire: &Retire) -> anyhow::Result<ExitCode> {
    let fleet = directory::read(args)?;
    let host = &retire.host;
    let already = fleet.retired.contains_key(host);
    let pods = match (fleet.deployment.hosts.get(host), fleet.retired.get(host)) {
        (Some(host), _) | (None, Some(host)) => host.pods.clone(),
        (None, None) => {
            let near = or_near(host, fleet.deployment.hosts.keys());
            return Err(anyhow!("the inventory has no host `{host}`{near}"))
                .hint("`vzmaster validate --json` lists the hosts")
                .status(Status::Usage as u8);
        }
    };
    if !already {
        directory::note_retired(args, host, &by())?;
    }
    let elsewhere = |pod: &&String| {
        let mut hosts = fleet.deployment.hosts.iter().filter(|(name, _)| *name != host);
        hosts.any(|(_, host)| host.pods.contains_key(*pod))
    };
    let (kept, lost): (Vec<&String>, Vec<&String>) = pods.keys().partition(elsewhere);
    if args.ssh.json {
        report::json(&json!({
            "node": host, "already": already, "pods": pods.keys().collect::<Vec<_>>(),
            "run-elsewhere": kept, "run-nowhere": lost,
        }))?;
        return Ok(Status::Done.into());
    }
    let what = if already { "was retired before" } else { "is retired" };
    report::say(
        "vzmaster",
        format!("{host} {what}: `{RETIRED}` names it, and nothing asks it any more"),
    );
    for pod in lost {
        report::warn(
            "vzmaster",
            format_args!("{pod} ran there only: name another host in groups.yaml"),
        );
    }
    Ok(Status::Done.into())
}
