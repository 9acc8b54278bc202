//! Updates of a pod that has a network of its own, while somebody asks it without pause.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Nodes, nodes};
use crate::sandbox::Finished;

impl Nodes {
    /// Makes the pod one that has a network of its own and nothing that it writes to.
    pub fn apart(&self) {
        let pod = fs::read_to_string(self.sandbox.path("pods/test.yaml")).unwrap();
        let pod = pod
            .lines()
            .filter(|line| !line.contains("hostNetwork") && !line.contains("volumeMounts"))
            .map(|line| line.replace("containerPort: 8381", "containerPort: 8381, hostPort: 8380"))
            .map(|line| line.replace("  volumes: [{name: data, emptyDir: {}}]", ""))
            .collect::<Vec<_>>();
        self.sandbox.write("pods/test.yaml", format!("{}\n", pod.join("\n")));
    }

    /// Where a port of the node is reached from here.
    pub fn published(&self, node: &str, port: u16) -> SocketAddr {
        let shown =
            Finished::of(self.sandbox.command("ssh").args(["-F", &self.config, "-G", node]));
        let shown = shown.success().stdout();
        let host = shown.lines().find_map(|line| line.strip_prefix("hostname ")).unwrap();
        (host, port).to_socket_addrs().unwrap().next().unwrap()
    }
}

/// One request over a connection of its own: the page, or what went wrong.
pub(super) fn get(address: SocketAddr) -> Result<String, String> {
    let cannot = |error: std::io::Error| error.to_string();
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(cannot)?;
    stream.set_read_timeout(Some(patience)).map_err(cannot)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(cannot)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(cannot)?;
    let (head, page) = answer.split_once("\r\n\r\n").ok_or(format!("cut off: {answer:?}"))?;
    if head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200") {
        Ok(page.to_owned())
    } else {
        Err(head.to_owned())
    }
}

/// Asks by four threads while `act` goes on; returns how many pages of each kind came,
/// and what failed.
pub fn asked_while(
    address: SocketAddr,
    act: impl FnOnce(),
) -> (std::collections::BTreeMap<String, usize>, Vec<String>) {
    let done = AtomicBool::new(false);
    let (mut pages, mut failed) = (std::collections::BTreeMap::new(), Vec::new());
    thread::scope(|scope| {
        let ask = || {
            let mut answers = Vec::new();
            while !done.load(Ordering::Relaxed) {
                answers.push(get(address));
            }
            answers
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        act();
        done.store(true, Ordering::Relaxed);
        for answer in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            match answer {
                Ok(page) => *pages.entry(page).or_default() += 1,
                Err(why) => failed.push(why),
            }
        }
    });
    (pages, failed)
}

#[test]
fn no_request_fails_while_a_pod_is_updated_or_a_bad_one_taken_back() {
    let test = "no_request_fails_while_a_pod_is_updated_or_a_bad_one_taken_back";
    let Some(nodes) = nodes(test) else { return };
    let first = nodes.names[0].clone();
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    nodes.apart();
    one(&["deploy", "-y"]).success();
    let address = nodes.published(&first, 8380);
    assert_eq!(get(address).unwrap(), "one");
    let own = nodes.on(&first, "bash -c \"exec 3<>/dev/tcp/127.0.0.1/8380; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3\"");
    assert_eq!(own.success().stdout(), "one");

    nodes.serve("two", 8381);
    nodes.apart();
    let plan = one(&["plan"]).success().stdout();
    assert!(plan.contains("(start first)"), "{plan}");
    let (pages, failed) = asked_while(address, || drop(one(&["deploy", "-y"]).success()));
    assert_eq!(failed, [""; 0], "of {pages:?}");
    assert!(pages.keys().eq(["one", "two"]), "{pages:?}");
    one(&["diff"]).success();

    // A port that nobody listens on: what runs goes on running.
    nodes.serve("three", 8382);
    nodes.apart();
    let (pages, failed) = asked_while(address, || drop(one(&["deploy", "-y"]).status(3)));
    assert_eq!(failed, [""; 0], "of {pages:?}");
    assert!(pages.keys().eq(["two"]), "{pages:?}");
    eprintln!("asked while a bad revision was tried and taken back: {pages:?}");

    // Ports are closed when the pod goes, and a port of nobody's is seen.
    nodes.sandbox.write("groups.yaml", "web:\n  pods: []\n");
    one(&["deploy", "-y", "--prune"]).success();
    assert!(get(address).is_err());
    let rule = "nft 'add table ip vz-gone; add chain ip vz-gone c { type nat hook prerouting priority -100; }; add rule ip vz-gone c tcp dport 99 dnat to 198.18.0.9:99'";
    nodes.on(&first, rule).success();
    let drift = one(&["diff"]).status(1).stdout();
    nodes.on(&first, "nft delete table ip vz-gone").success();
    assert!(drift.contains("port 99/tcp -> 198.18.0.9:99 of gone"), "{drift}");
}
