//! What a program can see of itself is the same traced and untraced.

use crate::sandbox::{Finished, require};
use crate::tracee::{Build, Traced};

/// Compares, in a shell after `setup`, whose end
/// executes what follows it, the mirror's view: untraced
/// against `smith-strace OPTIONS`.
#[track_caller]
fn check(setup: &str, options: &[&str]) {
    if !require("a program's view of itself", Build::Native.needs()) {
        return;
    }
    let traced = Traced::prepare("mirror", Build::Native);
    let view = |command: &std::process::Command| {
        let mut shell = traced.sandbox.command("sh");
        shell.args(["-c", &format!("{setup} \"$@\""), "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell.env("TRACEE_OUT", "../view");
        if options.contains(&"-D") {
            shell.env("TRACEE_PARENT", "1");
        }
        Finished::of(&mut shell).success();
        let mut lines = traced.sandbox.lines("view");
        if !nix::unistd::geteuid().is_root() {
            // Without privilege there is no filter without it (seccomp(2)).
            lines.retain(|line| !line.starts_with("NoNewPrivs:"));
        }
        std::fs::remove_file(traced.sandbox.path("view")).unwrap();
        lines
    };
    let (plain, seen) = (view(&traced.untraced()), view(&traced.command(options)));
    assert!(plain.len() > 40, "{plain:?}");
    let only = |a: &[String], b: &[String]| {
        a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>()
    };
    let more = [only(&plain, &seen), only(&seen, &plain)];
    assert!(seen == plain, "{setup}, {options:?}: - {:?} + {:?}", more[0], more[1]);
}

#[test]
fn as_it_is() {
    check("exec", &[]);
}

#[test]
fn with_a_detached_tracer_the_parent_too() {
    check("exec", &["-D"]);
}

#[test]
fn with_all_outputs() {
    check("exec", &["--log", "log", "--outcomes", "-q"]);
}

#[test]
fn with_standard_streams_closed() {
    check("exec <&- >&- 2>&-; exec", &[]);
    check("exec <&-; exec", &[]);
    check("exec >&-; exec", &[]);
    check("exec 2>&-; exec", &[]);
    check("exec <&- >&- 2>&-; exec", &["-D", "--log", "log"]);
}

#[test]
fn with_other_descriptors_open() {
    check("exec 3</dev/null 4>/dev/null 9</; exec", &[]);
}

#[test]
fn with_signals_ignored_or_blocked() {
    check("exec env --ignore-signal=PIPE,INT,TERM,USR1,CHLD", &[]);
    check("exec env --block-signal=PIPE,INT,TERM,USR1,CHLD,ALRM", &[]);
    check("exec env --default-signal=PIPE", &[]);
    check("exec env --ignore-signal=PIPE --block-signal=INT", &["-D"]);
}

#[test]
fn with_limits_niceness_and_umask() {
    check("ulimit -n 64; ulimit -c 0; ulimit -s 1024; ulimit -t 100; umask 077; exec", &[]);
    check("ulimit -S -n 32; exec nice -n 5", &[]);
}

#[test]
fn with_an_empty_environment() {
    check("exec env -i TRACEE_OUT=../view ODD=$(printf '\\377') SMITH=1", &[]);
}

/// A descriptor of the tracer's own must never be mistaken for a standard
/// stream: what the program prints would end in the spec.
#[test]
fn closed_streams_do_not_end_in_the_spec() {
    if require("closed streams", Build::Native.needs()) {
        let traced = Traced::prepare("open", Build::Native);
        let command = traced.command(&["--log", "log"]);
        let mut shell = traced.sandbox.command("sh");
        shell.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell.output().unwrap();
        let spec = std::fs::read(traced.sandbox.path("spec")).unwrap();
        tracer::Spec::parse(&spec).unwrap();
        for line in traced.sandbox.lines("log") {
            serde_json::from_str::<serde_json::Value>(&line).unwrap();
        }
    }
}
