//! The networks of a node's pods.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Pods, Site, listeners};
use crate::fleet::network::{HAS_IPV6, Published, RULES6, SCRIPT, table};
use crate::fleet::obstacle::Listener;
use crate::fleet::pod::Protocol;
use crate::fleet::revision::Record;
use crate::process;

/// What is needed of it.
pub trait Network {
    /// Makes the node's ports of a pod lead to a revision, all at once; or opens them
    /// where it shares the node's network.
    ///
    /// # Errors
    /// When they lead where they led before.
    fn publish(&self, pods: &Pods, record: &Record) -> anyhow::Result<()>;
    /// Makes no port of the node lead to a pod.
    ///
    /// # Errors
    /// When the rules cannot be removed.
    fn withdraw(&self, pod: &str) -> anyhow::Result<()>;
    /// Whether the node, which has these rules, has IPv6, and can translate it.
    fn has_ipv6(&self, ruleset: &str) -> bool;
    /// All rules of the node, as `nft list ruleset` prints them.
    fn ruleset(&self) -> String;
    /// The ports that are open in firewalld, as it prints them; none where it does not run.
    fn firewalld(&self) -> Option<String>;
    /// Who listens in the node's own network on these ports, which are as `80/tcp`.
    fn listeners(&self, ports: &BTreeSet<String>) -> Vec<Listener>;
    /// The sockets that the process sees, as `/proc/PID/net` has them.
    fn sockets(&self, pid: u64) -> Vec<Socket>;
}

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its own port.
    pub port: u16,
    /// Whether it waits for connections, or packets.
    pub listens: bool,
    /// Whether somebody else is connected to it.
    pub connected: bool,
}

/// The kernel's, by iproute2 and nftables.
pub struct Nftables;

impl Network for Nftables {
    fn publish(&self, pods: &Pods, record: &Record) -> anyhow::Result<()> {
        let files = pods.dir(&record.pod).join("tags").join(&record.tag);
        let mut sh = process::command("sh");
        sh.arg(files.join(SCRIPT));
        match record.network {
            Some(_) => sh.arg("publish"),
            None => sh.arg("open").args(record.listens.iter().map(Published::name)),
        };
        process::output(&mut sh)?;
        // The script of an earlier vzmaster knows nothing of what a later one left.
        match record.network.is_some() && !files.join(RULES6).exists() {
            true => withdraw(&record.pod, &["ip6"]),
            false => Ok(()),
        }
    }

    fn withdraw(&self, pod: &str) -> anyhow::Result<()> {
        withdraw(pod, &["ip", "ip6"])
    }

    fn has_ipv6(&self, ruleset: &str) -> bool {
        // What it does need not be tried.
        if ruleset.lines().any(|line| line == "table ip6 vz {") {
            let disabled = fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
            return disabled.is_ok_and(|disabled| disabled == "0\n");
        }
        let mut sh = process::command("sh");
        process::output(sh.args(["-c", &format!("{HAS_IPV6}has_ipv6")])).is_ok()
    }

    fn ruleset(&self) -> String {
        let mut nft = process::command("nft");
        let text = process::output(nft.args(["list", "ruleset"])).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn firewalld(&self) -> Option<String> {
        process::find("firewall-cmd")?;
        let mut active = process::command("systemctl");
        process::output(active.args(["--quiet", "is-active", "firewalld"])).ok()?;
        let mut listed = process::command("firewall-cmd");
        let listed = process::output(listed.arg("--list-ports")).ok()?;
        Some(String::from_utf8_lossy(&listed).into_owned())
    }

    fn listeners(&self, ports: &BTreeSet<String>) -> Vec<Listener> {
        listeners::read(ports)
    }

    fn sockets(&self, pid: u64) -> Vec<Socket> {
        each_socket(&pid.to_string(), socket)
    }
}

/// Removes the tables of a pod, all at once.
fn withdraw(pod: &str, families: &[&str]) -> anyhow::Result<()> {
    if process::find("nft").is_none() {
        return Ok(());
    }
    let listed = process::output(process::command("nft").args(["list", "tables"]))?;
    let listed = String::from_utf8_lossy(&listed);
    let tables = families.iter().map(|family| format!("table {family} {}", table(pod)));
    let there = tables.filter(|table| listed.lines().any(|line| line.trim() == table));
    let orders: String = there.map(|table| format!("delete {table};")).collect();
    if orders.is_empty() {
        return Ok(());
    }
    process::output(process::command("nft").arg(orders)).map(drop)
}

/// What `read` makes of the lines of the kernel's tables of sockets (proc(5)), in the network
/// that the process `pid`, or `self`, has.
pub(super) fn each_socket<T>(pid: &str, read: impl Fn(&str, Protocol) -> Option<T>) -> Vec<T> {
    let mut found = Vec::new();
    for (file, protocol) in [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
    ] {
        let text = table_of_sockets(&format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| read(line, protocol)));
    }
    found
}

/// Reads one of the kernel's tables in large pieces: for each read(2) it goes through a hash
/// table as large as the machine's memory allows, which can take milliseconds.
fn table_of_sockets(path: &str) -> io::Result<String> {
    let mut text = String::with_capacity(256 << 10);
    fs::File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// A line of `/proc/net/tcp` (proc(5)): number, own address, other address, state.
pub(super) fn socket(line: &str, protocol: Protocol) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (own, other, state) = (words.next()?, words.next()?, words.next()?);
    let port = u16::from_str_radix(own.rsplit_once(':')?.1, 16).ok()?;
    let (other, _) = other.rsplit_once(':')?;
    // 127.0.0.0/8, as itself or mapped, in the host's (little) order; and ::1.
    let near = other.strip_prefix("0000000000000000FFFF0000").unwrap_or(other);
    let near =
        near.len() == 8 && near.ends_with("7F") || other == "00000000000000000000000001000000";
    let listens = match protocol {
        Protocol::Tcp => state == "0A",
        Protocol::Udp => state == "07",
    };
    let connected = protocol == Protocol::Tcp && matches!(state, "01" | "03") && !near;
    Some(Socket { protocol, port, listens, connected })
}

impl Site<'_> {
    /// Makes the node's ports lead to `record`.
    ///
    /// # Errors
    /// When they do not.
    pub(super) fn point(&self, pods: &Pods, record: &Record) -> anyhow::Result<()> {
        match record.network {
            Some(_) => self.network.publish(pods, record),
            None => self.network.withdraw(&record.pod).and_then(|()| self.open(pods, record)),
        }
        .with_context(|| format!("cannot make the node's ports lead to `{}`", record.pod))
    }

    /// Opens the ports of a revision that shares the node's network, where it runs: its
    /// units do that, too, but those that go on running may have been closed since.
    fn open(&self, pods: &Pods, record: &Record) -> anyhow::Result<()> {
        let runs = |state: &super::UnitState| state.active == "active";
        if record.listens.is_empty() || !self.show(record)?.iter().any(runs) {
            return Ok(());
        }
        self.network.publish(pods, record)
    }

    /// Waits until nobody is connected to the ports of `record`, for as long as its time
    /// of grace at most.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub(super) fn drain(&self, record: &Record) -> anyhow::Result<()> {
        let Some(ports) = &record.network else { return Ok(()) };
        let started = Instant::now();
        let grace = Duration::from_secs(record.grace.into());
        loop {
            let states = self.show(record)?;
            let pid = states.iter().map(|state| state.pid).find(|pid| *pid != 0);
            let sockets = pid.map(|pid| self.network.sockets(pid)).unwrap_or_default();
            let busy = |socket: &super::Socket| {
                socket.connected && ports.iter().any(|published| published.port == socket.port)
            };
            if !sockets.iter().any(busy) || started.elapsed() >= grace {
                return Ok(());
            }
            std::thread::sleep(self.patience.tick);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_as_the_kernel_shows_them() {
        let check = |line: &str, port: u16, listens: bool, connected: bool| {
            let expected = Socket { protocol: Protocol::Tcp, port, listens, connected };
            assert_eq!(socket(line, Protocol::Tcp), Some(expected), "{line}");
        };
        check("   0: 00000000:1F90 00000000:0000 0A 00000000:00000000", 8080, true, false);
        check("   1: 0700C612:1F90 01004E0A:C350 01 00000000:00000000", 8080, false, true);
        check("   2: 0100007F:0050 0100007F:C350 01 00000000:00000000", 80, false, false);
        check("   3: 0700C612:1F90 01004E0A:C350 06 00000000:00000000", 8080, false, false);
        let mapped =
            "   4: 0000000000000000FFFF00000700C612:0050 0000000000000000FFFF000001004E0A:C350 01";
        check(mapped, 80, false, true);
        let own =
            "   5: 00000000000000000000000001000000:0050 00000000000000000000000001000000:C350 01";
        check(own, 80, false, false);
        // 2001:db8::7f00:1.
        let other =
            "   6: 00000000000000000000000001000000:0050 B80D012000000000000000000100007F:C350 01";
        check(other, 80, false, true);
        assert_eq!(socket("sl local_address", Protocol::Tcp), None);
    }
}
