//! A pod's own network: a namespace, a pair of devices, and the node's ports that lead
//! to it. Pure.
//!
//! Two revisions of a pod can so listen on the same port at once, each at its own
//! address, and one transaction of nftables moves the node's ports from one to the
//! other; connections that are open stay where they are.

mod firewall;
mod forward;
mod rules;
mod script;

use serde::{Deserialize, Serialize};

use super::pod::{Pod, Protocol};
use super::unit::{PODS, conditions};

pub use firewall::{OPENED, Opened, opened, render_host_script};
pub use forward::dropping_for_good;
pub use rules::{Family, listed, render_rules};
pub use script::{HAS_IPV6, render_script};

/// Addresses of pods: the half of the benchmarking network (RFC 2544) that no
/// network uses.
pub const SUBNET: &str = "198.18.0.0/16";
/// The same in IPv6: a local network (RFC 4193), whose number is of /dev/urandom. No packet
/// of it leaves a node, so all nodes have the same.
pub const SUBNET6: &str = "fdc9:a024:e64e::/64";
/// How addresses in it begin.
const PREFIX6: &str = "fdc9:a024:e64e::";
/// The node's end of every pair of devices.
const GATEWAY: &str = "198.18.255.254";
const GATEWAY6: &str = "fdc9:a024:e64e::fffe";
/// The file of a revision that makes and removes its network.
pub const SCRIPT: &str = "net.sh";
/// The file of a revision with its rules; `$address` is its own.
pub const RULES: &str = "ports.nft";
/// The same for IPv6, which not all nodes have, with `$address6`.
pub const RULES6: &str = "ports6.nft";

/// A port of the node that leads to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// The port of the node.
    pub host: u16,
    /// The port of the pod.
    pub port: u16,
    /// Of both.
    pub protocol: Protocol,
}

/// The ports of the node that lead to `pod`.
pub fn published(pod: &Pod) -> Vec<Published> {
    let ports = pod.containers.iter().flat_map(|container| &container.ports);
    let mut published: Vec<Published> = ports
        .filter_map(|port| {
            Some(Published { host: port.host?, port: port.number, protocol: port.protocol })
        })
        .collect();
    published.sort();
    published
}

/// The address of the `n`th network of a node, from 1; none where there are no more.
pub fn address(n: u16) -> Option<String> {
    let [high, low] = n.to_be_bytes();
    (1..0xff00).contains(&n).then(|| format!("198.18.{high}.{low}"))
}

/// The IPv6 address of the network that has this [`address`].
pub fn address6(address: &str) -> Option<String> {
    let (high, low) = address.strip_prefix("198.18.")?.split_once('.')?;
    let n = u16::from_be_bytes([high.parse().ok()?, low.parse().ok()?]);
    Some(format!("{PREFIX6}{n:x}"))
}

/// The table of nftables with a pod's ports, one in each family.
pub fn table(pod: &str) -> String {
    format!("vz-{pod}")
}

/// The pod of a table of ours.
pub fn pod_of(table: &str) -> Option<&str> {
    table.strip_prefix("vz-")
}

/// The network namespace of a revision.
pub fn namespace(tag: &str) -> String {
    format!("vz-{tag}")
}

/// The unit that makes the network of a revision. No container is called so.
pub fn unit(pod: &str, tag: &str) -> String {
    super::unit::name(pod, "-net", tag)
}

/// Returns the text of that unit.
pub fn render_unit(pod: &str, tag: &str) -> String {
    let unit = unit(pod, tag);
    let call = format!("/bin/sh {PODS}/{pod}/tags/{tag}/{SCRIPT}");
    format!(
        "# Written by vzmaster, which writes it anew at the next deployment.\n\
         [Unit]\n\
         Description=pod {pod}, network\n\
         After=firewalld.service\n\
         {}\
         \n\
         [Service]\n\
         Slice=system.slice\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStartPre=-{call} down\n\
         ExecStart={call} up\n\
         ExecStopPost=-{call} down\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        conditions(pod, &unit, &unit)
    )
}

impl Published {
    /// How [`opened`] shows it, where the pod shares the node's network.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.protocol.name())
    }

    /// How [`listed`] shows it, for a pod at `address`.
    pub fn rule(&self, address: &str) -> String {
        let address = match address.contains(':') {
            true => format!("[{address}]"),
            false => address.to_owned(),
        };
        format!("{} -> {address}:{}", self.name(), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_addresses_of_their_own() {
        assert_eq!(address(1).as_deref(), Some("198.18.0.1"));
        assert_eq!(address(0xfeff).as_deref(), Some("198.18.254.255"));
        assert_eq!((address(0), address(0xff00)), (None, None));
        assert_eq!(unit("web", "1a2b3c4d"), "vz-web.-net.1a2b3c4d.service");
    }

    #[test]
    fn the_same_number_is_in_both_addresses() {
        let check = |address: &str, expected: Option<&str>| {
            assert_eq!(address6(address).as_deref(), expected, "{address}");
        };
        check("198.18.0.1", Some("fdc9:a024:e64e::1"));
        check("198.18.1.10", Some("fdc9:a024:e64e::10a"));
        check("198.18.254.255", Some("fdc9:a024:e64e::feff"));
        check("10.0.0.1", None);
        check("198.18.0.256", None);
        // As others print it, so that it can be compared with what they print.
        let parsed: std::net::Ipv6Addr = address6("198.18.1.10").unwrap().parse().unwrap();
        assert_eq!(parsed.to_string(), "fdc9:a024:e64e::10a");
        assert!(SUBNET6.starts_with(PREFIX6) && GATEWAY6.starts_with(PREFIX6));
    }
}
