//! One push that a fault meets, and what must hold after it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::fs::FlockOperation;

use super::gate::Gate;
use super::ground::{Ground, Mount};
use crate::sandbox::Finished;
use crate::sshd::Sshd;

/// Numbers that look random and are the same for the same seed: splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit.max(1)
    }

    pub fn noise(&mut self, len: u64) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.below(u64::MAX).to_le_bytes()).collect()
    }
}

/// A node behind a gate.
pub struct Node {
    pub mount: Mount,
    pub sshd: Sshd,
    pub gate: Gate,
}

/// Between begin and end of one.
pub struct Trial<'a> {
    pub node: &'a Node,
    pub random: Random,
    /// Options of its pushes.
    pub options: Vec<String>,
    /// Bytes of new content, which do not compress.
    pub fresh: u64,
    /// What was current before.
    before: Option<PathBuf>,
}

impl Node {
    pub fn start(ground: Ground, extra: &str) -> Self {
        let sshd = Sshd::start_with(extra);
        let gate = Gate::before(sshd.port);
        sshd.pin_at(gate.port);
        let mount = Mount::new(&sshd.sandbox, ground);
        Node { mount, sshd, gate }
    }

    /// Processes of the node's end.
    pub fn receivers(&self) -> Vec<i32> {
        let bin = self.sshd.sandbox.path("bin");
        let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        processes
            .filter(|p| fs::read_link(p.path().join("exe")).is_ok_and(|exe| exe.starts_with(&bin)))
            .filter_map(|p| p.file_name().to_str()?.parse().ok())
            .collect()
    }

    pub fn signal(&self, pids: &[i32], signal: Signal) {
        for pid in pids {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), signal);
        }
    }

    pub fn push(&self, args: &[&str]) -> Finished {
        let port = format!("Port={}", self.gate.port);
        Finished::of(&mut self.sshd.vzpush(&[&["-o", &port], args].concat()))
    }

    fn current(&self) -> Option<PathBuf> {
        self.sshd.current("web")
    }

    /// Waits until nothing is at work on the node, and asserts that no lock is held.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        let started = Instant::now();
        while !self.receivers().is_empty() {
            assert!(started.elapsed() < Duration::from_secs(60), "the receiver does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Ok(lock) = fs::File::open(self.mount.store.join("web/lock")) {
            let free = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
            free.expect("a lock outlives its push");
        }
    }

    /// Bytes that wait for the next try.
    fn staged(&self) -> u64 {
        let files = walkdir::WalkDir::new(self.mount.store.join("incoming"));
        let files = files.into_iter().filter_map(Result::ok).filter(|e| {
            let name = e.file_name().to_string_lossy();
            let is_tree = e.path().components().any(|c| c.as_os_str() == "tree");
            !is_tree && !name.ends_with(".sums")
        });
        files.filter_map(|e| e.metadata().ok()).filter(fs::Metadata::is_file).map(|m| m.len()).sum()
    }

    /// Names below the store that no push may leave behind.
    fn strays(&self) -> Vec<String> {
        let names = |dir: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(self.mount.store.join(dir)).into_iter().flatten();
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
        };
        let mut strays: Vec<String> = names("incoming").into_iter().collect();
        let known = ["bin", "incoming", "revs", "web", "lost+found"];
        strays.extend(names("").into_iter().filter(|n| !known.contains(&n.as_str())));
        let links = ["current", "previous", "lock"];
        strays.extend(names("web").into_iter().filter(|n| !links.contains(&n.as_str())));
        strays.extend(names("revs").into_iter().filter(|n| n != "web"));
        strays.extend(names("revs/web").into_iter().filter(|n| n.len() != 64));
        strays.extend(names("bin").into_iter().filter(|n| n.starts_with('.')));
        strays
    }
}

impl<'a> Trial<'a> {
    /// Writes the bundle that is to be pushed; the node keeps what it has.
    pub fn begin(node: &'a Node, seed: u64, fresh: std::ops::Range<u64>) -> Self {
        let mut random = Random(seed);
        let fresh = fresh.start + random.below(fresh.end - fresh.start);
        let sandbox = &node.sshd.sandbox;
        let _ = fs::remove_dir_all(sandbox.path("web"));
        let noise = random.noise(fresh);
        let parts = 1 + random.below(4);
        for (number, part) in noise.chunks(noise.len().div_ceil(parts as usize)).enumerate() {
            sandbox.write(&format!("web/rootfs/lib/noise.{number}"), part);
        }
        // The same content twice, and another name of it.
        let twin = &noise[..noise.len().min(40_000)];
        sandbox.write("web/rootfs/lib/twin.0", twin);
        sandbox.write("web/rootfs/lib/twin.1", twin);
        let lib = sandbox.path("web/rootfs/lib");
        fs::hard_link(lib.join("twin.1"), lib.join("twin.2")).unwrap();
        std::os::unix::fs::symlink("twin.0", lib.join("twin")).unwrap();
        for number in 0..20 {
            let seed = if number < random.below(20) { seed } else { 0 };
            sandbox
                .write(&format!("web/rootfs/etc/d{}/f{number}", number % 3), format!("{seed}\n"));
        }
        sandbox.write("web/config.json", r#"{"root":{"path":"rootfs"}}"#);
        let mut options = Vec::new();
        if random.below(2) == 0 {
            options.push("--delta=never".to_owned());
        }
        Trial { node, random, options, fresh, before: node.current() }
    }

    /// Starts the push through the gate.
    pub fn start(&self, bundle: &str) -> Child {
        let port = format!("Port={}", self.node.gate.port);
        let mut args = vec!["-o", &port, "--name", "web"];
        args.extend(self.options.iter().map(String::as_str));
        args.extend([bundle, "node"]);
        let log = fs::File::create(self.node.sshd.sandbox.path("push.log")).unwrap();
        self.node.sshd.vzpush(&args).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Starts the push; it stops at a random byte, or a random moment after the last one.
    pub fn start_and_stop(&mut self) -> Child {
        let at = self.random.below(self.fresh + self.fresh / 8);
        self.node.gate.hold_after(at.min(self.fresh));
        let mut child = self.start("web");
        self.node.gate.wait(&mut child);
        if at > self.fresh {
            self.node.gate.release();
            std::thread::sleep(Duration::from_millis(self.random.below(150)));
        }
        child
    }

    /// The push's own end, which comes by itself.
    #[track_caller]
    pub fn end(&self, child: &mut Child) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < Duration::from_secs(90), "the pusher does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What must hold after the fault: the old revision or the new one, whole, no
    /// lock; then the next push succeeds, sends no piece again, and leaves nothing
    /// behind.
    #[track_caller]
    pub fn check(&self) {
        self.check_with(true);
    }

    /// The bundle is current; pushed again, nothing is sent, and all is whole.
    #[track_caller]
    pub fn check_present(&self) {
        self.node.push(&["web", "node"]).success().says("sent 0 B");
        self.node.push(&["verify", "node"]).success();
        let strays = self.node.strays();
        assert!(strays.is_empty(), "{strays:?}");
    }

    #[track_caller]
    pub fn check_with(&self, resumes: bool) {
        let node = self.node;
        node.gate.release();
        node.wait_until_idle();
        let said = fs::read_to_string(node.sshd.sandbox.path("push.log")).unwrap_or_default();
        let current = node.current();
        let done = current != self.before;
        if done {
            assert_same(&node.sshd.sandbox.path("web"), current.as_ref().unwrap());
        }
        if current.is_some() {
            node.push(&["verify", "node"]).success();
        }
        let staged = node.staged();
        let mut args = vec!["--json"];
        args.extend(self.options.iter().map(String::as_str));
        args.extend(["web", "node"]);
        let report = node.push(&args).success().stdout();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let outcome = &report["nodes"][0]["outcome"];
        let payload = outcome["payload"].as_u64().unwrap();
        if done {
            assert_eq!(payload, 0, "{report}");
        } else {
            // Less than a piece was under way, beside names and small files.
            let kept = if resumes { staged.min(self.fresh) } else { 0 };
            let most = self.fresh - kept + (150 << 10);
            assert!(
                payload <= most,
                "{staged} of {} are there, {payload} were sent: {said}",
                self.fresh
            );
        }
        assert!(outcome["receipt"]["unswept"].is_null(), "{report}");
        assert_same(&node.sshd.sandbox.path("web"), &node.current().unwrap());
        node.push(&["verify", "node"]).success();
        node.wait_until_idle();
        let strays = node.strays();
        assert!(strays.is_empty(), "{strays:?}");
    }
}

#[track_caller]
pub fn assert_same(bundle: &Path, revision: &Path) {
    for entry in walkdir::WalkDir::new(bundle).min_depth(1) {
        let entry = entry.unwrap();
        let other = revision.join(entry.path().strip_prefix(bundle).unwrap());
        let found = fs::symlink_metadata(&other).unwrap_or_else(|e| panic!("{other:?}: {e}"));
        assert_eq!(entry.file_type(), found.file_type(), "{other:?}");
        if found.is_file() {
            assert!(fs::read(entry.path()).unwrap() == fs::read(&other).unwrap(), "{other:?}");
        }
    }
}
