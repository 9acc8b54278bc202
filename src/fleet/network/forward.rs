//! Chains of others that drop what is forwarded. What one base chain drops no other saves
//! (nft(8), "CHAINS"), so pods behind it are reached from the node itself only.

use std::collections::BTreeSet;

use super::Family;

/// The chain in which iptables has what docker and ufw drop, of either family.
const FORWARD: &str = "chain FORWARD of table ip";

/// The base chains that drop what comes to pods from outside and that a deployment leaves as
/// they are, of what `nft list ruleset` prints; as `chain forward of table inet filter`.
pub fn dropping_for_good(ruleset: &str) -> BTreeSet<String> {
    let found = [Family::Ip, Family::Ip6].map(|family| dropping(ruleset, family));
    found.into_iter().flatten().filter(|chain| !chain.starts_with(FORWARD)).collect()
}

/// The first base chain that drops what comes to pods from outside.
pub(super) fn dropping(ruleset: &str, family: Family) -> Option<String> {
    let (mut table, mut chain) = ("", None);
    for line in ruleset.lines() {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["table", of, _, "{"] => {
                table = line.trim_end_matches(" {");
                chain = None;
                if ![family.name(), "inet"].contains(of) {
                    table = "";
                }
            }
            ["chain", name, "{"] => {
                chain = Some(Chain { table, name, drops: false, passes: false });
            }
            ["}"] => {
                if let Some(chain) = chain.take().filter(|chain| chain.drops && !chain.passes) {
                    return Some(format!("chain {} of {}", chain.name, chain.table));
                }
            }
            ["type", "filter", "hook", "forward", .., "policy", "drop;"] => {
                if let Some(chain) = &mut chain {
                    chain.drops = !table.is_empty();
                }
            }
            words => {
                if let Some(chain) = &mut chain {
                    chain.passes |= chain.lets_pass(line, words);
                }
            }
        }
    }
    None
}

struct Chain<'a> {
    table: &'a str,
    name: &'a str,
    drops: bool,
    passes: bool,
}

impl Chain<'_> {
    /// Whether packets to pods may get on by this rule.
    fn lets_pass(&self, rule: &str, words: &[&str]) -> bool {
        let accepts = words.contains(&"accept");
        // iptables' own, where docker and ufw have chains for what is theirs.
        if matches!(self.table, "table ip filter" | "table ip6 filter") && self.name == "FORWARD" {
            return accepts && rule.contains("oifname \"vz*\"");
        }
        // What else is written there is taken to be meant so, but for what every chain has.
        let goes_on = ["jump", "goto", "vmap"].iter().any(|verdict| words.contains(verdict));
        (accepts || goes_on) && !rule.contains("ct state") && !rule.contains("icmp")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(table: &str, chain: &str, policy: &str, rules: &[&str], expected: Option<&str>) {
        let rules = rules.iter().map(|rule| format!("\t\t{rule}\n")).collect::<String>();
        let hook = format!("\t\ttype filter hook forward priority filter; policy {policy};\n");
        let other =
            "\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n\n";
        let ruleset =
            format!("table {table} {{\n{other}\tchain {chain} {{\n{hook}{rules}\t}}\n}}\n");
        assert_eq!(dropping(&ruleset, Family::Ip).as_deref(), expected, "{ruleset}");
        let for_good = expected.filter(|_| table == "inet filter").map(str::to_owned);
        assert_eq!(dropping_for_good(&ruleset), for_good.into_iter().collect(), "{ruleset}");
    }

    #[test]
    fn a_chain_of_iptables_drops_what_no_rule_of_ours_lets_pass() {
        let found = Some("chain FORWARD of table ip filter");
        let ufw = "counter packets 0 bytes 0 jump ufw-before-forward";
        let ours = "oifname \"vz*\" counter packets 6 bytes 399 accept";
        check("ip filter", "FORWARD", "drop", &[ufw], found);
        check("ip filter", "FORWARD", "drop", &[ours, ufw], None);
        check("ip filter", "FORWARD", "accept", &[ufw], None);
        check("ip6 filter", "FORWARD", "drop", &[ufw], None);
    }

    #[test]
    fn a_chain_of_the_administrators_may_let_pass_what_it_names() {
        let found = Some("chain forward of table inet filter");
        let usual = "ct state established,related accept";
        check("inet filter", "forward", "drop", &[], found);
        check("inet filter", "forward", "drop", &[usual, "icmp type echo-request accept"], found);
        check("inet filter", "forward", "drop", &[usual, "oifname \"vz*\" accept"], None);
        check("inet filter", "forward", "drop", &["ct status dnat accept"], None);
        check("inet filter", "forward", "drop", &["jump mine"], None);
    }
}
