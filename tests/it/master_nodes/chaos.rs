//! Deployments while things break: nodes lose power, links are cut, the master and the
//! node's own end are killed, disks are full. Long, so only where VZ_TEST_FULL=1; what
//! breaks nodes is VZ_TEST_CONTROL, a command that takes `kill NODE`, `up NODE` and
//! `link NODE up|down`. VZ_TEST_ROUNDS says how many rounds.

use std::fmt::Write as _;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use super::load::get;
use super::{Nodes, nodes};
use crate::sandbox::{Finished, reduced, say};

/// What goes wrong in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// A revision that answers no probe.
    Deaf,
    /// A revision whose program ends at once.
    Crash,
    MasterKilled,
    NodesEndKilled,
    LinkCut,
    PowerCut,
    DiskFull,
}

const FAULTS: [Fault; 8] = [
    Fault::MasterKilled,
    Fault::LinkCut,
    Fault::Deaf,
    Fault::NodesEndKilled,
    Fault::PowerCut,
    Fault::Crash,
    Fault::DiskFull,
    Fault::Nothing,
];

/// How long a node may take until nothing is pending any more: to notice, to be waited
/// for, to go back.
const SETTLED: Duration = Duration::from_secs(150);

struct Chaos {
    nodes: Nodes,
    control: String,
    apart: bool,
}

impl Chaos {
    fn control(&self, words: &[&str]) {
        let mut command = self.nodes.sandbox.command(&self.control);
        Finished::of(command.args(words)).success();
    }

    /// Makes the files wish a revision with this page.
    fn wish(&self, page: &str, fault: Fault) {
        self.nodes.serve(page, if fault == Fault::Deaf { 8382 } else { 8381 });
        if fault == Fault::Crash {
            let path = self.nodes.sandbox.path("pods/test.yaml");
            let pod = std::fs::read_to_string(path).unwrap();
            let command = "    command: [/bin/busybox, \"false\"]\n";
            self.nodes.sandbox.write("pods/test.yaml", format!("{pod}{command}"));
        }
        if self.apart {
            self.nodes.apart();
        }
    }

    fn start_deployment(&self) -> Child {
        let mut command = self.nodes.master(&["--silence", "15", "deploy", "-y"]);
        let null = std::process::Stdio::null;
        command.stdin(null()).stdout(null()).stderr(null()).spawn().unwrap()
    }

    /// What a node serves by itself; nothing where nothing answers.
    fn served(&self, node: &str) -> Option<String> {
        let address = match self.apart {
            true => self.nodes.published(node, 8380),
            false => self.nodes.published(node, 8381),
        };
        get(address).ok()
    }

    /// Waits until no deployment is under way on a node.
    fn settles(&self, node: &str) -> Result<(), String> {
        let started = Instant::now();
        while started.elapsed() < SETTLED {
            let line =
                "test ! -e /run/vz/pending/vz-test && flock -n /run/vz/lock true && echo settled";
            if self.nodes.on(node, line).stdout() == "settled\n" {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(500));
        }
        Err(format!("{node}: a deployment is still pending"))
    }

    /// One round; returns what was not as it must be.
    fn round(&self, number: usize, fault: Fault) -> Vec<String> {
        let mut wrong = Vec::new();
        let names = &self.nodes.names;
        let before: Vec<Option<String>> = names.iter().map(|node| self.served(node)).collect();
        let page = format!("page {number}");
        self.wish(&page, fault);
        let victim = &names[number % names.len()];
        // Spread over all phases: connecting, pushing, starting, judging, confirming.
        let moment = Duration::from_millis(150 + (number as u64 * 937) % 14_000);
        if fault == Fault::DiskFull {
            self.nodes.on(victim, "fallocate -l 100G /var/lib/full 2>/dev/null || dd if=/dev/zero of=/var/lib/full bs=1M 2>/dev/null; dd if=/dev/zero of=/var/lib/full2 bs=4k 2>/dev/null; true");
        }
        let mut deployment = self.start_deployment();
        if !matches!(fault, Fault::Nothing | Fault::Deaf | Fault::Crash | Fault::DiskFull) {
            thread::sleep(moment);
        }
        match fault {
            Fault::MasterKilled => deployment.kill().unwrap(),
            Fault::NodesEndKilled => {
                let line = "for p in $(pgrep -f '^[^ ]*/bin/vzpush-[0-9a-f]* .*node'); do kill -9 $p; done; true";
                self.nodes.on(victim, line);
            }
            Fault::LinkCut => {
                self.control(&["link", victim, "down"]);
                thread::sleep(Duration::from_secs(5 + (number as u64 * 7) % 40));
                self.control(&["link", victim, "up"]);
            }
            Fault::PowerCut => {
                self.control(&["kill", victim]);
                thread::sleep(Duration::from_secs(1));
                self.control(&["up", victim]);
            }
            _ => {}
        }
        let status = deployment.wait().unwrap();
        if fault == Fault::DiskFull {
            self.nodes.on(victim, "rm -f /var/lib/full /var/lib/full2");
        }
        if matches!(fault, Fault::Deaf | Fault::Crash) && status.code() != Some(3) {
            wrong.push(format!("round {number}: a bad revision, and status {status}"));
        }
        let mut ends = String::new();
        for (node, before) in names.iter().zip(&before) {
            wrong.extend(self.settles(node).err());
            // A program that systemd starts again is there in a moment.
            let started = Instant::now();
            let mut serves = self.served(node);
            while serves.is_none() && started.elapsed() < Duration::from_secs(15) {
                thread::sleep(Duration::from_millis(200));
                serves = self.served(node);
            }
            if serves.is_none() || (serves != *before && serves.as_ref() != Some(&page)) {
                wrong.push(format!("{node}: served {before:?}, now {serves:?}, wished {page}"));
            }
            let bad = matches!(fault, Fault::Deaf | Fault::Crash);
            if bad && serves.as_ref() == Some(&page) {
                wrong.push(format!("{node}: serves a revision that does not work"));
            }
            let _ = write!(ends, " {}", if serves.as_ref() == Some(&page) { "new" } else { "old" });
            // What is said must be so.
            let diff = self.nodes.vzmaster(&["diff", "-l", node]);
            let clean = diff.stdout().is_empty();
            if clean != (serves.as_ref() == Some(&page)) {
                wrong.push(format!("{node}: serves {serves:?}, and diff says {}", diff.stdout()));
            }
        }
        let faults = format!("{fault:?} at {moment:?}");
        let verdict = if wrong.is_empty() { "as it must be" } else { "WRONG" };
        say(&format!(
            "round {number}: {faults}, status {status}, nodes have:{ends}: {verdict} {}\n",
            wrong.join("; ")
        ));
        wrong
    }
}

#[test]
fn whatever_breaks_a_node_has_the_old_revision_or_the_new_one() {
    let test = "whatever_breaks_a_node_has_the_old_revision_or_the_new_one";
    let Ok(control) = std::env::var("VZ_TEST_CONTROL") else {
        return reduced(test, "set VZ_TEST_CONTROL to what breaks the nodes of VZ_TEST_NODES");
    };
    if std::env::var_os("VZ_TEST_FULL").is_none() {
        return reduced(test, "it takes half an hour: set VZ_TEST_FULL=1");
    }
    let Some(nodes) = nodes(test) else { return };
    let rounds = std::env::var("VZ_TEST_ROUNDS").map_or(56, |text| text.parse().unwrap());
    let mut chaos = Chaos { nodes, control, apart: true };
    let mut wrong = Vec::new();
    for number in 0..rounds {
        // Half of them start first, half stop first.
        if number % (rounds / 2).max(1) == 0 {
            chaos.apart = number == 0;
            chaos.wish("the first page", Fault::Nothing);
            chaos.nodes.vzmaster(&["deploy", "-y"]).success();
        }
        wrong.extend(chaos.round(number, FAULTS[number % FAULTS.len()]));
    }
    // No lock is stuck.
    chaos.wish("the last page", Fault::Nothing);
    chaos.nodes.vzmaster(&["deploy", "-y"]).success();
    assert_eq!(wrong, [""; 0]);
}
