//! `vzmaster` on real nodes: run where VZ_TEST_NODES names an ssh_config and the
//! nodes of it, as `VZ_TEST_NODES=/path/ssh_config:a,b,c`. Each needs systemd, crun or
//! runc, root by key, and no pods: the tests remove what they put there, and all else.
//! VZ_TEST_VZMASTER may name another vzmaster: that of `cargo static`, for old nodes.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sandbox::{Finished, Need, Sandbox, reduced, require};

mod backends;
mod chaos;
mod firewall;
mod ipv6;
mod liveness;
pub mod load;
mod memory;
mod obstacles;
mod two_containers;
mod words;

/// The nodes are the same for all tests.
static NODES: Mutex<()> = Mutex::new(());

pub struct Nodes {
    _alone: MutexGuard<'static, ()>,
    pub sandbox: Sandbox,
    config: String,
    pub names: Vec<String>,
    /// Seconds that a connection may take.
    patience: &'static str,
}

/// The nodes, and a fleet for them; nothing where there are none.
pub fn nodes(test: &str) -> Option<Nodes> {
    let Ok(value) = std::env::var("VZ_TEST_NODES") else {
        reduced(test, "no real nodes: set VZ_TEST_NODES=SSH_CONFIG:NODE,NODE,NODE");
        return None;
    };
    let needs =
        [Need::Program("ssh", "openssh-client"), Need::Program("busybox", "busybox-static")];
    if !require(test, &needs) {
        return None;
    }
    let alone = NODES.lock().unwrap_or_else(PoisonError::into_inner);
    let (config, names) = value.split_once(':').expect("SSH_CONFIG:NODE,NODE");
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    let sandbox = Sandbox::new();
    sandbox.write("hosts.ini", format!("[web]\n{}\n", names.join("\n")));
    sandbox.write("groups.yaml", "web:\n  pods: [vz-test]\n");
    let nodes = Nodes { _alone: alone, sandbox, config: config.to_owned(), names, patience: "5" };
    nodes.forget();
    nodes.serve("one", 8381);
    Some(nodes)
}

impl Nodes {
    /// Writes the bundle and the pod: a server of one page, with a probe of a port.
    pub fn serve(&self, page: &str, probed: u16) {
        let busybox = vz::process::find("busybox").unwrap();
        self.sandbox.write("app/rootfs/bin/busybox", "");
        fs::copy(busybox, self.sandbox.path("app/rootfs/bin/busybox")).unwrap();
        self.sandbox.write("app/rootfs/www/index.html", page);
        // The same page is the same bundle.
        for file in ["bin/busybox", "www/index.html"] {
            let file =
                fs::File::options().write(true).open(self.sandbox.path("app/rootfs").join(file));
            file.unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        for dir in ["proc", "dev", "data"] {
            fs::create_dir_all(self.sandbox.path("app/rootfs").join(dir)).unwrap();
        }
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs", "readonly": true },
            "process": {
                "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"],
                "args": ["/bin/busybox", "httpd", "-f", "-v", "-p", "8381", "-h", "/www"],
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            ],
            "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }] },
        });
        self.sandbox.write("app/config.json", config.to_string());
        self.sandbox.write(
            "pods/test.yaml",
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: vz-test}}\nspec:\n  hostNetwork: true\n  \
                 terminationGracePeriodSeconds: 1\n  volumes: [{{name: data, emptyDir: {{}}}}]\n  containers:\n  - name: httpd\n    \
                 image: bundle:app\n    ports: [{{containerPort: 8381}}]\n    \
                 volumeMounts: [{{name: data, mountPath: /data}}]\n    \
                 startupProbe: {{httpGet: {{port: {probed}}}, periodSeconds: 1, failureThreshold: 3}}\n"
            ),
        );
    }

    pub fn vzmaster(&self, args: &[&str]) -> Finished {
        Finished::of(&mut self.master(args))
    }

    pub fn master(&self, args: &[&str]) -> Command {
        let program = std::env::var("VZ_TEST_VZMASTER").unwrap_or_else(|_| "vzmaster".to_owned());
        let mut command = self.sandbox.command(program);
        command.args(["-F", &self.config, "--connect-timeout", self.patience]).args(args);
        command.env("XDG_CACHE_HOME", self.sandbox.path("cache")).env_remove("SSH_AUTH_SOCK");
        command
    }

    pub fn on(&self, node: &str, line: &str) -> Finished {
        let mut ssh: Command = self.sandbox.command("ssh");
        Finished::of(ssh.args(["-F", &self.config, node, line]))
    }

    /// What the node's own server answers.
    pub fn page(&self, node: &str) -> String {
        let get = "exec 3<>/dev/tcp/127.0.0.1/8381; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3";
        self.on(node, &format!("bash -c \"{get}\"")).success().stdout()
    }

    /// The unit of the pod's only container.
    fn unit(&self, node: &str) -> String {
        let unit = self.on(node, "systemctl list-units --plain --no-legend 'vz-vz-test.httpd.*'");
        unit.success().stdout().split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Reboots a node, or cuts its power where VZ_TEST_CONTROL can, and waits for ssh.
    pub fn reboot(&self, node: &str) {
        let booted = || {
            let line = "cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestamp";
            self.on(node, line).stdout()
        };
        let before = booted();
        match std::env::var("VZ_TEST_CONTROL") {
            Ok(control) => {
                for verb in ["kill", "up"] {
                    Finished::of(self.sandbox.command(&control).args([verb, node])).success();
                }
            }
            // The connection ends with it.
            Err(_) => drop(self.on(node, "systemctl reboot")),
        }
        let started = Instant::now();
        loop {
            let now = booted();
            if !now.is_empty() && now != before {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(120), "{node} does not come back");
            thread::sleep(Duration::from_millis(300));
        }
    }

    fn forget(&self) {
        let line = "systemctl stop 'vz-vz-test.*' 2>/dev/null; systemctl reset-failed 'vz-vz-test.*' 2>/dev/null; rm -rf /etc/vz/pods/vz-test /run/vz/*/vz-test /run/vz/try/vz-vz-test.* /etc/systemd/system/vz-vz-test.* /etc/systemd/system/*/vz-vz-test.* /etc/containers/systemd/vz-vz-test.*; for ip in ip ip6; do nft \"add table $ip vz-vz-test; delete table $ip vz-vz-test\"; done; systemctl daemon-reload";
        for node in &self.names {
            self.on(node, line).success();
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.forget();
        }
    }
}

#[test]
fn a_pod_is_deployed_updated_and_taken_back_on_real_nodes() {
    let test = "a_pod_is_deployed_updated_and_taken_back_on_real_nodes";
    let Some(nodes) = nodes(test) else { return };
    let plan = nodes.vzmaster(&["plan"]).success().stdout();
    assert_eq!(plan.matches("create  vz-test").count(), nodes.names.len(), "{plan}");
    nodes.vzmaster(&["diff"]).status(1);
    nodes.vzmaster(&["deploy"]).status(2).says("standard input is no terminal");
    nodes.vzmaster(&["deploy", "-y"]).success();
    for node in &nodes.names {
        assert_eq!(nodes.page(node), "one");
    }
    let clean = nodes.vzmaster(&["diff"]).success().stdout();
    assert_eq!(clean, "");
    nodes.vzmaster(&["deploy", "-y"]).success().says("there is nothing to do");

    nodes.serve("two", 8381);
    nodes.vzmaster(&["deploy", "-y"]).success();
    for node in &nodes.names {
        assert_eq!(nodes.page(node), "two");
    }
    // A port that nobody listens on: the first node goes back, the others never change.
    nodes.serve("three", 8382);
    let failed = nodes.vzmaster(&["deploy", "-y"]).status(3).stderr();
    assert!(failed.contains("startup probe of container httpd fails"), "{failed}");
    assert!(failed.contains("runs again"), "{failed}");
    for node in &nodes.names {
        assert_eq!(nodes.page(node), "two");
    }
    // A file that is not in the bundle: its name is found in the log.
    let pod = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
    let command = "    command: [/bin/busybox, cat, /etc/absent.conf]\n";
    nodes.sandbox.write("pods/test.yaml", format!("{pod}{command}"));
    let failed = nodes.vzmaster(&["deploy", "-y"]).status(3).stderr();
    assert!(failed.contains("was started again"), "{failed}");
    assert!(failed.contains("it misses /etc/absent.conf"), "{failed}");

    nodes.serve("two", 8381);
    nodes.vzmaster(&["diff"]).success();
    nodes.vzmaster(&["rollback", "vz-test"]).success();
    // The one that goes first, by name.
    let first = nodes.names.iter().min().unwrap();
    assert_eq!(nodes.page(first), "one");
    let history = nodes.vzmaster(&["history", "vz-test", "-l", first]).success().stdout();
    assert_eq!(history.lines().count(), 6, "{history}");
    assert_eq!(history.matches(" (rollback)").count(), 1, "{history}");
}

#[test]
fn bundles_are_pushed_ahead_and_nothing_starts() {
    let Some(nodes) = nodes("bundles_are_pushed_ahead_and_nothing_starts") else { return };
    nodes.serve("a page that no node had before", 8381);
    nodes.vzmaster(&["push"]).success().says("push app: ");
    let pods = nodes.vzmaster(&["ps", "--json"]).success().stdout();
    assert!(!pods.contains("vz-test"), "{pods}");
    let count = nodes.names.len();
    let pushed = nodes.vzmaster(&["deploy", "-y"]).success().stderr();
    assert_eq!(pushed.matches(", sent 0 B of").count(), count, "{pushed}");
    let dead = format!("{}\ndead ansible_host=192.0.2.1\n", nodes.names.join("\n"));
    nodes.sandbox.write("hosts.ini", format!("[web]\n{dead}"));
    nodes.vzmaster(&["push"]).status(4).says("dead was left out");
}

#[test]
fn verbs_reach_the_pod_and_drift_is_seen() {
    let Some(nodes) = nodes("verbs_reach_the_pod_and_drift_is_seen") else { return };
    let first = nodes.names[0].clone();
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    one(&["deploy", "-y"]).success();
    let ps = one(&["ps"]).success().stdout();
    assert!(ps.contains("vz-test  httpd"), "{ps}");
    let said =
        nodes.vzmaster(&["exec", &first, "vz-test", "--", "/bin/busybox", "echo", "a b", "$HOME"]);
    assert_eq!(said.success().stdout(), "a b $HOME\n");
    nodes.vzmaster(&["exec", &first, "vz-test", "--", "/bin/busybox", "false"]).status(1);
    nodes.page(&first);
    let log = one(&["logs", "vz-test/httpd"]).success().stdout();
    assert!(log.contains("response:200"), "{log}");

    one(&["stop", "vz-test"]).success();
    let drift = one(&["diff"]).status(1).stdout();
    assert!(drift.contains("service is inactive"), "{drift}");
    one(&["start", "vz-test"]).success();
    one(&["diff"]).success();
    one(&["kill", "vz-test"]).success();
    one(&["restart", "vz-test"]).success();
    one(&["diff"]).success();

    let change = "sed -i s/KillMode=mixed/KillMode=process/ /etc/vz/pods/vz-test/current/units/*";
    nodes.on(&first, change).success();
    let drift = one(&["diff"]).status(1).stdout();
    assert!(drift.contains("its files were changed on the node"), "{drift}");
    one(&["deploy", "-y"]).success();
    one(&["diff"]).success();

    // A link of a unit that leads nowhere.
    let link = "ln -s /etc/vz/pods/vz-test/tags/gone/units/x /etc/systemd/system/vz-vz-test.httpd.gone.service";
    nodes.on(&first, link).success();
    let plan = one(&["plan"]).success().stdout();
    assert!(plan.contains(": vz-vz-test.httpd.gone.service is of another revision"), "{plan}");
    assert!(!plan.contains("stop first"), "{plan}");
    one(&["deploy", "-y"]).success().says("without a gap");
    one(&["diff"]).success();

    let change = "echo other >$(readlink -f /var/lib/vz/app/current)/rootfs/www/index.html";
    nodes.on(&first, change).success();
    one(&["diff"]).success();
    let drift = one(&["diff", "--verify"]).status(1).stdout();
    let altered = "the bundle of container httpd was changed: rootfs/www/index.html (content)";
    assert!(drift.contains(altered), "{drift}");
    one(&["deploy", "-y", "--verify"]).success();
    assert_eq!(nodes.page(&first), "one");
    one(&["diff", "--verify"]).success();

    nodes.sandbox.write("groups.yaml", "web:\n  pods: []\n");
    let drift = one(&["diff"]).status(1).stdout();
    assert!(drift.contains("leave   vz-test"), "{drift}");
    one(&["deploy", "-y", "--prune"]).success();
    one(&["diff"]).success();
}

/// A unit of `Type=forking` whose process is not systemd's own child is killed at
/// once when it is stopped, and does not come back when it is killed.
#[test]
fn a_program_has_its_time_of_grace_and_comes_back_when_it_is_killed() {
    let test = "a_program_has_its_time_of_grace_and_comes_back_when_it_is_killed";
    let Some(nodes) = nodes(test) else { return };
    let script = "trap 'for n in 1 2 3 4 5 6 7 8 9 10; do echo grace $n; busybox sleep 0.1; done; exit 0' TERM; echo up; while :; do busybox sleep 0.1; done";
    let pod = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
    let pod = pod.lines().filter(|line| !line.contains("startupProbe")).collect::<Vec<_>>();
    let command = format!("    command: [/bin/busybox, sh, -c, \"{script}\"]\n");
    let pod = pod.join("\n").replace("PeriodSeconds: 1", "PeriodSeconds: 20");
    nodes.sandbox.write("pods/test.yaml", format!("{pod}\n{command}"));
    let first = nodes.names[0].clone();
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    one(&["deploy", "-y"]).success();
    let unit = nodes.unit(&first);
    let log = |since: &str, text: &str| {
        let line = format!(
            "journalctl --cursor-file=/run/vz-test.cursor -o cat -u {unit} | grep -c '{text}' || true"
        );
        let shown = nodes.on(&first, &line).success().stdout();
        (since.to_owned(), shown.trim().parse::<u32>().unwrap())
    };
    log("the deployment", "up");
    for round in 1..=5 {
        one(&["stop", "vz-test"]).success();
        assert_eq!(log(&format!("round {round}"), "grace"), (format!("round {round}"), 10));
        one(&["start", "vz-test"]).success();
        // The program has to be up before it is stopped again.
        let up = format!(
            "until journalctl --cursor-file=/run/vz-test.cursor -o cat -u {unit} | grep -q up; do sleep 0.1; done"
        );
        nodes.on(&first, &up).success();
    }
    let kill = format!(
        "kill -9 $(systemctl show -p MainPID --value {unit}); sleep 8; systemctl is-active {unit}"
    );
    let active = nodes.on(&first, &kill).success().stdout();
    assert_eq!(active, "active\n");
    let ps = one(&["ps", "--json"]).success().stdout();
    assert!(ps.contains("\"restarts\": 1"), "{ps}");
}

#[test]
fn a_dead_node_is_left_out_and_said() {
    let Some(nodes) = nodes("a_dead_node_is_left_out_and_said") else { return };
    let inventory = format!("[web]\n{}\ndead ansible_host=192.0.2.1\n", nodes.names.join("\n"));
    nodes.sandbox.write("hosts.ini", inventory);
    nodes.vzmaster(&["deploy", "-y"]).status(4).says("dead was left out");
    for node in &nodes.names {
        assert_eq!(nodes.page(node), "one");
    }
    nodes.vzmaster(&["diff"]).status(4);
}
