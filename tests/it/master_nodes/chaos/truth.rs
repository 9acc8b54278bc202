//! What is on a node, looked at without any program of ours.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Nodes;

const LOOK: &str = "\
cd /etc/systemd/system
say() { echo \"$1 $(cat | sort | tr '\\n' ' ')\"; }
ls /etc/vz/pods/vz-test/current/units | say units
ls -d vz-vz-test.* 2>/dev/null | say linked
(cd multi-user.target.wants && ls -d vz-vz-test.* 2>/dev/null) | say enabled
systemctl list-units --plain --no-legend --state=active,activating,reloading,deactivating 'vz-vz-test.*' | cut -d' ' -f1 | say active
ls /run/vz/runtime 2>/dev/null | say containers
ls /run/netns 2>/dev/null | say networks
nft list tables 2>/dev/null | sed -n 's/ip6* vz-vz-test$/ours/p' | sort -u | grep -c ours | say tables
(ls -d /run/vz/try/vz-vz-test.* /run/vz/pending/vz-test 2>/dev/null; systemctl list-units --plain --no-legend --all 'vz-guard-*' | cut -d' ' -f1) | say begun
ls -d /etc/vz/pods/vz-test/revs/.new /etc/vz/pods/vz-test/.[a-z]* 2>/dev/null | say aside
";

/// Words by what they are.
pub(super) struct Truth(BTreeMap<String, BTreeSet<String>>);

impl Truth {
    pub(super) fn of(nodes: &Nodes, node: &str) -> Self {
        let said = nodes.on(node, LOOK).stdout();
        let line = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some((words.next()?, words.collect()))
        };
        Truth(said.lines().filter_map(line).collect())
    }

    fn get(&self, what: &str) -> BTreeSet<String> {
        self.0.get(what).cloned().unwrap_or_default()
    }

    /// Whether systemd's folder has the units of the current revision and no others.
    pub(super) fn tidy(&self) -> bool {
        ["linked", "enabled"].iter().all(|what| self.get(what) == self.get("units"))
    }

    /// What is not as it must be where nothing is under way; `all` counts also what the
    /// next deployment clears away and what does nothing until then.
    pub(super) fn wrong(&self, all: bool) -> Vec<String> {
        let units = self.get("units");
        let mut wrong = Vec::new();
        let mut same = |what: &str, expected: &BTreeSet<String>| {
            let found = self.get(what);
            if found != *expected {
                wrong.push(format!("{what} are {found:?}, not {expected:?}"));
            }
        };
        let inner =
            |unit: &String| unit.strip_prefix("vz-")?.strip_suffix(".service").map(str::to_owned);
        let names: Vec<String> = units.iter().filter_map(inner).collect();
        let (nets, containers): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| name.contains(".-net."));
        let network = |name: &String| Some(format!("vz-{}", name.rsplit_once('.')?.1));
        same("active", &units);
        same("containers", &containers.into_iter().collect());
        same("networks", &nets.iter().filter_map(network).collect());
        same("tables", &BTreeSet::from([usize::from(!nets.is_empty()).to_string()]));
        same("begun", &BTreeSet::new());
        if all {
            same("linked", &units);
            same("enabled", &units);
            same("aside", &BTreeSet::new());
        }
        if units.is_empty() {
            wrong.push("there is no current revision".to_owned());
        }
        wrong
    }
}
