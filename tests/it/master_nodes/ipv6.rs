//! A pod that has a network of its own, on a node that has IPv6, asked over it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use vz::fleet::network::SUBNET6;

use super::load::{asked_while, get};
use super::{Nodes, nodes};
use crate::sandbox::{Finished, reduced};

impl Nodes {
    /// An address of a node by which it is reached from here over IPv6.
    pub fn ipv6(&self, node: &str) -> Option<Ipv6Addr> {
        let shown = self.on(node, "ip -6 -o addr show scope global").success().stdout();
        let pods = SUBNET6.trim_end_matches("/64");
        let address = |line: &str| {
            let (_, rest) = line.split_once(" inet6 ")?;
            rest.split('/').next().filter(|address| !address.starts_with(pods))?.parse().ok()
        };
        let reached = |address: &Ipv6Addr| {
            let ssh = SocketAddr::from((*address, 22));
            TcpStream::connect_timeout(&ssh, Duration::from_secs(2)).is_ok()
        };
        shown.lines().filter_map(address).find(reached)
    }

    /// Whom a server here hears over IPv6 when the pod of `node` asks it.
    pub fn heard_from_the_pod(&self, node: &str, own: Ipv6Addr) -> IpAddr {
        let way = UdpSocket::bind("[::]:0").unwrap();
        way.connect((own, 9)).unwrap();
        let server = TcpListener::bind((way.local_addr().unwrap().ip(), 0)).unwrap();
        let here = server.local_addr().unwrap();
        let words =
            ["/bin/busybox", "nc", "-w", "5", &here.ip().to_string(), &here.port().to_string()];
        let mut asks = self.master(&[&["exec", node, "vz-test", "--"], &words[..]].concat());
        let mut asks = asks.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let heard = server.accept().unwrap().1.ip();
        asks.wait().unwrap();
        heard
    }

    /// What the node itself hears of a port; nothing where it is refused, or waits too long.
    fn hears(&self, node: &str, address: &str, port: u16) -> String {
        let get = format!(
            "timeout 5 bash -c \"exec 3<>/dev/tcp/{address}/{port}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3\""
        );
        self.on(node, &get).stdout()
    }
}

#[test]
fn a_published_port_is_reached_over_ipv6_through_updates_and_boots() {
    let test = "a_published_port_is_reached_over_ipv6_through_updates_and_boots";
    let Some(nodes) = nodes(test) else { return };
    let first = nodes.names[0].clone();
    let Some(own) = nodes.ipv6(&first) else {
        return reduced(test, "the first node has no IPv6 address that is reached from here");
    };
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    let clean = || assert_eq!(one(&["diff"]).success().stdout(), "");
    nodes.apart();
    one(&["deploy", "-y"]).success();
    clean();
    let (address, address4) = (SocketAddr::from((own, 8380)), nodes.published(&first, 8380));
    for address in [address, address4] {
        assert_eq!(get(address).as_deref(), Ok("one"), "{address}");
    }
    assert_eq!(nodes.hears(&first, &own.to_string(), 8380), "one");
    assert_eq!(nodes.hears(&first, "::1", 8380), "");
    assert_eq!(nodes.heard_from_the_pod(&first, own), own);

    // Of the pod's own address no neighbour knows.
    let tag = nodes.on(&first, "cat /etc/vz/pods/vz-test/tags/*.address").success().stdout();
    let pod = vz::fleet::network::address6(&tag).unwrap();
    assert_eq!(nodes.hears(&first, &pod, 8381), "one");
    if let Some(other) = nodes.names.get(1) {
        let route = |what: &str| format!("ip -6 route {what} {SUBNET6} via {own}");
        nodes.on(other, &route("add")).success();
        let heard = nodes.hears(other, &pod, 8381);
        nodes.on(other, &route("del")).success();
        assert_eq!(heard, "");
    }

    nodes.serve("two", 8381);
    nodes.apart();
    let (pages, failed) = asked_while(address, || drop(one(&["deploy", "-y"]).success()));
    assert_eq!(failed, [""; 0], "of {pages:?}");
    assert!(pages.keys().eq(["one", "two"]), "{pages:?}");
    eprintln!("asked over IPv6 while a pod was updated: {pages:?}");
    clean();
    // A port that nobody listens on: what runs goes on running.
    nodes.serve("three", 8382);
    nodes.apart();
    let (pages, failed) = asked_while(address, || drop(one(&["deploy", "-y"]).status(3)));
    assert_eq!(failed, [""; 0], "of {pages:?}");
    assert!(pages.keys().eq(["two"]), "{pages:?}");
    nodes.serve("two", 8381);
    nodes.apart();
    clean();

    // A rule that is gone is seen, and comes back without a stop.
    nodes.on(&first, "nft flush chain ip6 vz-vz-test prerouting").success();
    assert!(get(address).is_err());
    let drift = one(&["diff"]).status(1).stdout();
    assert!(drift.contains("port 8380/tcp -> [fdc9:a024:e64e::"), "{drift}");
    assert!(drift.contains("]:8381, from the node itself only"), "{drift}");
    let (pages, failed) = asked_while(address4, || drop(one(&["deploy", "-y"]).success()));
    assert_eq!(failed, [""; 0], "of {pages:?}");
    assert_eq!(get(address).as_deref(), Ok("two"));
    clean();

    nodes.reboot(&first);
    let started = Instant::now();
    for address in [address, address4] {
        while get(address).as_deref() != Ok("two") {
            assert!(started.elapsed() < Duration::from_secs(60), "{address} after a boot");
        }
    }
    clean();

    nodes.sandbox.write("groups.yaml", "web:\n  pods: []\n");
    one(&["deploy", "-y", "--prune"]).success();
    assert!(get(address).is_err());
    assert!(!nodes.on(&first, "nft list tables").success().stdout().contains("vz-test"));
    clean();
}

#[test]
fn a_node_without_ipv6_is_as_good_as_before() {
    let test = "a_node_without_ipv6_is_as_good_as_before";
    let Some(nodes) = nodes(test) else { return };
    let first = nodes.names[0].clone();
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    let clean = || assert_eq!(one(&["diff"]).success().stdout(), "");
    let tables = || nodes.on(&first, "nft list tables").success().stdout();
    nodes.apart();
    one(&["deploy", "-y"]).success();
    assert!(tables().contains("table ip6 vz-vz-test"), "{}", tables());
    let off = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6";
    nodes.on(&first, off).success();
    let drift = one(&["diff"]).status(1).stdout();
    assert!(drift.contains("]:8381 is open"), "{drift}");
    one(&["deploy", "-y"]).success();
    clean();
    assert!(!tables().contains("table ip6 vz-vz-test"), "{}", tables());
    let address = nodes.published(&first, 8380);
    nodes.serve("two", 8381);
    nodes.apart();
    let (pages, failed) = asked_while(address, || drop(one(&["deploy", "-y"]).success()));
    assert_eq!(failed, [""; 0], "of {pages:?}");
    assert!(pages.keys().eq(["one", "two"]), "{pages:?}");
    clean();
    one(&["rollback", "vz-test"]).success();
    assert_eq!(get(address).as_deref(), Ok("one"));
    // What a boot brings back is used again.
    nodes.reboot(&first);
    let started = Instant::now();
    while get(address).as_deref() != Ok("one") {
        assert!(started.elapsed() < Duration::from_secs(60), "{address} after a boot");
    }
    assert!(tables().contains("table ip6 vz-vz-test"), "{}", tables());
}

#[test]
fn a_node_is_reached_over_ipv6_by_every_verb() {
    let test = "a_node_is_reached_over_ipv6_by_every_verb";
    let Some(mut nodes) = nodes(test) else { return };
    let first = nodes.names[0].clone();
    let Some(own) = nodes.ipv6(&first) else {
        return reduced(test, "the first node has no IPv6 address that is reached from here");
    };
    // Its key is known by its name.
    let config =
        format!("Host {own}\n  HostKeyAlias {first}\nMatch all\nInclude {}\n", nodes.config);
    nodes.config = nodes.sandbox.write("ssh_config", config).display().to_string();
    let bare = own.to_string();
    for (host, inventory) in
        [("six", format!("six ansible_host={own} ansible_port=22")), (&*bare, bare.clone())]
    {
        nodes.sandbox.write("hosts.ini", format!("[web]\n{inventory}\n"));
        nodes.vzmaster(&["deploy", "-y"]).success();
        assert_eq!(nodes.vzmaster(&["diff", "-l", host]).success().stdout(), "");
        let ps = nodes.vzmaster(&["ps"]).success().stdout();
        assert!(ps.contains("vz-test  httpd"), "{ps}");
        let words = ["exec", host, "vz-test", "--", "/bin/busybox", "echo", "six"];
        assert_eq!(nodes.vzmaster(&words).success().stdout(), "six\n");
        let said = nodes.vzmaster(&["preflight", host]).success().stdout();
        assert!(said.starts_with(&format!("{host}: ")) && said.contains("IPv6"), "{said}");
    }
    for target in [format!("root@{own}"), format!("root@[{own}]:22")] {
        let mut push = nodes.sandbox.command("vzpush");
        push.args(["-F", &nodes.config, "app", &target]).env_remove("SSH_AUTH_SOCK");
        Finished::of(push.env("XDG_CACHE_HOME", nodes.sandbox.path("cache"))).success();
    }
}
