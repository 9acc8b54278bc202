//! What follows from the facts. Pure.

use serde::{Deserialize, Serialize};

use super::Facts;
use crate::fleet::pod::Backend;

/// How well a machine serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// All that a pod can ask for.
    Usable,
    /// Pods run, and something is lost.
    Degraded,
    /// Pods cannot run.
    Unusable,
}

impl Runtime {
    /// systemd itself, where containers cannot run.
    pub fn systemd() -> Self {
        Runtime { name: "systemd".to_owned(), path: String::new() }
    }

    /// Podman, which Quadlet's generator calls by this path, too.
    pub fn podman() -> Self {
        Runtime { name: "podman".to_owned(), path: "/usr/bin/podman".to_owned() }
    }

    /// Whether it is Podman.
    pub fn by_podman(&self) -> bool {
        self.name == "podman"
    }

    /// Whether it is systemd itself.
    pub fn by_systemd(&self) -> bool {
        self.name == "systemd"
    }
}

/// What runs a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// `crun`, `runc`, `podman`, or `systemd` itself.
    pub name: String,
    /// Where it lies on the node; nothing for systemd.
    pub path: String,
}

/// One thing that follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What it makes of the machine; [`Grade::Usable`] where it is only good to know.
    pub grade: Grade,
    /// What it is.
    pub what: String,
    /// What to do about it; nothing where there is nothing to do.
    pub fix: String,
}

/// What follows from all facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The worst of the reasons' grades.
    pub grade: Grade,
    /// With what containers are run: the first that could run one.
    pub runtime: Option<Runtime>,
    /// The worst first.
    pub reasons: Vec<Reason>,
}

/// Linux 4.18, RHEL 8's: the receiver's oldest.
const KERNEL: (u64, u64) = (4, 18);
/// systemd 239, RHEL 8's: older ones lack what the units say.
const SYSTEMD: u64 = 239;
/// systemd 254 is the first with RestartSteps= (systemd.service(5)).
pub const SYSTEMD_BACK_OFF: u64 = 254;

/// Seconds between the clocks that are no matter: as long as ssh may take.
const SKEW: u64 = 60;

/// Judges a machine; `now` is this machine's clock, in seconds since 1970.
pub fn judge(facts: &Facts, now: Option<u64>) -> Verdict {
    let runtime = ["crun", "runc"].into_iter().find(|name| works(facts, name)).map(|name| {
        Runtime { name: name.to_owned(), path: facts.get(&format!("{name}.path")).to_owned() }
    });
    let mut reasons = Vec::new();
    machine(facts, &mut reasons);
    let by_systemd = cannot(facts, Backend::Systemd).is_none();
    if runtime.is_none() {
        let mut reason = no_runtime(facts);
        if by_systemd {
            reason.grade = Grade::Degraded;
            reason.what.push_str("; units with RootDirectory= do, where processes see the node's");
        }
        reasons.push(reason);
    }
    let runtime = runtime.or_else(|| by_systemd.then(Runtime::systemd));
    limits(facts, &mut reasons);
    room(facts, &mut reasons);
    surroundings(facts, now, &mut reasons);
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.grade));
    let grade = reasons.first().map_or(Grade::Usable, |reason| reason.grade);
    Verdict { grade, runtime, reasons }
}

/// Why a machine cannot run pods by what they ask for themselves, and what to do.
pub fn cannot(facts: &Facts, backend: Backend) -> Option<Reason> {
    let (tried, what, fix) = match backend {
        Backend::Container => return None,
        Backend::Systemd => (
            &["try.rootdirectory", "try.overlay"][..],
            "units with RootDirectory= over an overlay do not work".to_owned(),
            "leave vz/backend out of the pod: crun or runc run it",
        ),
        Backend::Quadlet => (
            &["try.quadlet"][..],
            match facts.get("podman") {
                "" => "podman is not installed".to_owned(),
                version => format!("podman {version} has no Quadlet that knows Rootfs="),
            },
            "install podman 4.5 or later (Debian 12 has none, Debian 13 has), or leave vz/backend out of the pod: crun or runc run it",
        ),
    };
    let works = tried.iter().all(|fact| facts.get(fact) == "yes");
    (!works).then(|| Reason { grade: Grade::Unusable, what, fix: fix.to_owned() })
}

fn works(facts: &Facts, name: &str) -> bool {
    facts.get(&format!("{name}.trial")) == "yes"
        && facts.get(&format!("{name}.path")).starts_with('/')
}

fn add(reasons: &mut Vec<Reason>, grade: Grade, what: impl Into<String>, fix: &str) {
    reasons.push(Reason { grade, what: what.into(), fix: fix.to_owned() });
}

/// What nothing on the machine itself can change.
fn machine(facts: &Facts, reasons: &mut Vec<Reason>) {
    use Grade::Unusable;
    let arch = facts.get("arch");
    if arch != std::env::consts::ARCH {
        let what = format!("it is {arch}, and this vzmaster is for {}", std::env::consts::ARCH);
        add(reasons, Unusable, what, "take a machine of this architecture");
    }
    let mut numbers = facts.get("kernel").split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if kernel < KERNEL {
        let what = format!("its kernel is {}, and 4.18 is needed", facts.get("kernel"));
        let fix = match facts.get("container") {
            "openvz" => "OpenVZ shares the provider's kernel: ask for KVM",
            _ => "install a newer kernel, or take a machine with one",
        };
        add(reasons, Unusable, what, fix);
    }
    if facts.get("pid1") != "systemd" {
        let what = format!("its first process is `{}`, and not systemd", facts.get("pid1"));
        let fix = match facts.get("container") {
            "docker" | "podman" => "this is a container for one program: ask the provider for KVM",
            _ => "install a distribution that is run by systemd",
        };
        add(reasons, Unusable, what, fix);
    }
    match facts.number("systemd") {
        Some(version) if version < SYSTEMD => {
            let what = format!("systemd is {version}, and {SYSTEMD} is needed");
            add(reasons, Unusable, what, "upgrade the distribution");
        }
        Some(version) if version < SYSTEMD_BACK_OFF => {
            let what = format!("systemd {version} restarts after a constant time");
            let fix = format!("systemd {SYSTEMD_BACK_OFF} and later wait longer each time");
            add(reasons, Grade::Usable, what, &fix);
        }
        Some(_) => {}
        None if facts.get("pid1") == "systemd" => {
            add(reasons, Unusable, "`systemctl` does not answer", "see why on the machine");
        }
        None => {}
    }
    if facts.get("uid") != "0" {
        let what = format!("the user that ssh logs in as has uid {}", facts.get("uid"));
        let fix = "let root in by key, and say root@ or ansible_user=root";
        add(reasons, Unusable, what, fix);
    }
    let missing = facts.get("tools.missing");
    if !missing.is_empty() {
        add(reasons, Unusable, format!("it lacks {missing}"), "install coreutils");
    }
}

fn no_runtime(facts: &Facts) -> Reason {
    let said: Vec<String> = ["crun", "runc"]
        .iter()
        .filter(|name| !facts.get(name).is_empty())
        .map(|name| {
            let said = facts.get(&format!("{name}.trial"));
            format!("{name} says: {}", said.strip_prefix("no: ").unwrap_or(said))
        })
        .collect();
    let (what, fix) = if said.is_empty() {
        let install = match facts.get("os").split(' ').next() {
            Some("debian" | "ubuntu") => "apt-get install -y crun",
            Some("alpine") => "apk add crun",
            Some("opensuse-leap" | "sles") => "zypper install crun",
            _ => "dnf install -y crun",
        };
        ("neither crun nor runc is installed".to_owned(), install)
    } else {
        let fix = match facts.get("container") {
            "lxc" => "ask for nesting (Proxmox: `pct set ID --features nesting=1`), or for KVM",
            "openvz" | "docker" | "podman" => "ask the provider for KVM",
            _ => "run the trial by hand, and see what the kernel forbids",
        };
        (format!("no container runs: {}", said.join("; ")), fix)
    };
    Reason { grade: Grade::Unusable, what, fix: fix.to_owned() }
}

fn limits(facts: &Facts, reasons: &mut Vec<Reason>) {
    if facts.get("cgroup") == "none" {
        let what = "no control groups are mounted: limits of memory and CPU are not kept";
        return add(reasons, Grade::Degraded, what, "boot with systemd.unified_cgroup_hierarchy=1");
    }
    for (controller, what) in [("memory", "memory"), ("cpu", "CPU")] {
        if !facts.has("cgroup.controllers", controller) {
            let what =
                format!("limits of {what} are not kept: cgroup has no controller `{controller}`");
            let fix = match controller {
                "memory" => "boot with cgroup_enable=memory; in a container, ask the provider",
                _ => "in a container, ask the provider",
            };
            add(reasons, Grade::Degraded, what, fix);
        }
    }
}

fn room(facts: &Facts, reasons: &mut Vec<Reason>) {
    let megabytes = |key| facts.number(key).map(|kb| kb / 1000);
    if let Some(free) = megabytes("disk.free.kb")
        && free < 500
    {
        let grade = if free < 50 { Grade::Unusable } else { Grade::Degraded };
        let what = format!("{free} MB are free in /var/lib");
        add(reasons, grade, what, "make room, or say --store with a folder on another disk");
    }
    // Some file systems (btrfs) have no fixed number of them and say 0.
    if let Some(free @ 1..5000) = facts.number("inodes.free") {
        let what = format!("{free} files can be made in /var/lib");
        add(reasons, Grade::Degraded, what, "remove small files");
    }
    if facts.get("disk.options").split(',').any(|option| option == "noexec") {
        let what = "/var/lib is mounted noexec";
        add(reasons, Grade::Unusable, what, "remount it, or say --store with another folder");
    }
    if let (Some(memory @ 0..1000), Some(0)) = (megabytes("memory.kb"), facts.number("swap.kb")) {
        let what = format!("it has {memory} MB of memory and no swap");
        add(reasons, Grade::Usable, what, "make a swap file before package managers run");
    }
}

fn surroundings(facts: &Facts, now: Option<u64>, reasons: &mut Vec<Reason>) {
    if facts.get("selinux") == "enforcing" {
        let what = "SELinux is enforcing, with which pods of vzmaster were never tried";
        add(reasons, Grade::Degraded, what, "try one pod; `ausearch -m avc` names what is denied");
    }
    // Said where podman is there, so that somebody may think of it.
    if facts.get("try.quadlet") == "no"
        && let Some(reason) = cannot(facts, Backend::Quadlet)
    {
        let what = format!("{}: pods with `vz/backend: quadlet` are refused", reason.what);
        add(reasons, Grade::Usable, what, &reason.fix);
    }
    let ipv4 = match (facts.get("ipv6"), facts.get("try.nat6")) {
        ("off", _) => Some((
            "its IPv6 is off",
            "boot without ipv6.disable=1, and with net.ipv6.conf.all.disable_ipv6=0",
        )),
        ("yes" | "local", "no") if facts.get("try.nftables") == "yes" => {
            Some(("its nftables translate no IPv6", "take a machine with a newer kernel"))
        }
        _ => None,
    };
    if let Some((why, fix)) = ipv4 {
        let what = format!("{why}: ports of pods are reached over IPv4 only");
        add(reasons, Grade::Usable, what, fix);
    }
    if let (Some(now), Some(clock)) = (now, facts.number("clock"))
        && now.abs_diff(clock) > SKEW
    {
        let what = format!("its clock differs by {} s", now.abs_diff(clock));
        add(reasons, Grade::Degraded, what, "timedatectl set-ntp true");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges recorded facts with some of them changed.
    fn verdict(recorded: &str, changes: &[(&str, &str)]) -> Verdict {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/preflight");
        let mut text = std::fs::read_to_string(format!("{dir}/{recorded}.facts")).unwrap();
        let clock = Facts::parse(&text).unwrap().number("clock");
        for (key, value) in changes {
            // The last of several lines counts.
            text = text.replace("end=1", &format!("{key}={value}\nend=1"));
        }
        judge(&Facts::parse(&text).unwrap(), clock)
    }

    #[track_caller]
    fn check(recorded: &str, changes: &[(&str, &str)], expected: &str) {
        let verdict = verdict(recorded, changes);
        let mut text = format!("{:?}", verdict.grade);
        if let Some(runtime) = &verdict.runtime {
            text.push_str(&format!(" {}", runtime.path));
        }
        for reason in &verdict.reasons {
            let mark = ["note", "lost", "fatal"][reason.grade as usize];
            text.push_str(&format!("\n{mark}: {}", reason.what));
        }
        assert_eq!(text, expected, "{recorded} {changes:?}");
    }

    const ALL: (&str, &str) = ("cgroup.controllers", "cpuset cpu io memory pids");

    #[test]
    fn a_machine_with_everything_is_usable_by_crun() {
        check("debian-13-namespaces", &[ALL], "Usable /usr/bin/crun");
        check(
            "debian-12-namespaces",
            &[ALL, ("crun.trial", "no: broken")],
            "Usable /usr/sbin/runc\nnote: systemd 252 restarts after a constant time",
        );
    }

    #[test]
    fn what_is_lost_is_said() {
        check(
            "debian-13-namespaces",
            &[],
            "Degraded /usr/bin/crun\nlost: limits of memory are not kept: cgroup has no controller `memory`\nlost: limits of CPU are not kept: cgroup has no controller `cpu`",
        );
        check(
            "debian-13-namespaces",
            &[ALL, ("disk.free.kb", "300000"), ("inodes.free", "100"), ("clock", "0")],
            "Degraded /usr/bin/crun\nlost: 300 MB are free in /var/lib\nlost: 100 files can be made in /var/lib\nlost: its clock differs by 1795270289 s",
        );
    }

    #[test]
    fn a_machine_without_systemd_or_root_is_unusable() {
        check(
            "container-hybrid",
            &[],
            "Unusable /usr/sbin/runc\nfatal: its first process is `init`, and not systemd\nnote: systemd 252 restarts after a constant time",
        );
        check(
            "debian-13-ordinary-user",
            &[ALL],
            "Unusable /usr/bin/crun\nfatal: the user that ssh logs in as has uid 1000",
        );
    }

    #[test]
    fn cheap_machines_are_told_apart() {
        check(
            "openvz-7",
            &[],
            "Unusable\nfatal: its kernel is 3.10.0-1160.119.1.vz7.224.4, and 4.18 is needed\nfatal: no container runs: runc says: container_linux.go:344: starting container process caused \"process_linux.go:293: applying cgroup configuration for process caused ...\"\nnote: systemd 241 restarts after a constant time",
        );
        check(
            "lxc-no-nesting",
            &[],
            "Unusable\nfatal: no container runs: crun says: mount `proc` to `proc`: Permission denied\nnote: systemd 252 restarts after a constant time",
        );
        let verdict = verdict("lxc-no-nesting", &[]);
        assert!(verdict.reasons[0].fix.contains("nesting"), "{verdict:?}");
        check(
            "el8-kvm",
            &[],
            "Unusable\nfatal: neither crun nor runc is installed\nlost: SELinux is enforcing, with which pods of vzmaster were never tried\nnote: systemd 239 restarts after a constant time\nnote: it has 829 MB of memory and no swap",
        );
    }

    #[test]
    fn where_no_container_runs_systemd_may_do() {
        check(
            "lxc-no-nesting",
            &[ALL, ("try.rootdirectory", "yes"), ("try.overlay", "yes")],
            "Degraded \nlost: no container runs: crun says: mount `proc` to `proc`: Permission denied; units with RootDirectory= do, where processes see the node's\nnote: systemd 252 restarts after a constant time",
        );
    }

    #[test]
    fn a_backend_that_is_asked_for_has_to_work() {
        let fix = |changes: &[(&str, &str)], backend| {
            let facts: String =
                changes.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
            let facts = Facts::parse(&format!("vz-facts=1\n{facts}end=1\n")).unwrap();
            cannot(&facts, backend).map(|reason| format!("{}; {}", reason.what, reason.fix))
        };
        let none = fix(&[], Backend::Quadlet).unwrap();
        assert!(none.starts_with("podman is not installed; install podman 4.5"), "{none}");
        let old = fix(&[("podman", "4.3.1"), ("try.quadlet", "no")], Backend::Quadlet).unwrap();
        assert!(old.starts_with("podman 4.3.1 has no Quadlet that knows Rootfs=;"), "{old}");
        assert_eq!(fix(&[("podman", "5.4.2"), ("try.quadlet", "yes")], Backend::Quadlet), None);
        assert!(fix(&[("try.rootdirectory", "yes")], Backend::Systemd).is_some());
        assert_eq!(fix(&[], Backend::Container), None);
        check(
            "debian-12-namespaces",
            &[ALL, ("try.quadlet", "no")],
            "Usable /usr/bin/crun\nnote: systemd 252 restarts after a constant time\nnote: podman 4.3.1 has no Quadlet that knows Rootfs=: pods with `vz/backend: quadlet` are refused",
        );
    }

    #[test]
    fn a_machine_without_ipv6_is_usable_and_told() {
        let check = |changes: &[(&str, &str)], expected: &str| {
            check("debian-13-namespaces", &[&[ALL], changes].concat(), expected);
        };
        let usable = "Usable /usr/bin/crun";
        for ipv6 in ["yes", "local"] {
            check(&[("ipv6", ipv6), ("try.nat6", "yes")], usable);
        }
        let only = "ports of pods are reached over IPv4 only";
        let told = |why: &str| format!("{usable}\nnote: its {why}: {only}");
        check(&[("ipv6", "off"), ("try.nat6", "yes")], &told("IPv6 is off"));
        check(&[("ipv6", "yes"), ("try.nat6", "no")], &told("nftables translate no IPv6"));
    }

    #[test]
    fn every_reason_that_takes_something_has_a_fix() {
        for recorded in ["container-hybrid", "debian-13-ordinary-user", "openvz-7", "el8-kvm"] {
            for reason in verdict(recorded, &[("disk.options", "rw,noexec")]).reasons {
                assert!(!reason.fix.is_empty(), "{reason:?}");
            }
        }
        let facts = Facts::parse("vz-facts=1\nend=1\n").unwrap();
        assert_eq!(judge(&facts, None).grade, Grade::Unusable);
    }
}
