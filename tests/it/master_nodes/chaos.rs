//! Deployments while things break: nodes lose power, hang, run full, links are cut, the
//! master and the node's own end are killed, each in each phase; after every one of them
//! a deployment of a good revision, which must succeed. Long, so only where
//! VZ_TEST_FULL=1; what breaks nodes is VZ_TEST_CONTROL, a command that takes `kill NODE`,
//! `up NODE [--mem SIZE]`, `link NODE up|down` and `freeze|thaw NODE`. VZ_TEST_ROUNDS,
//! as `20..40`, does some.

mod deployment;
mod fault;
mod power;
mod truth;

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use self::deployment::Deployment;
use self::fault::{Fault, Phase, Round, rounds};
use self::truth::Truth;
use super::load::get;
use super::{Nodes, nodes};
use crate::sandbox::{Finished, reduced, say};

/// How long a node may take until nothing is pending any more: to notice, to be waited
/// for, to go back.
const SETTLED: Duration = Duration::from_secs(180);
/// How long until what systemd starts is there; at boot, an emulated machine takes minutes.
const STARTED: Duration = Duration::from_secs(300);

const FILL: &str = "fallocate -l $(df -B1 --output=avail /var/lib | tail -n 1) /var/lib/full; for n in 1M 4k 1; do dd if=/dev/zero of=/var/lib/full.$n bs=$n count=10000; done; true";
const KILL: &str = "for p in $(pgrep -fa '^[^ ]*/bin/vzpush-' | grep -v ' guard ' | cut -d' ' -f1); do kill -9 $p; done; true";

struct Chaos {
    nodes: Nodes,
    control: String,
    /// Whether nodes are reached by ssh alone, and so ask their servers themselves.
    within: bool,
    /// Whether the pod has a secret, which nodes keep.
    secret: bool,
}

impl Chaos {
    fn control(&self, words: &[&str]) {
        let mut command = self.nodes.sandbox.command(&self.control);
        Finished::of(command.args(words)).success();
    }

    fn reboot(&self, node: &str, more: &[&str]) {
        self.control(&["kill", node]);
        thread::sleep(Duration::from_secs(1));
        self.control(&[&["up", node], more].concat());
    }

    /// Makes the files wish a revision with this page.
    fn wish(&self, page: &str, apart: bool, fault: Option<Fault>) {
        self.nodes.serve(page, if fault == Some(Fault::Deaf) { 8382 } else { 8381 });
        if fault == Some(Fault::Crash) {
            let path = self.nodes.sandbox.path("pods/test.yaml");
            let pod = std::fs::read_to_string(path).unwrap();
            let command = "    command: [/bin/busybox, \"false\"]\n";
            self.nodes.sandbox.write("pods/test.yaml", format!("{pod}{command}"));
        }
        if apart {
            self.nodes.apart();
        }
        if self.secret {
            self.nodes.keeps(page);
        }
    }

    fn deploys(&self) -> Deployment {
        let mut command = self.nodes.master(&["deploy", "-y"]);
        if self.secret {
            command.arg("--encrypt-at-rest");
        }
        Deployment::start(command)
    }

    /// What a node serves by itself; nothing where nothing answers.
    fn served(&self, node: &str, apart: bool) -> Option<String> {
        let port = if apart { 8380 } else { 8381 };
        match self.within {
            true => self.nodes.asks_itself(node, port, "/"),
            false => get(self.nodes.published(node, port)).ok(),
        }
    }

    /// The same, once something answers.
    fn serves(&self, node: &str, apart: bool) -> Option<String> {
        let started = Instant::now();
        loop {
            let page = self.served(node, apart);
            if page.is_some() || started.elapsed() > STARTED {
                return page;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until no deployment is under way on a node.
    fn settles(&self, node: &str) -> Result<(), String> {
        let started = Instant::now();
        let line = "test ! -e /run/vz/pending/vz-test && { test ! -e /run/vz/lock || flock -n /run/vz/lock true; } && { test ! -e /var/lib/vz/app/lock || flock -n /var/lib/vz/app/lock true; } && echo settled";
        while started.elapsed() < SETTLED {
            if self.nodes.on(node, line).stdout() == "settled\n" {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(500));
        }
        Err(format!("{node}: a deployment is still pending"))
    }

    /// What has to be broken before the deployment.
    fn prepare(&self, round: Round, victim: &str) {
        match round.fault {
            Fault::DiskFull => drop(self.nodes.on(victim, FILL)),
            Fault::LittleMemory => self.reboot(victim, &["--mem", "64M"]),
            Fault::Clock => {
                let year = if round.apart { "next year" } else { "last year" };
                let line = format!(
                    "find /etc/vz /run/vz /var/lib/vz -name rootfs -prune -o -exec touch -h -d '{year}' {{}} +"
                );
                self.nodes.on(victim, &line).success();
            }
            _ => {}
        }
    }

    fn inflict(&self, round: Round, victim: &str, deployment: &Deployment) {
        match round.fault {
            Fault::MasterKilled => deployment.kill(),
            Fault::MasterInterrupted => deployment.interrupt(),
            Fault::NodesEndKilled => drop(self.nodes.on(victim, KILL)),
            Fault::LinkCut => {
                self.control(&["link", victim, "down"]);
                thread::sleep(round.away());
                self.control(&["link", victim, "up"]);
            }
            Fault::Frozen => {
                self.control(&["freeze", victim]);
                thread::sleep(round.away());
                self.control(&["thaw", victim]);
            }
            Fault::PowerCut => self.reboot(victim, &[]),
            Fault::DiskFills => drop(self.nodes.on(victim, FILL)),
            _ => {}
        }
    }

    /// One round; returns what was not as it must be.
    fn round(&self, round: Round) -> Vec<String> {
        let Round { number, fault, phase, apart } = round;
        let names = &self.nodes.names;
        let victim = &names[round.victim(names.len())];
        self.prepare(round, victim);
        let before: Vec<Option<String>> =
            names.iter().map(|node| self.serves(node, apart)).collect();
        let page = format!("page {number}");
        self.wish(&page, apart, Some(fault));
        let command = self.nodes.master(&["--silence", "15", "deploy", "-y"]);
        let mut deployment = Deployment::start(command);
        let mut moment = String::new();
        if phase != Phase::Whole {
            let in_time =
                phase == Phase::Connect || deployment.says(|line| round.begins(line, victim));
            thread::sleep(round.delay());
            self.inflict(round, victim, &deployment);
            moment = format!(" {:?} on {victim}", round.delay());
            if !in_time {
                moment.push_str(", which was over");
            }
        }
        let status = deployment.end();
        let mut wrong = Vec::new();
        let mut ends = String::new();
        for (node, before) in names.iter().zip(&before) {
            wrong.extend(self.settles(node).err());
            let serves = self.serves(node, apart);
            let new = serves.as_ref() == Some(&page);
            if serves.is_none() || (serves != *before && !new) {
                wrong.push(format!("{node}: served {before:?}, now {serves:?}, wished {page}"));
            }
            if matches!(fault, Fault::Deaf | Fault::Crash) && new {
                wrong.push(format!("{node}: serves a revision that does not work"));
            }
            if status.success() && !new {
                wrong.push(format!("{node}: serves {serves:?}, and the deployment succeeded"));
            }
            ends.push_str(if new { " new" } else { " old" });
        }
        let expected = match fault {
            Fault::Deaf | Fault::Crash => Some(3),
            Fault::Clock => Some(0),
            _ => status.code(),
        };
        if status.code() != expected {
            wrong.push(format!("status {status}"));
        }
        if matches!(fault, Fault::DiskFull | Fault::DiskFills) {
            self.nodes.on(victim, "rm -f /var/lib/full*").success();
        }
        if fault == Fault::LittleMemory {
            self.reboot(victim, &["--mem", "512M"]);
        }
        for node in names {
            let serves = self.serves(node, apart);
            wrong.extend(self.looks(node, serves.as_ref() == Some(&page), false));
        }
        self.show(
            &format!(
                "round {number}: {fault:?} in {phase:?}{moment}, status {status}, nodes have:{ends}"
            ),
            &wrong,
            &deployment,
        );
        wrong.extend(self.mended(number, apart));
        wrong
    }

    /// Compares what a node has with what is said of it.
    fn looks(&self, node: &str, wished: bool, all: bool) -> Vec<String> {
        let truth = Truth::of(&self.nodes, node);
        let mut wrong = truth.wrong(all);
        let diff = self.nodes.vzmaster(&["diff", "-l", node]);
        if diff.stdout().is_empty() != (wished && truth.tidy()) {
            wrong.push(format!("diff says {:?} {:?}", diff.stdout(), diff.stderr()));
        }
        wrong.iter().map(|wrong| format!("{node}: {wrong}")).collect()
    }

    /// The next deployment succeeds, and nothing is left of the fault.
    fn mended(&self, number: usize, apart: bool) -> Vec<String> {
        let page = format!("page {number}, mended");
        self.wish(&page, apart, None);
        let mut deployment = self.deploys();
        let status = deployment.end();
        let mut wrong = Vec::new();
        if !status.success() {
            wrong.push(format!("the next deployment: {status}"));
        }
        for node in &self.nodes.names {
            let serves = self.serves(node, apart);
            if serves.as_ref() != Some(&page) {
                wrong.push(format!("{node}: serves {serves:?}, wished {page}"));
            }
            wrong.extend(self.looks(node, true, true));
        }
        self.show(&format!("round {number}, the next deployment"), &wrong, &deployment);
        wrong
    }

    fn show(&self, what: &str, wrong: &[String], deployment: &Deployment) {
        if wrong.is_empty() {
            say(&format!("{what}: as it must be\n"));
            return;
        }
        say(&format!("{what}: WRONG {}\n", wrong.join("; ")));
        for line in &deployment.said {
            say(&format!("    {line}\n"));
        }
        for node in &self.nodes.names {
            let log = self.nodes.on(node, "journalctl --no-pager -n 60 -o short-precise -u 'vz-*'; tail -n 3 /etc/vz/pods/vz-test/history");
            say(&format!("--- {node}\n{}", log.stdout()));
        }
    }
}

/// The nodes, and what breaks them.
fn broken_nodes(test: &str) -> Option<(Nodes, String)> {
    let Ok(control) = std::env::var("VZ_TEST_CONTROL") else {
        reduced(test, "set VZ_TEST_CONTROL to what breaks the nodes of VZ_TEST_NODES");
        return None;
    };
    if std::env::var_os("VZ_TEST_FULL").is_none() {
        reduced(test, "it takes an hour and a half: set VZ_TEST_FULL=1");
        return None;
    }
    Some((nodes(test)?, control))
}

/// Which of so many rounds are done.
fn chosen(rounds: usize) -> Range<usize> {
    std::env::var("VZ_TEST_ROUNDS").map_or(0..rounds, |text| {
        let (from, to) = text.split_once("..").expect("VZ_TEST_ROUNDS=FROM..TO");
        from.parse().unwrap()..to.parse().unwrap()
    })
}

#[test]
fn whatever_breaks_a_node_has_the_old_revision_or_the_new_one() {
    let test = "whatever_breaks_a_node_has_the_old_revision_or_the_new_one";
    let Some((nodes, control)) = broken_nodes(test) else { return };
    let all = rounds();
    let some = chosen(all.len());
    let chaos = Chaos { nodes, control, within: false, secret: false };
    let mut wrong = Vec::new();
    let mut apart = None;
    for round in all.get(some).expect("rounds") {
        if apart.replace(round.apart) != Some(round.apart) {
            chaos.wish("the first page", round.apart, None);
            chaos.nodes.vzmaster(&["deploy", "-y"]).success();
        }
        wrong.extend(chaos.round(*round));
    }
    assert_eq!(wrong, [""; 0]);
}
