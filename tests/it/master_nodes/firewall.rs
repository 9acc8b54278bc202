//! A pod that shares the node's network, and the node's firewall: firewalld where it runs,
//! else that of `vzmaster newnode`.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::{Nodes, nodes};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA+G9kBd/Pn1n5GrBQ9JrZTPsaoetAS2AnEOGTXZ29gs ann@desk\n";

impl Nodes {
    /// Gives a node the firewall that newnode makes, and nothing else of it.
    fn wall(&self, node: &str) {
        self.sandbox.write("key.pub", KEY);
        let words = ["newnode", "--key", "key.pub", "--user-data", "sh"];
        let script = self.sandbox.run("vzmaster", words).success().stdout();
        let others =
            ["swap_file", "packages", "updates", "authorize root", "deploy_user", "harden"];
        let kept = script.lines().filter(|line| !others.contains(&line.trim()));
        let script = kept.collect::<Vec<_>>().join("\n").replace('\'', "'\\''");
        let said = self.on(node, &format!("sh -c '{script}'")).success().stdout();
        assert!(said.contains("firewall"), "{said}");
    }

    /// What the pod hears of a server outside of its node, which is here.
    fn heard_out_of_the_pod(&self, node: &str) -> String {
        let here = self.on(node, "echo ${SSH_CLIENT%% *}").success().stdout();
        let server = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let line = format!("busybox nc -w 5 {} {port} </dev/null", here.trim());
        std::thread::spawn(move || server.accept().unwrap().0.write_all(b"hello\n"));
        let words = ["exec", node, "vz-test", "--", "/bin/busybox", "sh", "-c", &line];
        self.vzmaster(&words).stdout()
    }

    /// Whether a port of a node answers whoever asks from outside.
    fn is_open(&self, node: &str, port: u16) -> bool {
        TcpStream::connect_timeout(&self.published(node, port), Duration::from_secs(2)).is_ok()
    }
}

#[test]
fn a_pod_opens_its_ports_in_the_nodes_firewall_while_it_runs() {
    let test = "a_pod_opens_its_ports_in_the_nodes_firewall_while_it_runs";
    let Some(nodes) = nodes(test) else { return };
    let first = nodes.names[0].clone();
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    let clean = || assert_eq!(one(&["diff"]).success().stdout(), "");
    let firewalld = nodes.on(&first, "systemctl is-active firewalld").stdout() == "active\n";
    if !firewalld {
        nodes.wall(&first);
    }
    let wall = |what: &str, port: &str| match (firewalld, what) {
        (true, "open") => {
            format!("firewall-cmd --add-port={port}/tcp && touch /run/vz/firewalld/{port}-tcp")
        }
        (true, _) => format!("firewall-cmd --remove-port={port}/tcp"),
        (false, "open") => format!("nft 'add element inet vz_node open_tcp {{ {port} }}'"),
        (false, _) => format!("nft 'delete element inet vz_node open_tcp {{ {port} }}'"),
    };
    assert!(!nodes.is_open(&first, 8381));
    one(&["deploy", "-y"]).success();
    assert!(nodes.is_open(&first, 8381));
    clean();
    one(&["stop", "vz-test"]).success();
    let listed = match firewalld {
        true => "firewall-cmd --list-ports",
        false => "nft list table inet vz_node",
    };
    assert!(!nodes.on(&first, listed).success().stdout().contains("8381"));
    one(&["start", "vz-test"]).success();
    assert!(nodes.is_open(&first, 8381));

    nodes.on(&first, &wall("close", "8381")).success();
    assert!(!nodes.is_open(&first, 8381));
    let drift = one(&["diff"]).status(1).stdout();
    assert!(drift.contains("port 8381/tcp is closed"), "{drift}");
    one(&["deploy", "-y"]).success();
    assert!(nodes.is_open(&first, 8381));
    nodes.on(&first, &wall("open", "8399")).success();
    let drift = one(&["diff"]).status(1).stdout();
    assert!(drift.contains("port 8399/tcp of no pod"), "{drift}");
    nodes.on(&first, &wall("close", "8399")).success();
    clean();

    // The firewall is there before the pod at boot.
    nodes.reboot(&first);
    nodes.comes_back(&first, "one");
    assert!(nodes.is_open(&first, 8381));
    clean();
    // A pod with a network of its own gets in and out.
    let pod = std::fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
    let pod = pod.replacen("hostNetwork: true", "hostNetwork: false", 1);
    let pod = pod.replacen("{containerPort: 8381}", "{containerPort: 8381, hostPort: 8381}", 1);
    nodes.sandbox.write("pods/test.yaml", pod);
    one(&["deploy", "-y"]).success();
    assert!(nodes.is_open(&first, 8381));
    clean();
    assert_eq!(nodes.heard_out_of_the_pod(&first), "hello\n");
    if let Some(own) = nodes.ipv6(&first) {
        assert!(TcpStream::connect((own, 8381)).is_ok());
        assert_eq!(nodes.heard_from_the_pod(&first, own), own);
        let line = format!("busybox nc -w 5 {own} 22 </dev/null | busybox head -c 3");
        let words = ["exec", &first, "vz-test", "--", "/bin/busybox", "sh", "-c", &line];
        assert_eq!(nodes.vzmaster(&words).stdout(), "SSH", "the node's own server");
    }
    nodes.sandbox.write("groups.yaml", "web:\n  pods: []\n");
    one(&["deploy", "-y", "--prune"]).success();
    clean();
    assert!(!nodes.is_open(&first, 8381));
    if !firewalld {
        let line = "systemctl disable -q --now vz-firewall; rm -f /etc/vz/firewall.nft /etc/systemd/system/vz-firewall.service; systemctl daemon-reload";
        nodes.on(&first, line).success();
    }
}

/// As ufw does when it is enabled later, or an administrator's own rules do.
#[test]
fn a_chain_that_forwards_nothing_is_named_until_it_lets_pass() {
    let test = "a_chain_that_forwards_nothing_is_named_until_it_lets_pass";
    let Some(nodes) = nodes(test) else { return };
    let first = nodes.names[0].clone();
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    let nft = |order: &str| nodes.on(&first, &format!("nft '{order}'")).success();
    nodes.apart();
    one(&["deploy", "-y"]).success();
    assert!(nodes.is_open(&first, 8380));
    nft(
        "add table inet mine; add chain inet mine forward { type filter hook forward priority 0; policy drop; }",
    );
    assert!(!nodes.is_open(&first, 8380));
    let drift = one(&["diff"]).status(1).stdout();
    let dropped = "from the node itself only: chain forward of table inet mine drops the rest";
    assert!(drift.contains(dropped), "{drift}");
    assert!(drift.contains("note    chain forward of table inet mine drops what comes"), "{drift}");
    nft(
        "add rule inet mine forward oifname \"vz*\" accept; add rule inet mine forward iifname \"vz*\" accept",
    );
    assert!(nodes.is_open(&first, 8380));
    assert_eq!(one(&["diff"]).success().stdout(), "");
    nft("delete table inet mine");
}
