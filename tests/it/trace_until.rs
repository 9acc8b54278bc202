//! Servers: made ready, exercised, ended.

use std::net::TcpListener;

use crate::sandbox::{Finished, Need, Sandbox, require};
use crate::tracee::{Build, Traced};

/// A server that is to listen on a port that nobody has.
fn server() -> (Traced, u16) {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut traced = Traced::prepare("server", Build::Native);
    traced.env.push(("TRACEE_PORT", port.to_string()));
    (traced, port)
}

/// A shell command that reads what the server on this port says into `answer`.
fn probe(port: u16) -> String {
    format!("bash -c 'cat < /dev/tcp/127.0.0.1/{port}' > answer && cat /etc/shells > /dev/null")
}

#[test]
fn a_server_is_exercised_when_its_port_answers_and_then_ended() {
    if require("--until --ready-port", Build::Native.needs()) {
        let (traced, port) = server();
        let outcome = traced.run(&["--until", &probe(port), "--ready-port", &port.to_string()]);
        traced.assert_seen(&outcome);
        assert_eq!(traced.sandbox.lines("answer"), ["hello"]);
        assert!(!outcome.has("/etc/shells"), "the exercise is not traced");
        let ports = &outcome.record.ports;
        assert!(ports.iter().any(|p| p.port == port && p.protocol == "tcp"), "{ports:?}");
        assert!(ports.iter().any(|p| p.address == "127.0.0.1"), "{ports:?}");
    }
}

#[test]
fn a_server_is_exercised_when_its_file_is_there() {
    if require("--until --ready-file", Build::Native.needs()) {
        let (traced, port) = server();
        let ready = traced.dir.join("run/ready").display().to_string();
        let outcome = traced.run(&["--until", &probe(port), "--ready-file", &ready]);
        traced.assert_seen(&outcome);
        assert_eq!(traced.sandbox.lines("answer"), ["hello"]);
    }
}

#[test]
fn a_failed_exercise_fails_the_run() {
    if require("--until that fails", Build::Native.needs()) {
        let (traced, port) = server();
        let options = ["--until", "exit 3", "--ready-port", &port.to_string()];
        Finished::of(&mut traced.command(&options)).status(125).says("exit 3");
    }
}

#[test]
fn a_command_that_ends_too_early_fails_the_run() {
    let sandbox = Sandbox::new();
    let options = ["--until", "true", "--ready-file", "never", "--", "true"];
    sandbox.run("smith-strace", options).status(125).says("ended before");
}

#[test]
fn time_out_ends_a_server_softly() {
    if require("--timeout", Build::Native.needs()) {
        let (traced, _) = server();
        let outcome = {
            let mut command = traced.command(&["--timeout", "1s"]);
            traced.outcome(Finished::of(&mut command).success())
        };
        assert!(outcome.has(traced.dir.join("shutdown")));
        assert!(!outcome.has(traced.dir.join("page")));
    }
}

#[test]
fn time_out_ends_a_stubborn_server_too() {
    if require("--timeout of a stubborn server", Build::Native.needs()) {
        use std::os::unix::process::ExitStatusExt;
        let (mut traced, _) = server();
        traced.env.push(("TRACEE_STUBBORN", "1".to_owned()));
        let output = traced.command(&["--timeout", "0.5s"]).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{output:?}");
        assert!(traced.sandbox.path("spec").exists(), "what was seen is written");
    }
}

#[test]
fn a_port_counts_where_it_could_be_bound() {
    if require("a port of another", &[Need::Program("perl", "perl-base")]) {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let script = format!(
            "use Socket; socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in({port}, INADDR_LOOPBACK))"
        );
        let sandbox = Sandbox::new();
        let ports = || {
            sandbox.run("smith-strace", ["-q", "--", "perl", "-e", &script]).success();
            let text = std::fs::read(sandbox.path("spec.json")).unwrap();
            let record = tracer::Record::parse(&text).unwrap();
            record.ports.iter().map(|port| port.port).collect::<Vec<_>>()
        };
        assert_eq!(ports(), [0u16; 0]);
        drop(taken);
        assert_eq!(ports(), [port]);
    }
}

#[test]
fn a_port_that_answers_before_the_command_is_there_is_refused() {
    let sandbox = Sandbox::new();
    let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    let options = ["-q", "--until", "true", "--ready-port", &port.to_string(), "--", "sleep", "9"];
    sandbox.run("smith-strace", options).status(125).says("something else listens on port");
    // But where the command inherits the socket, it is the command's.
    let mut command = sandbox.command("smith-strace");
    command.args(options).stdin(std::os::fd::OwnedFd::from(other));
    Finished::of(&mut command).success();
}
