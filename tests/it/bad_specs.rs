//! Bad input: each message names the thing and the way out.

use crate::sandbox::{Need, Sandbox, require};

/// A spec of these bytes ends with status 3 and says all of `texts`.
#[track_caller]
fn check(spec: &[u8], texts: &[&str]) {
    let sandbox = Sandbox::new();
    sandbox.write("my.spec", spec);
    let mut failed = sandbox.run("vzbuild", ["closure", "my.spec"]).status(3);
    for text in texts {
        failed = failed.says(text);
    }
    assert_eq!(failed.stdout(), "");
}

/// In a root made by `make`, the spec ends with status 1 and says all of `texts`.
#[track_caller]
fn check_missing(make: impl Fn(&Sandbox), spec: &str, texts: &[&str]) {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("root")).unwrap();
    make(&sandbox);
    sandbox.write("my.spec", spec);
    let mut failed = sandbox.run("vzbuild", ["closure", "--root", "root", "my.spec"]).status(1);
    for text in texts {
        failed = failed.says(text);
    }
    failed.says("--allow-missing");
}

#[test]
fn a_line_without_a_leading_slash() {
    let texts = ["`my.spec` is not a spec", "line 2: `usr/bin/x` does not begin with `/`", "hint:"];
    check(b"/a\nusr/bin/x\n", &texts);
}

#[test]
fn a_line_with_dot_dot() {
    check(b"/a/../b\n", &["line 1: `/a/../b` has a `..` component; write the path"]);
}

#[test]
fn a_line_with_a_nul_byte() {
    check(b"/a\0/b\n", &["line 1: `/a\\x00/b` has a NUL byte", "find -print0"]);
}

#[test]
fn a_spec_that_is_not_there() {
    let sandbox = Sandbox::new();
    let failed = sandbox.run("vzbuild", ["closure", "absent"]).status(3);
    failed.says("cannot read the spec `absent`").says("No such file").says("hint: SPEC is");
}

#[test]
fn a_spec_json_of_another_version() {
    let sandbox = Sandbox::new();
    sandbox.write("spec", "/\n");
    sandbox.write("spec.json", r#"{"version": 9}"#);
    let failed = sandbox.run("vzbuild", ["closure", "spec"]).status(3);
    failed.says("cannot use `spec.json`").says("format version 9").says("hint: trace again");
}

#[test]
fn a_root_that_is_no_directory() {
    let sandbox = Sandbox::new();
    sandbox.write("spec", "/\n");
    let failed = sandbox.run("vzbuild", ["closure", "--root", "spec", "spec"]).status(3);
    failed.says("cannot open the root `spec`").says("hint: --root takes a directory");
}

#[test]
fn a_file_that_vanished_between_trace_and_build() {
    let texts = ["/was/here (a line of the spec): there is no /was [my.spec, line 1]"];
    check_missing(|_| (), "/was/here\n", &texts);
}

#[test]
fn a_link_loop() {
    let loops = |sandbox: &Sandbox| {
        std::os::unix::fs::symlink("/b", sandbox.path("root/a")).unwrap();
        std::os::unix::fs::symlink("/a", sandbox.path("root/b")).unwrap();
    };
    check_missing(loops, "/a\n", &["/a (a line of the spec): too many links"]);
}

#[test]
fn a_file_that_only_begins_as_elf() {
    let broken = |sandbox: &Sandbox| drop(sandbox.write("root/p", b"\x7fELF\x02\x01\x01"));
    check_missing(broken, "/p\n", &["/p is a broken ELF file: the file ends before its header"]);
}

#[test]
fn an_unreadable_file() {
    let is_root = nix::unistd::geteuid().is_root();
    if is_root && !require("an_unreadable_file", &[Need::Program("setpriv", "util-linux")]) {
        return;
    }
    let sandbox = Sandbox::new();
    let file = sandbox.write("root/secret", "x");
    let mode = |bits| std::os::unix::fs::PermissionsExt::from_mode(bits);
    std::fs::set_permissions(file, mode(0o000)).unwrap();
    std::fs::set_permissions(sandbox.path(""), mode(0o755)).unwrap();
    sandbox.write("spec", "/secret\n");
    // Copied by a child: a file that this process has open for writing could
    // be inherited by another test's child, and then not be executed.
    sandbox.run("cp", [env!("CARGO_BIN_EXE_vzbuild"), "vzbuild-copy"]).success();
    let program = sandbox.path("vzbuild-copy").display().to_string();
    let words = ["closure", "--root", "root", "spec"];
    let failed = if is_root {
        // Root reads everything, so another user asks.
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups", &program];
        sandbox.run("setpriv", user.into_iter().chain(words))
    } else {
        sandbox.run(&program, words)
    };
    let failed = failed.status(1);
    failed.says("/secret (a line of the spec): cannot read /secret: Permission denied");
}
