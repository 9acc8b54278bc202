//! Threads, processes and daemons of every shape are followed to the last.

use std::process::Stdio;

use crate::sandbox::{Finished, count, require};
use crate::tracee::{Build, Traced, check, check_built};

#[test]
fn execve_in_a_thread_goes_on_as_the_process() {
    check("exec-in-thread");
}

#[test]
fn the_main_thread_may_go_first() {
    check("leader-first");
}

#[test]
fn children_that_ask_not_to_be_traced_are() {
    check("untraced-clone");
}

#[test]
fn thousands_of_threads_are_traced() {
    if require("thousands of threads", Build::Native.needs()) {
        let mut traced = Traced::prepare("thousands", Build::Native);
        traced.env.push(("TRACEE_COUNT", "3000".to_owned()));
        traced.assert_seen(&traced.run(&[]));
    }
}

#[test]
fn a_daemon_is_followed_to_its_end() {
    check("daemon");
}

#[test]
fn a_detached_tracer_does_not_hold_the_caller() {
    if require("a daemon, detached", Build::Native.needs()) {
        let mut traced = Traced::prepare("daemon", Build::Native);
        let release = traced.sandbox.path("release");
        traced.env.push(("TRACEE_WAITS", release.display().to_string()));
        let mut command = traced.command(&["-q", "-D"]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success());
        assert!(!traced.sandbox.path("spec").exists(), "the daemon still runs");
        std::fs::write(&release, "").unwrap();
        traced.sandbox.wait_for("spec");
        let late = traced.dir.join("late").display().to_string();
        assert!(traced.sandbox.lines("spec").contains(&late));
    }
}

#[test]
fn a_program_with_a_listener_of_its_own_is_seen_or_said() {
    check_built("own-listener", Build::Native);
}

#[test]
fn a_program_that_traces_is_said() {
    check_built("own-ptrace", Build::Native);
}

#[test]
fn strict_mode_is_said() {
    check_built("strict", Build::Native);
}

/// The tracer's peak memory may grow by this much between the first tenth and the
/// last process, in KiB: a few pages of a growing table, no entry a process.
const GROWTH: i64 = 512;

#[test]
fn the_tracers_memory_does_not_grow_with_processes() {
    if require("the tracer's memory", Build::Native.needs()) {
        let mut traced = Traced::prepare("spawner", Build::Native);
        let count = count("processes under one tracer", 100_000, 10_000);
        traced.env.push(("TRACEE_COUNT", count.to_string()));
        let seen = Finished::of(&mut traced.command(&["-q"])).success().stdout();
        let peaks: Vec<i64> = seen.split_whitespace().map(|kib| kib.parse().unwrap()).collect();
        assert!(peaks[1] - peaks[0] <= GROWTH, "from {} to {} KiB", peaks[0], peaks[1]);
    }
}
