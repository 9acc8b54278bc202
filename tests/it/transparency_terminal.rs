//! At a terminal: job control works as without tracing.

use crate::sandbox::{Finished, require};
use crate::tracee::{Build, Traced, compiled};

/// Plays the steps at a terminal of its own, untraced and traced; what happens
/// and what is shown must be the same. Returns it.
#[track_caller]
fn check(handles: bool, steps: &[&str]) -> String {
    if !require("a terminal", Build::Native.needs()) {
        return String::new();
    }
    let traced = Traced::prepare("terminal", Build::Native);
    let driver = compiled("pty", Build::Native);
    let play = |command: &std::process::Command| {
        let mut pty = traced.sandbox.command(&driver);
        pty.args(steps).arg("--").arg(command.get_program()).args(command.get_args());
        if handles {
            pty.env("TRACEE_HANDLES", "1");
        }
        Finished::of(&mut pty).success().stdout()
    };
    let plain = play(&traced.untraced());
    assert_eq!(play(&traced.command(&["-q"])), plain);
    assert_eq!(play(&traced.command(&["-q", "-D"])), plain, "-D");
    plain
}

#[test]
fn the_terminal_is_the_tracees() {
    check(false, &["see ready", "type hello\n", "see line hello", "type quit\n", "ended"]);
}

#[test]
fn interrupting_ends_a_program_without_a_handler() {
    let shown = check(false, &["see ready", "type ^C", "ended"]);
    assert!(shown.is_empty() || shown.starts_with("ended by signal 2\n"), "{shown}");
    check(false, &["see ready", "type ^\\", "ended"]);
}

#[test]
fn interrupting_reaches_a_handler_once() {
    check(
        true,
        &["see ready", "type ^C", "see interrupts 1", "type ^C", "see interrupts 2"]
            .into_iter()
            .chain(["type ^Z", "see stops 1", "type quit\n", "ended"])
            .collect::<Vec<_>>(),
    );
}

#[test]
fn a_job_is_stopped_and_goes_on() {
    let steps = ["see ready", "type ^Z", "stopped", "continue", "type on\n", "see line on"];
    let again = ["type ^Z", "stopped", "continue", "type quit\n", "ended"];
    let shown = check(false, &[&steps[..], &again[..]].concat());
    assert!(shown.is_empty() || shown.starts_with("stopped by 20\n"), "{shown}");
}
