//! What is to run where: inventory, groups and pods put together. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::fields::{Violation, or_near};
use super::groups::{Group, Named};
use super::pod::Pod;
use crate::push::inventory::{Inventory, InventoryError};
use crate::push::target::Node;

/// Something wrong, and in which file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, as the user would name it.
    pub file: String,
    /// What is wrong.
    pub violation: Violation,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.violation)
    }
}

/// A pod, and the file that it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub file: String,
    /// The pod.
    pub pod: Pod,
}

/// The desired state of all hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployment {
    /// By the inventory's name of the host.
    pub hosts: BTreeMap<String, Host>,
    /// Pods that run nowhere.
    pub idle: Vec<String>,
}

/// The desired state of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// How it is reached.
    pub node: Node,
    /// Pods by name.
    pub pods: BTreeMap<String, Pod>,
}

impl Deployment {
    /// Takes these hosts out, and returns them; pods that ran nowhere else are idle then.
    pub fn retire(&mut self, names: &BTreeSet<String>) -> BTreeMap<String, Host> {
        let hosts = std::mem::take(&mut self.hosts);
        let (retired, kept) = hosts.into_iter().partition(|(name, _)| names.contains(name));
        self.hosts = kept;
        let retired: BTreeMap<String, Host> = retired;
        let pods = retired.values().flat_map(|host| host.pods.keys());
        let idle = |pod: &&String| !self.hosts.values().any(|host| host.pods.contains_key(*pod));
        let idle: Vec<String> = pods.filter(idle).cloned().collect();
        self.idle.extend(idle);
        self.idle.sort();
        self.idle.dedup();
        retired
    }
}

/// Puts together what is to run where. `groups` is the file of the groups.
///
/// Findings are names that nothing has, pods of the same name, and pods that would
/// listen on the same port of a host. Every host of the inventory is in the result,
/// if only with no pods.
pub fn resolve(
    inventory: (&str, &Inventory),
    groups: (&str, &[Group]),
    sources: &[Source],
) -> (Deployment, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut deployment = Deployment::default();
    let mut pods: BTreeMap<&str, &Source> = BTreeMap::new();
    for source in sources {
        if let Some(first) = pods.insert(&source.pod.name, source) {
            let what = format!("another pod is called `{}`: {}", first.pod.name, first.file);
            findings.push(finding(&source.file, source.pod.line, "metadata.name", what));
        }
    }
    for (line, error) in inventory.1.faults() {
        findings.push(finding(inventory.0, line, "", error.to_string()));
    }
    for node in inventory.1.nodes("all").unwrap_or_default() {
        let host = Host { node: node.clone(), pods: BTreeMap::new() };
        deployment.hosts.insert(node.label, host);
    }
    for group in groups.1 {
        let known = |named: &&Named| {
            let found = pods.contains_key(named.name.as_str());
            if !found {
                let near = or_near(&named.name, pods.keys());
                let what = format!("there is no pod `{}`{near}", named.name.escape_debug());
                findings.push(finding(groups.0, named.line, &named.path, what));
            }
            found
        };
        let named: Vec<&Named> = group.pods.iter().filter(known).collect();
        for hosts in &group.hosts {
            match inventory.1.nodes(&hosts.name) {
                Ok(nodes) => {
                    for node in nodes {
                        let Some(host) = deployment.hosts.get_mut(&node.label) else { continue };
                        for named in &named {
                            let Some(source) = pods.get(named.name.as_str()) else { continue };
                            host.pods.insert(named.name.clone(), source.pod.clone());
                        }
                    }
                }
                Err(InventoryError::Unknown(name)) => {
                    let near = or_near(&name, inventory.1.names());
                    let name = name.escape_debug();
                    let what = format!("the inventory has no group or host `{name}`{near}");
                    findings.push(finding(groups.0, hosts.line, &hosts.path, what));
                }
                // The inventory's own faults were found above.
                Err(_) => {}
            }
        }
    }
    for (label, host) in &deployment.hosts {
        same_ports(label, host, &pods, &mut findings);
    }
    let idle = |name: &&&str| !deployment.hosts.values().any(|host| host.pods.contains_key(**name));
    deployment.idle = pods.keys().filter(idle).map(|name| (*name).to_owned()).collect();
    findings.sort();
    findings.dedup();
    (deployment, findings)
}

/// Finds what would listen on one port of a host twice; each pair of pods is named
/// on one host only.
fn same_ports(
    label: &str,
    host: &Host,
    pods: &BTreeMap<&str, &Source>,
    findings: &mut Vec<Finding>,
) {
    let mut taken = BTreeMap::new();
    for pod in host.pods.values() {
        for container in &pod.containers {
            for port in &container.ports {
                let Some(number) = port.host else { continue };
                let Some(source) = pods.get(pod.name.as_str()) else { continue };
                let own = (&pod.name, &source.file, port.place.line);
                let Some((first, file, line)) = taken.insert((number, port.protocol), own) else {
                    continue;
                };
                let what = match first == &pod.name {
                    true => format!("port {number} is there twice, first in line {line}"),
                    false => format!(
                        "port {number} is taken on `{label}` by the pod `{first}`, {file}:{line}"
                    ),
                };
                let new = finding(&source.file, port.place.line, &port.place.path, what);
                let known = |old: &Finding| {
                    (&old.file, &old.violation.path) == (&new.file, &port.place.path)
                        && old.violation.what.ends_with(&format!("{file}:{line}"))
                };
                if !findings.iter().any(known) {
                    findings.push(new);
                }
            }
        }
    }
}

fn finding(file: &str, line: usize, path: &str, what: String) -> Finding {
    Finding { file: file.to_owned(), violation: Violation { line, path: path.to_owned(), what } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{groups, pod};

    fn source(file: &str, name: &str, port: u16) -> Source {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  hostNetwork: true\n  containers:\n  - name: app\n    image: bundle:bundles/{name}\n    ports: [{{containerPort: {port}}}]\n"
        );
        let (mut pods, violations) = pod::read(&text);
        assert_eq!(violations, []);
        Source { file: file.to_owned(), pod: pods.remove(0) }
    }

    fn resolved(groups: &str, sources: &[Source]) -> (Deployment, Vec<String>) {
        let inventory = Inventory::parse("[web]\na\nb\n[db]\nc ansible_host=10.0.0.3\n", false);
        let (groups, violations) = groups::read(groups);
        assert_eq!(violations, []);
        let (deployment, findings) =
            resolve(("hosts.ini", &inventory.unwrap()), ("groups.yaml", &groups), sources);
        (deployment, findings.iter().map(ToString::to_string).collect())
    }

    #[track_caller]
    fn check(groups: &str, sources: &[Source], expected: &[&str]) {
        assert_eq!(resolved(groups, sources).1, expected);
    }

    #[test]
    fn hosts_get_the_pods_of_all_their_groups() {
        let sources = [source("p/site.yaml", "site", 80), source("p/log.yaml", "log", 514)];
        let (deployment, findings) =
            resolved("web:\n  pods: [site]\nlogs:\n  hosts: [all]\n  pods: [log]\n", &sources);
        assert_eq!(findings, [""; 0]);
        let shown: Vec<String> = deployment
            .hosts
            .iter()
            .map(|(name, host)| {
                let pods: Vec<&str> = host.pods.keys().map(String::as_str).collect();
                format!("{name} at {}: {}", host.node.host, pods.join(" "))
            })
            .collect();
        assert_eq!(shown, ["a at a: log site", "b at b: log site", "c at 10.0.0.3: log"]);
        assert_eq!(deployment.idle, [""; 0]);
        assert_eq!(resolved("db:\n  pods: [log]\n", &sources).0.idle, ["site"]);
    }

    #[test]
    fn a_retired_host_is_none_and_its_pods_are_idle_where_nothing_else_runs_them() {
        let sources = [source("p/site.yaml", "site", 80), source("p/log.yaml", "log", 514)];
        let groups = "web:\n  pods: [site]\ndb:\n  pods: [log]\n";
        let (mut deployment, _) = resolved(groups, &sources);
        let retired = deployment.retire(&BTreeSet::from(["a".to_owned(), "c".to_owned()]));
        assert_eq!(retired.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(deployment.hosts.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(deployment.idle, ["log"]);
    }

    #[test]
    fn names_that_nothing_has_are_found_all_at_once() {
        check(
            "web:\n  pods: [site, nope]\nmoon:\n  pods: [site]\nx:\n  hosts: [z]\n  pods: []\n",
            &[source("p/site.yaml", "site", 80), source("p/again.yaml", "site", 81)],
            &[
                "groups.yaml:2: web.pods[1]: there is no pod `nope`",
                "groups.yaml:3: moon: the inventory has no group or host `moon`",
                "groups.yaml:6: x.hosts[0]: the inventory has no group or host `z`",
                "p/again.yaml:1: metadata.name: another pod is called `site`: p/site.yaml",
            ],
        );
    }

    #[test]
    fn two_pods_on_one_port_of_a_host_are_found_once() {
        let sources = [source("p/a.yaml", "one", 80), source("p/b.yaml", "two", 80)];
        let both = "web:\n  pods: [one, two]\n";
        check(
            both,
            &sources,
            &[
                "p/b.yaml:9: spec.containers[0].ports[0]: port 80 is taken on `a` by the pod `one`, p/a.yaml:9",
            ],
        );
        check("web:\n  pods: [one]\ndb:\n  pods: [two]\n", &sources, &[]);
    }
}
