//! A pod's own network, as its script makes it: in namespaces that stand for a node and a
//! neighbour of it.

use vz::fleet::network::{Published, RULES, SCRIPT, render_rules, render_script, unit};
use vz::fleet::pod::Protocol;

use crate::sandbox::{Finished, Need, Sandbox, require};

const NEEDS: [Need; 5] = [
    Need::Root,
    Need::Program("unshare", "util-linux"),
    Need::Program("ip", "iproute2"),
    Need::Program("nft", "nftables"),
    Need::Program("busybox", "busybox-static"),
];

/// The last line of what a server answers: of an address and a port.
const GET: &str = r#"
exec timeout 2 bash -c 'exec 3<>/dev/tcp/$0/$1; printf "GET / HTTP/1.0\r\n\r\n" >&3; tail -n 1 <&3' "$@" 2>/dev/null
"#;

/// The node has a server of its own at 127.0.0.1:81; `pods` is where its pods are.
const NODE: &str = r#"
set -e
mount -t tmpfs none /run
ip link set lo up
ip netns add neighbour
ip link add eth0 type veth peer name eth0 netns neighbour
ip addr add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip -n neighbour addr add 192.0.2.2/24 dev eth0
ip -n neighbour link set eth0 up
sh pods/web/tags/1a2b3c4d/net.sh up
pod="ip netns exec vz-1a2b3c4d"
mkdir -p own pod
echo own >own/index.html
echo pod >pod/index.html
busybox httpd -f -p 127.0.0.1:81 -h own &
$pod busybox httpd -f -p 8080 -h pod &
for _ in $(seq 100); do
  if sh get 198.18.0.1 8080 && sh get 127.0.0.1 81; then break; fi
  sleep 0.1
done >/dev/null
"#;

/// What is printed where `attempt`, which may use `sh get ADDRESS PORT`, is made on such a node.
#[track_caller]
fn check(test: &str, attempt: &str, expected: &str) {
    if !require(test, &NEEDS) {
        return;
    }
    let sandbox = Sandbox::new();
    let ports = [Published { host: 80, port: 8080, protocol: Protocol::Tcp }];
    sandbox.write("get", GET);
    let script = render_script("web", "1a2b3c4d").replace("/etc/vz/pods", "pods");
    sandbox.write("pods/web/tags/1a2b3c4d.address", "198.18.0.1");
    sandbox.write(&format!("pods/web/tags/1a2b3c4d/{SCRIPT}"), script);
    sandbox.write(&format!("pods/web/tags/1a2b3c4d/{RULES}"), render_rules("web", &ports));
    sandbox.write(&format!("pods/web/current/units/{}", unit("web", "1a2b3c4d")), "");
    let text = format!("{NODE}{attempt}\n");
    let apart = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut node = sandbox.command("unshare");
    let node = Finished::of(node.args(apart).args(["sh", "-c", &text])).success();
    assert_eq!(node.stdout(), expected, "{attempt}\n{}", node.stderr());
}

#[test]
fn a_port_of_the_node_leads_to_the_pod() {
    let test = "a_port_of_the_node_leads_to_the_pod";
    check(test, "ip netns exec neighbour sh get 192.0.2.1 80", "pod\n");
    check(test, "sh get 127.0.0.1 80", "pod\n");
    check(test, "$pod sh get 192.0.2.1 80", "pod\n");
}

#[test]
fn a_neighbour_reaches_a_pod_by_no_other_way() {
    check(
        "a_neighbour_reaches_a_pod_by_no_other_way",
        "ip -n neighbour route add 198.18.0.0/16 via 192.0.2.1\n\
         ip netns exec neighbour sh get 198.18.0.1 8080 || echo nothing",
        "nothing\n",
    );
}

/// CVE-2020-8558, by a pod that may do anything to its own network.
#[test]
fn a_pod_does_not_reach_the_nodes_own_127_0_0_1() {
    check(
        "a_pod_does_not_reach_the_nodes_own_127_0_0_1",
        "$pod sh -c 'echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet'\n\
         ip -n vz-1a2b3c4d addr del 127.0.0.1/8 dev lo\n\
         ip -n vz-1a2b3c4d route add 127.0.0.1 via 198.18.255.254 dev eth0 src 198.18.0.1\n\
         $pod sh get 127.0.0.1 81 || echo nothing",
        "nothing\n",
    );
}

/// Nobody answers who is no neighbour, so that it is seen where the packets go.
#[test]
fn a_pod_sends_in_no_other_name() {
    check(
        "a_pod_sends_in_no_other_name",
        "nft 'table ip seen { chain in { type filter hook input priority 0; ip saddr 203.0.113.9 counter; }; }'\n\
         ip -n vz-1a2b3c4d addr add 203.0.113.9/32 dev eth0\n\
         $pod busybox ping -c 1 -W 1 -I 203.0.113.9 198.18.255.254 >/dev/null || :\n\
         nft list table ip seen | grep -o 'packets [0-9]*'",
        "packets 0\n",
    );
}
