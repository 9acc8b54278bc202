//! Pushes over a real sshd.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::sandbox::{Finished, Need, require};
use crate::sshd::{Sshd, wanted};

fn json(out: &str) -> serde_json::Value {
    serde_json::from_str(out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

#[test]
fn a_bundle_is_pushed_updated_listed_verified_and_rolled_back() {
    if !wanted("a_bundle_is_pushed_updated_listed_verified_and_rolled_back") {
        return;
    }
    let node = Sshd::start();
    node.bundle("web", 1, 300_000);
    // The words of the command line that everything else is made for.
    node.push(&["--delta", "./web", "node"]).success().says("files: full");
    node.assert_current("web", "web");
    let first = node.current("web");
    node.push(&["--delta", "./web", "node"]).success().says("present: full").says("sent 0 B");

    fs::create_dir(node.sandbox.path("next")).unwrap();
    node.bundle("next/web", 1, 300_000);
    node.sandbox.write("next/web/rootfs/etc/conf", b"listen 443\n".repeat(500));
    let plan = node.push(&["--plan", "next/web", "node"]).success().stdout();
    assert!(plan.contains("rootfs/etc/conf") && !plan.contains("noise"), "{plan}");
    assert_eq!(node.current("web"), first);
    let update = node.push(&["--json", "next/web", "node"]).success().stdout();
    let outcome = &json(&update)["nodes"][0]["outcome"];
    assert_eq!(outcome["way"], "delta");
    let (payload, sent) = (outcome["payload"].as_u64().unwrap(), outcome["sent"].as_u64().unwrap());
    assert!(payload < 1000 && sent < payload + 1000, "{update}");
    node.assert_current("next/web", "web");

    let listed = node.push(&["ls", "node"]).success().stdout();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    node.push(&["rollback", "node", "web"]).success();
    assert_eq!(node.current("web"), first);
    node.assert_current("web", "web");

    let file = first.unwrap().join("rootfs/etc/conf");
    fs::write(&file, "changed").unwrap();
    let differs = node.push(&["verify", "node", "web"]).status(1).stdout();
    assert!(differs.contains("content    rootfs/etc/conf"), "{differs}");
    node.push(&["web", "node"]).success().says("1 damaged file of the node replaced");
    node.assert_current("web", "web");
    node.push(&["gc", "node"]).success();
}

#[test]
fn an_image_is_pushed_as_the_bundle_that_docker_would_make_of_it() {
    if !wanted("an_image_is_pushed_as_the_bundle_that_docker_would_make_of_it") {
        return;
    }
    let node = Sshd::start();
    node.sandbox.write("root/srv/program", "#!/srv/data\n");
    node.sandbox.write("root/srv/data", b"data\n".repeat(50_000));
    node.sandbox.write("spec", "/srv/program\n/srv/data\n");
    for (reference, file) in [("oci:layout", "layout"), ("docker-archive:web.tar", "web.tar")] {
        let args = ["image", "spec", "--root", "root", "--arg", "serve", "-o", reference];
        node.sandbox.run("vzbuild", args.into_iter().chain(["--ref", "team/site:1"])).success();
        assert!(node.sandbox.path(file).exists());
    }
    let temporary = node.sandbox.write("tmp/keep", "").parent().unwrap().to_owned();
    let push = |image: &str| {
        let mut vzpush = node.vzpush(&[image, "node"]);
        Finished::of(vzpush.env("TMPDIR", &temporary))
    };
    push("oci:layout:team/site:1").success().says("files: full");
    let site = node.current("site").unwrap();
    let config = json(&fs::read_to_string(site.join("config.json")).unwrap());
    assert_eq!(config["process"]["args"], serde_json::json!(["serve"]));
    assert_eq!(config["root"]["path"], "rootfs");
    assert_eq!(fs::read(site.join("rootfs/srv/data")).unwrap().len(), 250_000);
    // The same image in another form is the same revision.
    push("docker-archive:web.tar:team/site:1").success().says("sent 0 B");
    push("oci:layout:team/other:1").status(3).says("no image `team/other:1`");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 1);
}

#[test]
fn a_bundle_comes_back_from_a_node() {
    if !wanted("a_bundle_comes_back_from_a_node") {
        return;
    }
    let node = Sshd::start();
    node.bundle("web", 5, 200_000);
    node.push(&["web", "node"]).success();
    node.push(&["pull", "node", "web", "--output", "back"]).success();
    for file in ["config.json", "rootfs/bin/noise", "rootfs/etc/conf"] {
        let read = |dir: &str| fs::read(node.sandbox.path(dir).join(file)).unwrap();
        assert!(read("web") == read("back"), "{file}");
    }
    let names = fs::read_dir(node.sandbox.path("back")).unwrap().count();
    assert_eq!(names, 2);
    // It is the same revision, byte by byte.
    node.push(&["--name", "web", "back", "node"]).success().says("sent 0 B");
}

#[test]
fn old_revisions_go_and_the_current_and_previous_stay() {
    if !wanted("old_revisions_go_and_the_current_and_previous_stay") {
        return;
    }
    let node = Sshd::start();
    for seed in 1..=4 {
        node.bundle("web", seed, 1000);
        node.push(&["--keep", "2", "web", "node"]).success();
    }
    let listed = node.push(&["ls", "node"]).success().stdout();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains("current") && listed.contains("previous"), "{listed}");
}

#[test]
fn a_dead_node_costs_its_timeout_and_the_others_are_done() {
    if !wanted("a_dead_node_costs_its_timeout_and_the_others_are_done") {
        return;
    }
    let node = Sshd::start();
    node.bundle("web", 1, 10_000);
    let port = node.port;
    node.sandbox.write(
        "hosts.ini",
        format!(
            "[web]\nnode-[1:3] ansible_host=127.0.0.1 ansible_port={port}\n\
             dead ansible_host=127.0.0.1 ansible_port=1\n"
        ),
    );
    let push = |more: &[&str]| {
        let mut args = vec!["-i", "hosts.ini", "--connect-timeout", "2"];
        args.extend(more);
        args.extend(["web", "@web"]);
        node.push(&args)
    };
    let summary = push(&[]).status(4).says("3 of 4 nodes done").stderr();
    assert!(summary.contains("dead") && summary.contains("cannot reach"), "{summary}");
    push(&["--require", "75%"]).status(0);
    node.push(&["-i", "hosts.ini", "web", "@web:dead"]).status(2);
    node.push(&["-i", "hosts.ini", "web", "@dead"]).status(3).says("cannot reach `dead`");
}

#[test]
fn a_host_key_that_is_unknown_or_changed_is_refused() {
    if !wanted("a_host_key_that_is_unknown_or_changed_is_refused") {
        return;
    }
    let node = Sshd::start();
    node.bundle("web", 1, 1000);
    let shown = node.sandbox.run("ssh-keygen", ["-lf", "host.pub"]).success().stdout();
    let fingerprint = shown.split_whitespace().nth(1).unwrap();
    node.sandbox.write("known", "");
    let refused = node.push(&["web", "node"]).status(3).says("is not known").says(fingerprint);
    let hint = refused.stderr();
    let pin = hint.split("pin it: ").nth(1).expect("a command that pins it").trim();
    assert!(!node.store().exists());
    // The command that it prints does what it says.
    node.sandbox.run("sh", ["-c", pin]).success();
    node.push(&["web", "node"]).success();

    node.sandbox.run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", "other"]).success();
    let key = fs::read_to_string(node.sandbox.path("other.pub")).unwrap();
    node.sandbox.write("known", format!("[127.0.0.1]:{} {key}", node.port));
    node.push(&["web", "node"])
        .status(3)
        .says("has changed")
        .says(fingerprint)
        .says("ssh-keygen -f ");
}

#[test]
fn bad_input_is_named() {
    if !wanted("bad_input_is_named") {
        return;
    }
    let node = Sshd::start();
    node.bundle("web", 1, 1000);
    node.push(&["web", "user@"])
        .status(2)
        .says("target `user@` has no host")
        .says("user@host[:port]");
    node.push(&["web", "@web"]).status(2).says("-i INVENTORY");
    node.sandbox.write("hosts.yml", "all:\n  hosts:\n    a: [1\n    b: 2\n");
    node.push(&["-i", "hosts.yml", "web", "@all"]).status(2).says("line ");
    node.sandbox.write("hosts.ini", "[web]\na\n[web:thing]\n");
    node.push(&["-i", "hosts.ini", "web", "@web"]).status(2).says("line 3");
    node.push(&["web/config.json", "node"]).status(3).says("is no image");
    node.push(&["nothing", "node"]).status(3).says("cannot read the bundle `nothing`");
    fs::remove_file(node.sandbox.path("web/config.json")).unwrap();
    node.push(&["web", "node"]).status(3).says("has no config.json");
    node.sandbox.write("web/config.json", r#"{"root":{"path":"../../etc"}}"#);
    node.push(&["web", "node"]).status(3).says("`root.path` in");
    node.sandbox.write("web/config.json", r#"{"root":{"path":"rootfs"}}"#);
    node.push(&["--name", "../up", "web", "node"]).status(2).says("cannot be the name");
    fs::rename(node.sandbox.path("web/rootfs"), node.sandbox.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", node.sandbox.path("web/rootfs")).unwrap();
    node.push(&["web", "node"]).status(3).says("a link to one");
    node.push(&["--delta=maybe", "web", "node"]).status(2);
}

/// What is put in place over ssh needs nothing of the node but sh and a few tools.
#[test]
fn a_node_of_another_architecture_is_refused() {
    if !wanted("a_node_of_another_architecture_is_refused") {
        return;
    }
    let tools = tempfile::tempdir().unwrap();
    let uname = tools.path().join("uname");
    fs::write(&uname, "#!/bin/sh\necho riscv64\n").unwrap();
    fs::set_permissions(&uname, fs::Permissions::from_mode(0o755)).unwrap();
    let node = Sshd::start_with(&format!("SetEnv PATH={}:/usr/bin:/bin\n", tools.path().display()));
    node.bundle("web", 1, 1000);
    // The second goes over the connection that the first has opened.
    fs::create_dir(node.sandbox.path("run")).unwrap();
    for _ in 0..2 {
        let mut push = node.sandbox.command("vzpush");
        push.arg("-F").arg(node.sandbox.path("ssh_config")).args(["web", "node"]);
        push.env("XDG_CACHE_HOME", node.sandbox.path("cache"));
        push.env("XDG_RUNTIME_DIR", node.sandbox.path("run"));
        Finished::of(&mut push).status(3).says("it is of architecture riscv64, this program of");
    }
}

#[test]
fn a_node_with_busybox_alone_takes_the_receiver() {
    let needs = [Need::File("/bin/busybox", "busybox-static")];
    if !wanted("a_node_with_busybox_alone_takes_the_receiver")
        || !require("a_node_with_busybox_alone_takes_the_receiver", &needs)
    {
        return;
    }
    let tools = tempfile::tempdir().unwrap();
    for tool in ["sh", "id", "uname", "dd", "sha256sum", "chmod", "mv", "rm", "mkdir", "timeout"] {
        std::os::unix::fs::symlink("/bin/busybox", tools.path().join(tool)).unwrap();
    }
    let node = Sshd::start_with(&format!("SetEnv PATH={}\n", tools.path().display()));
    node.bundle("web", 1, 100_000);
    node.push(&["web", "node"]).success().says("receiver put in place");
    node.assert_current("web", "web");
}
