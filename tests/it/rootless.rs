//! Bundles by and for an ordinary user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use crate::bundle::config;
use crate::minify;
use crate::sandbox::{Finished, Need, Sandbox, require};

/// Nobody's user id.
const USER: u32 = 4242;

/// A sandbox that the user may work in, with the program where it can reach it.
fn shared() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::set_permissions(sandbox.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    // Not by this process: a test beside this one may fork while it is open for
    // writing, and it could not be executed then.
    sandbox.run("cp", [env!("CARGO_BIN_EXE_vzbuild"), "vzbuild"]).success();
    fs::create_dir(sandbox.path("home")).unwrap();
    chown(sandbox.path("home"), Some(USER), Some(USER)).unwrap();
    sandbox
}

/// Runs the program as the user.
fn as_user(sandbox: &Sandbox, args: &[&str]) -> Finished {
    let mut command = sandbox.command("setpriv");
    command.args(["--reuid=4242", "--regid=4242", "--clear-groups", "../vzbuild"]).args(args);
    command.current_dir(sandbox.path("home")).env_remove("XDG_RUNTIME_DIR").env("HOME", "/");
    command.env("TMPDIR", sandbox.path("home"));
    Finished::of(&mut command)
}

fn needs(test: &str) -> bool {
    let setpriv = Need::Program("setpriv", "util-linux");
    require(test, &[Need::Root, setpriv, Need::Program("runc", "runc")])
}

#[test]
fn an_image_whose_user_and_owners_only_root_can_have_is_not_proven() {
    let test = "an_image_whose_user_and_owners_only_root_can_have_is_not_proven";
    if !needs(test) || !require(test, &minify::NEEDS) {
        return;
    }
    let sandbox = shared();
    let root = minify::root(&sandbox);
    chown(root.join("var/lib/app/never"), Some(1234), Some(100)).unwrap();
    let image = |config: serde_json::Value| {
        let _ = fs::remove_dir_all(sandbox.path("image"));
        minify::image(&sandbox, &config);
    };
    let told = "; its user (1234:100) is not proven, since only root can have them here";
    let refused = "which only root can have in a container: nothing would be proven";

    image(serde_json::json!({ "Cmd": ["/bin/cat", "/var/lib/app/one"], "User": "ann" }));
    as_user(&sandbox, &["minify", "../image.tar", "-o", "oci:out:x"]).status(3).says(refused);
    let done = as_user(&sandbox, &["minify", "../image.tar"]).success();
    assert!(done.stdout().contains(told), "{}", done.stdout());
    sandbox.run("vzbuild", ["minify", "image.tar", "-o", "oci:roots:x"]).success();
    let done = as_user(&sandbox, &["verify", "oci:../roots:x"]).success();
    assert!(done.stdout().contains(told), "{}", done.stdout());
    let done = sandbox.run("vzbuild", ["verify", "oci:roots:x"]).success();
    assert!(done.stdout().ends_with("in 1 scenario\n"), "{}", done.stdout());

    // What is left out may be whose it will.
    image(serde_json::json!({ "Cmd": ["/bin/cat", "/var/lib/app/one"] }));
    let done = as_user(&sandbox, &["minify", "../image.tar", "-o", "oci:out:x"]).success();
    assert!(done.stdout().contains("in 1 scenario\n"), "{}", done.stdout());
    image(serde_json::json!({ "Cmd": ["/bin/cat", "/var/lib/app/never"] }));
    as_user(&sandbox, &["minify", "../image.tar", "-o", "oci:new:x"]).status(3).says(refused);
}

#[test]
fn a_users_health_check_runs_in_the_container() {
    let test = "a_users_health_check_runs_in_the_container";
    if !needs(test) || !require(test, &minify::NEEDS) {
        return;
    }
    let sandbox = shared();
    minify::root(&sandbox);
    let script = "echo up > /tmp/state; while :; do sleep 1; done";
    minify::image(
        &sandbox,
        &serde_json::json!({
            "Cmd": ["/bin/sh", "-c", script],
            "Healthcheck": { "Test": ["CMD-SHELL", "cat /tmp/state /var/lib/app/two"] },
        }),
    );
    let done = as_user(&sandbox, &["minify", "../image.tar"]).success();
    assert!(done.stdout().contains("verified: "), "{}", done.stdout());
    assert!(sandbox.path("home/bundle/rootfs/var/lib/app/two").exists());
}

#[test]
fn what_a_user_cannot_keep_is_said_and_is_in_the_layer() {
    if !needs("what_a_user_cannot_keep_is_said_and_is_in_the_layer") {
        return;
    }
    let sandbox = shared();
    sandbox.write("root/bin/su", "setuid");
    sandbox.write("root/srv/file", "odd owner");
    fs::set_permissions(sandbox.path("root/bin/su"), PermissionsExt::from_mode(0o4755)).unwrap();
    chown(sandbox.path("root/srv/file"), Some(77), Some(78)).unwrap();
    let null = rustix::fs::makedev(1, 3);
    let (root, mode) = (fs::File::open(sandbox.path("root")).unwrap(), rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(&root, "srv/null", rustix::fs::FileType::CharacterDevice, mode, null)
        .unwrap();
    sandbox.write("home/spec", "/bin/su\n/srv/file\n/srv/null\n");
    let args = ["bundle", "spec", "--root", "../root", "--arg", "x"];
    let done = as_user(&sandbox, &args).success();
    done.says("not root, so the tree does not have the owners of").says("the device nodes 1 file");
    let su = fs::metadata(sandbox.path("home/bundle/rootfs/bin/su")).unwrap();
    assert_eq!((su.uid(), su.mode() & 0o7777), (USER, 0o755));
    let id = config(&sandbox, "home/bundle")["annotations"]["vz.diff-id"].clone();

    // Root's layer of the same files is the same.
    let args = ["bundle", "home/spec", "--root", "root", "--arg", "x", "-o", "by-root"];
    sandbox.run("vzbuild", args).success();
    assert_eq!(config(&sandbox, "by-root")["annotations"]["vz.diff-id"], id);
}

#[test]
fn unreadable_files_are_all_named() {
    if !needs("unreadable_files_are_all_named") {
        return;
    }
    let sandbox = shared();
    for name in ["a", "b", "c"] {
        sandbox.write(&format!("root/{name}"), name);
    }
    for name in ["root/a", "root/c"] {
        fs::set_permissions(sandbox.path(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    sandbox.write("home/spec", "/a\n/b\n/c\n");
    let args = ["bundle", "spec", "--root", "../root", "--arg", "x"];
    let told = as_user(&sandbox, &args).status(1);
    told.says("cannot read /a: Permission denied")
        .says("cannot read /c: Permission denied")
        .says("--allow-missing");
    assert!(!sandbox.path("home/bundle").exists());
    let allowed = [&args[..], &["--allow-missing"]].concat();
    as_user(&sandbox, &allowed).success().says("missing: /a");
    assert!(sandbox.path("home/bundle/rootfs/b").exists());
}

#[test]
fn a_user_runs_bundles_of_their_own_and_of_root() {
    if !needs("a_user_runs_bundles_of_their_own_and_of_root") {
        return;
    }
    let sandbox = shared();
    let tools = ["cat", "id", "sh"].map(|name| vz::process::find(name).unwrap());
    let lines: String = tools.iter().map(|path| format!("{}\n", path.display())).collect();
    sandbox.write("home/spec", &lines);
    as_user(&sandbox, &["bundle", "spec", "--arg", "sh", "-o", "own"]).success();
    let args = ["bundle", "home/spec", "--arg", "sh", "-o", "home/roots", "--user", "33:33"];
    sandbox.run("vzbuild", args).success();
    let script = "id -u; echo x > /tmp/x; cat /tmp/x /proc/self/uid_map; exit 9";
    for bundle in ["own", "roots"] {
        for runtime in ["embedded", "runc"] {
            let words = ["run", "--runtime", runtime, bundle, "--", "sh", "-c", script];
            let out = as_user(&sandbox, &words).status(9).stdout();
            let words: Vec<&str> = out.split_whitespace().collect();
            assert_eq!(words, ["0", "x", "0", "4242", "1"], "{bundle} {runtime}");
        }
    }
    let left = fs::read_dir(sandbox.path("home/vz-4242")).unwrap().count();
    assert_eq!(left, 1, "only the lock stays");
}

#[test]
fn a_user_minifies_and_verifies() {
    if !needs("a_user_minifies_and_verifies")
        || !require("minify as a user", &[Need::File("/bin/busybox", "busybox-static")])
    {
        return;
    }
    let sandbox = shared();
    for name in ["one", "two"] {
        sandbox.write(&format!("home/root/srv/{name}"), format!("{name}\n"));
    }
    fs::create_dir(sandbox.path("home/root/bin")).unwrap();
    fs::copy("/bin/busybox", sandbox.path("home/root/bin/busybox")).unwrap();
    let owner = format!("{USER}:{USER}");
    sandbox.run("chown", ["-R", &owner, &sandbox.path("home").display().to_string()]).success();
    let script = "echo x > /srv/new; busybox cat /srv/one /srv/new";
    let words = ["minify", "root", "--", "/bin/busybox", "sh", "-c", script];
    as_user(&sandbox, &words).success();
    assert_eq!(as_user(&sandbox, &["run", "bundle"]).success().stdout(), "one\nx\n");
    as_user(&sandbox, &["verify", "bundle"]).success();
    fs::remove_file(sandbox.path("home/bundle/rootfs/srv/one")).unwrap();
    let said = as_user(&sandbox, &["verify", "bundle"]).status(1).stdout();
    assert!(said.contains("missing: /srv/one\n"), "{said}");
    let entries = fs::read_dir(sandbox.path("home")).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    // The last one is where runs have their state.
    assert_eq!(names, ["bundle", "root", "vz-4242"], "nothing else is left");
}
