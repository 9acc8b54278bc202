//! Containers that take more memory than they may, on nodes whose control groups count it.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::{Nodes, nodes};
use crate::sandbox::{reduced, say};

/// What every program of the pod's bundle may be given: it fills 160 MB.
const FILL: &str = "busybox dd if=/dev/zero of=/dev/null bs=160M count=1";

impl Nodes {
    /// Adds a container that may take 64 MiB and runs a script.
    fn add_limited(&self, script: &str) {
        let pod = fs::read_to_string(self.sandbox.path("pods/test.yaml")).unwrap();
        let hog = format!(
            "  - name: hog\n    image: bundle:app\n    command: [/bin/busybox, sh, -c, \"{script}\"]\n    \
             resources: {{limits: {{memory: 64Mi}}}}\n"
        );
        self.sandbox.write("pods/test.yaml", format!("{pod}{hog}"));
    }

    /// Whether a node's systemd counts and limits memory.
    fn counts_memory(&self, test: &str, node: &str) -> bool {
        let counts = self.on(node, "grep -qw memory /sys/fs/cgroup/cgroup.controllers && echo yes");
        let counts = counts.stdout() == "yes\n";
        if !counts {
            reduced(test, "the first node has no controller `memory`");
        }
        counts
    }

    /// What systemd says of the unit of a container, as `KEY=VALUE` lines.
    fn shown(&self, node: &str, container: &str) -> String {
        let line = format!(
            "systemctl show -p MainPID -p NRestarts $(systemctl list-units --all --plain --no-legend 'vz-vz-test.{container}.*' | cut -d' ' -f1)"
        );
        self.on(node, &line).success().stdout()
    }
}

/// A swap file that is there for as long as this lives.
struct Swap<'a>(&'a Nodes, &'a str);

impl<'a> Swap<'a> {
    fn on(nodes: &'a Nodes, node: &'a str) -> Self {
        let line = "dd if=/dev/zero of=/var/lib/vz-test.swap bs=1M count=256 status=none && chmod 600 /var/lib/vz-test.swap && mkswap -q /var/lib/vz-test.swap && swapon /var/lib/vz-test.swap";
        nodes.on(node, line).success();
        Swap(nodes, node)
    }
}

impl Drop for Swap<'_> {
    fn drop(&mut self) {
        let line = "swapoff /var/lib/vz-test.swap; rm -f /var/lib/vz-test.swap";
        self.0.on(self.1, line);
    }
}

/// The nodes, and the first one's name, where that one counts memory.
fn counting(test: &str) -> Option<(Nodes, String)> {
    let nodes = nodes(test)?;
    let first = nodes.names[0].clone();
    nodes.counts_memory(test, &first).then_some((nodes, first))
}

#[test]
fn a_container_that_takes_too_much_memory_ends_alone_and_comes_back() {
    let test = "a_container_that_takes_too_much_memory_ends_alone_and_comes_back";
    let Some((nodes, first)) = counting(test) else { return };
    // What is limited must not spill into it, either.
    let _swap = Swap::on(&nodes, &first);
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    nodes.add_limited(&format!("busybox sleep 20; {FILL}; busybox sleep 3600"));
    one(&["deploy", "-y"]).success();
    let server = nodes.shown(&first, "httpd");
    let started = Instant::now();
    while !nodes.shown(&first, "hog").contains("NRestarts=2") {
        assert!(started.elapsed() < Duration::from_secs(300), "{}", nodes.shown(&first, "hog"));
        thread::sleep(Duration::from_secs(1));
    }
    // No other container ended, and the node never had too little.
    assert_eq!(nodes.shown(&first, "httpd"), server);
    assert_eq!(nodes.page(&first), "one");
    let log = one(&["logs", "vz-test/hog"]).success().stdout();
    say(&format!("{test}: {log}\n"));
    let killed =
        "journalctl -b -o cat -u 'vz-vz-test.hog.*' | grep -c \"Failed with result 'oom-kill'\"";
    assert_eq!(nodes.on(&first, killed).stdout(), "2\n");
    let ps = one(&["ps", "--json"]).success().stdout();
    assert!(ps.contains("\"restarts\": 2"), "{ps}");
    one(&["diff"]).success();
}

#[test]
fn a_revision_that_takes_too_much_memory_goes_back() {
    let test = "a_revision_that_takes_too_much_memory_goes_back";
    let Some((nodes, first)) = counting(test) else { return };
    let _swap = Swap::on(&nodes, &first);
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    one(&["deploy", "-y"]).success();
    nodes.serve("two", 8381);
    nodes.add_limited(FILL);
    let failed = one(&["deploy", "-y"]).status(3).stderr();
    let why = "was started again 3 times: oom-kill, it took more memory than there is for it";
    assert!(failed.contains(why), "{failed}");
    assert!(failed.contains("runs again"), "{failed}");
    assert_eq!(nodes.page(&first), "one");
    nodes.serve("one", 8381);
    one(&["diff"]).success();
}
