//! Ports of pods that share the node's network, in its firewall.

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
