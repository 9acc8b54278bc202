//! What vzmaster says of pods on real nodes that are stopped, absent, or interrupted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::nodes;

#[test]
fn a_pod_that_listens_on_its_own_127_0_0_1_is_told_so() {
    let Some(nodes) = nodes("a_pod_that_listens_on_its_own_127_0_0_1_is_told_so") else { return };
    let first = nodes.names[0].as_str();
    let spec = "  containers:\n  - name: httpd\n    image: bundle:app\n    command: [/bin/busybox, httpd, -f, -p, '127.0.0.1:8381']\n    readinessProbe: {tcpSocket: {port: 8381}, periodSeconds: 1}\n";
    let pod = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: vz-test}}\nspec:\n{spec}");
    nodes.sandbox.write("pods/test.yaml", pod);
    let expected = "Connection refused (os error 111); it listens on port 8381 at 127.0.0.1, where";
    nodes.vzmaster(&["deploy", "-y", "-l", first]).status(3).says(expected);
}

#[test]
fn a_pod_that_is_stopped_or_absent_is_said_to_be() {
    let Some(nodes) = nodes("a_pod_that_is_stopped_or_absent_is_said_to_be") else { return };
    let first = nodes.names[0].clone();
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    let exec = |pod: &str| nodes.vzmaster(&["exec", &first, pod, "--", "/bin/busybox", "true"]);
    exec("vz-test").status(3).says(&format!("there is no pod `vz-test` on `{first}`"));
    // The journal may have lines of a pod that is no more; of a container that never was, none.
    let absent = one(&["logs", "vz-test/never"]).status(3);
    absent.says(&format!("there is no pod `vz-test` on `{first}`"));
    let pod = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
    let side = "  - {name: side, image: 'bundle:app', command: [/bin/busybox, sleep, '9999']}\n";
    nodes.sandbox.write("pods/test.yaml", format!("{pod}{side}"));
    one(&["deploy", "-y"]).success();
    exec("vz-test").success().says("in container httpd of httpd, side: vz-test/CONTAINER names");
    exec("vz-test/side").success();
    exec("vz-test/x").status(3).says("has no container `x`").says("it has httpd, side");
    one(&["logs", "vz-test/x"]).status(3).says("it has httpd, side");
    one(&["logs", "vz-test/side"]).success();

    one(&["stop", "vz-test"]).success();
    exec("vz-test").status(3).says("does not run on").says("hint: `vzmaster start vz-test -l");
    one(&["start", "vz-test"]).success();
    let history = one(&["history", "vz-test"]).success().stdout();
    let lines: Vec<&str> = history.lines().skip(1).collect();
    let [runs, stopped, started] = lines.as_slice() else { panic!("{history}") };
    assert!(runs.contains("  runs, by ") && runs.contains(", httpd: bundle "), "{history}");
    assert!(stopped.contains("  was stopped, by ") && stopped.contains(" UTC  "), "{history}");
    assert!(started.contains("  was started, by "), "{history}");
}

#[test]
fn a_deployment_that_is_interrupted_says_what_each_node_has() {
    let Some(nodes) = nodes("a_deployment_that_is_interrupted_says_what_each_node_has") else {
        return;
    };
    nodes.vzmaster(&["deploy", "-y"]).success();
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        nodes.serve(signal.as_str(), 8381);
        let mut master = nodes.master(&["deploy", "-y"]);
        let mut child = master.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let begun = lines.by_ref().map(Result::unwrap).find(|line| line.contains("starts it"));
        assert!(begun.is_some(), "it was never started");
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let ended = child.wait().unwrap();
        assert_eq!((ended.code(), ended.signal()), (Some(status), None));
        let said = lines.map(Result::unwrap).collect::<Vec<_>>().join("\n");
        assert!(said.contains("interrupted while vz-test was being deployed"), "{said}");
        assert_eq!(said.matches("was being tried: the node goes back to").count(), 1, "{said}");
        let waiting = nodes.names.len() - 1;
        assert_eq!(said.matches(": not begun: it has ").count(), waiting, "{said}");
        assert!(said.contains("`vzmaster ps` and `vzmaster diff` say what is there"), "{said}");
        // It goes back by itself, and the next one is as any other.
        let first = nodes.names.iter().min().unwrap();
        let gone = "for n in $(seq 200); do [ -e /run/vz/pending/vz-test ] || exit 0; sleep 0.5; done; exit 1";
        nodes.on(first, gone).success();
        assert_eq!(nodes.page(first), "one");
    }
}
