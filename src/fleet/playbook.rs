//! A deployment as an Ansible playbook. Pure.
//!
//! ```text
//! deploy.yaml, hosts.ini          what `ansible-playbook` is given
//! host_vars/HOST.yaml             which bundles, pods and secrets the host has
//! roles/vz_*/{tasks,files}/*      how they get there; the same for all fleets
//! roles/vz_bundle/files/bundles   NAME-ID.tar
//! roles/vz_pod/files/revisions    POD/ID/…, as [`super::revision`] has them
//! ```
//!
//! What it leaves on a node is what `vzmaster deploy` leaves there, so either finds
//! nothing to do after the other. Of secrets it has where the master finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use delta::Digest;
use serde_json::{Value, json};

use super::network::Published;
use super::pod::{Pod, Probe, Probing};
use super::preflight::SYSTEMD_BACK_OFF;
use super::render::Machine;
use super::revision::{Files, Placed, RECORD, Record, Revision, Update};
use super::secret::{self, Source, Sources};
use super::shell::quoted;
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
pub const FIXED: [(&str, &str); 12] = [
    ("deploy.yaml", include_str!("playbook/deploy.yaml")),
    role!("vz_node/tasks/main.yml"),
    role!("vz_node/files/look.sh"),
    role!("vz_secret/tasks/main.yml"),
    role!("vz_secret/files/secrets.sh"),
    role!("vz_bundle/tasks/main.yml"),
    role!("vz_bundle/tasks/bundle.yml"),
    role!("vz_pod/tasks/main.yml"),
    role!("vz_pod/tasks/pod.yml"),
    role!("vz_pod/tasks/probes.yml"),
    role!("vz_pod/files/pod.sh"),
    role!("vz_pod/vars/main.yml"),
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

/// The inventory: all nodes, and those that have secrets; `ssh` are arguments for ssh beside
/// those that Ansible has itself.
///
/// # Errors
/// Where a host has a name that an inventory cannot have.
pub fn inventory(nodes: &[(&Node, bool)], ssh: &[String]) -> Result<String, PlaybookError> {
    let mut text = "# Written by `vzmaster playbook`, which writes it anew.\n[vz]\n".to_owned();
    for (node, _) in nodes {
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
    text.push_str("\n[vz_secret]\n");
    let secret = nodes.iter().filter(|(_, secret)| *secret);
    text.extend(secret.map(|(node, _)| format!("{}\n", node.label)));
    text.push_str(INVENTORY);
    if !ssh.is_empty() {
        let words: Vec<String> = ssh.iter().map(|word| quoted(word)).collect();
        text.push_str(&format!("ansible_ssh_common_args={}\n", words.join(" ")));
    }
    Ok(text)
}

/// What all inventories have: without pipelining, modules and what they are given lie on
/// the nodes' disks, and each task takes three times as long.
const INVENTORY: &str = "
# Nodes that are not as wished; deploy.yaml fills it.
[vz_behind]

[vz:vars]
ansible_pipelining=true
ansible_python_interpreter=/usr/bin/python3
";

/// The variables of one host, as YAML; `secrets` are of [`secrets`].
///
/// # Errors
/// When a revision has no record, or is for Quadlet.
pub fn host_vars(
    machine: &Machine,
    wished: &BTreeMap<String, Revision>,
    secrets: &[Value],
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
        "vz_secrets": secrets,
    });
    // What Ansible would take for a template is marked as none.
    let mark = |text: &str| match ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
        true => "!unsafe ",
        false => "",
    };
    let head = "# Written by `vzmaster playbook`, which writes it anew.\n---\n";
    Ok(format!("{head}{}", write::text(&vars, &mark)))
}

/// Where the secrets of `pods` are found, and the number that they have on `machine`; `dir`
/// is the fleet's directory.
pub fn secrets(
    pods: &BTreeMap<String, Pod>,
    sources: &Sources,
    dir: &Path,
    machine: &Machine,
) -> Vec<Value> {
    let key = |(key, source): (&String, &Source)| match source {
        Source::File(file) => json!({ "key": key, "file": dir.join(file) }),
        Source::Command(words) => {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            // Ansible strips what commands print; the last letter is taken off again.
            let dir = quoted(&dir.display().to_string());
            let line = format!("cd {dir} && {} && printf x", words.join(" "));
            json!({ "key": key, "command": line })
        }
    };
    let mut secrets = Vec::new();
    for (pod, wished) in pods {
        let number = machine.secrets.get(pod).map_or(secret::FIRST, String::as_str);
        for name in secret::names(wished) {
            let keys: Vec<Value> = sources.get(name).into_iter().flatten().map(key).collect();
            secrets.push(json!({ "pod": pod, "number": number, "name": name, "keys": keys }));
        }
    }
    secrets
}

/// What `sha256sum` says of what `sha256sum` says of the files.
fn sum(files: &Files) -> String {
    let line =
        |(path, text): (&String, &String)| format!("{}  ./{path}\n", Digest::of(text.as_bytes()));
    Digest::of(files.iter().map(line).collect::<String>().as_bytes()).to_string()
}

fn pod(revision: &Revision, record: &Record, machine: &Machine) -> Value {
    // As Kubernetes has an emptyDir: whoever the container runs as writes to it.
    let own = format!("{}/.volumes/", machine.store);
    let dir = |path: &String| {
        let mode = if path.starts_with(&own) { "0777" } else { "0755" };
        json!({ "path": path, "mode": mode })
    };
    let mut dirs: Vec<Value> = record.dirs.iter().map(dir).collect();
    if record.dirs.iter().any(|path| path.starts_with(&own)) {
        dirs.insert(0, json!({ "path": own.trim_end_matches('/'), "mode": "0700" }));
    }
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
    let led = |port: &Published| format!("{}:{}", port.name(), port.port);
    json!({
        "name": revision.pod,
        "id": revision.id,
        "tag": record.tag,
        "sum": sum(&revision.files),
        "ports": record.network.iter().flatten().map(led).collect::<Vec<_>>(),
        "listens": record.listens.iter().map(Published::name).collect::<Vec<_>>(),
        "update": if record.update == Update::StartFirst { "start-first" } else { "stop-first" },
        "restart": record.containers.first().map(|placed| placed.restart),
        "units": record.all_units(),
        "dirs": dirs,
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
