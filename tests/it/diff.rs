//! `vzbuild diff`: specs, closures and bundles.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::sandbox::Sandbox;

#[test]
fn specs_differ_by_their_lines() {
    let sandbox = Sandbox::new();
    sandbox.write("a", "/both\n/only/a\n");
    sandbox.write("b", "/only/b\n/both\n");
    let done = sandbox.run("vzbuild", ["diff", "a", "b"]).status(1);
    assert_eq!(done.stdout(), "- /only/a\n+ /only/b\n");
    assert_eq!(sandbox.run("vzbuild", ["diff", "a", "a"]).success().stdout(), "");
    let done = sandbox.run("vzbuild", ["diff", "--json", "a", "b"]).status(1);
    let json: serde_json::Value = serde_json::from_str(&done.stdout()).unwrap();
    assert_eq!((&json["onlyA"][0], &json["onlyB"][0]), (&"/only/a".into(), &"/only/b".into()));
}

#[test]
fn a_closure_in_json_is_compared_with_a_plain_one() {
    let sandbox = Sandbox::new();
    sandbox.write("root/f", "");
    sandbox.write("spec", "/f\n");
    let json = sandbox.run("vzbuild", ["closure", "--json", "--root", "root", "spec"]).success();
    sandbox.write("closed.json", json.stdout());
    sandbox.run("vzbuild", ["diff", "spec", "closed.json"]).success();
}

/// Sets the time of last modification, in seconds since 1970.
fn touch(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Two equal bundles, `a` and `b`.
fn bundles() -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["a", "b"] {
        let config = r#"{"root":{"path":"rootfs"},"process":{"args":["x"],"cwd":"/"}}"#;
        sandbox.write(&format!("{name}/config.json"), config);
        let file = sandbox.write(&format!("{name}/rootfs/d/f"), "content");
        touch(&file, 1000);
        symlink("d/f", sandbox.path(format!("{name}/rootfs/l"))).unwrap();
    }
    sandbox
}

/// After `change` of the second bundle, exactly this is printed.
#[track_caller]
fn check_bundles(change: impl Fn(&Sandbox), expected: &str) {
    let sandbox = bundles();
    change(&sandbox);
    let done = sandbox.run("vzbuild", ["diff", "a", "b"]).status(i32::from(!expected.is_empty()));
    assert_eq!(done.stdout(), expected);
}

#[test]
fn bundles_differ_by_files_modes_links_content_and_config() {
    check_bundles(|_| (), "");
    check_bundles(|s| drop(s.write("b/rootfs/g", "")), "+ /g\n");
    check_bundles(|s| touch(&s.path("b/rootfs/d/f"), 2000), "~ /d/f: mtime 1000 became 2000\n");
    check_bundles(
        |s| drop(s.write("b/rootfs/d/f", "cOntent")),
        "~ /d/f: content differs from byte 1 on\n",
    );
    check_bundles(
        |s| drop(s.write("b/rootfs/d/f", "")),
        "~ /d/f: content differs: 7 bytes became 0\n",
    );
    check_bundles(
        |s| {
            let mode = std::fs::Permissions::from_mode(0o4755);
            std::fs::set_permissions(s.path("b/rootfs/d/f"), mode).unwrap();
        },
        "~ /d/f: mode 0644 became 4755\n",
    );
    check_bundles(
        |s| {
            std::fs::remove_file(s.path("b/rootfs/l")).unwrap();
            symlink("gone", s.path("b/rootfs/l")).unwrap();
        },
        "~ /l: target d/f became gone\n",
    );
    check_bundles(
        |s| {
            std::fs::remove_file(s.path("b/rootfs/l")).unwrap();
            s.write("b/rootfs/l", "");
        },
        "~ /l: symlink became file\n",
    );
    check_bundles(
        |s| {
            let config = r#"{"root":{"path":"rootfs"},"process":{"args":["y"],"cwd":"/"}}"#;
            s.write("b/config.json", config);
        },
        "~ config.json: process.args differs\n",
    );
}

#[test]
fn things_of_two_kinds_are_not_compared() {
    let sandbox = bundles();
    sandbox.write("spec", "/f\n");
    sandbox.run("vzbuild", ["diff", "a", "spec"]).status(2).says("not of the same kind");
    sandbox.run("vzbuild", ["diff", "a", "a/rootfs"]).status(3).says("hint: a directory");
}
