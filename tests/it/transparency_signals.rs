//! Signals and stops arrive as without tracing.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::{Finished, require, say};
use crate::tracee::{Build, Traced};

/// Runs a tracee untraced, traced and traced with -D; all must print the same.
#[track_caller]
fn check(name: &str, build: Build, env: &[(&'static str, &str)]) {
    if require(name, build.needs()) {
        let mut traced = Traced::prepare(name, build);
        traced.env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let plain = Finished::of(&mut traced.untraced()).success().stdout();
        assert!(!plain.is_empty());
        for options in [&["-q"][..], &["-q", "-D"], &["-q", "--outcomes"]] {
            let seen = Finished::of(&mut traced.command(options)).success();
            assert_eq!(seen.stdout(), plain, "{options:?} {}", seen.stderr());
        }
    }
}

#[test]
fn real_time_signals_traps_faults_and_stops_are_the_programs() {
    check("signals", Build::Native, &[]);
}

#[test]
fn an_i386_programs_signals_too() {
    check("signals", Build::I386, &[]);
}

#[test]
fn no_call_is_interrupted_more_often() {
    check("timer", Build::Native, &[("TRACEE_COUNT", "300000")]);
}

#[test]
fn a_programs_own_filters_do_as_they_say() {
    for how in ["errno", "trap", "kill", "kill-thread", "trace", "log"] {
        check_silent("own-filters", how);
    }
}

/// As `check`, for a tracee that may print nothing.
#[track_caller]
fn check_silent(name: &str, how: &str) {
    if require(name, Build::Native.needs()) {
        let mut traced = Traced::prepare(name, Build::Native);
        traced.env.push(("TRACEE_FILTER", how.to_owned()));
        let plain = Finished::of(&mut traced.untraced()).success();
        let seen = Finished::of(&mut traced.command(&["-q"])).success();
        assert_eq!((how, seen.stdout(), seen.stderr()), (how, plain.stdout(), plain.stderr()));
        let outcome = traced.outcome(seen);
        assert!(outcome.has(traced.dir.join("last")), "{how}");
        assert!(!outcome.has(traced.dir.join("made")), "{how}");
    }
}

#[test]
fn ending_the_tracer_softly_ends_the_program_softly() {
    if !require("SIGTERM to the tracer", Build::Native.needs()) {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        if signal == Signal::SIGHUP && ignores_hangups() {
            say("REDUCED SIGHUP to the tracer: it is ignored here, as nohup has it\n");
            continue;
        }
        let mut traced = Traced::prepare("server", Build::Native);
        traced.env.push(("TRACEE_PORT", "0".to_owned()));
        let child = traced.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.unwrap();
        traced.sandbox.wait_for("prepared/run/ready");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let spec = traced.sandbox.lines("spec");
        if signal == Signal::SIGTERM {
            assert!(output.status.success(), "{output:?}");
            let shutdown = traced.dir.join("shutdown").display().to_string();
            assert!(spec.contains(&shutdown), "the shutdown is traced too");
        } else {
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(output.status.signal(), Some(1), "{output:?}");
        }
    }
}

/// Whether this process, and so all that it starts, ignores SIGHUP: signal 1, the
/// lowest bit of `SigIgn` (proc(5)).
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 == 1
}

/// Whether a process is there and no zombie.
fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with(['Z', 'X']))
}

#[test]
fn the_tree_ends_with_its_tracer() {
    if !require("SIGKILL to the tracer", Build::Native.needs()) {
        return;
    }
    let sandbox = crate::sandbox::Sandbox::new();
    let script = "sleep 1000 & echo $! >> pids; (sleep 1000 & echo $! >> pids; wait) &
        echo $! >> pids; echo $$ >> pids; sleep 0.2; mv pids ready; wait";
    let mut command = sandbox.command("smith-strace");
    let mut tracer = command
        .args(["--", "sh", "-c", script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    sandbox.wait_for("ready");
    let pids: Vec<i32> = sandbox.lines("ready").iter().map(|p| p.parse().unwrap()).collect();
    assert_eq!(pids.iter().filter(|pid| runs(**pid)).count(), 4);
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    let left = || pids.iter().copied().filter(|pid| runs(*pid)).collect::<Vec<_>>();
    for _ in 0..1000 {
        if left().is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for pid in left() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    panic!("ten seconds after their tracer, some of {pids:?} still ran");
}
