//! One container of a pod.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::Volume;
use super::probe::{self, Probe};
use crate::fleet::fields::{At, Check, Fields, Place, or_near};
use crate::fleet::quantity;

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name, a DNS label.
    pub name: String,
    /// Directory of its bundle, relative to the fleet's directory.
    pub bundle: String,
    /// Where the file says it.
    pub place: Place,
    /// Replaces the bundle's program and arguments.
    pub command: Vec<String>,
    /// Replaces the bundle's arguments, or follows `command`.
    pub args: Vec<String>,
    /// Added to the bundle's environment.
    pub env: BTreeMap<String, String>,
    /// Replaces the bundle's working directory.
    pub cwd: Option<String>,
    /// What it listens on.
    pub ports: Vec<Port>,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// What it may use at most.
    pub limits: Limits,
    /// When it is started.
    pub startup: Option<Probe>,
    /// When it does its work.
    pub readiness: Option<Probe>,
    /// When it is alive.
    pub liveness: Option<Probe>,
    /// Who runs it, and with what rights.
    pub security: Security,
    /// Signal that asks it to end, as `SIGTERM`.
    pub stop_signal: String,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// How probes may call it.
    pub name: Option<String>,
    /// Its number in the container.
    pub number: u16,
    /// Its number on the node; none where the node does not pass it on.
    pub host: Option<u16>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where the file says it.
    pub place: Place,
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As nftables calls it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// A volume's place in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// Absolute path in the container.
    pub path: String,
    /// Whether the container cannot write to it.
    pub readonly: bool,
    /// Where the file says it.
    pub place: Place,
}

/// `resources.limits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Thousandths of a CPU.
    pub milli_cpus: Option<u32>,
}

/// `securityContext`; what is not said is the bundle's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// Whether setuid files work.
    pub escalation: Option<bool>,
    /// Capabilities that are added, as `NET_BIND_SERVICE`.
    pub add: Vec<String>,
    /// Capabilities that are dropped; `ALL` is all.
    pub drop: Vec<String>,
}

const KNOWN: [&str; 14] = [
    "name",
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "env",
    "workingDir",
    "ports",
    "volumeMounts",
    "resources",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "securityContext",
];

fn why(name: &str) -> &'static str {
    match name {
        "lifecycle" => "no hooks are run; a stop signal is the annotation vz/stop-signal.CONTAINER",
        "envFrom" => "write the variables into env",
        "terminationMessagePath" | "terminationMessagePolicy" => "what it says is in the journal",
        "tty" | "stdin" | "stdinOnce" => "a service has no terminal; `vzmaster exec` gives one",
        "restartPolicy" => "it is the pod's",
        _ => "",
    }
}

/// Reads a container.
pub(super) fn read(
    check: &mut Check,
    at: &At<'_>,
    volumes: &BTreeMap<String, Volume>,
    host_network: bool,
) -> Option<Container> {
    let fields = check.fields(at, &KNOWN, why)?;
    let name = match fields.get("name") {
        Some(at) => check.label(&at),
        None => {
            check.missing(&fields, "name");
            None
        }
    };
    let bundle = bundle(check, &fields);
    if let Some(at) = fields.get("imagePullPolicy")
        && let Some(policy) = check.text(&at)
        && policy != "Never"
    {
        check.wrong(&at, "must be Never: nodes pull nothing, bundles are pushed");
    }
    let mut words = |name: &str| {
        let at = fields.get(name)?;
        let words = check.texts(&at);
        if let Some(word) = words.iter().find(|word| expands(word)) {
            check.wrong(
                &at,
                format!(
                    "not supported: `{}` is expanded by Kubernetes and not here",
                    word.escape_debug()
                ),
            );
        }
        if words.iter().any(|word| word.contains('\0')) {
            check.wrong(&at, "a word has a NUL byte");
        }
        Some(words)
    };
    let command = words("command").unwrap_or_default();
    let args = words("args").unwrap_or_default();
    let env = fields.get("env").map(|at| env(check, &at)).unwrap_or_default();
    let cwd = fields.get("workingDir").and_then(|at| path(check, &at));
    let ports = fields.get("ports").map(|at| ports(check, &at, host_network));
    let ports = ports.unwrap_or_default();
    let mounts = fields.get("volumeMounts").map(|at| mounts(check, &at, volumes));
    let limits = fields.get("resources").map(|at| limits(check, &at)).unwrap_or_default();
    let mut probe = |name: &str| probe::read(check, &fields.get(name)?, &ports);
    let (startup, readiness, liveness) =
        (probe("startupProbe"), probe("readinessProbe"), probe("livenessProbe"));
    let security = fields.get("securityContext").and_then(|at| security(check, &at));
    Some(Container {
        name: name?,
        bundle: bundle?,
        place: fields.get("image")?.place(),
        command,
        args,
        env,
        cwd,
        ports,
        mounts: mounts.unwrap_or_default(),
        limits,
        startup,
        readiness,
        liveness,
        security: security.unwrap_or_default(),
        stop_signal: "SIGTERM".to_owned(),
    })
}

/// Whether Kubernetes would look for a variable's name in it.
fn expands(word: &str) -> bool {
    word.match_indices("$(").any(|(at, _)| {
        let rest = word.get(at + 2..).unwrap_or_default();
        rest.split_once(')').is_some_and(|(name, _)| is_variable(name))
    })
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
}

fn bundle(check: &mut Check, fields: &Fields<'_>) -> Option<String> {
    let Some(at) = fields.get("image") else {
        check.missing(fields, "image");
        return None;
    };
    let text = check.text(&at)?;
    match text.strip_prefix("bundle:") {
        Some(path) if !path.is_empty() && !path.contains('\0') => Some(path.to_owned()),
        _ => {
            check.wrong(
                &at,
                format!(
                    "not supported: `{}`; write bundle:DIR for a bundle of `vzbuild bundle`",
                    text.escape_debug()
                ),
            );
            None
        }
    }
}

fn env(check: &mut Check, at: &At<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for at in check.list(at) {
        let why = |name: &str| match name {
            "valueFrom" => "write the value",
            _ => "",
        };
        let Some(fields) = check.fields(&at, &["name", "value"], why) else { continue };
        let name = fields.get("name").and_then(|at| check.text(&at));
        let value = match fields.get("value") {
            Some(at) => match check.text(&at) {
                Some(value) => {
                    if expands(&value) {
                        check.wrong(
                            &at,
                            "not supported: `$(NAME)` is expanded by Kubernetes and not here",
                        );
                    }
                    if value.contains('\0') {
                        check.wrong(&at, "has a NUL byte");
                    }
                    value
                }
                None => continue,
            },
            None => String::new(),
        };
        match name {
            None => check.missing(&fields, "name"),
            Some(name) if !is_variable(&name) => {
                check.wrong(&at, format!("`{}` is no variable's name", name.escape_debug()));
            }
            Some(name) => {
                if env.insert(name.clone(), value).is_some() {
                    check.wrong(&at, format!("`{name}` is here twice"));
                }
            }
        }
    }
    env
}

/// An absolute path that leads nowhere else by its text.
pub(super) fn path(check: &mut Check, at: &At<'_>) -> Option<String> {
    let text = check.text(at)?;
    let parts = || text.split('/').skip(1);
    let odd = |c: char| c.is_control();
    if !text.starts_with('/') || text.contains(odd) || parts().any(|part| part == "..") {
        check.wrong(at, format!("`{}` is no absolute path without `..`", text.escape_debug()));
        return None;
    }
    let parts: Vec<&str> = parts().filter(|part| !part.is_empty() && *part != ".").collect();
    Some(format!("/{}", parts.join("/")))
}

fn ports(check: &mut Check, at: &At<'_>, host_network: bool) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for at in check.list(at) {
        let known = ["name", "containerPort", "hostPort", "protocol"];
        let why = |name: &str| match name {
            "hostIP" => "the program itself chooses the address that it listens on",
            _ => "",
        };
        let Some(fields) = check.fields(&at, &known, why) else { continue };
        let number = |check: &mut Check, name: &str| {
            let at = fields.get(name)?;
            let number = check.number(&at, 1..=65535)?;
            u16::try_from(number).ok()
        };
        let inside = number(check, "containerPort");
        let outside = number(check, "hostPort");
        if let (Some(inside), Some(outside)) = (inside, outside)
            && inside != outside
            && host_network
        {
            check.wrong(
                &at,
                "hostPort and containerPort differ, and the pod shares the node's network",
            );
        }
        let protocol = match fields.get("protocol").map(|at| (check.text(&at), at)) {
            None | Some((None, _)) => Protocol::Tcp,
            Some((Some(text), at)) => match text.as_str() {
                "TCP" => Protocol::Tcp,
                "UDP" => Protocol::Udp,
                _ => {
                    check.wrong(
                        &at,
                        format!("must be TCP or UDP, and is `{}`", text.escape_debug()),
                    );
                    Protocol::Tcp
                }
            },
        };
        let name = fields.get("name").and_then(|at| check.label(&at));
        if name.is_some() && ports.iter().any(|port| port.name == name) {
            check.wrong(&at, "another port has this name");
        }
        match inside {
            Some(number) => {
                let host = if host_network { Some(number) } else { outside };
                ports.push(Port { name, number, host, protocol, place: at.place() });
            }
            None if fields.get("containerPort").is_none() => {
                check.missing(&fields, "containerPort");
            }
            None => {}
        }
    }
    ports
}

fn mounts(check: &mut Check, at: &At<'_>, volumes: &BTreeMap<String, Volume>) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for at in check.list(at) {
        let Some(fields) = check.fields(&at, &["name", "mountPath", "readOnly"], |_| "") else {
            continue;
        };
        let volume = fields.get("name").and_then(|at| {
            let name = check.text(&at)?;
            if !volumes.contains_key(&name) {
                let near = or_near(&name, volumes.keys());
                check.wrong(&at, format!("there is no volume `{}`{near}", name.escape_debug()));
                return None;
            }
            Some(name)
        });
        let path = fields.get("mountPath").and_then(|at| path(check, &at));
        let readonly = fields.get("readOnly").and_then(|at| check.truth(&at)).unwrap_or(false);
        for name in ["name", "mountPath"] {
            if fields.get(name).is_none() {
                check.missing(&fields, name);
            }
        }
        let (Some(volume), Some(path)) = (volume, path) else { continue };
        if path == "/" || mounts.iter().any(|mount| mount.path == path) {
            check.wrong(&at, format!("something else is at `{path}`"));
        }
        mounts.push(Mount { volume, path, readonly, place: at.place() });
    }
    mounts
}

/// An amount of memory.
pub(super) fn bytes(check: &mut Check, at: &At<'_>) -> Option<u64> {
    let text = check.quantity(at)?;
    let bytes = quantity::bytes(&text);
    if bytes.is_none() {
        let text = text.escape_debug();
        check.wrong(at, format!("`{text}` is no amount of memory from 1Mi on, such as 64Mi"));
    }
    bytes
}

fn limits(check: &mut Check, at: &At<'_>) -> Limits {
    let mut limits = Limits::default();
    let why = |name: &str| match name {
        "requests" => "nothing schedules by them",
        _ => "",
    };
    let Some(fields) = check.fields(at, &["limits"], why) else { return limits };
    let Some(at) = fields.get("limits") else { return limits };
    let Some(fields) = check.fields(&at, &["memory", "cpu"], |_| "") else { return limits };
    if let Some(at) = fields.get("memory") {
        limits.memory = bytes(check, &at);
    }
    if let Some(at) = fields.get("cpu")
        && let Some(text) = check.quantity(&at)
    {
        limits.milli_cpus = quantity::milli_cpus(&text);
        if limits.milli_cpus.is_none() {
            check.wrong(
                &at,
                format!("`{}` is no amount of CPU, such as 500m or 2", text.escape_debug()),
            );
        }
    }
    limits
}

fn security(check: &mut Check, at: &At<'_>) -> Option<Security> {
    let known = [
        "runAsUser",
        "runAsGroup",
        "readOnlyRootFilesystem",
        "allowPrivilegeEscalation",
        "privileged",
        "capabilities",
    ];
    let fields = check.fields(at, &known, |_| "")?;
    if let Some(at) = fields.get("readOnlyRootFilesystem")
        && check.truth(&at) == Some(false)
    {
        check.wrong(&at, "not supported: a revision is never written to; mount an emptyDir");
    }
    if let Some(at) = fields.get("privileged")
        && check.truth(&at) == Some(true)
    {
        check.wrong(&at, "not supported: name the capabilities that it needs");
    }
    let mut id = |name: &str| {
        let at = fields.get(name)?;
        check.number(&at, 0..=u32::MAX - 1)
    };
    let (uid, gid) = (id("runAsUser"), id("runAsGroup"));
    let escalation = fields.get("allowPrivilegeEscalation").and_then(|at| check.truth(&at));
    let sets =
        fields.get("capabilities").and_then(|at| check.fields(&at, &["add", "drop"], |_| ""));
    let mut names = |name: &str| {
        let Some(at) = sets.as_ref().and_then(|sets| sets.get(name)) else { return Vec::new() };
        let mut names = check.texts(&at);
        for name in &mut names {
            *name = name.trim_start_matches("CAP_").to_owned();
            let full = serde_json::Value::from(format!("CAP_{name}"));
            let known = name.as_str() == "ALL"
                || serde_json::from_value::<oci_spec::runtime::Capability>(full).is_ok();
            if !known {
                check.wrong(&at, format!("`{}` is no capability", name.escape_debug()));
            }
        }
        if name == "add" && names.iter().any(|name| name == "ALL") {
            check.wrong(&at, "not supported: name the capabilities that it needs");
        }
        names
    };
    let (add, drop) = (names("add"), names("drop"));
    Some(Security { uid, gid, escalation, add, drop })
}
