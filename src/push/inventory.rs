//! Ansible inventories: which nodes a group has, and how ssh reaches them.
//!
//! INI and YAML are read here; what only Ansible can tell (plugins, scripts,
//! templates) comes from `ansible-inventory --list`, whose JSON is YAML too.

mod ini;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use super::target::Node;

/// Groups and hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    groups: BTreeMap<String, Group>,
    hosts: BTreeMap<String, Vars>,
    /// The text that it was read from; empty where that is no file of the user's.
    text: String,
}

type Vars = BTreeMap<String, String>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Group {
    hosts: BTreeSet<String>,
    children: BTreeSet<String>,
    vars: Vars,
}

/// Why a text is no inventory, or has no such group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// A line cannot be understood.
    #[error("line {line}: {what}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// There is no group and no host of this name.
    #[error("there is no group or host `{0}`")]
    Unknown(String),
    /// Groups are each other's children.
    #[error("group `{0}` is its own child")]
    Loop(String),
    /// A variable cannot be used as it is.
    #[error("`{variable}` of `{host}` cannot be used as it is: `{value}`")]
    Variable {
        /// The host.
        host: String,
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
}

impl Inventory {
    /// Reads an inventory: YAML where `yaml` says so, else INI.
    ///
    /// # Errors
    /// The first line that cannot be understood.
    pub fn parse(text: &str, yaml: bool) -> Result<Inventory, InventoryError> {
        let inventory = if yaml { yaml::parse(text) } else { ini::parse(text) }?;
        Ok(Inventory { text: text.to_owned(), ..inventory })
    }

    /// The same, of a text that is no file of the user's, so that lines mean nothing.
    #[must_use]
    pub fn generated(self) -> Inventory {
        Inventory { text: String::new(), ..self }
    }

    /// All that is wrong with groups and hosts, each with its line: where a value or, of
    /// groups that are their own children, a name first stands; 1 where that cannot be told.
    pub fn faults(&self) -> Vec<(usize, InventoryError)> {
        let hosts = self.hosts.keys().filter_map(|host| self.node(host).err());
        let loops = self
            .groups
            .keys()
            .filter_map(|group| self.collect(group, &mut Vec::new(), &mut BTreeSet::new()).err());
        let mut faults: Vec<(usize, InventoryError)> =
            hosts.chain(loops).map(|error| (self.line_of(&error), error)).collect();
        faults.sort_by_key(|(line, error)| (*line, error.to_string()));
        faults.dedup();
        faults
    }

    fn line_of(&self, error: &InventoryError) -> usize {
        let first = |words: &[&str]| {
            let has = |line: &str| words.iter().all(|word| line.contains(word));
            self.text.lines().position(has).map(|at| at + 1)
        };
        let line = match error {
            InventoryError::Line { line, .. } => Some(*line),
            InventoryError::Unknown(name) => first(&[name]),
            InventoryError::Loop(group) => {
                first(&[&format!("[{group}:children]")]).or_else(|| first(&[group]))
            }
            // Both spellings of a variable end alike.
            InventoryError::Variable { variable, value, .. } => {
                let name = variable.trim_start_matches("ansible_").trim_start_matches("ssh_");
                first(&[name, value])
            }
        };
        line.unwrap_or(1)
    }

    /// The names of all groups and hosts.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.groups.keys().chain(self.hosts.keys())
    }

    /// The nodes of a group and its children, or the one host of that name, by name.
    ///
    /// # Errors
    /// When there is neither, or a host's variables cannot be used.
    pub fn nodes(&self, name: &str) -> Result<Vec<Node>, InventoryError> {
        let mut hosts = BTreeSet::new();
        if name == "all" {
            hosts.extend(self.hosts.keys().cloned());
        } else if self.groups.contains_key(name) {
            self.collect(name, &mut Vec::new(), &mut hosts)?;
        } else if self.hosts.contains_key(name) {
            hosts.insert(name.to_owned());
        } else {
            return Err(InventoryError::Unknown(name.to_owned()));
        }
        hosts.iter().map(|host| self.node(host)).collect()
    }

    fn collect<'a>(
        &'a self,
        name: &'a str,
        path: &mut Vec<&'a str>,
        hosts: &mut BTreeSet<String>,
    ) -> Result<(), InventoryError> {
        if path.contains(&name) {
            return Err(InventoryError::Loop(name.to_owned()));
        }
        let group =
            self.groups.get(name).ok_or_else(|| InventoryError::Unknown(name.to_owned()))?;
        hosts.extend(group.hosts.iter().cloned());
        path.push(name);
        for child in &group.children {
            self.collect(child, path, hosts)?;
        }
        path.pop();
        Ok(())
    }

    fn node(&self, host: &str) -> Result<Node, InventoryError> {
        let bad = |variable, value: String| InventoryError::Variable {
            host: host.to_owned(),
            variable,
            value,
        };
        let get = |names: [&'static str; 2]| {
            let found = names.into_iter().find_map(|name| Some((name, self.variable(host, name)?)));
            match found {
                // A template needs Ansible to be filled in.
                Some((name, value)) if value.contains("{{") => Err(bad(name, value)),
                other => Ok(other.map(|(_, value)| value)),
            }
        };
        let port = get(["ansible_port", "ansible_ssh_port"])?;
        let port = port.map(|p| p.parse().map_err(|_| bad("ansible_port", p))).transpose()?;
        let address = get(["ansible_host", "ansible_ssh_host"])?;
        let address = address.unwrap_or_else(|| host.to_owned());
        if address.is_empty() || address.starts_with('-') || address.contains(char::is_whitespace) {
            return Err(bad("ansible_host", address));
        }
        let user = get(["ansible_user", "ansible_ssh_user"])?;
        if let Some(user) = user.as_ref().filter(|user| user.starts_with('-')) {
            return Err(bad("ansible_user", user.clone()));
        }
        Ok(Node { label: host.to_owned(), host: address, user, port })
    }

    /// A host's own value, else that of its nearest group, else that of `all`.
    fn variable(&self, host: &str, name: &str) -> Option<String> {
        if let Some(value) = self.hosts.get(host).and_then(|vars| vars.get(name)) {
            return Some(value.clone());
        }
        let mut level: BTreeSet<&str> = self
            .groups
            .iter()
            .filter(|(_, group)| group.hosts.contains(host))
            .map(|(name, _)| name.as_str())
            .collect();
        let mut seen = BTreeSet::new();
        while !level.is_empty() {
            let values = level.iter().filter(|g| **g != "all");
            let found = values.filter_map(|g| self.groups.get(*g)?.vars.get(name)).next();
            if let Some(value) = found {
                return Some(value.clone());
            }
            seen.extend(level.iter().copied());
            let is_parent =
                |group: &Group| group.children.iter().any(|c| level.contains(c.as_str()));
            let parents: BTreeSet<&str> = self
                .groups
                .iter()
                .filter(|(name, group)| is_parent(group) && !seen.contains(name.as_str()))
                .map(|(name, _)| name.as_str())
                .collect();
            level = parents;
        }
        self.groups.get("all")?.vars.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, yaml: bool, group: &str, expected: &[&str]) {
        let inventory = Inventory::parse(text, yaml).unwrap();
        let nodes = inventory.nodes(group).unwrap();
        let show = |node: &Node| {
            let user = node.user.as_ref().map(|u| format!("{u}@")).unwrap_or_default();
            let port = node.port.map(|p| format!(":{p}")).unwrap_or_default();
            format!("{} {user}{}{port}", node.label, node.host)
        };
        assert_eq!(nodes.iter().map(show).collect::<Vec<_>>(), expected);
    }

    const INI: &str = "\
; comment
mail.example.com ansible_port=5309

[web]
node-[01:03] ansible_user=app   # three of them
www ansible_host=10.0.0.9 note='two words'

[db]
db-[a:b]

[site:children]
web
db

[site:vars]
ansible_user=root

[all:vars]
ansible_port=22
";

    #[test]
    fn ini_groups_ranges_children_and_variables() {
        check(
            INI,
            false,
            "web",
            &[
                "node-01 app@node-01:22",
                "node-02 app@node-02:22",
                "node-03 app@node-03:22",
                "www root@10.0.0.9:22",
            ],
        );
        check(INI, false, "db", &["db-a root@db-a:22", "db-b root@db-b:22"]);
        check(INI, false, "mail.example.com", &["mail.example.com mail.example.com:5309"]);
        assert_eq!(Inventory::parse(INI, false).unwrap().nodes("all").unwrap().len(), 7);
    }

    #[test]
    fn yaml_says_the_same() {
        let text = "
all:
  vars: { ansible_port: 22 }
  children:
    site:
      vars:
        ansible_user: root
      children:
        web:
          hosts:
            node-[01:02]: { ansible_user: app }
            www:
              ansible_host: 10.0.0.9
        db:
          hosts: { db-a: }
";
        check(
            text,
            true,
            "site",
            &[
                "db-a root@db-a:22",
                "node-01 app@node-01:22",
                "node-02 app@node-02:22",
                "www root@10.0.0.9:22",
            ],
        );
    }

    #[test]
    fn ansible_inventorys_own_json_is_understood() {
        let text = r#"{"_meta": {"hostvars": {"a": {"ansible_host": "10.0.0.1"}}},
            "all": {"children": ["ungrouped", "web"]}, "web": {"hosts": ["a", "b"]}}"#;
        check(text, true, "web", &["a 10.0.0.1", "b b"]);
    }

    #[test]
    fn an_error_names_its_line() {
        let error = |text, yaml| Inventory::parse(text, yaml).unwrap_err().to_string();
        assert!(error("a\n[web\nb\n", false).starts_with("line 2: "));
        assert!(error("[web]\na ansible_port\n", false).starts_with("line 2: "));
        assert!(error("[web:thing]\n", false).starts_with("line 1: "));
        assert!(error("all:\n  hosts:\n   a: [1\n  b:\n", true).starts_with("line "));
    }

    #[test]
    fn loops_and_unknown_groups_are_errors() {
        let inventory = Inventory::parse("[a:children]\nb\n[b:children]\na\n", false).unwrap();
        assert_eq!(inventory.nodes("a"), Err(InventoryError::Loop("a".into())));
        assert_eq!(inventory.nodes("c"), Err(InventoryError::Unknown("c".into())));
    }

    #[test]
    fn all_faults_are_found_each_with_its_line() {
        let check = |text: &str, yaml: bool, expected: &[&str]| {
            let faults = Inventory::parse(text, yaml).unwrap().faults();
            let shown: Vec<String> =
                faults.iter().map(|(line, error)| format!("{line}: {error}")).collect();
            assert_eq!(shown, expected);
        };
        check(
            "[web]\na\nb ansible_port=x\n[web:vars]\nansible_ssh_user=-l\n[u:children]\nu\n",
            false,
            &[
                "3: `ansible_port` of `b` cannot be used as it is: `x`",
                "5: `ansible_user` of `a` cannot be used as it is: `-l`",
                "6: group `u` is its own child",
            ],
        );
        check(
            "all:\n  hosts:\n    a:\n      ansible_host: '{{ x }}'\n",
            true,
            &["4: `ansible_host` of `a` cannot be used as it is: `{{ x }}`"],
        );
        check(INI, false, &[]);
    }
}
