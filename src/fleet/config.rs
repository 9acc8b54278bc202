//! A container's `config.json`: the bundle's own, with what the pod says. Pure.

use serde_json::{Value, json};

use super::pod::Container;
use super::preflight::Runtime;

/// Why a bundle's `config.json` cannot serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no `process` or `root` in it.
    #[error("its config.json has no `{0}`")]
    Lacks(&'static str),
    /// Containers could write into the revision.
    #[error("its root file system can be written to")]
    Writable,
    /// What keeps a container in would be left out.
    #[error("its config.json has {0}, which {1} does not take from it")]
    NotKept(&'static str, String),
    /// Neither the bundle nor the pod says what to run.
    #[error("neither its config.json nor the pod says what to run")]
    NoCommand,
}

/// Where a container is put.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Absolute path of its root file system, without links.
    pub rootfs: &'a str,
    /// The control group that the runtime makes; none where it leaves the unit's.
    pub cgroup: Option<String>,
    /// Path of the network namespace; none for the node's own.
    pub network: Option<String>,
    /// Source on the node, place in the container, whether it is read-only.
    pub mounts: Vec<(String, String, bool)>,
}

/// Returns the `config.json` of `container`, from that of its bundle.
///
/// # Errors
/// Where the bundle cannot be run so.
pub fn derive(
    bundle: &Value,
    container: &Container,
    place: &Place<'_>,
) -> Result<Value, ConfigError> {
    let mut config = bundle.clone();
    let root = config.get_mut("root").and_then(Value::as_object_mut);
    let root = root.ok_or(ConfigError::Lacks("root"))?;
    if root.get("readonly") != Some(&Value::Bool(true)) {
        return Err(ConfigError::Writable);
    }
    root.insert("path".to_owned(), json!(place.rootfs));
    let process = config.get_mut("process").and_then(Value::as_object_mut);
    let process = process.ok_or(ConfigError::Lacks("process"))?;
    process.insert("terminal".to_owned(), json!(false));
    process.insert("args".to_owned(), json!(args(process.get("args"), container)?));
    process.insert("env".to_owned(), json!(env(process.get("env"), container)));
    if let Some(cwd) = &container.cwd {
        process.insert("cwd".to_owned(), json!(cwd));
    }
    let security = &container.security;
    if let Some(escalation) = security.escalation {
        process.insert("noNewPrivileges".to_owned(), json!(!escalation));
    }
    let mut user = process.get("user").cloned().unwrap_or_else(|| json!({ "uid": 0, "gid": 0 }));
    if let (Some(uid), Some(user)) = (security.uid, user.as_object_mut()) {
        // The groups are those of the user before.
        user.remove("additionalGids");
        user.insert("uid".to_owned(), json!(uid));
    }
    if let (Some(gid), Some(user)) = (security.gid, user.as_object_mut()) {
        user.insert("gid".to_owned(), json!(gid));
    }
    let is_root = user.get("uid") == Some(&json!(0));
    process.insert("user".to_owned(), user);
    let sets = capabilities(process.get("capabilities"), container, is_root);
    process.insert("capabilities".to_owned(), sets);
    mounts(&mut config, place);
    linux(&mut config, place);
    if let Some(annotations) = config.get_mut("annotations").and_then(Value::as_object_mut) {
        // The bundle's digest is in its path, and says it better.
        annotations.remove(bundler::config::DIFF_ID);
    }
    Ok(config)
}

/// What crun and runc alone take from a `config.json`; Podman has the first, too.
const THEIRS: [(&str, &str); 4] = [
    (SECCOMP, "linux.seccomp"),
    ("/linux/uidMappings", "linux.uidMappings"),
    ("/process/rlimits", "process.rlimits"),
    ("/hooks", "hooks"),
];
/// Where the filter of system calls is.
pub const SECCOMP: &str = "/linux/seccomp";

/// Whether `runtime` does all that `config` says.
///
/// # Errors
/// What it would leave out.
pub fn kept(config: &Value, runtime: &Runtime) -> Result<(), ConfigError> {
    let left_out = |(path, _): &&(&str, &str)| {
        let takes = match runtime.name.as_str() {
            "podman" => *path == SECCOMP,
            "systemd" => false,
            _ => true,
        };
        !takes && config.pointer(path).is_some_and(|value| !value.is_null())
    };
    match THEIRS.iter().find(left_out) {
        Some((_, name)) => Err(ConfigError::NotKept(name, runtime.name.clone())),
        None => Ok(()),
    }
}

/// `command` replaces all; `args` alone follows the bundle's program.
fn args(bundle: Option<&Value>, container: &Container) -> Result<Vec<String>, ConfigError> {
    let own = strings(bundle);
    let args = match (container.command.as_slice(), container.args.as_slice()) {
        ([], []) => own,
        ([], args) => own.iter().take(1).chain(args).cloned().collect(),
        (command, args) => command.iter().chain(args).cloned().collect(),
    };
    if args.is_empty() { Err(ConfigError::NoCommand) } else { Ok(args) }
}

fn env(bundle: Option<&Value>, container: &Container) -> Vec<String> {
    let name = |word: &String| word.split('=').next().unwrap_or_default().to_owned();
    let own = strings(bundle).into_iter().filter(|word| !container.env.contains_key(&name(word)));
    let more = container.env.iter().map(|(name, value)| format!("{name}={value}"));
    let mut env: Vec<String> = own.chain(more).collect();
    env.sort();
    env
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The bundle's capabilities less those dropped, and those added.
fn capabilities(bundle: Option<&Value>, container: &Container, is_root: bool) -> Value {
    let full = |names: &[String]| -> Vec<String> {
        names.iter().map(|name| format!("CAP_{name}")).collect()
    };
    let (added, dropped) = (full(&container.security.add), full(&container.security.drop));
    let all = dropped.iter().any(|name| name == "CAP_ALL");
    let mut sets = serde_json::Map::new();
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        let mut names = strings(bundle.and_then(|sets| sets.get(set)));
        names.retain(|name| !all && !dropped.contains(name));
        // A user's own capabilities pass through execve(2) only as ambient ones.
        if !is_root || !matches!(set, "inheritable" | "ambient") {
            names.extend(
                added.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>(),
            );
        }
        names.sort();
        sets.insert(set.to_owned(), json!(names));
    }
    Value::Object(sets)
}

/// What is mounted at the same place before gives way.
fn mounts(config: &mut Value, place: &Place<'_>) {
    let mut mounts = config.get("mounts").and_then(Value::as_array).cloned().unwrap_or_default();
    let at = |mount: &Value| mount.get("destination").and_then(Value::as_str).map(str::to_owned);
    mounts
        .retain(|mount| !place.mounts.iter().any(|(_, path, _)| Some(path) == at(mount).as_ref()));
    for (source, destination, readonly) in &place.mounts {
        let mode = if *readonly { "ro" } else { "rw" };
        mounts.push(json!({
            "destination": destination,
            "type": "bind",
            "source": source,
            "options": ["rbind", "nosuid", "nodev", mode],
        }));
    }
    if let Some(config) = config.as_object_mut() {
        config.insert("mounts".to_owned(), Value::Array(mounts));
    }
}

/// The network, and the control group.
fn linux(config: &mut Value, place: &Place<'_>) {
    let Some(config) = config.as_object_mut() else { return };
    let linux = config.entry("linux").or_insert_with(|| json!({}));
    let Some(linux) = linux.as_object_mut() else { return };
    let namespaces = linux.entry("namespaces").or_insert_with(|| json!([]));
    if let Some(namespaces) = namespaces.as_array_mut() {
        namespaces.retain(|namespace| namespace.get("type") != Some(&json!("network")));
        namespaces.extend(place.network.as_ref().map(|p| json!({ "type": "network", "path": p })));
    }
    match &place.cgroup {
        Some(path) => linux.insert("cgroupsPath".to_owned(), json!(path)),
        None => linux.remove("cgroupsPath"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::pod;

    fn bundle() -> Value {
        json!({
            "root": { "path": "rootfs", "readonly": true },
            "process": {
                "args": ["app", "-v"], "env": ["A=1", "PATH=/bin"], "cwd": "/",
                "user": { "uid": 33, "gid": 33, "additionalGids": [4] },
                "capabilities": { "bounding": ["CAP_CHOWN"] },
            },
            "mounts": [{ "destination": "/tmp", "type": "tmpfs" }],
            "linux": { "namespaces": [{ "type": "pid" }, { "type": "network" }], "cgroupsPath": "/x" },
        })
    }

    fn derived(bundle: &Value, more: &str) -> Result<Value, ConfigError> {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  hostNetwork: true\n  containers:\n  - name: app\n    image: bundle:x\n{more}"
        );
        let (pods, violations) = pod::read(&text);
        assert_eq!(violations, []);
        let mounts = vec![("/srv".to_owned(), "/tmp".to_owned(), true)];
        let place =
            Place { rootfs: "/var/lib/vz/revs/x/1/rootfs", cgroup: None, network: None, mounts };
        derive(bundle, &pods[0].containers[0], &place)
    }

    #[track_caller]
    fn check(more: &str, pointer: &str, expected: &Value) {
        let config = derived(&bundle(), more).unwrap();
        assert_eq!(config.pointer(pointer), Some(expected), "{config:#}");
    }

    #[test]
    fn the_pod_overrides_what_it_says() {
        check("", "/process/args", &json!(["app", "-v"]));
        check("    args: [-q]\n", "/process/args", &json!(["app", "-q"]));
        check("    command: [sh]\n    args: [-c]\n", "/process/args", &json!(["sh", "-c"]));
        check("    env: [{name: A, value: '2'}]\n", "/process/env", &json!(["A=2", "PATH=/bin"]));
        check("    workingDir: /srv\n", "/process/cwd", &json!("/srv"));
        check(
            "    securityContext: {runAsUser: 0}\n",
            "/process/user",
            &json!({ "uid": 0, "gid": 33 }),
        );
        check(
            "    securityContext: {allowPrivilegeEscalation: false}\n",
            "/process/noNewPrivileges",
            &json!(true),
        );
    }

    #[test]
    fn capabilities_of_a_user_are_ambient() {
        let more = "    securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}\n";
        for set in ["bounding", "effective", "ambient"] {
            let path = format!("/process/capabilities/{set}");
            check(more, &path, &json!(["CAP_NET_BIND_SERVICE"]));
        }
        check("", "/process/capabilities/bounding", &json!(["CAP_CHOWN"]));
    }

    #[test]
    fn it_shares_the_nodes_network_and_mounts_give_way() {
        check("", "/linux", &json!({ "namespaces": [{ "type": "pid" }] }));
        check("", "/root/path", &json!("/var/lib/vz/revs/x/1/rootfs"));
        let options = json!(["rbind", "nosuid", "nodev", "ro"]);
        let bind = json!([{ "destination": "/tmp", "type": "bind", "source": "/srv", "options": options }]);
        check("", "/mounts", &bind);
    }

    #[test]
    fn a_bundle_that_cannot_serve_is_refused() {
        let mut writable = bundle();
        writable["root"]["readonly"] = json!(false);
        assert_eq!(derived(&writable, ""), Err(ConfigError::Writable));
        let mut silent = bundle();
        silent["process"]["args"] = json!([]);
        assert_eq!(derived(&silent, ""), Err(ConfigError::NoCommand));
        assert_eq!(derived(&json!({}), ""), Err(ConfigError::Lacks("root")));
    }

    #[test]
    fn nothing_that_keeps_a_container_in_is_left_out() {
        let mut filtered = bundle();
        filtered["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ERRNO" });
        let crun = Runtime { name: "crun".into(), path: "/usr/bin/crun".into() };
        assert_eq!(kept(&filtered, &crun), Ok(()));
        assert_eq!(kept(&filtered, &Runtime::podman()), Ok(()));
        let expected = Err(ConfigError::NotKept("linux.seccomp", "systemd".into()));
        assert_eq!(kept(&filtered, &Runtime::systemd()), expected);
        let mut limited = bundle();
        limited["process"]["rlimits"] = json!([]);
        for runtime in [Runtime::podman(), Runtime::systemd()] {
            assert_eq!(kept(&bundle(), &runtime), Ok(()));
            let expected = Err(ConfigError::NotKept("process.rlimits", runtime.name.clone()));
            assert_eq!(kept(&limited, &runtime), expected);
        }
    }
}
