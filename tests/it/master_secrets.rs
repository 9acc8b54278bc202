//! Secrets, on real nodes (see `master_nodes.rs`).

use std::fs;

use crate::master_nodes::nodes;
use crate::sandbox::Sandbox;

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  hostNetwork: true
  volumes: [{name: tls, secret: {secretName: web-tls}}]
  containers:
  - name: app
    image: bundle:bundles/app
";

#[test]
fn a_secret_that_is_nowhere_is_a_finding() {
    let sandbox = Sandbox::new();
    sandbox.write("hosts.ini", "[web]\nnode-a\n");
    sandbox.write("groups.yaml", "web:\n  pods: [web]\n");
    sandbox.write("pods/web.yaml", POD);
    let found = sandbox.run("vzmaster", ["validate"]).status(1).stdout();
    assert_eq!(found, "pods/web.yaml:1: spec.volumes: secrets.yaml has no secret `web-tls`\n");
    sandbox.write("secrets.yaml", "web-tls:\n  key: {file: absent}\n");
    sandbox.run("vzmaster", ["validate"]).success();
}

#[test]
fn a_secret_is_in_the_nodes_memory_and_nowhere_else() {
    let Some(nodes) = nodes("a_secret_is_in_the_nodes_memory_and_nowhere_else") else { return };
    let pod = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
    let volume = "{name: data, secret: {secretName: vz-secret}}";
    let pod = pod.replace("{name: data, emptyDir: {}}", volume);
    assert!(pod.contains(volume), "{pod}");
    nodes.sandbox.write("pods/test.yaml", pod);
    nodes.sandbox.write("secrets.yaml", "vz-secret:\n  word: {command: [cat, word]}\n");
    nodes.sandbox.write("word", "vz-kohlrabi-1\n");
    let first = nodes.names[0].clone();
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    let said = one(&["deploy", "-y"]).success();
    assert!(!format!("{}{}", said.stdout(), said.stderr()).contains("vz-kohlrabi"));
    let read = ["exec", &first, "vz-test", "--", "/bin/busybox", "cat", "/data/word"];
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-1");
    let elsewhere = "grep -rlF vz-kohlrabi /etc /var/lib/vz /var/log 2>/dev/null; journalctl -o cat | grep -cF vz-kohlrabi || :";
    assert_eq!(nodes.on(&first, elsewhere).success().stdout(), "0\n");
    one(&["diff"]).success();

    nodes.sandbox.write("word", "vz-kohlrabi-2\n");
    one(&["deploy", "-y", "--encrypt-at-rest"]).success().says("secrets are new");
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-2");
    // What a reboot takes comes back where it was kept, and else the unit says what it lacks.
    nodes.on(&first, "rm -r /run/vz/secrets").success();
    one(&["restart", "vz-test"]).success();
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-2");
    assert_eq!(nodes.on(&first, elsewhere).success().stdout(), "0\n");
    // Another deployment keeps them for the next boot, and new ones with them.
    nodes.sandbox.write("word", "vz-kohlrabi-3\n");
    one(&["deploy", "-y"]).success().says("secrets are new");
    nodes.on(&first, "rm -r /run/vz/secrets").success();
    one(&["restart", "vz-test"]).success();
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-3");

    // A revision with other secrets fails: the one before has its own still.
    let good = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
    let bad = good.replace("vz-secret}", "vz-other}").replace("{port: 8381}", "{port: 8382}");
    nodes.sandbox.write("pods/test.yaml", bad);
    nodes.sandbox.write("secrets.yaml", "vz-other:\n  word: {command: [cat, word]}\n");
    one(&["deploy", "-y"]).status(3).says("runs again");
    one(&["restart", "vz-test"]).success();
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-3");
    // What no revision names any more is gone.
    nodes.sandbox.write("pods/test.yaml", good);
    nodes.sandbox.write("secrets.yaml", "vz-secret:\n  word: {command: [cat, word]}\n");
    one(&["deploy", "-y"]).success();
    let there = nodes.on(&first, "ls /run/vz/secrets/vz-test /etc/vz/secrets/vz-test").success();
    assert!(!there.stdout().contains("vz-other"), "{}", there.stdout());

    one(&["deploy", "-y", "--encrypt-at-rest=no"]).success();
    nodes.on(&first, "! test -e /etc/vz/secrets/vz-test && rm -r /run/vz/secrets").success();
    one(&["restart", "vz-test"]).status(3);
    one(&["deploy", "-y"]).success();
    one(&["diff"]).success();
    nodes.sandbox.write("groups.yaml", "web:\n  pods: []\n");
    one(&["deploy", "-y", "--prune"]).success();
    let left = "ls -d /run/vz/secrets/vz-test /etc/vz/secrets/vz-test 2>/dev/null || echo none";
    assert_eq!(nodes.on(&first, left).success().stdout(), "none\n");
}
