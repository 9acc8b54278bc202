//! `vzmaster playbook`, run by Debian's own Ansible: its files here, the rest on real
//! nodes (see `master_nodes.rs`), which need python3 for it.

use std::fs;
use std::net::SocketAddr;

use vz::fleet::playbook::{FIXED, MARK};

use crate::master_nodes::load::asked_while;
use crate::master_nodes::{Nodes, nodes};
use crate::sandbox::{Finished, Need, Sandbox, require};

const NEEDS: [Need; 1] = [Need::Program("ansible-playbook", "ansible-core")];

fn ansible(sandbox: &Sandbox, program: &str, args: &[&str]) -> Finished {
    let mut command = sandbox.command(program);
    command.args(["-i", "playbook/hosts.ini"]).args(args);
    command.env("HOME", sandbox.path("")).env("ANSIBLE_NOCOLOR", "1").env_remove("SSH_AUTH_SOCK");
    Finished::of(&mut command)
}

#[test]
fn ansible_understands_the_files_and_takes_no_text_for_a_template() {
    if !require("ansible_understands_the_files_and_takes_no_text_for_a_template", &NEEDS) {
        return;
    }
    let sandbox = Sandbox::new();
    for (path, text) in FIXED {
        sandbox.write(&format!("playbook/{path}"), text);
    }
    sandbox.write("playbook/hosts.ini", "[vz]\nnode-a\n");
    let vars = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/playbook/host_vars.yaml");
    sandbox.write("playbook/host_vars/node-a.yaml", fs::read(vars).unwrap());
    ansible(&sandbox, "ansible-playbook", &["--syntax-check", "playbook/deploy.yaml"]).success();
    let said = ansible(&sandbox, "ansible-inventory", &["--host", "node-a"]).success().stdout();
    let value: serde_json::Value = serde_json::from_str(&said).unwrap();
    let word = &value["vz_pods"][0]["probes"][1]["argv"][5];
    // So Ansible prints what is marked as no template.
    let word = word["__ansible_unsafe"].as_str().or(word.as_str()).unwrap();
    assert!(word.ends_with(" '{{ x }}'"), "{word}");
    assert_eq!(value["vz_bundles"][1]["name"], "nginx");
}

#[test]
fn what_runs_on_nodes_is_plain_posix_shell() {
    let needs = [Need::Program("dash", "dash"), Need::Program("shellcheck", "shellcheck")];
    if !require("what_runs_on_nodes_is_plain_posix_shell", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    let mut scripts = 0;
    for (path, text) in FIXED.iter().filter(|(path, _)| path.ends_with(".sh")) {
        sandbox.write(path, text);
        sandbox.run("dash", ["-n", path]).success();
        sandbox.run("shellcheck", ["--shell=sh", path]).success();
        scripts += 1;
    }
    assert_eq!(scripts, 3);
}

#[test]
fn only_a_playbook_of_ours_is_replaced() {
    let sandbox = Sandbox::new();
    sandbox.write("hosts.ini", "[web]\nnode-a ansible_host=127.0.0.1 ansible_port=1\n");
    sandbox.write("groups.yaml", "web:\n  pods: []\n");
    let none = sandbox.run("vzmaster", ["--connect-timeout", "1", "playbook", "out"]).status(3);
    none.says("node-a was left out").says("no host can be in the playbook");
    assert!(!sandbox.path("out").exists());
}

/// What each host's line of the recap says: how many tasks changed something. Nothing
/// of what is said has a secret in it.
#[track_caller]
fn changed(nodes: &Nodes, more: &[&str]) -> Vec<u32> {
    let args = [&["-vvv", "playbook/deploy.yaml"], more].concat();
    let said = ansible(&nodes.sandbox, "ansible-playbook", &args).success();
    let said = said.stdout();
    assert!(!said.contains("sesame") && !said.contains("c2VzYW1l"), "{said}");
    let of = |name: &String| {
        let line = said.lines().rfind(|line| line.starts_with(&format!("{name} "))).unwrap();
        let count = line.split_once("changed=").unwrap().1.split(' ').next().unwrap();
        count.parse().unwrap()
    };
    nodes.names.iter().map(of).collect()
}

#[test]
fn ansible_deploys_the_same_and_finds_nothing_to_do_after_vzmaster() {
    let test = "ansible_deploys_the_same_and_finds_nothing_to_do_after_vzmaster";
    if !require(test, &NEEDS) {
        return;
    }
    let Some(nodes) = nodes(test) else { return };
    let none = vec![0; nodes.names.len()];
    nodes.vzmaster(&["deploy", "-y"]).success();
    nodes.vzmaster(&["playbook", "playbook"]).success();
    assert_eq!(changed(&nodes, &[]), none, "after vzmaster deploy");
    let written = fs::read_to_string(nodes.sandbox.path("playbook/deploy.yaml")).unwrap();
    assert!(written.starts_with(MARK));

    nodes.serve("two", 8381);
    nodes.vzmaster(&["playbook", "playbook"]).success();
    assert!(changed(&nodes, &[]).iter().all(|count| *count > 0));
    for node in &nodes.names {
        assert_eq!(nodes.page(node), "two");
    }
    assert_eq!(changed(&nodes, &[]), none, "the second run");
    nodes.vzmaster(&["diff"]).success();
    nodes.vzmaster(&["deploy", "-y"]).success().says("there is nothing to do");

    // A port that nobody listens on: the first host goes back, the others never change.
    nodes.serve("three", 8382);
    nodes.vzmaster(&["playbook", "playbook"]).success();
    let failed = ansible(&nodes.sandbox, "ansible-playbook", &["playbook/deploy.yaml"]).status(2);
    assert!(failed.stdout().contains("does not do its work"), "{}", failed.stdout());
    for node in &nodes.names {
        assert_eq!(nodes.page(node), "two");
    }
    nodes.serve("two", 8381);
    nodes.vzmaster(&["diff"]).success();
}

/// An update by Ansible starts first, too, and moves the ports of both families.
#[test]
fn ansible_publishes_ports_as_vzmaster_does() {
    let test = "ansible_publishes_ports_as_vzmaster_does";
    if !require(test, &NEEDS) {
        return;
    }
    let Some(nodes) = nodes(test) else { return };
    let none = vec![0; nodes.names.len()];
    let first = nodes.names[0].clone();
    let mut addresses = vec![nodes.published(&first, 8380)];
    addresses.extend(nodes.ipv6(&first).map(|own| SocketAddr::from((own, 8380))));
    nodes.apart();
    nodes.vzmaster(&["deploy", "-y"]).success();
    nodes.vzmaster(&["playbook", "playbook"]).success();
    assert_eq!(changed(&nodes, &[]), none, "after vzmaster deploy");
    let tables = nodes.on(&first, "nft list tables").success().stdout();
    let there = |family: &&&str| tables.contains(&format!("table {family} vz-vz-test\n"));
    for family in ["ip", "ip6"].iter().filter(there) {
        nodes.on(&first, &format!("nft flush chain {family} vz-vz-test prerouting")).success();
        assert!(changed(&nodes, &[])[0] > 0, "{family}");
        assert_eq!(changed(&nodes, &[]), none, "{family}, the second run");
    }
    for address in &addresses {
        let page = format!("two, of {address}");
        nodes.serve(&page, 8381);
        nodes.apart();
        nodes.vzmaster(&["playbook", "playbook"]).success();
        let (pages, failed) = asked_while(*address, || drop(changed(&nodes, &[])));
        assert_eq!(failed, [""; 0], "of {pages:?}");
        assert!(pages.contains_key(&page), "{pages:?}");
        assert_eq!(changed(&nodes, &[]), none, "the second run");
        assert_eq!(nodes.vzmaster(&["diff"]).success().stdout(), "");
    }
}

#[test]
fn ansible_brings_secrets_and_removes_what_nothing_wishes_as_vzmaster_does() {
    let test = "ansible_brings_secrets_and_removes_what_nothing_wishes_as_vzmaster_does";
    if !require(test, &NEEDS) {
        return;
    }
    let Some(nodes) = nodes(test) else { return };
    let none = vec![0; nodes.names.len()];
    let pod = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
    let volume = "{name: data, secret: {secretName: vz-secret}}";
    nodes.sandbox.write("pods/test.yaml", pod.replace("{name: data, emptyDir: {}}", volume));
    let sources = "vz-secret:\n  word: {command: [cat, word]}\n  bytes: {file: bytes}\n";
    nodes.sandbox.write("secrets.yaml", sources);
    nodes.sandbox.write("word", "sesame 1\n\n");
    let bytes = b"sesame\xff\0 \n";
    nodes.sandbox.write("bytes", bytes);
    nodes.vzmaster(&["playbook", "playbook"]).success();
    assert!(changed(&nodes, &[]).iter().all(|count| *count > 0));
    let first = nodes.names[0].clone();
    let read = "cd /run/vz/secrets/vz-test/1/vz-secret && sha256sum word bytes && stat -c '%a' word . ../../..";
    let sums = nodes.on(&first, read).success().stdout();
    // One line end goes, as a shell takes what a command prints.
    let [word, whole] = [&b"sesame 1\n"[..], bytes].map(delta::Digest::of);
    assert_eq!(sums, format!("{word}  word\n{whole}  bytes\n444\n755\n700\n"));
    assert_eq!(changed(&nodes, &[]), none, "the second run");
    nodes.vzmaster(&["diff"]).success();
    let said = nodes.vzmaster(&["deploy", "-y"]).success().says("there is nothing to do");
    assert!(!said.stderr().contains("secrets are new"), "{}", said.stderr());
    let elsewhere = "grep -rlF -e sesame -e c2VzYW1l /etc /root /var/lib/vz /var/log /tmp 2>/dev/null; \
                     journalctl -o cat | grep -cF -e sesame -e c2VzYW1l || :";
    assert_eq!(nodes.on(&first, elsewhere).success().stdout(), "0\n");

    // One that is new is brought although the pods are as wished; and kept, where that is asked.
    nodes.sandbox.write("word", "sesame 2");
    let keep = ["-e", "vz_encrypt_at_rest=true"];
    assert_eq!(changed(&nodes, &keep), vec![1; nodes.names.len()]);
    assert_eq!(changed(&nodes, &keep), none);
    nodes.vzmaster(&["deploy", "-y", "--encrypt-at-rest"]).success();
    assert_eq!(changed(&nodes, &keep), none);
    let kept =
        nodes.on(&first, "cd /etc/vz/secrets/vz-test/1/vz-secret && ls && stat -c %a * . ..");
    assert_eq!(kept.success().stdout(), "bytes\nword\n600\n600\n700\n700\n");
    nodes.on(&first, "rm -r /run/vz/secrets").success();
    nodes.vzmaster(&["restart", "vz-test", "-l", &first]).success();
    nodes
        .on(&first, "cd /run/vz/secrets/vz-test/1/vz-secret && grep -qx 'sesame 2' word")
        .success();

    // What nothing wishes stays, unless it is asked for.
    nodes.sandbox.write("groups.yaml", "web:\n  pods: []\n");
    nodes.vzmaster(&["playbook", "playbook"]).success();
    assert_eq!(changed(&nodes, &[]), none);
    let prune = ["-e", "vz_prune=true"];
    assert_eq!(changed(&nodes, &prune), vec![1; nodes.names.len()]);
    let left = "ls -d /run/vz/*/vz-test* /etc/vz/*/vz-test /etc/systemd/system/vz-* /etc/systemd/system/*/vz-* 2>/dev/null; cat /var/lib/vz/.pinned";
    assert_eq!(nodes.on(&first, left).success().stdout(), "");
    assert_eq!(changed(&nodes, &prune), none);
    nodes.vzmaster(&["diff"]).success();
}
