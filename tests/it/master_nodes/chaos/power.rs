//! Power cuts of one node, in each part of a deployment and in the seconds after it said
//! that it was done. Meant for nodes that lose what was not synced: virtual machines, slow
//! ones too, or namespaces on an ext4 that is shut down without its log (FS_IOC_SHUTDOWN
//! with 2). VZ_TEST_CONTROL, as of [`chaos`](super), takes `kill NODE` and `up NODE`.
//! Moments are random by VZ_TEST_SEED, which is said where it is not given.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::deployment::Deployment;
use super::truth::Truth;
use super::{Chaos, broken_nodes, chosen};
use crate::master_nodes::Nodes;
use crate::sandbox::{Finished, say};

/// When the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Anywhere in the first deployment to a node that has nothing of ours.
    First,
    /// Connecting and planning.
    Connect,
    Push,
    /// While the old revision is stopped and the new one started.
    Start,
    Judge,
    Confirm,
    /// Once the deployment is done.
    Done,
    /// Once a deployment is done that had nothing to do but to keep the secret.
    Kept,
}

const PARTS: [Part; 8] = [
    Part::Done,
    Part::Confirm,
    Part::Start,
    Part::Judge,
    Part::Kept,
    Part::Push,
    Part::First,
    Part::Connect,
];

/// Times each of them happens, with either kind of pod.
const TIMES: usize = 3;

/// How long the parts of a deployment took: until it was planned, pushed, done.
struct Pace {
    planned: Duration,
    pushed: Duration,
    done: Duration,
}

/// What says that a plan was made, and that the node begins with a revision.
fn is_planned(line: &str) -> bool {
    line.contains("vz-test") && line.contains(" -> ")
}

fn is_begun(line: &str) -> bool {
    line.contains("vz-test: starts it") || line.contains("vz-test: stops the one before")
}

/// Random numbers below 1 (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits >> 40) as f64 / (1u64 << 24) as f64
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() * 256.0) as u8).collect()
    }
}

impl Nodes {
    /// Gives the pod a secret, and its server a page of it.
    pub(super) fn keeps(&self, secret: &str) {
        self.sandbox.write("key", secret);
        self.sandbox.write("secrets.yaml", "key:\n  word: {file: key}\n");
        fs::create_dir_all(self.sandbox.path("app/rootfs/www/key")).unwrap();
        let pod = fs::read_to_string(self.sandbox.path("pods/test.yaml")).unwrap();
        let (volume, mount) =
            ("{name: key, secret: {secretName: key}}", "{name: key, mountPath: /www/key}");
        let pod = match pod.contains("  volumes: [") {
            true => pod
                .replace("  volumes: [", &format!("  volumes: [{volume}, "))
                .replace("volumeMounts: [", &format!("volumeMounts: [{mount}, ")),
            false => {
                let pod = pod
                    .replace("  containers:\n", &format!("  volumes: [{volume}]\n  containers:\n"));
                pod.replace("bundle:app\n", &format!("bundle:app\n    volumeMounts: [{mount}]\n"))
            }
        };
        self.sandbox.write("pods/test.yaml", pod);
    }

    /// What a server of a node answers the node itself.
    pub(super) fn asks_itself(&self, node: &str, port: u16, path: &str) -> Option<String> {
        let get = format!(
            "bash -c \"exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; timeout 20 cat <&3\" 2>/dev/null"
        );
        let answer = self.on(node, &get).stdout();
        let (head, page) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| page.to_owned())
    }
}

/// What is empty, half-made, damaged, or leads nowhere, in all that vz has on a node.
const DAMAGE: &str = "\
cd / && find etc/vz etc/systemd/system var/lib/vz/bin var/lib/vz/revs var/lib/vz/app -type f -size 0 ! -name lock ! -name '.*' 2>/dev/null
find etc/vz etc/systemd/system var/lib/vz/app -name '*vz*' -xtype l 2>/dev/null
for f in var/lib/vz/bin/vzpush-*; do [ ! -e $f ] || [ $(sha256sum <$f | cut -c1-64) = ${f#*vzpush-} ] || echo $f; done
[ ! -e etc/vz/pods/vz-test/history ] || python3 -c 'import json; [json.loads(l) for l in open(\"etc/vz/pods/vz-test/history\")]' 2>&1 | tail -n 1
";

const FORGET: &str = "systemctl stop 'vz-vz-test.*'; rm -rf /etc/vz /var/lib/vz /run/vz /var/lib/systemd/credential.secret /etc/systemd/system/vz-vz-test.* /etc/systemd/system/*/vz-vz-test.*; nft 'add table ip vz-vz-test; delete table ip vz-vz-test'; systemctl daemon-reload; sync";

struct Power {
    chaos: Chaos,
}

impl Power {
    fn node(&self) -> &str {
        &self.chaos.nodes.names[0]
    }

    /// Makes the files wish this page, and a bundle with something to push.
    fn wish(&self, page: &str, apart: bool, chance: &mut Chance) {
        self.chaos.nodes.sandbox.write("app/rootfs/www/noise", chance.bytes(3 << 20));
        self.chaos.wish(page, apart, None);
    }

    /// A deployment that nothing breaks.
    fn pace(&self, apart: bool, chance: &mut Chance) -> Pace {
        self.wish("the first page", apart, chance);
        self.chaos.deploys().end();
        self.wish("another page", apart, chance);
        let started = Instant::now();
        let mut deployment = self.chaos.deploys();
        assert!(deployment.says(is_planned));
        let planned = started.elapsed();
        assert!(deployment.says(is_begun));
        let pushed = started.elapsed();
        assert!(deployment.end().success(), "{:?}", deployment.said);
        Pace { planned, pushed, done: started.elapsed() }
    }

    /// Deploys `page` and cuts the power in `part`; returns the deployment, how far it
    /// was, and after how long.
    fn cut(&self, part: Part, pace: &Pace, chance: &mut Chance) -> (Deployment, String) {
        let began = Instant::now();
        let mut deployment = self.chaos.deploys();
        let rest = pace.done - pace.pushed;
        let (from, length) = match part {
            Part::First => (Duration::ZERO, pace.done.mul_f64(1.3)),
            Part::Connect => (Duration::ZERO, pace.planned),
            Part::Push => (Duration::ZERO, pace.pushed - pace.planned),
            Part::Start => (Duration::ZERO, rest.mul_f64(0.3)),
            Part::Judge => (rest.mul_f64(0.3), rest.mul_f64(0.4)),
            Part::Confirm => (rest.mul_f64(0.7), rest.mul_f64(0.35)),
            Part::Done => (Duration::ZERO, Duration::from_secs(3)),
            Part::Kept => (Duration::ZERO, Duration::from_millis(700)),
        };
        let heard = match part {
            Part::First | Part::Connect => true,
            Part::Push => deployment.says(is_planned),
            Part::Start | Part::Judge | Part::Confirm => deployment.says(is_begun),
            Part::Done | Part::Kept => {
                deployment.wait();
                true
            }
        };
        thread::sleep(from + length.mul_f64(chance.next()));
        self.chaos.control(&["kill", self.node()]);
        let mut at = format!("after {:.1} s", began.elapsed().as_secs_f64());
        if !heard {
            at.push_str(", which was over,");
        }
        thread::sleep(Duration::from_secs(1));
        self.chaos.control(&["up", self.node()]);
        (deployment, at)
    }

    /// One power cut; returns what was not as it must be.
    fn round(
        &self,
        (number, part, apart): (usize, Part, bool),
        pace: &Pace,
        chance: &mut Chance,
    ) -> Vec<String> {
        let (chaos, node) = (&self.chaos, self.node().to_owned());
        let mut page = format!("page {number}");
        let mut before = chaos.serves(&node, apart);
        match part {
            Part::Kept => {
                page = before.clone().unwrap_or_default();
                chaos.nodes.vzmaster(&["deploy", "-y", "--encrypt-at-rest=no"]).success();
                chaos.nodes.on(&node, "sync").success();
            }
            Part::First => {
                chaos.nodes.on(&node, FORGET).success();
                before = None;
                self.wish(&page, apart, chance);
            }
            _ => self.wish(&page, apart, chance),
        }
        let (mut deployment, at) = self.cut(part, pace, chance);
        let status = deployment.end();
        let mut wrong: Vec<String> = chaos.settles(&node).err().into_iter().collect();
        let current = "readlink -e /etc/vz/pods/vz-test/current";
        let nothing = before.is_none() && chaos.nodes.on(&node, current).stdout().is_empty();
        let serves = if nothing { None } else { chaos.serves(&node, apart) };
        let new = serves.as_ref() == Some(&page);
        if serves != before && !new {
            wrong.push(format!("served {before:?}, now {serves:?}, wished {page}"));
        }
        if status.success() && !new {
            wrong.push(format!("serves {serves:?}, and the deployment succeeded"));
        }
        if matches!(part, Part::Done | Part::Kept) && !status.success() {
            wrong.push(format!("{status}"));
        }
        if !nothing {
            let port = if apart { 8380 } else { 8381 };
            let secret = chaos.nodes.asks_itself(&node, port, "/key/word");
            if secret != serves {
                wrong.push(format!("serves {serves:?} with the secret {secret:?}"));
            }
            wrong.extend(chaos.looks(&node, new, false));
            let linked = Truth::of(&chaos.nodes, &node).tidy();
            if part == Part::Done && !linked {
                wrong.push("units of the one before are left".to_owned());
            }
        }
        wrong.extend(self.damaged());
        wrong.extend(self.unlike());
        let what = format!(
            "cut {number}: {part:?}, {} {at} of {:.1} s, {status}, {}",
            if apart { "start first," } else { "stop first," },
            pace.done.as_secs_f64(),
            if nothing {
                "nothing"
            } else if new {
                "new"
            } else {
                "old"
            },
        );
        chaos.show(&what, &wrong, &deployment);
        wrong.extend(chaos.mended(number, apart));
        wrong.extend(self.damaged());
        wrong
    }

    /// What is not whole, looked at without any program of ours.
    fn damaged(&self) -> Vec<String> {
        let found = self.chaos.nodes.on(self.node(), DAMAGE).stdout();
        found.lines().map(|line| format!("damaged: {line}")).collect()
    }

    /// What is not as it was pushed.
    fn unlike(&self) -> Vec<String> {
        let (nodes, node) = (&self.chaos.nodes, self.node());
        let mut wrong = Vec::new();
        let diff = nodes.vzmaster(&["diff", "--verify", "-l", node]).stdout();
        if diff.contains("changed") {
            wrong.push(format!("diff --verify says {diff:?}"));
        }
        // The one beside the vzmaster that is tested.
        let program =
            std::env::var("VZ_TEST_VZMASTER").map(|path| path.replace("vzmaster", "vzpush"));
        let mut verify = nodes.sandbox.command(program.unwrap_or_else(|_| "vzpush".to_owned()));
        verify.args(["-F", &nodes.config, "--connect-timeout", "20", "verify", node]);
        let verify = Finished::of(&mut verify);
        if verify.output().status.code() != Some(0) {
            wrong.push(format!("vzpush verify: {} {}", verify.stdout(), verify.stderr()));
        }
        wrong
    }
}

#[test]
fn a_power_cut_leaves_the_old_revision_or_the_new_one_and_nothing_half_made() {
    let test = "a_power_cut_leaves_the_old_revision_or_the_new_one_and_nothing_half_made";
    let Some((mut nodes, control)) = broken_nodes(test) else { return };
    nodes.patience = "20";
    nodes.names.truncate(1);
    nodes.sandbox.write("hosts.ini", format!("[web]\n{}\n", nodes.names[0]));
    let given = std::env::var("VZ_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = given.unwrap_or(now.as_secs());
    say(&format!("VZ_TEST_SEED={seed}\n"));
    let power = Power { chaos: Chaos { nodes, control, within: true, secret: true } };
    let (mut wrong, mut pace) = (Vec::new(), None);
    for number in chosen(PARTS.len() * TIMES * 2) {
        let mut chance = Chance(seed.wrapping_add(number as u64 * 1_000_003));
        let (part, apart) = (PARTS[number % PARTS.len()], (number / PARTS.len()).is_multiple_of(2));
        let known = pace.take().filter(|(of, _)| *of == apart);
        let (_, known) = known.unwrap_or_else(|| (apart, power.pace(apart, &mut chance)));
        wrong.extend(power.round((number, part, apart), &known, &mut chance));
        pace = Some((apart, known));
    }
    assert_eq!(wrong, [""; 0]);
}
