//! The networks of a node's pods.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::sockets::{self, Socket, Wanted};
use super::{Pods, Site, listeners};
use crate::fleet::network::{HAS_IPV6, Published, RULES6, SCRIPT, table};
use crate::fleet::obstacle::Listener;
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
    /// The sockets in the network that a process has.
    fn sockets(&self, pid: u64, wanted: Wanted) -> Vec<Socket>;
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

    fn sockets(&self, pid: u64, wanted: Wanted) -> Vec<Socket> {
        sockets::read(Some(pid), wanted)
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
            let connected = |pid| self.network.sockets(pid, Wanted::Connected);
            let sockets = pid.map(connected).unwrap_or_default();
            // The pod's own programs may stay connected to each other.
            let busy = |socket: &Socket| {
                !socket.is_near() && ports.iter().any(|published| published.port == socket.port)
            };
            if !sockets.iter().any(busy) || started.elapsed() >= grace {
                return Ok(());
            }
            std::thread::sleep(self.patience.tick);
        }
    }
}
