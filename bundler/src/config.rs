//! `config.json` of an OCI runtime bundle.
//!
//! Built from plain values that are all decided before, and printed in one
//! canonical form, so that equal inputs give equal bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxNamespace,
    LinuxNamespaceType, LinuxResources, Mount, Process, Root, Spec, User,
};

use crate::writable::Tmpfs;

/// The annotation of `config.json` that has the layer's [`crate::DiffId`].
pub const DIFF_ID: &str = "vz.diff-id";

/// Version of the runtime specification that the files follow. runc 1.1 and
/// crun 1.8 know it, and nothing newer is used.
const OCI_VERSION: &str = "1.0.2";

/// Capabilities of a program that runs as root: to be other users (SETUID,
/// SETGID), to handle their files (CHOWN, DAC_OVERRIDE, FOWNER) and processes
/// (KILL), and to listen below port 1024. Less than podman's eleven: what a
/// service does not do in its main job is asked for with `--cap`.
const ROOT_CAPABILITIES: [Capability; 7] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setgid,
    Capability::Setuid,
];

/// Where programs are looked for when nothing else says it.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What runc masks by default (`runc spec`).
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];

/// What runc makes read-only by default (`runc spec`).
const READONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A directory or file of the host that is mounted into the container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: String,
    /// Absolute path in the container.
    pub destination: String,
    /// Whether the container cannot write to it.
    pub readonly: bool,
}

/// What a container is to be like. Everything is optional in the sense that
/// `Container::default()` is a container, though one without a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// `NAME=VALUE`, sorted by name.
    pub env: BTreeMap<String, String>,
    /// Working directory; `/` where it is empty.
    pub cwd: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: BTreeSet<u32>,
    /// Host name.
    pub hostname: String,
    /// Whether the root file system can be written to.
    pub writable: bool,
    /// Directories in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// What comes from the host.
    pub binds: Vec<Bind>,
    /// Whether /sys is there.
    pub sysfs: bool,
    /// Whether /dev/mqueue is there.
    pub mqueue: bool,
    /// Whether the network is a new and empty one.
    pub own_network: bool,
    /// Capabilities that the program keeps, beside those of every root.
    pub capabilities: Capabilities,
    /// Whether setuid files and file capabilities work.
    pub new_privileges: bool,
    /// What is said of it to whoever reads `config.json`.
    pub annotations: BTreeMap<String, String>,
}

impl Container {
    /// Returns the content of `config.json`.
    pub fn spec(&self) -> Spec {
        let mut root = Root::default();
        root.set_path("rootfs".into()).set_readonly(Some(!self.writable));
        let mut spec = Spec::default();
        spec.set_version(OCI_VERSION.to_owned())
            .set_root(Some(root))
            .set_hostname(Some(self.hostname.clone()))
            .set_process(Some(self.process()))
            .set_mounts(Some(self.mounts()))
            .set_linux(Some(self.linux()));
        if !self.annotations.is_empty() {
            spec.set_annotations(Some(self.annotations.clone().into_iter().collect()));
        }
        spec
    }

    fn process(&self) -> Process {
        let mut user = User::default();
        user.set_uid(self.uid).set_gid(self.gid);
        if !self.groups.is_empty() {
            user.set_additional_gids(Some(self.groups.iter().copied().collect()));
        }
        let cwd = if self.cwd.is_empty() { "/" } else { &self.cwd };
        let mut process = Process::default();
        process
            .set_terminal(Some(false))
            .set_user(user)
            .set_args(Some(self.args.clone()))
            .set_env(Some(self.env.iter().map(|(name, value)| format!("{name}={value}")).collect()))
            .set_cwd(cwd.into())
            .set_capabilities(Some(self.linux_capabilities()))
            // Limits are the caller's: raising a hard one is not everyone's right,
            // and a container that asks for it would not start.
            .set_rlimits(None)
            .set_no_new_privileges(Some(!self.new_privileges));
        process
    }

    fn linux_capabilities(&self) -> LinuxCapabilities {
        let kept = &self.capabilities;
        let mut of_root: Capabilities = ROOT_CAPABILITIES.into();
        of_root.extend(kept);
        let none = Capabilities::new();
        let is_root = self.uid == 0;
        // A user's own capabilities pass through execve(2) only as ambient ones,
        // and root's pass anyway.
        let held = if is_root { &of_root } else { kept };
        let ambient = if is_root { &none } else { kept };
        // What setuid files can gain is bounded too.
        let bounding = if is_root || self.new_privileges { &of_root } else { kept };
        let mut sets = LinuxCapabilities::default();
        sets.set_bounding(Some(bounding.clone()))
            .set_effective(Some(held.clone()))
            .set_permitted(Some(held.clone()))
            .set_inheritable(Some(ambient.clone()))
            .set_ambient(Some(ambient.clone()));
        sets
    }

    fn mounts(&self) -> Vec<Mount> {
        let mut mounts = vec![
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount(
                "/dev/pts",
                "devpts",
                "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            ),
        ];
        if self.mqueue {
            mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
        }
        if self.sysfs {
            mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]));
        }
        mounts.extend(self.tmpfs.iter().map(Tmpfs::mount));
        for bind in &self.binds {
            let access = if bind.readonly { "ro" } else { "rw" };
            mounts.push(mount(&bind.destination, "bind", &bind.source, &["rbind", access]));
        }
        mounts
    }

    fn linux(&self) -> Linux {
        use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
        let mut kinds = vec![Cgroup, Ipc, Mount, Pid, Uts];
        if self.own_network {
            kinds.push(Network);
        }
        let namespaces = kinds.into_iter().map(namespace).collect();
        let mut no_devices = LinuxDeviceCgroup::default();
        no_devices.set_allow(false).set_access(Some("rwm".to_owned()));
        let mut resources = LinuxResources::default();
        resources.set_devices(Some(vec![no_devices]));
        let mut linux = Linux::default();
        linux
            .set_namespaces(Some(namespaces))
            .set_resources(Some(resources))
            .set_masked_paths(Some(MASKED.map(str::to_owned).into()))
            .set_readonly_paths(Some(READONLY.map(str::to_owned).into()));
        linux
    }
}

/// A mount of `config.json`.
pub(crate) fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

pub(crate) fn namespace(kind: LinuxNamespaceType) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespace
}

/// Notes the digest of the layer that `spec` goes with.
pub fn set_diff_id(spec: &mut Spec, diff_id: crate::DiffId) {
    let mut annotations: HashMap<_, _> = spec.annotations().clone().unwrap_or_default();
    annotations.insert(DIFF_ID.to_owned(), diff_id.to_string());
    spec.set_annotations(Some(annotations));
}

/// Returns `spec` as JSON with sorted keys, indented, with a newline at the end.
///
/// # Errors
/// When a value of it has no JSON form, such as a path that is not UTF-8.
pub fn print(spec: &Spec) -> serde_json::Result<Vec<u8>> {
    let mut value = serde_json::to_value(spec)?;
    value.sort_all_objects();
    // `oci_spec` keeps capabilities in hash sets.
    if let Some(sets) = value.pointer_mut("/process/capabilities").and_then(|v| v.as_object_mut()) {
        for set in sets.values_mut().filter_map(|set| set.as_array_mut()) {
            set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    let mut text = serde_json::to_vec_pretty(&value)?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(container: &Container) -> serde_json::Value {
        serde_json::from_slice(&print(&container.spec()).unwrap()).unwrap()
    }

    #[test]
    fn equal_containers_print_equal_bytes() {
        let container = Container {
            args: vec!["perl".to_owned()],
            env: [("B", "2"), ("A", "1")].map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
            ..Container::default()
        };
        let text = print(&container.spec()).unwrap();
        for _ in 0..20 {
            assert_eq!(print(&container.spec()).unwrap(), text);
        }
        let again: Spec = serde_json::from_slice(&text).unwrap();
        assert_eq!(print(&again).unwrap(), text);
    }

    #[test]
    fn a_user_has_no_capabilities_and_root_has_seven() {
        let user = json(&Container { uid: 1000, ..Container::default() });
        assert_eq!(user["process"]["capabilities"]["bounding"], serde_json::json!([]));
        assert_eq!(user["process"]["noNewPrivileges"], true);
        let root = json(&Container::default());
        assert_eq!(root["process"]["capabilities"]["effective"].as_array().unwrap().len(), 7);
        assert_eq!(root["process"]["capabilities"]["ambient"], serde_json::json!([]));
    }

    #[test]
    fn a_user_keeps_what_was_asked_for_through_execve() {
        let capabilities = [Capability::NetBindService].into();
        let user = json(&Container { uid: 33, capabilities, ..Container::default() });
        let expected = serde_json::json!(["CAP_NET_BIND_SERVICE"]);
        for set in ["ambient", "bounding", "effective", "inheritable", "permitted"] {
            assert_eq!(user["process"]["capabilities"][set], expected, "{set}");
        }
    }
}
