//! From the documents of a file to pods.

use std::collections::BTreeMap;

use super::container;
use super::{Backend, Pod, Restart, UpdateOrder, Volume};
use crate::fleet::fields::{At, Check, Fields, Violation, or_near};
use crate::fleet::yaml::Node;

/// Seconds of grace that Kubernetes gives by default.
const GRACE: u32 = 30;

/// Names of signals that a stop may be asked for with.
const SIGNALS: [&str; 8] =
    ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL"];

/// Reads the pods of a file, one a document. Those with violations are left out.
pub fn read(text: &str) -> (Vec<Pod>, Vec<Violation>) {
    let mut check = Check::default();
    let documents = check.documents(text);
    if documents.is_empty() && check.violations.is_empty() {
        check.note(1, "", "has no pod in it");
    }
    let mut pods = Vec::new();
    for document in &documents {
        let before = check.violations.len();
        let pod = pod(&mut check, document);
        pods.extend(pod.filter(|_| check.violations.len() == before));
    }
    check.violations.sort();
    (pods, check.violations)
}

fn pod(check: &mut Check, document: &Node) -> Option<Pod> {
    let top = At::top(document);
    let fields =
        check.fields(&top, &["apiVersion", "kind", "metadata", "spec"], |name| match name {
            "status" => "it is no wish, but what a cluster says",
            _ => "",
        })?;
    for (name, expected) in [("apiVersion", "v1"), ("kind", "Pod")] {
        match fields.get(name).map(|at| (check.text(&at), at)) {
            None => check.missing(&fields, name),
            Some((Some(text), at)) if text != expected => {
                check.wrong(&at, format!("must be {expected}, and is `{}`", text.escape_debug()));
            }
            Some(_) => {}
        }
    }
    let metadata = match fields.get("metadata") {
        Some(at) => metadata(check, &at),
        None => {
            check.missing(&fields, "metadata");
            None
        }
    };
    let Some(at) = fields.get("spec") else {
        check.missing(&fields, "spec");
        return None;
    };
    let mut pod = spec(check, &at)?;
    let (name, labels, annotations) = metadata?;
    for (key, (value, line)) in annotations {
        annotate(check, &mut pod, &key, &value, line);
    }
    Some(Pod { name, labels, line: document.line, ..pod })
}

type Annotations = BTreeMap<String, (String, usize)>;
type Metadata = (String, BTreeMap<String, String>, Annotations);

fn metadata(check: &mut Check, at: &At<'_>) -> Option<Metadata> {
    let fields = check.fields(at, &["name", "labels", "annotations"], |name| match name {
        "namespace" => "a node has one",
        _ => "",
    })?;
    let mut words = |name: &str| {
        let mut words = Annotations::new();
        let map = fields.get(name).and_then(|at| check.map(&at));
        for (key, at) in map.iter().flat_map(Fields::all) {
            if let Some(value) = check.text(&at) {
                words.insert(key.text.clone(), (value, key.line));
            }
        }
        words
    };
    let labels = words("labels").into_iter().map(|(key, (value, _))| (key, value)).collect();
    let annotations = words("annotations");
    let Some(at) = fields.get("name") else {
        check.missing(&fields, "name");
        return None;
    };
    Some((check.label(&at)?, labels, annotations))
}

/// Annotations of others mean nothing here; ours must be known.
fn annotate(check: &mut Check, pod: &mut Pod, key: &str, value: &str, line: usize) {
    let Some(ours) = key.strip_prefix("vz/") else { return };
    let path = format!("metadata.annotations[\"{}\"]", key.escape_debug());
    if ours == "update" {
        pod.order = match value {
            "start-first" if pod.host_network => {
                let what =
                    "both revisions would listen on the node's own ports: leave hostNetwork out";
                return check.note(line, &path, what);
            }
            "start-first" => UpdateOrder::StartFirst,
            "stop-first" => UpdateOrder::StopFirst,
            _ => return check.note(line, &path, "must be start-first or stop-first"),
        };
        return;
    }
    if ours == "backend" {
        pod.backend = match value {
            "container" => Backend::Container,
            "quadlet" => Backend::Quadlet,
            "systemd" => Backend::Systemd,
            _ => return check.note(line, &path, "must be container, quadlet or systemd"),
        };
        return;
    }
    let Some(name) = ours.strip_prefix("stop-signal.") else {
        let what = match or_near(key, ["vz/update", "vz/backend"]) {
            near if near.is_empty() => {
                ": of vz's own there are vz/update, vz/backend and vz/stop-signal.CONTAINER".into()
            }
            near => near,
        };
        return check.note(line, &path, format!("not supported{what}"));
    };
    if !SIGNALS.contains(&value) {
        return check.note(line, &path, format!("must be one of {}", SIGNALS.join(", ")));
    }
    match pod.containers.iter_mut().find(|container| container.name == name) {
        Some(container) => container.stop_signal = value.to_owned(),
        None => {
            let near = or_near(name, pod.containers.iter().map(|container| &container.name));
            check.note(line, &path, format!("there is no container of this name{near}"));
        }
    }
}

fn why(name: &str) -> &'static str {
    match name {
        "initContainers" => "do it in the program, or before the deployment",
        "dnsPolicy" | "dnsConfig" | "hostAliases" => "names are looked up as the node does",
        "nodeName" | "nodeSelector" | "affinity" | "tolerations" => {
            "groups.yaml says where pods run"
        }
        "imagePullSecrets" => "nodes pull nothing, bundles are pushed",
        "securityContext" => "write it into each container",
        _ => "",
    }
}

fn spec(check: &mut Check, at: &At<'_>) -> Option<Pod> {
    let known =
        ["hostNetwork", "restartPolicy", "terminationGracePeriodSeconds", "containers", "volumes"];
    let fields = check.fields(at, &known, why)?;
    let host_network = fields.get("hostNetwork").and_then(|at| check.truth(&at)).unwrap_or(false);
    let restart = fields.get("restartPolicy").map(|at| (check.text(&at), at));
    let restart = match restart {
        None | Some((None, _)) => Restart::Always,
        Some((Some(text), at)) => match text.as_str() {
            "Always" => Restart::Always,
            "OnFailure" => Restart::OnFailure,
            "Never" => Restart::Never,
            _ => {
                check.wrong(
                    &at,
                    format!("must be Always, OnFailure or Never, and is `{}`", text.escape_debug()),
                );
                Restart::Always
            }
        },
    };
    let grace = fields.get("terminationGracePeriodSeconds");
    let grace = grace.and_then(|at| check.number(&at, 0..=3600)).unwrap_or(GRACE);
    let volumes = fields.get("volumes").map(|at| volumes(check, &at)).unwrap_or_default();
    let items = fields.get("containers").map(|at| check.list(&at)).unwrap_or_default();
    if items.is_empty() {
        check.missing(&fields, "containers");
    }
    let mut containers: Vec<container::Container> = Vec::new();
    for item in &items {
        let Some(container) = container::read(check, item, &volumes, host_network) else {
            continue;
        };
        if containers.iter().any(|other| other.name == container.name) {
            check.wrong(item, format!("another container is called `{}`", container.name));
        }
        containers.push(container);
    }
    Some(Pod {
        name: String::new(),
        labels: BTreeMap::new(),
        restart,
        grace,
        host_network,
        backend: Backend::default(),
        order: UpdateOrder::default(),
        containers,
        volumes,
        line: at.node.line,
    })
}

fn volumes(check: &mut Check, at: &At<'_>) -> BTreeMap<String, Volume> {
    let mut volumes = BTreeMap::new();
    for at in check.list(at) {
        let why = |name: &str| match name {
            "configMap" | "projected" => "put the file onto the node and use hostPath",
            "persistentVolumeClaim" => "use hostPath",
            _ => "",
        };
        let Some(fields) = check.fields(&at, &["name", "hostPath", "emptyDir", "secret"], why)
        else {
            continue;
        };
        let Some(name) = fields.get("name").map(|at| check.label(&at)) else {
            check.missing(&fields, "name");
            continue;
        };
        let kinds = ["hostPath", "emptyDir", "secret"].map(|kind| fields.get(kind));
        let volume = match kinds {
            [Some(at), None, None] => host_path(check, &at),
            [None, Some(at), None] => empty_dir(check, &at),
            [None, None, Some(at)] => secret(check, &at),
            _ => {
                check.wrong(&at, "must have one of hostPath, emptyDir: {} and secret");
                None
            }
        };
        // A volume that is wrong is there all the same, for the mounts that name it.
        let volume = volume.unwrap_or(Volume::EmptyDir);
        if let Some(name) = name
            && volumes.insert(name.clone(), volume).is_some()
        {
            check.wrong(&at, format!("another volume is called `{name}`"));
        }
    }
    volumes
}

fn host_path(check: &mut Check, at: &At<'_>) -> Option<Volume> {
    let fields = check.fields(at, &["path", "type"], |_| "")?;
    let create = match fields.get("type").map(|at| (check.text(&at), at)) {
        None | Some((None, _)) => false,
        Some((Some(text), at)) => match text.as_str() {
            "DirectoryOrCreate" => true,
            "" | "Directory" | "File" | "Socket" => false,
            _ => {
                let types = "DirectoryOrCreate, Directory, File or Socket";
                check.wrong(&at, format!("must be {types}, and is `{}`", text.escape_debug()));
                false
            }
        },
    };
    let Some(at) = fields.get("path") else {
        check.missing(&fields, "path");
        return None;
    };
    Some(Volume::HostPath { path: container::path(check, &at)?, create })
}

fn secret(check: &mut Check, at: &At<'_>) -> Option<Volume> {
    let fields = check.fields(at, &["secretName"], |name| match name {
        "items" => "each key is a file of its name",
        "defaultMode" => "whoever the container runs as can read it",
        _ => "",
    })?;
    let Some(at) = fields.get("secretName") else {
        check.missing(&fields, "secretName");
        return None;
    };
    Some(Volume::Secret { name: check.label(&at)?, place: at.place() })
}

fn empty_dir(check: &mut Check, at: &At<'_>) -> Option<Volume> {
    let fields = check.fields(at, &["medium", "sizeLimit"], |_| "")?;
    let memory = match fields.get("medium").map(|at| (check.text(&at), at)) {
        None | Some((None, _)) => false,
        Some((Some(text), at)) => {
            if !matches!(text.as_str(), "" | "Memory") {
                check.wrong(&at, format!("must be Memory, and is `{}`", text.escape_debug()));
            }
            text == "Memory"
        }
    };
    let limit = fields.get("sizeLimit").and_then(|at| {
        if memory {
            return container::bytes(check, &at);
        }
        check.wrong(&at, "not supported: it is kept with medium: Memory only");
        None
    });
    Some(if memory { Volume::MemoryDir { limit } } else { Volume::EmptyDir })
}
