//! What the program of a stranger's image or bundle cannot reach, while it is traced in
//! its container or run by the embedded runner.

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
