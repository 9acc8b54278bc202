//! Rules of nftables: which ports of the node lead to which pods, and what packets of pods,
//! and to pods, may do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Published, SUBNET, SUBNET6, forward, pod_of, table};

/// IPv4 or IPv6. A table is of one of them, since kernels before 5.2 translate in no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl Family {
    /// As nftables calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        }
    }

    /// The addresses of pods.
    fn subnet(self) -> &'static str {
        match self {
            Family::Ip => SUBNET,
            Family::Ip6 => SUBNET6,
        }
    }
}

/// What pods and neighbours of the node cannot do, in a table that no revision without it
/// empties: reach a pod but by a port of the node, once its packets are passed on; reach
/// 127.0.0.1 of the node, once a pod's device takes such addresses (CVE-2020-8558; the kernel
/// itself takes ::1 from no device); send in another's name; and be a router to the node.
/// Pods reach one another.
pub(super) fn wall(family: Family) -> String {
    let (ip, subnet) = (family.name(), family.subnet());
    let own = match family {
        Family::Ip => "ip daddr 127.0.0.0/8 drop",
        // Which the kernel never passes on.
        Family::Ip6 => {
            "ip6 saddr fe80::/10 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
        }
    };
    format!(
        "\
table {ip} vz_wall {{
  chain prerouting {{ type filter hook prerouting priority -300; }}
  chain forward {{ type filter hook forward priority 0; }}
}}
flush table {ip} vz_wall
table {ip} vz_wall {{
  chain prerouting {{
    iifname \"vz*\" {own};
    iifname \"vz*\" {ip} saddr != {subnet} drop;
  }}
  chain forward {{
    iifname \"vz*\" accept;
    {ip} daddr {subnet} ct state established,related accept;
    {ip} daddr {subnet} ct status dnat accept;
    {ip} daddr {subnet} drop;
  }}
}}
"
    )
}

/// Returns the rules of a pod's ports. A table is emptied and filled in one
/// transaction; its chains stay, so no packet passes by them.
pub fn render_rules(family: Family, pod: &str, ports: &[Published]) -> String {
    let (ip, subnet, table) = (family.name(), family.subnet(), table(pod));
    let mut to = String::new();
    let (address, own) = match family {
        Family::Ip => {
            ("$address", format!("    ip saddr 127.0.0.0/8 ip daddr {subnet} masquerade;\n"))
        }
        Family::Ip6 => {
            // What comes from either cannot be passed on: it is refused, and not lost.
            to.push_str("    ip6 daddr { ::1, fe80::/10 } return;\n");
            ("$address6", String::new())
        }
    };
    for Published { host, port, protocol } in ports {
        let protocol = protocol.name();
        let _ = writeln!(
            to,
            "    fib daddr type local {protocol} dport {host} dnat to {address}:{port};"
        );
    }
    // Numbers for the names dstnat and srcnat, which older ones do not know.
    format!(
        "\
table {ip} vz {{
  chain postrouting {{ type nat hook postrouting priority 100; }}
}}
flush table {ip} vz
table {ip} vz {{
  chain postrouting {{
{own}    {ip} saddr {subnet} {ip} daddr {subnet} ct status dnat masquerade;
    {ip} saddr {subnet} {ip} daddr != {subnet} masquerade;
  }}
}}
table {ip} {table} {{
  chain prerouting {{ type nat hook prerouting priority -100; }}
  chain output {{ type nat hook output priority -100; }}
}}
flush table {ip} {table}
table {ip} {table} {{
  chain prerouting {{
{to}  }}
  chain output {{
{to}  }}
}}
"
    )
}

/// Which ports lead where, as `nft list ruleset` prints it: table, protocol, port of
/// the node, address and port of the pod; and for whom, where that is not everybody.
pub fn listed(ruleset: &str) -> Vec<(String, String)> {
    let mut found: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    let dropping = [Family::Ip, Family::Ip6].map(|family| forward::dropping(ruleset, family));
    let (mut table, mut chain) = (None, "");
    for line in ruleset.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["table", "ip" | "ip6", name, "{"] => table = pod_of(name),
            ["table", ..] => table = None,
            ["chain", name, "{"] => chain = name,
            [.., protocol @ ("tcp" | "udp"), "dport", host, "dnat", "to", target] => {
                let Some(table) = table else { continue };
                let rule = format!("{host}/{protocol} -> {target}");
                found.entry((table.to_owned(), rule)).or_default().insert(chain);
            }
            _ => {}
        }
    }
    let told = |((table, rule), chains): ((String, String), BTreeSet<&str>)| {
        let [four, six] = &dropping;
        let dropping = if rule.contains("-> [") { six } else { four };
        let inside = ", from the node itself only";
        let whom = match (chains.contains("prerouting"), chains.contains("output"), dropping) {
            (true, true, None) | (false, false, _) => String::new(),
            (true, _, Some(chain)) => format!("{inside}: {chain} drops the rest"),
            (true, false, None) => ", from outside only".to_owned(),
            (false, true, _) => inside.to_owned(),
        };
        (table, format!("{rule}{whom}"))
    };
    found.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::pod::Protocol;

    const PORTS: [Published; 2] = [
        Published { host: 80, port: 8080, protocol: Protocol::Tcp },
        Published { host: 53, port: 53, protocol: Protocol::Udp },
    ];

    #[test]
    fn each_family_has_its_own_rules() {
        let check = |family, line: &str| {
            let rules = render_rules(family, "web", &PORTS);
            assert!(rules.contains(&format!("    {line};\n")), "{rules}");
        };
        check(Family::Ip, "fib daddr type local tcp dport 80 dnat to $address:8080");
        check(Family::Ip, "ip saddr 198.18.0.0/16 ip daddr != 198.18.0.0/16 masquerade");
        check(Family::Ip6, "fib daddr type local tcp dport 80 dnat to $address6:8080");
        check(Family::Ip6, "ip6 daddr { ::1, fe80::/10 } return");
        check(
            Family::Ip6,
            "ip6 saddr fdc9:a024:e64e::/64 ip6 daddr != fdc9:a024:e64e::/64 masquerade",
        );
        for (family, other) in [(Family::Ip, "ip6"), (Family::Ip6, "ip ")] {
            for rules in [render_rules(family, "web", &PORTS), wall(family)] {
                assert!(!rules.contains(other), "{rules}");
            }
        }
    }

    #[test]
    fn what_nft_prints_is_understood() {
        let chain = |family: &str, chain: &str, rules: &[&str]| {
            let rules = rules.iter().map(|rule| format!("\t\tfib daddr type local {rule}\n"));
            let rules = rules.collect::<String>();
            let rest = "\t\ttype nat hook any priority dstnat; policy accept;";
            format!("table {family} vz-web {{\n\tchain {chain} {{\n{rest}\n{rules}\t}}\n}}\n")
        };
        let web = "tcp dport 80 dnat to 198.18.0.7:8080";
        let name = "udp dport 53 dnat to 198.18.0.7:53";
        let web6 = "tcp dport 80 dnat to [fdc9:a024:e64e::7]:8080";
        let whole = chain("ip", "prerouting", &[web, name]) + &chain("ip", "output", &[web, name]);
        let half = chain("ip6", "prerouting", &[]) + &chain("ip6", "output", &[web6]);
        let stray =
            "table ip vz-gone {\n\tchain odd {\n\t\ttcp dport 98 dnat to 10.0.0.1:98\n\t}\n}\n";
        let gone = ("gone".to_owned(), "98/tcp -> 10.0.0.1:98".to_owned());
        assert_eq!(listed(stray), [gone]);
        let other = "table ip other {\n\t\ttcp dport 99 dnat to 10.0.0.1:99\n}\n";
        let [web, name] = PORTS.map(|port| port.rule("198.18.0.7"));
        let web6 = PORTS[0].rule("fdc9:a024:e64e::7");
        let expected = [name, web.clone(), format!("{web6}, from the node itself only")];
        let expected = expected.map(|rule| ("web".to_owned(), rule));
        assert_eq!(listed(&format!("{whole}{half}{other}")), expected);
        let hook = "\t\ttype filter hook forward priority filter; policy drop;\n";
        let ufw = format!("table ip filter {{\n\tchain FORWARD {{\n{hook}\t}}\n}}\n");
        let [_, (_, rule), _] = listed(&format!("{whole}{half}{ufw}")).try_into().unwrap();
        let whom = "from the node itself only: chain FORWARD of table ip filter drops the rest";
        assert_eq!(rule, format!("{web}, {whom}"));
    }
}
