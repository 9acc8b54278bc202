//! Pushes that meet what links and nodes do. Every fault leaves the node as it was
//! or with the whole new revision, and the next push succeeds.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{Finished, Need, require};
use crate::sshd::{Sshd, wanted};

/// Trials of each fault: few by default, with VZ_TEST_FULL enough for 200 in all.
fn trials() -> u64 {
    if std::env::var_os("VZ_TEST_FULL").is_some() { 70 } else { 4 }
}

/// A number that is different in each trial, and the same in each run.
fn scatter(trial: u64, below: u64) -> u64 {
    (trial + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) % below
}

fn start(node: &Sshd, args: &[&str]) -> Child {
    let mut command = node.vzpush(args);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Bytes below incoming/.
fn incoming(node: &Sshd) -> u64 {
    let dir = walkdir::WalkDir::new(node.store().join("incoming"));
    let files = dir.into_iter().filter_map(Result::ok).filter_map(|e| e.metadata().ok());
    files.filter(fs::Metadata::is_file).map(|meta| meta.len()).sum()
}

/// Waits until the node has got so many bytes, or the push ended.
fn wait_for(node: &Sshd, child: &mut Child, bytes: u64) {
    let started = Instant::now();
    while incoming(node) < bytes && child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing arrives");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "not in a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes of this node's receiver.
fn receivers(node: &Sshd) -> Vec<i32> {
    let bin = node.store().join("bin");
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let is_ours = |exe: PathBuf| exe.starts_with(&bin);
    processes
        .filter(|p| fs::read_link(p.path().join("exe")).is_ok_and(is_ours))
        .filter_map(|p| p.file_name().to_str()?.parse().ok())
        .collect()
}

fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

const SLOW: &str = "3M";

/// A node with one revision, and a bundle that is to follow.
fn prepared() -> (Sshd, Option<PathBuf>) {
    let node = Sshd::start();
    node.bundle("web", 1, 100_000);
    node.push(&["web", "node"]).success();
    let before = node.current("web");
    (node, before)
}

#[test]
fn a_killed_pusher_leaves_the_node_as_it_was() {
    if !wanted("a_killed_pusher_leaves_the_node_as_it_was") {
        return;
    }
    let (node, mut before) = prepared();
    for trial in 0..trials() {
        node.bundle("web", trial + 2, 1_500_000);
        let mut child = start(&node, &["--bwlimit", SLOW, "web", "node"]);
        wait_for(&node, &mut child, 1 + scatter(trial, 1_400_000));
        child.kill().unwrap();
        child.wait().unwrap();
        // The receiver ends with its stream, and its lock with it.
        wait_until("the receiver is gone", || receivers(&node).is_empty());
        if node.current("web") != before {
            // All of it was on its way already.
            node.assert_current("web", "web");
            before = node.current("web");
            continue;
        }
        let kept = incoming(&node);
        let rest = node.push(&["--json", "web", "node"]).success().stdout();
        let rest: serde_json::Value = serde_json::from_str(&rest).unwrap();
        let payload = rest["nodes"][0]["outcome"]["payload"].as_u64().unwrap();
        assert!(payload < 1_600_000 - kept.min(1_400_000) + 300_000, "{kept} kept, {payload} sent");
        node.assert_current("web", "web");
        before = node.current("web");
    }
}

#[test]
fn a_killed_receiver_leaves_the_node_as_it_was() {
    if !wanted("a_killed_receiver_leaves_the_node_as_it_was") {
        return;
    }
    let (node, mut before) = prepared();
    for trial in 0..trials() {
        node.bundle("web", trial + 2, 1_500_000);
        let mut child = start(&node, &["--bwlimit", SLOW, "web", "node"]);
        wait_for(&node, &mut child, 1 + scatter(trial, 1_400_000));
        for pid in receivers(&node) {
            signal(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let ended = child.wait().unwrap();
        if node.current("web") == before {
            assert_eq!(ended.code(), Some(3));
            node.push(&["web", "node"]).success();
        }
        node.assert_current("web", "web");
        before = node.current("web");
    }
}

#[test]
fn a_frozen_receiver_is_given_up_and_holds_no_lock_for_long() {
    if !wanted("a_frozen_receiver_is_given_up_and_holds_no_lock_for_long") {
        return;
    }
    let (node, before) = prepared();
    for trial in 0..trials().div_ceil(10) {
        node.bundle("web", trial + 2, 1_500_000);
        let args = ["--silence", "1", "--bwlimit", SLOW, "web", "node"];
        let mut child = start(&node, &args);
        wait_for(&node, &mut child, 1 + scatter(trial, 1_000_000));
        let frozen = receivers(&node);
        frozen.iter().for_each(|pid| signal(*pid, nix::sys::signal::Signal::SIGSTOP));
        assert_eq!(child.wait().unwrap().code(), Some(3));
        if trial == 0 {
            assert_eq!(node.current("web"), before);
        }
        // Thawed, it finds that nobody is there, and ends.
        frozen.iter().for_each(|pid| signal(*pid, nix::sys::signal::Signal::SIGCONT));
        node.push(&["web", "node"]).success();
        node.assert_current("web", "web");
        assert!(receivers(&node).is_empty());
    }
}

#[test]
fn a_frozen_pusher_loses_its_lock() {
    if !wanted("a_frozen_pusher_loses_its_lock") {
        return;
    }
    let (node, before) = prepared();
    node.bundle("web", 2, 1_500_000);
    let mut child = start(&node, &["--silence", "1", "--bwlimit", "1M", "web", "node"]);
    wait_for(&node, &mut child, 100_000);
    signal(child.id() as i32, nix::sys::signal::Signal::SIGSTOP);
    wait_until("the receiver is gone", || receivers(&node).is_empty());
    assert_eq!(node.current("web"), before);
    node.push(&["web", "node"]).success();
    node.assert_current("web", "web");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn of_two_pushers_the_second_waits() {
    if !wanted("of_two_pushers_the_second_waits") {
        return;
    }
    let (node, _) = prepared();
    for trial in 0..trials() / 2 {
        node.bundle("web", 2 * trial + 2, 400_000);
        node.bundle("other", 2 * trial + 3, 400_000);
        let mut first = start(&node, &["web", "node"]);
        let mut second = start(&node, &["--name", "web", "other", "node"]);
        assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
        node.push(&["verify", "node"]).success();
        let seed = fs::read(node.current("web").unwrap().join("rootfs/etc/seed")).unwrap();
        let seeds = [2 * trial + 2, 2 * trial + 3].map(|n| n.to_string().into_bytes());
        assert!(seeds.contains(&seed));
    }
}

#[test]
fn a_damaged_receiver_is_replaced() {
    if !wanted("a_damaged_receiver_is_replaced") {
        return;
    }
    let (node, _) = prepared();
    let bin = fs::read_dir(node.store().join("bin")).unwrap().next().unwrap().unwrap().path();
    let other = node.sandbox.write("other", "#!/bin/sh\nprintf 'VZPUSH9\\n'\n");
    for damage in [&other, &node.sandbox.write("cut", &fs::read(&bin).unwrap()[..5000])] {
        fs::remove_file(&bin).unwrap();
        fs::copy(damage, &bin).unwrap();
        fs::set_permissions(&bin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        node.bundle("web", 7, 1000);
        node.push(&["web", "node"]).success().says("receiver put in place");
        node.assert_current("web", "web");
    }
}

#[test]
fn a_full_disk_is_seen_before_and_survived() {
    let needs = [Need::Root, Need::File("/usr/sbin/sshd", "openssh-server")];
    if !require("a_full_disk_is_seen_before_and_survived", &needs) {
        return;
    }
    let (node, _) = prepared();
    let mounted = node.sandbox.path("small");
    fs::create_dir(&mounted).unwrap();
    let store = node.store();
    // Room for the receiver, and for not much more.
    let receiver = fs::read_dir(store.join("bin")).unwrap().next().unwrap().unwrap();
    let size = receiver.metadata().unwrap().len() + (9 << 20);
    let mount = |options: String| {
        let args = ["-t", "tmpfs", "-o", &options, "none"];
        node.sandbox.command("mount").args(args).arg(&mounted).status().unwrap()
    };
    assert!(mount(format!("size={size}")).success());
    let small = |args: &[&str]| Finished::of(&mut node.vzpush_to(&mounted, args));
    node.bundle("web", 1, 100_000);
    small(&["web", "node"]).success();
    let before = fs::read_link(mounted.join("web/current")).unwrap();
    // More than there is: seen before.
    node.bundle("web", 2, 20_000_000);
    small(&["--delta=never", "web", "node"]).status(3).says("are needed, and the disk has");
    // Filled by another meanwhile: met during.
    node.bundle("web", 3, 2_000_000);
    let mut command =
        node.vzpush_to(&mounted, &["--delta=never", "--bwlimit", "2M", "web", "node"]);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let _ = fs::write(mounted.join("filler"), vec![1; 9 << 20]);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(fs::read_link(mounted.join("web/current")).unwrap(), before);
    fs::remove_file(mounted.join("filler")).unwrap();
    small(&["verify", "node"]).success();
    small(&["--delta=never", "web", "node"]).success();
    small(&["verify", "node"]).success();
    node.sandbox.run("umount", [&mounted]).success();
}
