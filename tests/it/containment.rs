//! What the program of a stranger's image or bundle cannot reach, while it is traced in
//! its container or run by the embedded runner.

use std::net::TcpListener;
use std::process::Child;

use serde_json::json;

use crate::bundle::{config, tools_bundle};
use crate::minify::{NEEDS, image, root};
use crate::sandbox::{Finished, Need, Sandbox, require};

const VZBUILD: &str = env!("CARGO_BIN_EXE_vzbuild");

/// Runs `vzbuild ARGS`, with `/etc` open as descriptor 9 and as standard input.
fn with_open_directory(sandbox: &Sandbox, args: &[&str]) -> Finished {
    let script = "exec 9< /etc < /etc; exec \"$0\" \"$@\"";
    sandbox.run("sh", ["-c", script, VZBUILD].iter().chain(args))
}

#[test]
fn device_nodes_of_an_image_or_its_program_cannot_be_opened() {
    if require("minify with device nodes", &NEEDS) {
        let sandbox = Sandbox::new();
        root(&sandbox);
        // As /dev/null, elsewhere.
        sandbox.run("mknod", ["-m", "666", "root/tmp/own", "c", "1", "3"]).success();
        let script = "for d in /made /dev/made; do busybox mknod $d c 1 3; done; \
             for d in /tmp/own /made /dev/made; do [ -c $d ] || exit 8; cat $d && exit 9; done; \
             cat /dev/null && echo x > /dev/zero";
        image(&sandbox, &json!({ "Cmd": ["/bin/sh", "-c", script] }));
        let said = sandbox.run("vzbuild", ["minify", "image.tar"]).stderr();
        assert!(said.contains(": exit status 0, "), "{said}");
    }
}

#[test]
fn device_nodes_of_a_bundle_cannot_be_opened() {
    if require("the embedded runner and device nodes", &[Need::Root]) {
        let sandbox = Sandbox::new();
        tools_bundle(&sandbox, "b", &[]);
        sandbox.run("mknod", ["-m", "666", "b/rootfs/own", "c", "1", "3"]).success();
        let command = "[ -c /own ] || exit 8; cat /own && exit 9; cat /dev/null";
        let run = ["run", "--runtime", "embedded", "b", "--", "sh", "-c", command];
        sandbox.run("vzbuild", run).success();
    }
}

#[test]
fn what_the_caller_has_open_does_not_reach_the_program() {
    if require("minify with an open directory", &NEEDS) {
        let sandbox = Sandbox::new();
        root(&sandbox);
        let script = "[ ! -e /proc/self/fd/9 ] && [ ! -d /proc/self/fd/0/. ]";
        let minify = ["minify", "root", "--", "/bin/sh", "-c", script];
        let said = with_open_directory(&sandbox, &minify).success().stderr();
        assert!(said.contains(": exit status 0, "), "{said}");
    }
}

#[test]
fn a_working_directory_outside_of_the_container_is_refused() {
    if require("a working directory outside", &NEEDS) {
        let sandbox = Sandbox::new();
        root(&sandbox);
        image(&sandbox, &json!({ "Cmd": ["/bin/ls"], "WorkingDir": "/proc/self/fd/9" }));
        let minify = ["minify", "image.tar"];
        with_open_directory(&sandbox, &minify).status(3).says("working directory");
        tools_bundle(&sandbox, "b", &[]);
        let mut config = config(&sandbox, "b");
        config["process"]["cwd"] = json!("/proc/self/fd/0");
        sandbox.write("b/config.json", config.to_string());
        let run = ["run", "--runtime", "embedded", "b", "--", "sh", "-c", ":"];
        with_open_directory(&sandbox, &run).status(3).says("it lies outside of the container");
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn a_port_that_something_else_answers_proves_nothing() {
    if require("minify beside another server", &NEEDS) {
        let sandbox = Sandbox::new();
        root(&sandbox);
        let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = other.local_addr().unwrap().port().to_string();
        let script = ["--", "/bin/sh", "-c", "echo x > /tmp/begun; sleep 100"];
        let minify = ["minify", "root", "--ready-port", &port];
        let told = sandbox.run("vzbuild", minify.iter().chain(&script)).status(3);
        told.says(&format!("something else listens on port {port}"));
        // One that comes later is told by what the program did not do.
        let port = free_port();
        let mut command = sandbox.command("vzbuild");
        command.args(["minify", "root", "--ready-port", &port.to_string()]).args(script);
        let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let _other = wait_until_begun(&sandbox).then(|| TcpListener::bind(("127.0.0.1", port)));
        let said = ended(child);
        assert!(said.contains("nothing in the container listens on it"), "{said}");
    }
}

/// Waits until the traced program has written `/tmp/begun`.
fn wait_until_begun(sandbox: &Sandbox) -> bool {
    let begun = || {
        let entries = std::fs::read_dir(sandbox.path("")).unwrap();
        let mut work = entries.map(|entry| entry.unwrap().path());
        work.any(|work| work.join("run-0/overlay/upper/tmp/begun").exists())
    };
    (0..3000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        begun()
    })
}

fn ended(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_another_program_fetches_goes_when_it_is_interrupted() {
    use nix::sys::signal::{Signal, kill};
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    let skopeo = sandbox.write("bin/skopeo", "#!/bin/sh\ntouch begun\nexec sleep 100\n");
    std::fs::set_permissions(skopeo, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir(sandbox.path("tmp")).unwrap();
    let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
    for verb in [
        &["report"][..],
        &["verify"],
        &["minify"],
        &["image", "spec", "-o", "oci:o", "--arg", "x", "--base-layer"],
    ] {
        sandbox.write("spec", "/bin/sh\n");
        let mut command = sandbox.command("vzbuild");
        command.args(verb).arg("docker://debian").env("PATH", &path);
        command.env("TMPDIR", sandbox.path("tmp")).stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        let begun = sandbox.wait_for("begun");
        kill(pid, Signal::SIGINT).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(130), "{verb:?}: {ended:?}");
        assert_eq!(std::fs::read_dir(sandbox.path("tmp")).unwrap().count(), 0, "{verb:?}");
        std::fs::remove_file(begun).unwrap();
    }
}
