//! What the program of a stranger's image or bundle cannot reach, while it is traced in
//! its container or run by the embedded runner.

use serde_json::json;

use crate::bundle::{tools_bundle};
use crate::minify::{NEEDS, image, root};
use crate::sandbox::{Need, Sandbox, require};

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
