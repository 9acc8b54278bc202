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
    assert_eq!(
        found,
        "pods/web.yaml:6: spec.volumes[0].secret.secretName: secrets.yaml has no secret `web-tls`\n"
    );
    sandbox.write("secrets.yaml", "web-tls:\n  key: {file: absent}\n");
    let absent = "warning: secrets.yaml:2: web-tls.key: there is no file `absent`";
    sandbox.run("vzmaster", ["validate"]).success().says(absent);
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
    let forgotten = "a reboot takes the secrets of vz-test, which cannot start without";
    assert!(one(&["plan"]).success().stdout().contains(forgotten));
    // Another one is at work there.
    nodes.on(&first, "flock /run/vz/lock sleep 7 >/dev/null 2>&1 &").success();
    let busy = "FAILED: cannot bring secrets: another vzmaster is at work on this node";
    one(&["deploy", "-y"]).status(3).says(busy);
    nodes.on(&first, "flock /run/vz/lock true").success();
    let said = one(&["deploy", "-y"]).success();
    assert!(!format!("{}{}", said.stdout(), said.stderr()).contains("vz-kohlrabi"));
    let read = ["exec", &first, "vz-test", "--", "/bin/busybox", "cat", "/data/word"];
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-1");
    let elsewhere = "grep -rlF vz-kohlrabi /etc /var/lib/vz /var/log 2>/dev/null; journalctl -o cat | grep -cF vz-kohlrabi || :";
    assert_eq!(nodes.on(&first, elsewhere).success().stdout(), "0\n");
    one(&["diff"]).success();

    // Another one is another revision, which the plan says, and no more.
    nodes.sandbox.write("word", "vz-kohlrabi-2\n");
    let plan = one(&["plan"]).success().stdout();
    assert!(plan.contains("(stop first: it shares the node's network): secrets\n"), "{plan}");
    assert!(!plan.contains("vz-kohlrabi"), "{plan}");
    one(&["deploy", "-y", "--encrypt-at-rest"]).success();
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-2");
    one(&["diff"]).success();
    assert!(!one(&["plan"]).success().stdout().contains(forgotten));
    // The one before has its own.
    one(&["rollback", "vz-test"]).success();
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-1");
    one(&["deploy", "-y", "--encrypt-at-rest"]).success();
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-2");
    // With a network of its own it starts first; a bad one goes back with its secret.
    let pod = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
    let apart = pod.replacen("hostNetwork: true", "hostNetwork: false", 1);
    nodes.sandbox.write("pods/test.yaml", &apart);
    one(&["deploy", "-y", "--encrypt-at-rest"]).success();
    nodes.sandbox.write("word", "vz-kohlrabi-3\n");
    nodes.sandbox.write("pods/test.yaml", apart.replacen("port: 8381", "port: 8382", 1));
    one(&["deploy", "-y", "--encrypt-at-rest"]).status(3).says("runs again");
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-2");
    nodes.sandbox.write("pods/test.yaml", &apart);
    one(&["deploy", "-y", "--encrypt-at-rest"]).success().says("without a gap");
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-3");
    // What cannot be had here is not compared.
    fs::rename(nodes.sandbox.path("word"), nodes.sandbox.path("away")).unwrap();
    let diff = one(&["diff"]).success().stdout();
    assert!(diff.contains("note    secrets were not compared: cannot find"), "{diff}");
    one(&["deploy", "-y"]).status(3).says("cannot get `vz-secret/word`");
    fs::rename(nodes.sandbox.path("away"), nodes.sandbox.path("word")).unwrap();
    // What a reboot takes comes back where it was kept, and else the unit says what it lacks.
    nodes.on(&first, "rm -r /run/vz/secrets").success();
    one(&["restart", "vz-test"]).success();
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-3");
    assert_eq!(nodes.on(&first, elsewhere).success().stdout(), "0\n");
    // Another deployment keeps them for the next boot, and new ones with them.
    nodes.sandbox.write("word", "vz-kohlrabi-4\n");
    one(&["deploy", "-y"]).success();
    nodes.on(&first, "rm -r /run/vz/secrets").success();
    one(&["restart", "vz-test"]).success();
    assert_eq!(nodes.vzmaster(&read).success().stdout(), "vz-kohlrabi-4");
    one(&["deploy", "-y", "--encrypt-at-rest=no"]).success();
    nodes.on(&first, "! test -e /etc/vz/secrets/vz-test && rm -r /run/vz/secrets").success();
    one(&["restart", "vz-test"]).status(3);
    let drift = one(&["diff"]).status(1).stdout();
    assert!(drift.contains("its secrets are not on the node"), "{drift}");
    one(&["deploy", "-y"]).success();
    one(&["diff"]).success();
    nodes.sandbox.write("groups.yaml", "web:\n  pods: []\n");
    one(&["deploy", "-y", "--prune"]).success();
    let left = "ls -d /run/vz/secrets/vz-test /etc/vz/secrets/vz-test 2>/dev/null || echo none";
    assert_eq!(nodes.on(&first, left).success().stdout(), "none\n");
}
