//! `vzmaster playbook`, run by Debian's own Ansible: its files here, the rest on real
//! nodes (see `master_nodes.rs`), which need python3 for it.

use std::fs;

use vz::fleet::playbook::{FIXED, MARK};

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
fn only_a_playbook_of_ours_is_replaced() {
    let sandbox = Sandbox::new();
    sandbox.write("hosts.ini", "[web]\nnode-a ansible_host=127.0.0.1 ansible_port=1\n");
    sandbox.write("groups.yaml", "web:\n  pods: []\n");
    let none = sandbox.run("vzmaster", ["--connect-timeout", "1", "playbook", "out"]).status(3);
    none.says("node-a was left out").says("no host can be in the playbook");
    assert!(!sandbox.path("out").exists());
}

/// What each host's line of the recap says: how many tasks changed something.
#[track_caller]
fn changed(nodes: &Nodes) -> Vec<u32> {
    let said = ansible(&nodes.sandbox, "ansible-playbook", &["playbook/deploy.yaml"]).success();
    let said = said.stdout();
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
    assert_eq!(changed(&nodes), none, "after vzmaster deploy");
    let written = fs::read_to_string(nodes.sandbox.path("playbook/deploy.yaml")).unwrap();
    assert!(written.starts_with(MARK));

    nodes.serve("two", 8381);
    nodes.vzmaster(&["playbook", "playbook"]).success();
    assert!(changed(&nodes).iter().all(|count| *count > 0));
    for node in &nodes.names {
        assert_eq!(nodes.page(node), "two");
    }
    assert_eq!(changed(&nodes), none, "the second run");
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
