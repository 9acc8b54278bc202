//! What stands in a deployment's way, on real nodes: found before anything is changed.

use std::fs;

use super::{Nodes, nodes};

/// The pod, with a network of its own, with this port of the node.
fn apart(nodes: &Nodes, port: u16) {
    let pod = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
    let pod = pod.replace("hostNetwork: true", "hostNetwork: false");
    let ports = format!("ports: [{{containerPort: 8381, hostPort: {port}}}]");
    nodes.sandbox.write("pods/test.yaml", pod.replace("ports: [{containerPort: 8381}]", &ports));
}

#[test]
fn a_port_of_a_server_of_the_node_is_not_taken_over() {
    let Some(nodes) = nodes("a_port_of_a_server_of_the_node_is_not_taken_over") else { return };
    let first = nodes.names[0].clone();
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    let server = "systemd-run --quiet --unit=vz-test-server systemd-socket-activate -l 8382 cat";
    for host_network in [false, true] {
        nodes.serve("one", 8381);
        match host_network {
            false => apart(&nodes, 8382),
            true => {
                let pod = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
                nodes.sandbox.write("pods/test.yaml", pod.replace("8381}]", "8382}]"));
            }
        }
        nodes.on(&first, server).success();
        let planned = one(&["plan"]).status(1).stdout();
        assert!(planned.contains("BLOCKED pod vz-test: port 8382/tcp is that of"), "{planned}");
        assert!(planned.contains("vz-test-server.service); stop that, or"), "{planned}");
        let said =
            one(&["deploy", "-y"]).status(3).says("nothing was done: the plan has 1 obstacle");
        assert!(said.stdout().contains("vz-test-server.service"), "{}", said.stdout());
        assert!(!one(&["ps", "--json"]).success().stdout().contains("vz-test"));
        let listens =
            "ss -Hltn 'sport = 8382' | grep -q 8382; nft list tables | grep -c vz-vz-test";
        assert_eq!(nodes.on(&first, listens).stdout(), "0\n");
        nodes.on(&first, "systemctl stop vz-test-server").success();
    }
    nodes.serve("one", 8381);
    apart(&nodes, 8382);
    one(&["deploy", "-y"]).success();
    one(&["diff"]).success();
    // What it has it keeps, whoever listens there in vain.
    nodes.on(&first, server).success();
    nodes.serve("two", 8381);
    apart(&nodes, 8382);
    one(&["deploy", "-y"]).success();
    nodes.on(&first, "systemctl stop vz-test-server").success();
}

#[test]
fn the_port_of_ssh_is_never_taken() {
    let Some(nodes) = nodes("the_port_of_ssh_is_never_taken") else { return };
    apart(&nodes, 22);
    nodes.vzmaster(&["deploy", "-y"]).status(3);
    let plan = nodes.vzmaster(&["plan", "--json"]).status(1).stdout();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let what = "port 22/tcp is ssh's, by which the node is reached";
    assert_eq!(plan[0]["blocked"][0]["what"], what, "{plan:#}");
    for node in &nodes.names {
        nodes.on(node, "true").success();
    }
}

#[test]
fn a_path_that_a_node_does_not_have_is_named_before_the_start() {
    let test = "a_path_that_a_node_does_not_have_is_named_before_the_start";
    let Some(nodes) = nodes(test) else { return };
    let pod = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
    let with = |more: &str| {
        let volume = format!("{{name: data, hostPath: {{path: /srv/vz-test-data{more}}}}}");
        nodes.sandbox.write("pods/test.yaml", pod.replace("{name: data, emptyDir: {}}", &volume));
    };
    with("");
    let refused = nodes.vzmaster(&["deploy", "-y"]).status(3).stdout();
    let line = "BLOCKED pod vz-test: /srv/vz-test-data is not there (volume data, hostPath); make it or say type: DirectoryOrCreate";
    assert_eq!(refused.matches(line).count(), nodes.names.len(), "{refused}");
    with(", type: DirectoryOrCreate");
    nodes.vzmaster(&["deploy", "-y"]).success();
    for node in &nodes.names {
        nodes.on(node, "rmdir /srv/vz-test-data").success();
    }
}

#[test]
fn a_renamed_pod_serves_until_the_new_one_does() {
    let Some(nodes) = nodes("a_renamed_pod_serves_until_the_new_one_does") else { return };
    apart(&nodes, 8382);
    let pod = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
    let rename = |name: &str, more: &str| {
        let pod = pod.replace("name: vz-test}", &format!("name: {name}}}"));
        nodes.sandbox.write("pods/test.yaml", pod + more);
        nodes.sandbox.write("groups.yaml", format!("web:\n  pods: [{name}]\n"));
    };
    rename("vz-test-old", "");
    nodes.vzmaster(&["deploy", "-y"]).success();
    rename("vz-test", "    command: [/bin/busybox, 'false']\n");
    nodes.vzmaster(&["deploy", "-y", "--prune"]).status(3).says("vz-test-old runs again");
    let ps = nodes.vzmaster(&["ps"]).success().stdout();
    assert_eq!(ps.matches("running").count(), nodes.names.len(), "{ps}");
    rename("vz-test", "");
    let said = nodes.vzmaster(&["deploy", "-y", "--prune"]).success();
    assert!(said.stdout().contains("(in the place of vz-test-old)"), "{}", said.stdout());
    assert_eq!(said.stderr().matches("vz-test-old: removed").count(), nodes.names.len());
    nodes.vzmaster(&["diff"]).success();
}
