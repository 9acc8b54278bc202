//! `vzbuild run` on what is no bundle, or asks for what is not there.

use std::fs;

use crate::bundle::{config, tools_bundle};
use crate::sandbox::{Need, Sandbox, require};

#[test]
fn what_is_no_bundle_is_said_so() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("empty")).unwrap();
    sandbox.run("vzbuild", ["run", "absent"]).status(3).says("`absent` is no bundle");
    let told = sandbox.run("vzbuild", ["run", "empty"]).status(3);
    told.says("it has no config.json and rootfs").says("vzbuild bundle SPEC");
    sandbox.write("garbled/config.json", "{\"ociVersion\": 7");
    fs::create_dir(sandbox.path("garbled/rootfs")).unwrap();
    sandbox.run("vzbuild", ["run", "garbled"]).status(3).says("config.json");
    sandbox.write("garbled/config.json", r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"}}"#);
    sandbox.run("vzbuild", ["run", "garbled"]).status(3).says("config.json has no process");
}

#[test]
fn a_program_that_is_not_in_the_bundle_is_named() {
    let sandbox = Sandbox::new();
    tools_bundle(&sandbox, "b", &[]);
    let told = sandbox.run("vzbuild", ["run", "b", "--", "perl"]).status(127);
    told.says("the bundle has no program `perl`").says("is it in the spec?");
    sandbox.run("vzbuild", ["run", "b", "--", "/usr/bin/perl"]).status(127);
}

#[test]
fn a_file_that_cannot_be_executed_is_126() {
    if !require("a_file_that_cannot_be_executed_is_126", &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    tools_bundle(&sandbox, "b", &[]);
    let args = ["run", "--runtime", "embedded", "b", "--", "/etc/passwd"];
    sandbox.run("vzbuild", args).status(126).says("cannot execute `/etc/passwd`");
}

#[test]
fn the_embedded_runner_refuses_what_it_would_not_honour() {
    let sandbox = Sandbox::new();
    tools_bundle(&sandbox, "b", &[]);
    let mut config = config(&sandbox, "b");
    config["linux"]["seccomp"] = serde_json::json!({ "defaultAction": "SCMP_ACT_NOTIFY" });
    sandbox.write("b/config.json", config.to_string());
    let told = sandbox.run("vzbuild", ["run", "--runtime", "embedded", "b"]).status(3);
    told.says("the embedded runner does not have all of `linux.seccomp`")
        .says("the action SCMP_ACT_NOTIFY asks another process")
        .says("install runc or crun");
}

#[test]
fn a_bundle_behind_a_link_runs() {
    if !require("a_bundle_behind_a_link_runs", &[Need::Root, Need::Program("runc", "runc")]) {
        return;
    }
    let sandbox = Sandbox::new();
    tools_bundle(&sandbox, "b", &[]);
    std::os::unix::fs::symlink("b", sandbox.path("link")).unwrap();
    let args = ["run", "--runtime", "runc", "link", "--", "sh", "-c", "exit 4"];
    sandbox.run("vzbuild", args).status(4);
}
