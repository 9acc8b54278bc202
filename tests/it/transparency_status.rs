//! The end of the traced program is the end of `smith-strace`.

use std::os::unix::process::ExitStatusExt;

use crate::sandbox::{Finished, Sandbox, require};
use crate::tracee::{Build, Traced};

/// Ends a tracee in one way, untraced, traced and traced with -D, and compares.
#[track_caller]
fn check(how: &str) {
    let mut traced = Traced::prepare("end", Build::Native);
    traced.env.push(("TRACEE_END", how.to_owned()));
    let plain = traced.untraced().output().unwrap();
    let parent = traced.command(&["-q"]).output().unwrap();
    let detached = traced.command(&["-q", "-D"]).output().unwrap();
    assert_eq!(
        (parent.status.code(), parent.status.signal()),
        (plain.status.code(), plain.status.signal()),
        "{how}: {parent:?}"
    );
    assert_eq!(detached.status, plain.status, "{how}, -D: {detached:?}");
    assert_eq!(parent.stderr, plain.stderr, "{how}: {parent:?}");
    assert_eq!(detached.stderr, plain.stderr, "{how}, -D: {detached:?}");
}

#[test]
fn exit_statuses_are_the_tracees() {
    if require("exit statuses", Build::Native.needs()) {
        for status in [0, 1, 2, 3, 125, 126, 127, 128, 255] {
            check(&format!("exit {status}"));
        }
    }
}

#[test]
fn a_thread_may_end_the_program() {
    if require("exit from a thread", Build::Native.needs()) {
        check("thread 4");
        check("group 5");
    }
}

#[test]
fn every_deadly_signal_is_the_tracees() {
    // What ignores, stops or continues by default does not end a program.
    const HARMLESS: [i32; 8] = [17, 18, 19, 20, 21, 22, 23, 28];
    if require("signal deaths", Build::Native.needs()) {
        for signal in (1..=64).filter(|signal| !HARMLESS.contains(signal)) {
            check(&format!("kill {signal}"));
        }
        check("real 11");
    }
}

#[test]
fn a_detached_tracer_leaves_the_core_flag() {
    if !require("the core flag", Build::Native.needs()) {
        return;
    }
    let mut traced = Traced::prepare("end", Build::Native);
    traced.env.push(("TRACEE_END", "kill 6".to_owned()));
    let status = |command: &std::process::Command| {
        let mut shell = traced.sandbox.command("sh");
        shell.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell.env("TRACEE_END", "kill 6");
        shell.output().unwrap().status
    };
    let (plain, detached) = (status(&traced.untraced()), status(&traced.command(&["-D"])));
    assert_eq!(plain.signal(), Some(6));
    assert_eq!(detached, plain, "with core flag: {}", plain.core_dumped());
}

#[test]
fn a_program_that_is_not_there_is_127() {
    Sandbox::new().run("smith-strace", ["vz-no-such-program"]).status(127).says("not found");
    Sandbox::new().run("smith-strace", ["./no-such-program"]).status(127).says("no-such-program");
}

#[test]
fn a_file_that_cannot_be_executed_is_126() {
    let sandbox = Sandbox::new();
    sandbox.write("text", "not a program");
    sandbox.run("smith-strace", ["./text"]).status(126).says("text");
    sandbox.run("smith-strace", ["/"]).status(126);
}

#[test]
fn what_cannot_be_done_is_125_and_leaves_no_spec() {
    let sandbox = Sandbox::new();
    sandbox.run("smith-strace", ["-o", "no/such/dir/spec", "true"]).status(125).says("spec");
    sandbox.run("smith-strace", ["--append", "-o", "bad", "true"]).status(0);
    sandbox.write("bad", "relative/path\n");
    sandbox.run("smith-strace", ["--append", "-o", "bad", "true"]).status(125).says("line 1");
    assert_eq!(sandbox.lines("bad"), ["relative/path"], "the user's file is left alone");
}

/// Runs `smith-strace` where the kernel denies it some calls.
fn denied(calls: &[&str]) -> (Sandbox, Finished) {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(crate::tracee::compiled("deny", Build::Native));
    command.args(calls).arg("--").arg(env!("CARGO_BIN_EXE_smith-strace")).args(["--", "true"]);
    let finished = Finished::of(&mut command);
    (sandbox, finished)
}

#[test]
fn where_ptrace_is_denied_the_way_out_is_said() {
    if require("ptrace denied", Build::Native.needs()) {
        let (sandbox, finished) = denied(&["ptrace"]);
        finished.status(125).says("ptrace").says("hint:");
        assert!(!sandbox.path("spec").exists());
    }
}

#[test]
fn where_filters_are_denied_it_says_so_or_traces_without() {
    if require("seccomp denied", Build::Native.needs()) {
        let (sandbox, finished) = denied(&["seccomp"]);
        if finished.output().status.success() {
            assert!(sandbox.lines("spec").iter().any(|line| line.ends_with("/true")));
        } else {
            finished.status(125).says("seccomp").says("hint:");
            assert!(!sandbox.path("spec").exists());
        }
    }
}

#[test]
fn kernels_before_5_3_are_traced_by_registers() {
    if require("no PTRACE_GET_SYSCALL_INFO", Build::Native.needs()) {
        let (sandbox, finished) = denied(&["getinfo"]);
        finished.success();
        assert!(sandbox.lines("spec").iter().any(|line| line.ends_with("/true")));
    }
}
