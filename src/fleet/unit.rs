//! The systemd unit of one container. Pure.
//!
//! `Type=forking`: the runtime makes the container and ends before it is started, so
//! the program is the first process's own child by then, its end is seen, a stop
//! waits for it, and nothing but the program stays in memory. `run --detach` in one
//! step sometimes leaves systemd with a process that is not its child, which a stop
//! then kills without its time of grace.

use std::fmt::Write as _;

use serde_json::Value;

use super::pod::{Container, Pod, Restart};
use super::preflight::{Runtime, SYSTEMD_BACK_OFF};
use super::revision::Placed;
use super::{liveness, network, quadlet, root_directory, secret};

/// Where runtimes keep their state: never in XDG_RUNTIME_DIR, which crun would
/// choose in some sessions and not in others.
pub const STATE: &str = "/run/vz/runtime";
/// Where pods have volumes in memory.
pub const VOLUMES: &str = "/run/vz/volumes";
/// Where pods of a node are kept.
pub const PODS: &str = "/etc/vz/pods";
/// Seconds for making and starting a container.
const START: u32 = 90;

/// Seconds that each command of a stop may take at least: TimeoutStopSec= is for the
/// program and for those, each by itself (systemd.service(5)).
const CLEAN: u32 = 10;
/// Shorter times of grace are waited for by a command, so that they are not those of the
/// commands.
const SHORT: u32 = 5;
/// How the files end that Quadlet makes units of (podman-systemd.unit(5)).
pub const QUADLET: &str = ".container";

/// Units that may run although their revision is not the current one.
pub const TRIED: &str = "/run/vz/try";

/// What the runtime calls a container of the revision `tag`.
pub fn id(pod: &str, container: &str, tag: &str) -> String {
    format!("{pod}.{container}.{tag}")
}

/// The name of a container's unit. Names are labels, so the dot divides them; two
/// revisions of a pod can run at once.
pub fn name(pod: &str, container: &str, tag: &str) -> String {
    format!("vz-{pod}.{container}.{tag}.service")
}

/// The file of a revision that a unit is made of: Quadlet has names of its own.
pub fn file(unit: &str, runtime: &Runtime) -> String {
    match unit.strip_suffix(".service") {
        Some(name) if runtime.by_podman() => format!("{name}{QUADLET}"),
        _ => unit.to_owned(),
    }
}

/// The unit that is made of a file.
pub fn of_file(file: &str) -> String {
    file.strip_suffix(QUADLET).map_or_else(|| file.to_owned(), |name| format!("{name}.service"))
}

/// The conditions that let `unit` start, which is made of `file`: its revision is the
/// current one, or it is being tried. A reboot takes the second one, so that the current
/// one comes back.
pub fn conditions(pod: &str, unit: &str, file: &str) -> String {
    format!(
        "ConditionPathExists=|{PODS}/{pod}/current/units/{file}\n\
         ConditionPathExists=|{TRIED}/{unit}\n"
    )
}

/// The pod of a unit of ours.
pub fn pod_of(unit: &str) -> Option<&str> {
    Some(unit.strip_prefix("vz-")?.strip_suffix(".service")?.split_once('.')?.0)
}

/// The control group that runc makes for a container, inside of the unit's own, so
/// that the unit's limits hold.
pub fn cgroup(pod: &str, container: &str, tag: &str) -> String {
    format!("/system.slice/{}/container", name(pod, container, tag))
}

/// Lines that open and close the ports of a container that shares the node's network in
/// the node's firewall, while it runs.
fn firewall(pod: &Pod, container: &Container, tag: &str) -> [String; 2] {
    let ports: Vec<String> = container
        .ports
        .iter()
        .filter(|_| pod.host_network)
        .map(|port| format!("{}/{}", port.number, port.protocol.name()))
        .collect();
    if ports.is_empty() {
        return [String::new(), String::new()];
    }
    let (script, ports) = (network::SCRIPT, ports.join(" "));
    let call = format!("/bin/sh {PODS}/{}/tags/{tag}/{script}", pod.name);
    [
        format!("ExecStartPre=-+{call} open {ports}\n"),
        format!("ExecStopPost=-+{call} close {ports}\n"),
    ]
}

/// The words that call the runtime.
pub fn runtime(runtime: &Runtime) -> String {
    // crun makes no control group then, and leaves the program in the unit's.
    let option = if runtime.name == "crun" { " --cgroup-manager=disabled" } else { "" };
    format!("{}{option} --root {STATE}", runtime.path)
}

/// What a unit runs.
#[derive(Clone, Copy, Debug)]
pub struct Runs<'a> {
    /// By which runtime.
    pub runtime: &'a Runtime,
    /// The version of systemd.
    pub systemd: u64,
    /// The container's `config.json`.
    pub config: &'a Value,
    /// File systems in memory that are there before each start, and their bytes; none for
    /// half of the node's memory.
    pub memory_dirs: &'a [(String, Option<u64>)],
}

/// Returns the text of a container's unit in the revision `tag`.
pub fn render(pod: &Pod, container: &Container, tag: &str, runs: &Runs<'_>) -> String {
    let id = id(&pod.name, &container.name, tag);
    let unit = name(&pod.name, &container.name, tag);
    let network = match pod.host_network {
        true => String::new(),
        false => {
            let unit = network::unit(&pod.name, tag);
            format!("Requires={unit}\nAfter={unit}\n")
        }
    };
    let restart = match pod.restart {
        Restart::Always => "always",
        Restart::OnFailure => "on-failure",
        Restart::Never => "no",
    };
    let [open, close] = firewall(pod, container, tag);
    // What is opened before there is a firewall is not open.
    let walls = if open.is_empty() { "" } else { "After=firewalld.service vz-firewall.service\n" };
    let mut text = format!(
        "# Written by vzmaster, which writes it anew at the next deployment.\n\
         [Unit]\n\
         Description=pod {}, container {}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\
         {network}{walls}\
         {}\
         \n\
         [Service]\n\
         Slice=system.slice\n\
         SyslogIdentifier={id}\n",
        pod.name,
        container.name,
        conditions(&pod.name, &unit, &file(&unit, runs.runtime))
    );
    for (dir, limit) in runs.memory_dirs {
        text.push_str(&memory_dir(dir, *limit));
    }
    text.push_str(&secret::start_line(pod, tag));
    text.push_str(&format!("{open}{close}"));
    let run = runs.runtime;
    text.push_str(&match run.name.as_str() {
        "systemd" => root_directory::service(runs.config, &id, runs.systemd),
        "podman" => quadlet::service(runs.config, &id),
        _ => contained(pod, container, tag, run),
    });
    text.push_str(&liveness::unit_lines(pod, container, tag));
    let stop = match run.by_podman() {
        // It keeps to the time of grace itself, and has to be done by then.
        true => {
            let (signal, seconds) = (&container.stop_signal, pod.grace + quadlet::STOP);
            format!("KillSignal={signal}\nTimeoutStopSec={seconds}\n")
        }
        false => stop(&container.stop_signal, pod.grace),
    };
    let _ = write!(
        text,
        "KillMode=mixed\n\
         {stop}\
         TimeoutStartSec={START}\n\
         Restart={restart}\n",
    );
    // 1 s, and after six restarts a minute; older ones know a constant time only.
    text.push_str(match runs.systemd {
        SYSTEMD_BACK_OFF.. => "RestartSec=1\nRestartSteps=6\nRestartMaxDelaySec=60\n",
        _ => "RestartSec=5\n",
    });
    if let Some(bytes) = container.limits.memory {
        // What is limited would else fill the swap of all, and slow the whole node down.
        let _ = writeln!(text, "MemoryMax={bytes}\nMemorySwapMax=0");
    }
    if let Some(milli) = container.limits.milli_cpus {
        let _ = writeln!(text, "CPUQuota={}%", milli.div_ceil(10));
    }
    if run.by_podman() {
        let stop = (container.stop_signal.as_str(), pod.grace);
        let own = format!("{PODS}/{}/tags/{tag}/{}", pod.name, container.name);
        let lines = quadlet::container(runs.config, &id, stop, &own);
        text.push_str(&format!("\n[Container]\n{lines}"));
    }
    text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    text
}

/// The line that mounts a file system in memory, if it is not there; one start at a
/// time, since containers share it. Half of the memory is tmpfs(5)'s own default, and was
/// that of Kubernetes.
fn memory_dir(dir: &str, limit: Option<u64>) -> String {
    let size = limit.map_or_else(|| "50%%".to_owned(), |bytes| bytes.to_string());
    format!(
        "ExecStartPre=+{} 'exec 9</run && flock 9 && mkdir -p {dir} && chmod 700 {VOLUMES} && \
         if mountpoint -q {dir}; then mount -o remount,size={size} {dir} || :; \
         else mount -t tmpfs -o nosuid,nodev,mode=777,size={size} tmpfs {dir}; fi'\n",
        root_directory::OUTSIDE
    )
}

/// The lines of a unit that end its program: `signal`, `grace` seconds, SIGKILL. A
/// TimeoutStopSec= of 0 would be no end at all.
fn stop(signal: &str, grace: u32) -> String {
    if grace >= SHORT {
        return format!("KillSignal={signal}\nTimeoutStopSec={grace}\n");
    }
    let ask = match grace {
        0 => String::new(),
        _ => format!(
            "ExecStop=-+/bin/sh -c 'kill -s {} $MAINPID; n={}; \
             while [ $n -gt 0 ] && kill -0 $MAINPID 2>/dev/null; do sleep 0.1; n=$((n - 1)); done'\n",
            signal.trim_start_matches("SIG"),
            grace * 10,
        ),
    };
    format!("{ask}KillSignal=SIGKILL\nTimeoutStopSec={CLEAN}\n")
}

/// The lines of a unit that starts a container by crun or runc.
fn contained(pod: &Pod, container: &Container, tag: &str, run: &Runtime) -> String {
    let (id, call) = (id(&pod.name, &container.name, tag), runtime(run));
    let delegate = if run.name == "runc" { "Delegate=yes\n" } else { "" };
    format!(
        "Type=forking\n\
         PIDFile=/run/vz/{id}.pid\n\
         RuntimeDirectory=vz\n\
         RuntimeDirectoryPreserve=yes\n\
         {delegate}\
         ExecStartPre=-{call} delete -f {id}\n\
         ExecStart=/bin/sh -c '{call} create --bundle {PODS}/{}/tags/{tag}/{} --pid-file /run/vz/{id}.pid {id} && exec {call} start {id}'\n\
         ExecStopPost=-{call} delete -f {id}\n",
        pod.name, container.name
    )
}

/// The beginning of a shell's line that runs a command in a container; its words follow.
pub fn exec(placed: &Placed, tty: bool) -> String {
    if placed.runtime.by_systemd() {
        return root_directory::exec(&placed.unit);
    }
    let tty = if tty { " --tty" } else { "" };
    if placed.runtime.by_podman() {
        return format!("exec {} exec --interactive{tty} {}", placed.runtime.path, placed.id);
    }
    format!("exec {} exec{tty} {}", runtime(&placed.runtime), placed.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::pod;

    fn unit(more: &str, runtime: &str, systemd: u64) -> String {
        graceful(7, more, runtime, systemd)
    }

    fn graceful(grace: u32, more: &str, runtime: &str, systemd: u64) -> String {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  hostNetwork: true\n  terminationGracePeriodSeconds: {grace}\n  containers:\n  - name: app\n    image: bundle:x\n{more}"
        );
        let (pods, violations) = pod::read(&text);
        assert_eq!(violations, []);
        let run = Runtime { name: runtime.into(), path: format!("/usr/bin/{runtime}") };
        let config = serde_json::json!({});
        let runs = Runs { runtime: &run, systemd, config: &config, memory_dirs: &[] };
        render(&pods[0], &pods[0].containers[0], "1a2b", &runs)
    }

    #[test]
    fn quadlet_is_given_a_file_of_its_own_that_makes_the_same_unit() {
        let unit = unit("    resources: {limits: {memory: 64Mi}}\n", "podman", 257);
        has(
            &unit,
            &[
                "ConditionPathExists=|/etc/vz/pods/web/current/units/vz-web.app.1a2b.container",
                "ConditionPathExists=|/run/vz/try/vz-web.app.1a2b.service",
                "TimeoutStopSec=37",
                "MemoryMax=67108864",
                "Restart=always",
                "[Container]",
                "ContainerName=web.app.1a2b",
                "PodmanArgs=--stop-signal=SIGTERM --stop-timeout=7",
                "WantedBy=multi-user.target",
            ],
        );
        assert!(!unit.contains("Type=") && !unit.contains("\nExecStart="), "{unit}");
        let file = file("vz-web.app.1a2b.service", &Runtime::podman());
        assert_eq!(file, "vz-web.app.1a2b.container");
        assert_eq!(of_file(&file), "vz-web.app.1a2b.service");
    }

    #[track_caller]
    fn has(unit: &str, lines: &[&str]) {
        for line in lines {
            assert!(unit.lines().any(|l| l == *line), "no `{line}` in\n{unit}");
        }
    }

    #[test]
    fn a_unit_cleans_up_before_it_starts_and_keeps_the_time_of_grace() {
        let unit = unit("", "crun", 257);
        has(
            &unit,
            &[
                "Type=forking",
                "ConditionPathExists=|/etc/vz/pods/web/current/units/vz-web.app.1a2b.service",
                "ConditionPathExists=|/run/vz/try/vz-web.app.1a2b.service",
                "ExecStartPre=-/usr/bin/crun --cgroup-manager=disabled --root /run/vz/runtime delete -f web.app.1a2b",
                "ExecStart=/bin/sh -c '/usr/bin/crun --cgroup-manager=disabled --root /run/vz/runtime create --bundle /etc/vz/pods/web/tags/1a2b/app --pid-file /run/vz/web.app.1a2b.pid web.app.1a2b && exec /usr/bin/crun --cgroup-manager=disabled --root /run/vz/runtime start web.app.1a2b'",
                "KillSignal=SIGTERM",
                "TimeoutStopSec=7",
                "Restart=always",
                "RestartSteps=6",
                "WantedBy=multi-user.target",
            ],
        );
        assert!(!unit.contains("MemoryMax") && !unit.contains("Delegate"), "{unit}");
    }

    #[test]
    fn a_short_time_of_grace_is_not_that_of_the_commands_and_none_is_a_kill() {
        let kill = ["KillSignal=SIGKILL", "TimeoutStopSec=10"];
        let at_once = graceful(0, "", "crun", 257);
        has(&at_once, &kill);
        assert!(!at_once.contains("ExecStop="), "{at_once}");
        let soon = graceful(1, "", "crun", 257);
        has(&soon, &kill);
        has(
            &soon,
            &[
                "ExecStop=-+/bin/sh -c 'kill -s TERM $MAINPID; n=10; while [ $n -gt 0 ] && kill -0 $MAINPID 2>/dev/null; do sleep 0.1; n=$((n - 1)); done'",
            ],
        );
    }

    #[test]
    fn a_volume_in_memory_has_a_size_of_its_own() {
        let line = memory_dir("/run/vz/volumes/web/tmp", Some(1 << 20));
        assert!(line.contains("mount -t tmpfs -o nosuid,nodev,mode=777,size=1048576 tmpfs /run"));
        // A specifier of systemd's begins with `%`.
        assert!(memory_dir("/run/vz/volumes/web/tmp", None).contains(",size=50%% tmpfs /run"));
    }

    #[test]
    fn limits_and_older_systemd_and_runc_change_it() {
        let more =
            "    resources: {limits: {memory: 64Mi, cpu: 255m}}\n  restartPolicy: OnFailure\n";
        let unit = unit(more, "runc", 252);
        has(
            &unit,
            &[
                "MemoryMax=67108864",
                "MemorySwapMax=0",
                "CPUQuota=26%",
                "Restart=on-failure",
                "RestartSec=5",
                "Delegate=yes",
            ],
        );
        assert!(!unit.contains("RestartSteps") && !unit.contains("cgroup-manager"), "{unit}");
    }

    #[test]
    fn ports_of_the_node_are_open_while_the_container_runs() {
        let unit = unit(
            "    ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}]\n",
            "crun",
            257,
        );
        let script = "/bin/sh /etc/vz/pods/web/tags/1a2b/net.sh";
        let [opens, closes] = [("Pre", "open"), ("Post", "close")].map(|(when, what)| {
            format!(
                "Exec{}{when}=-+{script} {what} 80/tcp 53/udp",
                if when == "Pre" { "Start" } else { "Stop" }
            )
        });
        has(&unit, &[&opens, &closes, "After=firewalld.service vz-firewall.service"]);
    }

    #[test]
    fn a_unit_tells_its_pod() {
        assert_eq!(pod_of(&name("my-web", "app-1", "1a2b")), Some("my-web"));
        assert_eq!(pod_of("ssh.service"), None);
        assert_eq!(pod_of("vz-x.service"), None);
    }
}
