//! A pod's own network: a namespace, a pair of devices, and the node's ports that lead
//! to it. Pure.
//!
//! Two revisions of a pod can so listen on the same port at once, each at its own
//! address, and one transaction of nftables moves the node's ports from one to the
//! other; connections that are open stay where they are.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::pod::{Pod, Protocol};
use super::unit::{PODS, conditions};

/// Addresses of pods: the half of the benchmarking network (RFC 2544) that no
/// network uses.
pub const SUBNET: &str = "198.18.0.0/16";
/// The node's end of every pair of devices.
const GATEWAY: &str = "198.18.255.254";
/// The file of a revision that makes and removes its network.
pub const SCRIPT: &str = "net.sh";
/// The file of a revision with its rules; `$address` is its own.
pub const RULES: &str = "ports.nft";

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

/// The table of nftables with a pod's ports.
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

/// What pods and neighbours of the node cannot do, in a table that no revision without it
/// empties: reach a pod but by a port of the node, once its packets are passed on; reach
/// 127.0.0.1 of the node, once a pod's device takes such addresses (CVE-2020-8558); send in
/// another's name. Pods reach one another.
fn wall() -> String {
    format!(
        "\
table ip vz_wall {{
  chain prerouting {{ type filter hook prerouting priority -300; }}
  chain forward {{ type filter hook forward priority 0; }}
}}
flush table ip vz_wall
table ip vz_wall {{
  chain prerouting {{
    iifname \"vz*\" ip daddr 127.0.0.0/8 drop;
    iifname \"vz*\" ip saddr != {SUBNET} drop;
  }}
  chain forward {{
    iifname \"vz*\" accept;
    ip daddr {SUBNET} ct state established,related accept;
    ip daddr {SUBNET} ct status dnat accept;
    ip daddr {SUBNET} drop;
  }}
}}
"
    )
}

/// Returns the script of that unit. `up` passes the node's ports on only where the
/// revision is the pod's current one: that of a deployment that was not confirmed is
/// passed on by the deployment itself.
pub fn render_script(pod: &str, tag: &str) -> String {
    let (namespace, unit, wall) = (namespace(tag), unit(pod, tag), wall());
    format!(
        "\
# sh net.sh up|down|publish
set -e
dir={PODS}/{pod}/tags
ADDRESS=$(cat $dir/{tag}.address)
wall() {{
  nft -f - <<'END'
{wall}END
}}
# What pods may is in the wall; firewalld would let nothing of theirs out.
firewalld() {{
  if systemctl -q is-active firewalld; then firewall-cmd -q --zone=trusted $1; fi
}}
publish() {{
  {{ echo \"define address = $ADDRESS\"; cat $dir/{tag}/{RULES}; }} | nft -f -
}}
case $1 in
publish)
  wall
  publish
  ;;
down)
  ip link del vz{tag} 2>/dev/null || :
  ip netns del {namespace} 2>/dev/null || :
  firewalld --remove-interface=vz{tag} 2>/dev/null || :
  ;;
up)
  ip netns add {namespace}
  ip link add vz{tag} type veth peer name eth0 netns {namespace}
  ip -n {namespace} link set lo up
  ip -n {namespace} addr add $ADDRESS/32 dev eth0
  ip -n {namespace} link set eth0 up
  ip -n {namespace} route add {GATEWAY} dev eth0
  ip -n {namespace} route add default via {GATEWAY}
  # As containerd has it: who is not root may listen on port 80.
  ip netns exec {namespace} sh -c 'echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start' || :
  ip addr add {GATEWAY}/32 dev vz{tag}
  ip link set vz{tag} up
  ip route replace $ADDRESS/32 dev vz{tag}
  wall
  firewalld --change-interface=vz{tag}
  # So that the node's own 127.0.0.1 reaches its ports, too.
  echo 1 >/proc/sys/net/ipv4/conf/vz{tag}/route_localnet
  echo 1 >/proc/sys/net/ipv4/ip_forward
  if [ -e {PODS}/{pod}/current/units/{unit} ]; then publish; fi
  ;;
esac
"
    )
}

/// The table of the node's firewall, as `vzmaster newnode` makes it, and the sets in it
/// with the ports that pods open.
const FIREWALL: &str = "vz_node";

/// Where a node notes, as `80-tcp`, which ports of firewalld are open for pods.
pub const OPENED: &str = "/run/vz/firewalld";

/// Returns the script that opens and closes ports of a pod that shares the node's
/// network in the node's firewall, where it has one.
pub fn render_host_script() -> String {
    format!(
        "\
# sh net.sh open|close PORT/PROTOCOL...
case $1 in
open) nft=add ;;
*) nft=delete ;;
esac
what=$1
shift
for port; do
  nft $nft element inet {FIREWALL} open_${{port#*/}} \"{{ ${{port%/*}} }}\" 2>/dev/null
  note={OPENED}/${{port%/*}}-${{port#*/}}
  if ! systemctl -q is-active firewalld; then rm -f $note; continue; fi
  # What the administrator has open stays so.
  case $what in
  open)
    if firewall-cmd -q --query-port=$port; then continue; fi
    mkdir -p {OPENED} && : >$note && firewall-cmd -q --add-port=$port
    ;;
  *) if [ -e $note ]; then firewall-cmd -q --remove-port=$port && rm -f $note; fi ;;
  esac
done
:
"
    )
}

/// The ports that are open in a node's firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// From, to, protocol.
    open: Vec<(u16, u16, String)>,
    /// Those that are open for pods, as `80/tcp`.
    ours: Vec<String>,
}

impl Opened {
    /// Of what `firewall-cmd --list-ports` prints: `80/tcp 8000-8100/udp`; `ours` are
    /// those that were opened for pods.
    pub fn new(listed: &str, ours: Vec<String>) -> Self {
        let range = |word: &str| {
            let (ports, protocol) = word.split_once('/')?;
            let (from, to) = ports.split_once('-').unwrap_or((ports, ports));
            Some((from.parse().ok()?, to.parse().ok()?, protocol.to_owned()))
        };
        let mut opened = Opened {
            open: listed.split_whitespace().filter_map(range).collect(),
            ours: Vec::new(),
        };
        // What firewalld was told to forget is not open any more.
        opened.ours = ours.into_iter().filter(|port| opened.has(port)).collect();
        opened
    }

    /// Whether a port is open, as `80/tcp`.
    pub fn has(&self, port: &str) -> bool {
        let Some((number, protocol)) = port.split_once('/') else { return false };
        let number: Option<u16> = number.parse().ok();
        let within = |(from, to, of): &(u16, u16, String)| {
            number.is_some_and(|number| (*from..=*to).contains(&number)) && of == protocol
        };
        self.open.iter().any(within)
    }

    /// Those that are open for pods.
    pub fn ours(&self) -> &[String] {
        &self.ours
    }
}

/// The ports that pods opened in the node's own firewall, of what `nft list ruleset`
/// prints; none where there is no such firewall.
pub fn opened(ruleset: &str) -> Option<Opened> {
    let (_, table) = ruleset.split_once(&format!("table inet {FIREWALL} {{"))?;
    let table = table.split_once("\n}").map_or(table, |(table, _)| table);
    let mut ports = Vec::new();
    for protocol in ["tcp", "udp"] {
        let set = table.split_once(&format!("set open_{protocol} {{"));
        let set = set.and_then(|(_, set)| set.split_once("\n\t}"));
        let elements = set.and_then(|(set, _)| set.split_once("elements = {"));
        let words = elements.map_or("", |(_, elements)| elements);
        let numbers = words.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
        ports.extend(numbers.map(|number| format!("{number}/{protocol}")));
    }
    Some(Opened::new(&ports.join(" "), ports))
}

/// Returns the rules of a pod's ports. A table is emptied and filled in one
/// transaction; its chains stay, so no packet passes by them.
pub fn render_rules(pod: &str, ports: &[Published]) -> String {
    let table = table(pod);
    let mut to = String::new();
    for Published { host, port, protocol } in ports {
        let protocol = protocol.name();
        let _ = writeln!(
            to,
            "    fib daddr type local {protocol} dport {host} dnat to $address:{port};"
        );
    }
    // Numbers for the names dstnat and srcnat, which older ones do not know.
    format!(
        "\
table ip vz {{
  chain postrouting {{ type nat hook postrouting priority 100; }}
}}
flush table ip vz
table ip vz {{
  chain postrouting {{
    ip saddr 127.0.0.0/8 ip daddr {SUBNET} masquerade;
    ip saddr {SUBNET} ip daddr {SUBNET} ct status dnat masquerade;
    ip saddr {SUBNET} ip daddr != {SUBNET} masquerade;
  }}
}}
table ip {table} {{
  chain prerouting {{ type nat hook prerouting priority -100; }}
  chain output {{ type nat hook output priority -100; }}
}}
flush table ip {table}
table ip {table} {{
  chain prerouting {{
{to}  }}
  chain output {{
{to}  }}
}}
"
    )
}

/// Which ports lead where, as `nft list ruleset` prints it: table, protocol, port of
/// the node, address and port of the pod.
pub fn listed(ruleset: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut table = None;
    for line in ruleset.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["table", "ip", name, "{"] => table = pod_of(name),
            ["table", ..] => table = None,
            [.., protocol @ ("tcp" | "udp"), "dport", host, "dnat", "to", target] => {
                let rule = format!("{host}/{protocol} -> {target}");
                found.extend(table.map(|table| (table.to_owned(), rule)));
            }
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    found
}

impl Published {
    /// How [`opened`] shows it, where the pod shares the node's network.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.protocol.name())
    }

    /// How [`listed`] shows it, for a pod at `address`.
    pub fn rule(&self, address: &str) -> String {
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
    fn ports_in_the_nodes_firewall_are_found() {
        let printed = "\
table inet vz_node {
	set fixed_tcp {
		type inet_service
		elements = { 22 }
	}

	set open_tcp {
		type inet_service
		elements = { 80, 443,
			     8080 }
	}

	set open_udp {
		type inet_service
	}
}
";
        let open = ["80/tcp", "443/tcp", "8080/tcp"].map(str::to_owned);
        assert_eq!(opened(printed).unwrap().ours(), open);
        assert_eq!(opened("table ip vz {\n}\n"), None);
    }

    #[test]
    fn ports_in_firewalld_may_be_ranges_and_are_ours_while_they_are_open() {
        let ours = ["8381/tcp", "99/tcp"].map(str::to_owned);
        let opened = Opened::new("8000-8100/tcp 8381/tcp 53/udp\n", ours.to_vec());
        for (port, expected) in [("8050/tcp", true), ("8101/tcp", false), ("53/tcp", false)] {
            assert_eq!(opened.has(port), expected, "{port}");
        }
        assert_eq!(opened.ours(), ["8381/tcp"]);
    }

    #[test]
    fn what_nft_prints_is_understood() {
        let ports = [
            Published { host: 80, port: 8080, protocol: Protocol::Tcp },
            Published { host: 53, port: 53, protocol: Protocol::Udp },
        ];
        let rules = render_rules("web", &ports);
        assert!(rules.contains("    fib daddr type local tcp dport 80 dnat to $address:8080;\n"));
        let printed = "\
table ip vz-web {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local tcp dport 80 dnat to 198.18.0.7:8080
		fib daddr type local udp dport 53 dnat to 198.18.0.7:53
	}
	chain output {
		fib daddr type local tcp dport 80 dnat to 198.18.0.7:8080
	}
}
table ip other {
		tcp dport 99 dnat to 10.0.0.1:99
}
";
        let expected = ports.map(|port| ("web".to_owned(), port.rule("198.18.0.7")));
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(listed(printed), expected);
    }
}
