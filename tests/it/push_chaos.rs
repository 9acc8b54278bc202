//! Faults at random moments of a push. Each trial is made from one number, its seed,
//! which is printed where it fails; `VZ_TEST_SEED=N cargo test --test it push_chaos::NAME` does that
//! trial again. A few fixed ones are part of every run; `VZ_TEST_FULL=1` does all, from
//! seeds of that moment.

pub mod gate;
mod ground;
mod memory;
mod trial;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;

use crate::sandbox::{Need, count, require, say};
use crate::sshd::wanted;
use ground::Ground;
use memory::MemoryGroup;
use trial::{Node, Random, Trial};

/// Bytes of new content in a trial.
const FRESH: std::ops::Range<u64> = 200_000..1_500_000;
/// How soon a silent end is given up, where that is waited for.
const QUICK: &str = "--silence=2";
const SHUTDOWN: Need = Need::Program("xfs_io", "xfsprogs");
const MKFS: Need = Need::Program("mkfs.ext4", "e2fsprogs");

/// A node, and the seeds of the trials on it; nothing where it cannot be had.
struct Suite {
    test: String,
    node: Node,
    seeds: Vec<u64>,
    /// Whether these are all, which takes minutes.
    all: bool,
}

fn suite(test: &str, full: u32, few: u32, ground: Ground, needs: &[Need]) -> Option<Suite> {
    suite_with(test, (full, few), ground, needs, "")
}

fn suite_with(
    test: &str,
    (full, few): (u32, u32),
    ground: Ground,
    needs: &[Need],
    extra: &str,
) -> Option<Suite> {
    if !wanted(test) || !require(test, needs) {
        return None;
    }
    let trials = count(test, full, few);
    if trials == 0 {
        return None;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let base = if trials == few { 1 } else { Random(now as u64).below(1 << 32) };
    let seeds = match std::env::var("VZ_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("VZ_TEST_SEED is a number")],
        Err(_) => (base..base + u64::from(trials)).collect(),
    };
    let node = Node::start(ground, extra);
    let first = Trial::begin(&node, 0, 1000..2000);
    assert!(first.end(&mut first.start("web")).success());
    Some(Suite { test: test.to_owned(), node, seeds, all: trials != few })
}

impl Suite {
    /// Does `fault` in each trial.
    fn each(&self, fresh: std::ops::Range<u64>, fault: impl Fn(&mut Trial<'_>)) {
        for seed in &self.seeds {
            if self.all {
                say(&format!("TRIAL {} VZ_TEST_SEED={seed}\n", self.test));
            }
            let _seed = Seed(*seed);
            fault(&mut Trial::begin(&self.node, *seed, fresh.clone()));
        }
    }
}

/// Says which seed it was when its trial fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("FAILED with VZ_TEST_SEED={}\n", self.0));
        }
    }
}

#[test]
fn pusher_killed() {
    let Some(suite) = suite("pusher_killed", 50, 2, Ground::Plain, &[]) else { return };
    suite.each(FRESH, |trial| {
        let mut child = trial.start_and_stop();
        child.kill().unwrap();
        child.wait().unwrap();
        trial.check();
    });
}

#[test]
fn receiver_killed() {
    let Some(suite) = suite("receiver_killed", 30, 1, Ground::Plain, &[]) else { return };
    suite.each(FRESH, |trial| {
        let mut child = trial.start_and_stop();
        trial.node.signal(&trial.node.receivers(), Signal::SIGKILL);
        trial.node.gate.release();
        trial.end(&mut child);
        trial.check();
    });
}

/// Both ends give up by themselves.
#[test]
fn link_down() {
    let Some(suite) = suite("link_down", 20, 1, Ground::Plain, &[]) else { return };
    suite.each(FRESH, |trial| {
        trial.options.push(QUICK.to_owned());
        let mut child = trial.start_and_stop();
        trial.node.gate.silence();
        let done = trial.end(&mut child);
        trial.node.wait_until_idle();
        // The kernel of a machine that is up again ends what was left of both.
        trial.node.gate.cut();
        assert!(done.success() || done.code() == Some(3));
        trial.check();
    });
}

/// The same with the times of every day.
#[test]
fn link_down_for_half_a_minute() {
    let Some(suite) = suite("link_down_for_half_a_minute", 2, 0, Ground::Plain, &[]) else {
        return;
    };
    suite.each(FRESH, |trial| {
        let mut child = trial.start_and_stop();
        trial.node.gate.silence();
        std::thread::sleep(Duration::from_secs(30));
        trial.end(&mut child);
        trial.node.wait_until_idle();
        trial.node.gate.cut();
        trial.check();
    });
}

/// What was not synced is lost, as with a real disk.
#[test]
fn power_cut() {
    let needs = [Need::Root, SHUTDOWN, MKFS];
    let Some(suite) = suite("power_cut", 50, 2, Ground::Ext4, &needs) else { return };
    suite.each(FRESH, |trial| {
        let mut child = trial.start_and_stop();
        let sandbox = &trial.node.sshd.sandbox;
        trial.node.mount.cut_power(sandbox);
        trial.node.signal(&trial.node.receivers(), Signal::SIGKILL);
        trial.node.gate.cut();
        trial.end(&mut child);
        trial.node.wait_until_idle();
        trial.node.mount.boot(sandbox);
        trial.check_with(false);
    });
}

const SMALL: Ground = Ground::Tmpfs { bytes: 24 << 20, inodes: 1200 };

fn filled(test: &str, full: u32, inodes: bool) {
    let Some(suite) = suite(test, full, 1, SMALL, &[Need::Root]) else { return };
    suite.each(FRESH, |trial| {
        let mut child = trial.start_and_stop();
        let filler = trial.node.mount.fill(inodes);
        trial.node.gate.release();
        let status = trial.end(&mut child);
        assert!(status.success() || status.code() == Some(3));
        for path in filler {
            fs::remove_file(path).unwrap();
        }
        trial.check();
    });
}

/// Seen before anything is sent; what waits of other tries makes way first.
#[test]
fn disk_too_small() {
    let Some(suite) = suite("disk_too_small", 3, 1, SMALL, &[Need::Root]) else { return };
    suite.each(12_000_000..13_000_000, |trial| {
        trial.options.push("--delta=never".to_owned());
        trial.options.dedup();
        let mut child = trial.start_and_stop();
        child.kill().unwrap();
        child.wait().unwrap();
        trial.node.gate.release();
        trial.node.wait_until_idle();
        let sandbox = &trial.node.sshd.sandbox;
        sandbox.write("large/rootfs/noise", trial.random.noise(25_000_000));
        sandbox.write("large/config.json", CONFIG);
        let large = ["--delta=never", "--name", "web", "large", "node"];
        trial.node.push(&large).status(3).says("are needed, and the disk has").says("vzpush gc");
        let fits = trial.random.noise(11_000_000);
        sandbox.write("fits/rootfs/noise", fits);
        sandbox.write("fits/config.json", CONFIG);
        trial.node.push(&["--delta=never", "--name", "web", "fits", "node"]).success();
        trial.node.push(&["verify", "node"]).success();
        // Small again, for the next trial.
        sandbox.write("fits/rootfs/noise", "");
        for keep in ["1", "2"] {
            sandbox.write("fits/rootfs/keep", keep);
            trial.node.push(&["--name", "web", "fits", "node"]).success();
        }
        trial.node.push(&["gc", "node"]).success();
    });
}

/// The lock of a pusher that hangs is free again.
#[test]
fn pusher_frozen() {
    let Some(suite) = suite("pusher_frozen", 10, 1, Ground::Plain, &[]) else { return };
    suite.each(FRESH, |trial| {
        trial.options.push(QUICK.to_owned());
        let mut child = trial.start_and_stop();
        let pusher = child.id() as i32;
        trial.node.signal(&[pusher], Signal::SIGSTOP);
        trial.node.gate.release();
        trial.check();
        trial.node.signal(&[pusher], Signal::SIGCONT);
        trial.end(&mut child);
    });
}

#[test]
fn disk_full() {
    filled("disk_full", 25, false);
}

#[test]
fn inodes_full() {
    filled("inodes_full", 15, true);
}

/// A node that hangs: neither receiver nor sshd runs, no connection ends.
#[test]
fn node_frozen() {
    let Some(suite) = suite("node_frozen", 10, 1, Ground::Plain, &[]) else { return };
    suite.each(FRESH, |trial| {
        trial.options.push(QUICK.to_owned());
        let mut child = trial.start_and_stop();
        let node = trial.node;
        let frozen: Vec<i32> = [node.receivers(), node.sshd.sessions()].concat();
        node.signal(&frozen, Signal::SIGSTOP);
        let status = trial.end(&mut child);
        assert!(status.success() || status.code() == Some(3));
        std::thread::sleep(Duration::from_millis(trial.random.below(1500)));
        node.signal(&frozen, Signal::SIGCONT);
        trial.check();
    });
}

#[test]
fn two_pushers() {
    let Some(suite) = suite("two_pushers", 15, 1, Ground::Plain, &[]) else { return };
    suite.each(FRESH, |trial| {
        let sandbox = &trial.node.sshd.sandbox;
        let other = trial.random.noise(300_000);
        for (file, content) in [("rootfs/lib/other", &other[..]), ("config.json", CONFIG)] {
            sandbox.write(&format!("other/{file}"), content);
        }
        let mut first = trial.start_and_stop();
        let mut second = trial.start("other");
        std::thread::sleep(Duration::from_millis(trial.random.below(300)));
        trial.node.gate.release();
        assert!(trial.end(&mut first).success() && trial.end(&mut second).success());
        // The last of them is current; neither is half of the other.
        trial.node.push(&["verify", "node"]).success();
        let last = trial.node.sshd.current("web").unwrap();
        let is_first = !last.join("rootfs/lib/other").exists();
        let bundle = if is_first { "web" } else { "other" };
        trial::assert_same(&sandbox.path(bundle), &last);
        trial.node.push(&["web", "node"]).success();
        trial.node.push(&["verify", "node"]).success();
    });
}

const CONFIG: &[u8] = br#"{"root":{"path":"rootfs"}}"#;

/// A file of the revision that deltas are made against is not what it was.
#[test]
fn base_tampered_with() {
    let Some(suite) = suite("base_tampered_with", 20, 2, Ground::Plain, &[]) else { return };
    suite.each(FRESH, |trial| {
        let current = trial.node.sshd.current("web").unwrap();
        let files: Vec<PathBuf> = walkdir::WalkDir::new(&current)
            .sort_by_file_name()
            .into_iter()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_file())
            .map(walkdir::DirEntry::into_path)
            .collect();
        let path = &files[trial.random.below(files.len() as u64) as usize];
        let len = fs::metadata(path).unwrap().len();
        let file = fs::File::options().write(true).open(path).unwrap();
        match trial.random.below(4) {
            0 => file.write_all_at(b"\x55tampered", trial.random.below(len)).unwrap(),
            1 => file.set_len(trial.random.below(len)).unwrap(),
            2 => fs::remove_file(path).unwrap(),
            // Of the listing itself only the content counts.
            _ if path.ends_with("manifest") => file.set_len(0).unwrap(),
            _ => file.set_permissions(fs::Permissions::from_mode(0o6755)).unwrap(),
        }
        trial.node.push(&["verify", "node"]).status(1);
        let args = [
            &["--json", "web", "node"],
            &trial.options.iter().map(String::as_str).collect::<Vec<_>>()[..],
        ]
        .concat();
        trial.node.push(&args).success();
        trial::assert_same(
            &trial.node.sshd.sandbox.path("web"),
            &trial.node.sshd.current("web").unwrap(),
        );
        // The damaged one stays as it is, and is named, until nothing needs it.
        trial.node.push(&["verify", "node"]).status(1);
        fs::remove_dir_all(current).unwrap();
        trial.check_present();
    });
}

/// A receiver that is cut, of another version, not to be executed, or something else.
#[test]
fn wrong_receiver() {
    let Some(suite) = suite("wrong_receiver", 10, 2, Ground::Plain, &[]) else { return };
    suite.each(2000..100_000, |trial| {
        let bin = trial.node.sshd.sandbox.path("bin");
        let path = fs::read_dir(&bin).unwrap().next().unwrap().unwrap().path();
        let mut program = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        match trial.random.below(5) {
            0 => program.truncate(trial.random.below(program.len() as u64) as usize),
            1 => program = b"#!/bin/sh\nprintf 'VZPUSH2\\n'; cat >/dev/null\n".to_vec(),
            2 => program = b"#!/bin/sh\necho no >&2; exit 1\n".to_vec(),
            3 => program.extend_from_slice(b"another"),
            _ => program.clear(),
        }
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        trial.check();
    });
}

#[test]
fn host_key_changed() {
    let Some(suite) = suite("host_key_changed", 5, 1, Ground::Plain, &[]) else { return };
    suite.each(FRESH, |trial| {
        let sshd = &trial.node.sshd;
        let known = fs::read_to_string(sshd.sandbox.path("known")).unwrap();
        let user = fs::read_to_string(sshd.sandbox.path("user.pub")).unwrap();
        let other = format!("[127.0.0.1]:{} {user}", trial.node.gate.port);
        sshd.sandbox.write("known", other);
        trial.node.push(&["web", "node"]).status(3).says("has changed");
        sshd.sandbox.write("known", known);
        trial.check();
    });
}

/// The node's clock jumps by a year between two tries: to it, all that is there is a
/// year old, or comes from next year.
#[test]
fn clock_a_year_off() {
    let Some(suite) = suite("clock_a_year_off", 10, 1, Ground::Plain, &[]) else { return };
    suite.each(FRESH, |trial| {
        let mut child = trial.start_and_stop();
        child.kill().unwrap();
        child.wait().unwrap();
        trial.node.wait_until_idle();
        let year = Duration::from_secs(365 * 24 * 3600);
        let ahead = trial.random.below(2) == 0;
        let now = SystemTime::now();
        let then = if ahead { now - year } else { now + year };
        let store = &trial.node.mount.store;
        for dir in ["incoming", "bin/"] {
            let entries = walkdir::WalkDir::new(store.join(dir)).into_iter().filter_map(Result::ok);
            for entry in entries.filter(|entry| !entry.path_is_symlink()) {
                fs::File::open(entry.path()).unwrap().set_modified(then).unwrap();
            }
        }
        for entry in fs::read_dir(store.join("revs/web")).unwrap() {
            let manifest = entry.unwrap().path().join("manifest");
            fs::File::open(manifest).unwrap().set_modified(then).unwrap();
        }
        trial.check();
    });
}

/// Contents of several windows of zstd, and many files.
#[test]
fn receiver_in_64_mib() {
    let Some(group) = MemoryGroup::new("receiver_in_64_mib") else { return };
    let force = group.force_command();
    let suite = suite_with("receiver_in_64_mib", (4, 1), Ground::Plain, &[Need::Root], &force);
    let Some(suite) = suite else { return };
    group.limit(64 << 20);
    suite.each(20_000_000..30_000_000, |trial| {
        let sandbox = &trial.node.sshd.sandbox;
        for number in 0..1000 {
            let content = trial.random.noise(5000);
            sandbox.write(&format!("web/rootfs/share/d{}/f{number}", number % 20), content);
        }
        trial.fresh += 1000 * 5000;
        assert!(trial.end(&mut trial.start("web")).success());
        trial.check();
    });
}

#[test]
fn receiver_out_of_memory() {
    let Some(group) = MemoryGroup::new("receiver_out_of_memory") else { return };
    let force = group.force_command();
    let needs = [Need::Root];
    let suite = suite_with("receiver_out_of_memory", (6, 1), Ground::Plain, &needs, &force);
    let Some(suite) = suite else { return };
    group.limit(64 << 20);
    suite.each(12_000_000..14_000_000, |trial| {
        trial.options.push("--delta=never".to_owned());
        trial.options.dedup();
        // From the first pieces on.
        trial.node.gate.hold_after(200_000 + trial.random.below(11_000_000));
        let mut child = trial.start("web");
        trial.node.gate.wait(&mut child);
        group.overrun();
        trial.node.gate.release();
        let status = trial.end(&mut child);
        assert_eq!(status.code(), Some(3), "the receiver lives");
        trial.check();
    });
}
