//! `vzbuild explain`: why a file is in.

use crate::sandbox::Sandbox;

/// A script by its link, with its interpreter, and a spec.json that tells who used it.
fn sandbox() -> Sandbox {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let sandbox = Sandbox::new();
    for (name, text) in [("script", "#!/bin/run\n"), ("run", "program")] {
        let path = sandbox.write(&format!("root/usr/bin/{name}"), text);
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    symlink("usr/bin", sandbox.path("root/bin")).unwrap();
    sandbox.write("spec", "/usr/bin/script\n");
    let file =
        r#"{"path":"/usr/bin/script","uses":["execute","inspect"],"pid":7,"process":"/bin/sh"}"#;
    let record = format!(
        r#"{{"version":1,"runs":[],"files":[{file}],"created":["/tmp/made"],"changed":[],
        "deleted":[],"listed":[],"ports":[],"sockets":[],"excluded":["/etc/out"],"unseen":[],
        "pseudo":[],"host":{{"kernel":"","arch":"","cpuLevel":"","locale":"","timeZone":""}}}}"#
    );
    sandbox.write("spec.json", record);
    sandbox
}

#[track_caller]
fn check(path: &str, expected: &str) {
    let done = sandbox().run("vzbuild", ["explain", "--root", "root", "spec", path]).success();
    assert_eq!(done.stdout(), expected);
}

#[track_caller]
fn check_absent(path: &str, said: &str) {
    sandbox().run("vzbuild", ["explain", "--root", "root", "spec", path]).status(1).says(said);
}

#[test]
fn the_chain_ends_at_the_spec_with_the_first_process() {
    check(
        "/usr/bin/run",
        "/usr/bin/run\n  \
           the `#!` interpreter of /usr/bin/script\n  \
           as /bin/run, by /bin -> usr/bin\n\
         /usr/bin/script\n  \
           a line of the spec\n  \
           first used by /bin/sh (pid 7): execute, inspect\n",
    );
}

#[test]
fn a_path_is_followed_to_its_entry() {
    let text = "/usr/bin/script\n  a line of the spec\n  \
                first used by /bin/sh (pid 7): execute, inspect\n";
    check("/bin/script", text);
    check("/bin/../bin/script", text);
}

#[test]
fn what_is_not_in_is_said_with_what_is_near() {
    check_absent(
        "/usr/local/run",
        "is not in: no line of the spec and no entry needs it; near: /usr/bin/run",
    );
    check_absent("/tmp/made", "is not in: the run made it itself");
    check_absent("/etc/out", "--exclude (or --include) left it out");
}

#[test]
fn a_path_must_be_absolute() {
    let sandbox = sandbox();
    sandbox.run("vzbuild", ["explain", "--root", "root", "spec", "run"]).status(2).says("hint:");
}

#[test]
fn without_a_path_every_file_has_its_nearest_reason() {
    let done = sandbox().run("vzbuild", ["explain", "--root", "root", "spec"]).success();
    assert_eq!(
        done.stdout(),
        "/bin: the `#!` interpreter of /usr/bin/script\n\
         /usr/bin/run: the `#!` interpreter of /usr/bin/script\n\
         /usr/bin/script: a line of the spec\n"
    );
}

#[test]
fn the_chain_is_also_json() {
    let words = ["explain", "--json", "--root", "root", "spec", "/bin/run"];
    let done = sandbox().run("vzbuild", words).success();
    let chain: serde_json::Value = serde_json::from_str(&done.stdout()).unwrap();
    assert_eq!(chain[0]["reason"], "shebang");
    assert_eq!(chain[1]["use"]["process"], "/bin/sh");
}
