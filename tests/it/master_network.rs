//! A pod's own network, as its script makes it: in namespaces that stand for a node and a
//! neighbour of it.

use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use vz::fleet::network::{
    Family, Published, RULES, RULES6, SCRIPT, render_rules, render_script, unit,
};
use vz::fleet::on_node::{Network, Nftables, Wanted};
use vz::fleet::pod::Protocol;

use crate::sandbox::{Finished, Need, Sandbox, require};

const NEEDS: [Need; 6] = [
    Need::Root,
    Need::Program("unshare", "util-linux"),
    Need::Program("ip", "iproute2"),
    Need::Program("nft", "nftables"),
    Need::Program("busybox", "busybox-static"),
    Need::Program("python3", "python3"),
];

/// The last line of what a server answers: of an address and a port.
const GET: &str = r#"
exec timeout 2 bash -c 'exec 3<>/dev/tcp/$0/$1; printf "GET / HTTP/1.0\r\n\r\n" >&3; tail -n 1 <&3' "$@" 2>/dev/null
"#;

/// Advertises a router (RFC 4861, section 4.2) and a network of 64 bits on a device.
const ADVERTISE: &str = r#"
import socket, struct, sys
device = socket.if_nametoindex(sys.argv[1])
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, device)
network = socket.inet_pton(socket.AF_INET6, sys.argv[2])
router = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
s.sendto(router + struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 3600, 3600, 0) + network, ("ff02::1", 0, 0, device))
"#;

/// A node, and a neighbour of it.
const LINK: &str = r#"
set -e
mount -t tmpfs none /run
ip link set lo up
ip netns add neighbour
ip link add eth0 type veth peer name eth0 netns neighbour
for end in "" "ip netns exec neighbour"; do
  $end sh -c 'echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip link set lo up; ip link set eth0 up'
done
ip addr add 192.0.2.1/24 dev eth0
ip addr add 2001:db8::1/64 dev eth0 nodad
ip -n neighbour addr add 192.0.2.2/24 dev eth0
ip -n neighbour addr add 2001:db8::2/64 dev eth0 nodad
neighbour="ip netns exec neighbour"
pod="ip netns exec vz-1a2b3c4d"
net() { sh pods/web/tags/1a2b3c4d/net.sh $1; }
# Whether something becomes true.
soon() { for _ in $(seq 50); do if eval "$1"; then return; fi; sleep 0.1; done; echo "never: $1"; }
"#;

/// A pod on it; the node has a server of its own at 127.0.0.1:81.
const POD: &str = r#"
net up
mkdir -p own pod
echo own >own/index.html
echo pod >pod/index.html
busybox httpd -f -p 127.0.0.1:81 -h own &
$pod busybox httpd -f -p 8080 -h pod &
server=$!
soon 'sh get 198.18.0.1 8080 && sh get 127.0.0.1 81' >/dev/null
"#;

/// What is printed where `attempt`, which may use `sh get ADDRESS PORT`, is made on such a node.
#[track_caller]
fn check(test: &str, attempt: &str, expected: &str) {
    check_script(test, &format!("{LINK}{POD}{attempt}"), &|script| script, expected);
}

/// The same of a whole script, where the pod's script is changed so.
#[track_caller]
fn check_script(test: &str, text: &str, change: &dyn Fn(String) -> String, expected: &str) {
    if !require(test, &NEEDS) {
        return;
    }
    let sandbox = Sandbox::new();
    let ports = [Published { host: 80, port: 8080, protocol: Protocol::Tcp }];
    sandbox.write("get", GET);
    sandbox.write("advertise", ADVERTISE);
    let script = render_script("web", "1a2b3c4d").replace("/etc/vz/pods", "pods");
    sandbox.write("pods/web/tags/1a2b3c4d.address", "198.18.0.1");
    sandbox.write(&format!("pods/web/tags/1a2b3c4d/{SCRIPT}"), change(script));
    for (file, family) in [(RULES, Family::Ip), (RULES6, Family::Ip6)] {
        let rules = render_rules(family, "web", &ports);
        sandbox.write(&format!("pods/web/tags/1a2b3c4d/{file}"), rules);
    }
    sandbox.write(&format!("pods/web/current/units/{}", unit("web", "1a2b3c4d")), "");
    let apart = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut node = sandbox.command("unshare");
    let node = Finished::of(node.args(apart).args(["sh", "-c", &format!("{text}\n")])).success();
    assert_eq!(node.stdout(), expected, "{text}\n{}", node.stderr());
}

#[test]
fn a_port_of_the_node_leads_to_the_pod() {
    let test = "a_port_of_the_node_leads_to_the_pod";
    for address in ["192.0.2.1", "2001:db8::1"] {
        check(test, &format!("$neighbour sh get {address} 80"), "pod\n");
        check(test, &format!("sh get {address} 80"), "pod\n");
        check(test, &format!("$pod sh get {address} 80"), "pod\n");
    }
    check(test, "sh get 127.0.0.1 80", "pod\n");
}

/// As docker and ufw have it.
#[test]
fn a_port_leads_to_the_pod_where_others_forward_nothing() {
    let test = "a_port_leads_to_the_pod_where_others_forward_nothing";
    if !require(test, &[Need::Program("iptables", "iptables")]) {
        return;
    }
    let drop = "for tables in iptables ip6tables; do $tables -P FORWARD DROP; done\n";
    let get = "for address in 192.0.2.1 2001:db8::1; do $neighbour sh get $address 80; done\n\
        $neighbour ip route add 198.18.0.0/16 via 192.0.2.1\n\
        $neighbour sh get 198.18.0.1 8080 || echo wall";
    let text = format!("{LINK}{drop}{POD}{get}");
    check_script(test, &text, &|script| script, "pod\npod\nwall\n");
}

/// The kernel has nothing for ::1 as it has route_localnet for 127.0.0.1: who tries `localhost`
/// by both must not wait.
#[test]
fn the_nodes_own_ipv6_loopback_refuses_at_once() {
    check(
        "the_nodes_own_ipv6_loopback_refuses_at_once",
        "bash -c 'exec 3<>/dev/tcp/::1/80' 2>&1 | grep -m1 -o 'Connection refused'\n\
         bash -c 'exec 3<>/dev/tcp/localhost/80 && echo localhost'",
        "Connection refused\nlocalhost\n",
    );
}

#[test]
fn a_pod_that_hears_ipv4_only_refuses_ipv6_at_once() {
    check(
        "a_pod_that_hears_ipv4_only_refuses_ipv6_at_once",
        "kill $server; wait $server || :\n\
         $pod busybox httpd -f -p 0.0.0.0:8080 -h pod &\n\
         soon '$neighbour sh get 192.0.2.1 80'\n\
         $neighbour bash -c 'exec 3<>/dev/tcp/2001:db8::1/80' 2>&1 | grep -m1 -o 'Connection refused'",
        "pod\nConnection refused\n",
    );
}

#[test]
fn a_pod_gets_out_in_the_nodes_name() {
    check(
        "a_pod_gets_out_in_the_nodes_name",
        "mkdir cgi-bin; printf '#!/bin/sh\\nprintf \"\\\\n$REMOTE_ADDR\\\\n\"' >cgi-bin/who; chmod +x cgi-bin/who\n\
         $neighbour busybox httpd -f -p 82 -h . &\n\
         sed 's|GET /|GET /cgi-bin/who|' get >who\n\
         soon '$neighbour sh who ::1 82' >/dev/null\n\
         $pod sh who 192.0.2.2 82\n\
         $pod sh who 2001:db8::2 82",
        "[::ffff:192.0.2.1]\n[2001:db8::1]\n",
    );
}

#[test]
fn a_neighbour_reaches_a_pod_by_no_other_way() {
    check(
        "a_neighbour_reaches_a_pod_by_no_other_way",
        "ip -n neighbour route add 198.18.0.0/16 via 192.0.2.1\n\
         ip -n neighbour route add fdc9:a024:e64e::/64 via 2001:db8::1\n\
         for address in 198.18.0.1 fdc9:a024:e64e::1; do\n\
           sh get $address 8080; $neighbour sh get $address 8080 || echo nothing\n\
         done",
        "pod\nnothing\npod\nnothing\n",
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
        "for ip in 'ip saddr 203.0.113.9' 'ip6 saddr 2001:db8:9::9'; do\n\
           nft \"table ${ip%% *} seen { chain in { type filter hook input priority 0; $ip counter; }; }\"\n\
         done\n\
         ip -n vz-1a2b3c4d addr add 203.0.113.9/32 dev eth0\n\
         ip -n vz-1a2b3c4d addr add 2001:db8:9::9/128 dev eth0 nodad\n\
         $pod busybox ping -c 1 -W 1 -I 203.0.113.9 198.18.255.254 >/dev/null || :\n\
         $pod busybox ping -c 1 -W 1 fdc9:a024:e64e::fffe | grep -o '1 packets received'\n\
         $pod busybox ping -c 1 -W 1 -I 2001:db8:9::9 fdc9:a024:e64e::fffe >/dev/null || :\n\
         for ip in ip ip6; do nft list table $ip seen | grep -o 'packets [0-9]*'; done",
        "1 packets received\npackets 0\npackets 0\n",
    );
}

/// As CVE-2020-13401 has it.
#[test]
fn a_pod_is_no_router_to_the_node() {
    check(
        "a_pod_is_no_router_to_the_node",
        "echo 1 >/proc/sys/net/ipv6/conf/vz1a2b3c4d/accept_ra\n\
         $pod python3 advertise eth0 2001:db8:6::\n\
         $neighbour python3 advertise eth0 2001:db8:7::\n\
         soon 'ip -6 addr show | grep -o 2001:db8:7:'\n\
         ip -6 addr show | grep -o 2001:db8:6: || ip -6 route show default | cut -d' ' -f4-5",
        "2001:db8:7:\ndev eth0\n",
    );
}

#[test]
fn a_node_without_ipv6_has_ipv4_and_no_more() {
    let test = "a_node_without_ipv6_has_ipv4_and_no_more";
    let off = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6\n";
    let seen = "nft list tables | grep -c 'ip6 vz' || sh get 192.0.2.1 80\n\
                ip -6 addr show dev vz1a2b3c4d; ip -n vz-1a2b3c4d -6 addr show dev eth0 scope global\n";
    check_script(test, &format!("{LINK}{off}{POD}{seen}"), &|script| script, "0\npod\n");
    // Nor where only nftables know none.
    let deny = |script: String| script.replace("nft -c", "false");
    check_script(test, &format!("{LINK}{POD}{seen}"), &deny, "0\npod\n");
}

#[test]
fn ipv6_may_go_and_come_back() {
    check(
        "ipv6_may_go_and_come_back",
        "all=/proc/sys/net/ipv6/conf/all/disable_ipv6\n\
         echo 1 >$all; net publish; nft list tables | grep -c 'ip6 vz-web' || sh get 192.0.2.1 80\n\
         echo 0 >$all; net publish; ip addr add 2001:db8::1/64 dev eth0 nodad\n\
         sh get 2001:db8::1 80",
        "0\npod\npod\n",
    );
}

#[test]
fn forwarding_that_was_taken_back_comes_back() {
    check(
        "forwarding_that_was_taken_back_comes_back",
        "for value in 1 0; do echo $value >/proc/sys/net/ipv6/conf/all/forwarding; done\n\
         $neighbour sh get 2001:db8::1 80 || net publish; $neighbour sh get 2001:db8::1 80",
        "pod\n",
    );
}

/// What forwards is a router, and routers hear none: a node that has its address by router
/// advertisements would lose it.
#[test]
fn a_node_goes_on_hearing_routers() {
    let test = "a_node_goes_on_hearing_routers";
    let text = format!(
        "{LINK}\
         cat /proc/sys/net/ipv6/conf/all/forwarding\n\
         soon '$neighbour python3 advertise eth0 2001:db8:1:: && ip -6 route show default | grep -q \"proto ra\"'\n\
         {POD}\
         ip -6 route show default | grep -c 'proto ra'\n\
         $neighbour python3 advertise eth0 2001:db8:2::\n\
         soon 'ip -6 addr show dev eth0 | grep -o 2001:db8:2:'\n\
         $neighbour sh get 2001:db8::1 80\n\
         # One that comes later, as that of a provider does at boot, and says 1 itself.\n\
         ip link add eth1 type veth peer name eth1 netns neighbour\n\
         echo 1 >/proc/sys/net/ipv6/conf/eth1/accept_ra\n\
         ip link set eth1 up; ip -n neighbour link set eth1 up\n\
         soon '$neighbour python3 advertise eth1 2001:db8:3:: && ip -6 addr show dev eth1 | grep -o 2001:db8:3:'\n\
         for what in accept_ra forwarding; do cat /proc/sys/net/ipv6/conf/eth0/$what; done"
    );
    let expected = "0\n1\n2001:db8:2:\npod\n2001:db8:3:\n1\n0\n";
    check_script(test, &text, &|script| script, expected);
    // As before Linux 6.17.
    let older = |script: String| script.replace("force_forwarding", "no_such_thing");
    check_script(test, &text, &older, expected);
}

#[test]
fn sockets_are_those_of_the_network_that_the_process_has() {
    if !require("sockets_are_those_of_the_network_that_the_process_has", &[Need::Root]) {
        return;
    }
    let _own = TcpListener::bind("0.0.0.0:0").unwrap();
    let ((tell, told), (end, ended)) = (channel(), channel::<()>());
    let apart = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        tell.send((gettid(), listener.local_addr().unwrap().port())).unwrap();
        // Listens until the other end is dropped.
        ended.recv().unwrap_err();
    });
    let (thread, port) = told.recv().unwrap();
    let sockets = Nftables.sockets(thread.as_raw().unsigned_abs().into(), Wanted::Listening);
    let ports: Vec<u16> = sockets.iter().map(|socket| socket.port).collect();
    assert_eq!(ports, [port]);
    drop(end);
    apart.join().unwrap();
}
