//! A deployment as an Ansible playbook. Pure.
//!
//! ```text
//! deploy.yaml, hosts.ini          what `ansible-playbook` is given
//! host_vars/HOST.yaml             which bundles and pods the host has
//! roles/vz_*/tasks/*.yml          how they get there; the same for all fleets
//! roles/vz_bundle/files/bundles   NAME-ID.tar
//! roles/vz_pod/files/revisions    POD/ID/…, as [`super::revision`] has them
//! ```
//!
//! What it leaves on a node is what `vzmaster deploy` leaves there, so either finds
//! nothing to do after the other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::pod::{Probe, Probing};
use super::preflight::SYSTEMD_BACK_OFF;
use super::render::Machine;
use super::revision::{Placed, RECORD, Record, Revision, Update};
use super::secret;
use super::unit;
use super::yaml::write;
use crate::push::target::Node;

/// How `deploy.yaml` begins, by which a playbook of ours is known.
pub const MARK: &str = "# Written by `vzmaster playbook`";
/// Where revisions of pods lie in a playbook.
pub const REVISIONS: &str = "roles/vz_pod/files/revisions";
/// Where bundles lie in a playbook.
pub const BUNDLES: &str = "roles/vz_bundle/files/bundles";

macro_rules! role {
    ($path:literal) => {
        (concat!("roles/", $path), include_str!(concat!("playbook/roles/", $path)))
    };
}

/// The files that are the same for all fleets, by path.
pub const FIXED: [(&str, &str); 10] = [
    ("deploy.yaml", include_str!("playbook/deploy.yaml")),
    role!("vz_node/tasks/main.yml"),
    role!("vz_bundle/tasks/main.yml"),
    role!("vz_bundle/tasks/bundle.yml"),
    role!("vz_pod/tasks/main.yml"),
    role!("vz_pod/tasks/pod.yml"),
    role!("vz_pod/tasks/switch.yml"),
    role!("vz_pod/tasks/units.yml"),
    role!("vz_pod/tasks/note.yml"),
    role!("vz_pod/tasks/probes.yml"),
];

/// What has to be there where systemd alone runs pods.
const SYSTEMD: &str = "/proc/1/exe";

/// Seconds that a revision has for what has no time of its own, as on a node.
const SLACK: u32 = 30;

/// Why a host cannot be in a playbook.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaybookError {
    /// Its name would be another file's, or means something in an inventory.
    #[error("`{}` cannot be the name of a host in a playbook", .0.escape_debug())]
    Name(String),
    /// Its units are not linked as those of the others.
    #[error("the pod `{0}` is for Quadlet, which a playbook has no tasks for")]
    Quadlet(String),
    /// A revision's record cannot be read.
    #[error("the record of the pod `{pod}` cannot be read")]
    Record {
        /// The pod.
        pod: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// The inventory; `ssh` are arguments for ssh beside those that Ansible has itself.
///
/// # Errors
/// Where a host has a name that an inventory cannot have.
pub fn inventory(nodes: &[&Node], ssh: &[String]) -> Result<String, PlaybookError> {
    let mut text = "# Written by `vzmaster playbook`, which writes it anew.\n[vz]\n".to_owned();
    for node in nodes {
        let plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
        if !node.label.chars().all(plain) || node.label.starts_with(['.', '-']) {
            return Err(PlaybookError::Name(node.label.clone()));
        }
        text.push_str(&node.label);
        if node.host != node.label {
            text.push_str(&format!(" ansible_host={}", quoted(&node.host)));
        }
        text.extend(node.user.iter().map(|user| format!(" ansible_user={}", quoted(user))));
        text.extend(node.port.iter().map(|port| format!(" ansible_port={port}")));
        text.push('\n');
    }
    if !ssh.is_empty() {
        let words: Vec<String> = ssh.iter().map(|word| quoted(word)).collect();
        text.push_str(&format!("\n[vz:vars]\nansible_ssh_common_args={}\n", words.join(" ")));
    }
    Ok(text)
}

/// A word as a shell and Python's shlex read it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\"'\"'")),
    }
}

/// The variables of one host, as YAML.
///
/// # Errors
/// When a revision has no record, or is for Quadlet.
pub fn host_vars(
    machine: &Machine,
    wished: &BTreeMap<String, Revision>,
) -> Result<String, PlaybookError> {
    let mut pods = Vec::new();
    let mut bundles = BTreeSet::new();
    for (name, revision) in wished {
        let text = revision.files.get(RECORD).map_or("", String::as_str);
        let record: Record = serde_json::from_str(text)
            .map_err(|source| PlaybookError::Record { pod: name.clone(), source })?;
        if record.containers.iter().any(|placed| placed.runtime.by_podman()) {
            return Err(PlaybookError::Quadlet(name.clone()));
        }
        bundles.extend(record.containers.iter().map(|c| (c.bundle.clone(), c.bundle_id.clone())));
        pods.push(pod(revision, &record, machine));
    }
    let bundle = |(name, id): &(String, String)| json!({ "name": name, "id": id });
    let vars = json!({
        "vz_store": machine.store,
        "vz_runtime": if machine.runtime.by_systemd() { SYSTEMD } else { &machine.runtime.path },
        "vz_back_off": machine.systemd >= SYSTEMD_BACK_OFF,
        "vz_bundles": bundles.iter().map(bundle).collect::<Vec<_>>(),
        "vz_pods": pods,
    });
    // What Ansible would take for a template is marked as none.
    let mark = |text: &str| match ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
        true => "!unsafe ",
        false => "",
    };
    let head = "# Written by `vzmaster playbook`, which writes it anew.\n---\n";
    Ok(format!("{head}{}", write::text(&vars, &mark)))
}

fn pod(revision: &Revision, record: &Record, machine: &Machine) -> Value {
    // As Kubernetes has an emptyDir: whoever the container runs as writes to it.
    let own = format!("{}/.volumes/", machine.store);
    let dir = |path: &String| {
        let mode = if path.starts_with(&own) { "0777" } else { "0755" };
        json!({ "path": path, "mode": mode })
    };
    let probes = |placed: &Placed| -> Vec<Value> {
        let all = [
            ("startup", &placed.startup),
            ("readiness", &placed.readiness),
            ("liveness", &placed.liveness),
        ];
        let asked = |(what, asked): &(&str, &Option<Probe>)| {
            asked.as_ref().map(|asked| probe(what, placed, asked))
        };
        all.iter().filter_map(asked).collect()
    };
    json!({
        "name": revision.pod,
        "id": revision.id,
        "tag": record.tag,
        "secret": revision.files.contains_key(secret::SCRIPT),
        "network": record.network.is_some(),
        "published": record.network.as_ref().is_some_and(|ports| !ports.is_empty()),
        "update": if record.update == Update::StartFirst { "start-first" } else { "stop-first" },
        "restart": record.containers.first().map(|placed| placed.restart),
        "units": record.all_units(),
        "dirs": record.dirs.iter().map(dir).collect::<Vec<_>>(),
        "probes": record.containers.iter().flat_map(probes).collect::<Vec<_>>(),
    })
}

fn probe(what: &str, placed: &Placed, probe: &Probe) -> Value {
    let kind = match &probe.probing {
        Probing::Http { host, port, tls, path, headers } => {
            let headers: BTreeMap<&String, &String> = headers.iter().map(|(n, v)| (n, v)).collect();
            let scheme = if *tls { "https" } else { "http" };
            json!({
                "kind": "http", "scheme": scheme, "host": host, "port": port, "path": path,
                "headers": headers,
            })
        }
        Probing::Tcp { host, port } => json!({ "kind": "tcp", "host": host, "port": port }),
        Probing::Exec { command } => {
            let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
            let line = format!("{} {}", unit::exec(placed, false), words.join(" "));
            let timeout = probe.timeout.to_string();
            let argv = ["timeout", "--kill-after=1", &timeout, "sh", "-c", &line];
            json!({ "kind": "exec", "argv": argv })
        }
    };
    // Only the startup probe says by itself when it is too late.
    let slack = if what == "startup" { 0 } else { SLACK.div_ceil(probe.period) };
    let mut value = json!({
        "what": what,
        "container": placed.name,
        "delay": probe.initial_delay,
        "period": probe.period,
        "timeout": probe.timeout,
        "tries": probe.failures.max(probe.successes).saturating_add(slack),
    });
    if let (Some(value), Value::Object(kind)) = (value.as_object_mut(), kind) {
        value.extend(kind);
    }
    value
}

#[cfg(test)]
mod tests;
