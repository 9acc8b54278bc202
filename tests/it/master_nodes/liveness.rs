//! What hangs later on.

use std::thread;
use std::time::{Duration, Instant};

use super::{Nodes, nodes};

impl Nodes {
    /// The process of the pod's only container.
    fn process(&self, node: &str) -> String {
        let line = format!("systemctl show --property=MainPID --value {}", self.unit(node));
        self.on(node, &line).success().stdout().trim().to_owned()
    }

    /// How often the pod's only container was started again.
    fn restarts(&self, node: &str) -> u64 {
        let said = self.vzmaster(&["ps", "--json", "-l", node]).success().stdout();
        let value: serde_json::Value = serde_json::from_str(&said).unwrap();
        value[0]["pods"][0]["containers"][0]["restarts"].as_u64().unwrap()
    }

    /// Waits until the container has another process than `old`, which answers.
    #[track_caller]
    fn wait_for_another(&self, node: &str, old: &str) {
        let since = Instant::now();
        while [old, "0", ""].contains(&self.process(node).as_str()) || self.page(node) != "one" {
            assert!(since.elapsed() < Duration::from_secs(60), "{node}: {old} is still there");
            thread::sleep(Duration::from_millis(300));
        }
    }
}

#[test]
fn a_container_that_hangs_is_started_again_and_one_that_was_stopped_is_not() {
    let test = "a_container_that_hangs_is_started_again_and_one_that_was_stopped_is_not";
    let Some(nodes) = nodes(test) else { return };
    let node = nodes.names[0].as_str();
    let since = nodes.on(node, "date +%s").success().stdout();
    for probe in [
        "httpGet: {port: 8381, path: /index.html}",
        "tcpSocket: {port: 8381}",
        "exec: {command: [/bin/busybox, wget, -q, -O, /dev/null, 'http://127.0.0.1:8381/']}",
    ] {
        nodes.serve("one", 8381);
        let pod = std::fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
        let pod =
            format!("{pod}    livenessProbe: {{{probe}, periodSeconds: 1, failureThreshold: 2}}\n");
        nodes.sandbox.write("pods/test.yaml", pod);
        nodes.vzmaster(&["deploy", "-y"]).success();
        let process = nodes.process(node);
        thread::sleep(Duration::from_secs(4));
        assert_eq!(nodes.process(node), process, "{probe}: it was alive");
        if probe.starts_with("tcp") {
            // The kernel takes connections for a process that is stopped.
            continue;
        }
        nodes.on(node, &format!("kill -STOP {process}")).success();
        nodes.wait_for_another(node, &process);
        let log = nodes.vzmaster(&["logs", "vz-test", "-l", node]).success().stdout();
        let said = "the liveness probe failed 2 times, and it is started again";
        assert!(log.contains(said), "{log}");
        assert_eq!(nodes.restarts(node), 1, "{probe}");
    }
    let quiet = nodes.on(
        node,
        "journalctl --no-pager -o cat _PID=1 | grep -c 'Started.*vz_live.*service' || true",
    );
    assert_eq!(quiet.success().stdout().trim(), "0", "systemd logs each question");
    let line = format!(
        "journalctl --no-pager -o cat --since=@{} | grep 'Failed to open.*vz_live' || true",
        since.trim()
    );
    assert_eq!(nodes.on(node, &line).success().stdout(), "");
    nodes.vzmaster(&["diff"]).success();
    nodes.on(node, "systemctl stop 'vz_live.*.timer'").success();
    let differs = nodes.vzmaster(&["diff"]).status(1).stdout();
    assert!(differs.contains(".timer does not ask whether it is alive"), "{differs}");
    nodes.vzmaster(&["deploy", "-y"]).success();
    nodes.vzmaster(&["diff"]).success();
    assert_eq!(nodes.restarts(node), 0);
    nodes.vzmaster(&["stop", "vz-test"]).success();
    thread::sleep(Duration::from_secs(4));
    assert_eq!(
        nodes.on(node, "systemctl list-timers --all | grep -c vz_live || true").stdout().trim(),
        "0"
    );
    nodes.vzmaster(&["start", "vz-test"]).success();
    nodes.reboot(node);
    nodes.wait_for_another(node, "");
    let process = nodes.process(node);
    nodes.on(node, &format!("kill -STOP {process}")).success();
    nodes.wait_for_another(node, &process);
}
