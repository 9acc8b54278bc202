//! `groups.yaml`: which pods run on which hosts. Pure.
//!
//! ```yaml
//! web:                     # a group of the inventory, unless `hosts` says otherwise
//!   hosts: [node-a, edge]  # hosts and groups of the inventory
//!   pods: [site, cache]    # by metadata.name
//! ```

use super::fields::{At, Check, Fields, Violation};

/// A group, and what runs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The line that it begins on.
    pub line: usize,
    /// Hosts and groups of the inventory; the group of its own name where it has none.
    pub hosts: Vec<Named>,
    /// Names of pods.
    pub pods: Vec<Named>,
}

/// A name, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// It.
    pub name: String,
    /// Its line.
    pub line: usize,
    /// Its path in the file.
    pub path: String,
}

/// Reads the groups of a file.
pub fn read(text: &str) -> (Vec<Group>, Vec<Violation>) {
    let mut check = Check::default();
    let documents = check.documents(text);
    if let Some(second) = documents.get(1) {
        check.note(second.line, "", "only one document is read");
    }
    let mut groups = Vec::new();
    let top = documents.first().map(At::top);
    let map = top.and_then(|top| check.map(&top));
    for (key, at) in map.iter().flat_map(Fields::all) {
        let name = key.text.clone();
        if at.node.is_null() {
            check.missing_below(key.line, &at.path, "pods");
            continue;
        }
        let Some(fields) = check.fields(&at, &["hosts", "pods"], |_| "") else { continue };
        let mut named = |field: &str| -> Vec<Named> {
            let items = fields.get(field).map(|at| check.list(&at)).unwrap_or_default();
            let item = |item: At<'_>| {
                let name = check.text(&item)?;
                Some(Named { name, line: item.node.line, path: item.path })
            };
            items.into_iter().filter_map(item).collect()
        };
        let (mut hosts, pods) = (named("hosts"), named("pods"));
        if fields.get("pods").is_none() {
            check.missing(&fields, "pods");
        }
        if fields.get("hosts").is_none() {
            hosts.push(Named { name: name.clone(), line: key.line, path: at.path.clone() });
        }
        groups.push(Group { name, line: key.line, hosts, pods });
    }
    check.violations.sort();
    (groups, check.violations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_the_inventorys_own_unless_it_names_hosts() {
        let (groups, violations) =
            read("web:\n  pods: [site]\nedge:\n  hosts: [a, b]\n  pods: []\n");
        assert_eq!(violations, []);
        let shown = |named: &[Named]| {
            named.iter().map(|n| format!("{}:{}", n.line, n.name)).collect::<Vec<_>>().join(" ")
        };
        let shown: Vec<String> = groups
            .iter()
            .map(|g| format!("{} {} | {} | {}", g.line, g.name, shown(&g.hosts), shown(&g.pods)))
            .collect();
        assert_eq!(shown, ["1 web | 1:web | 2:site", "3 edge | 4:a 4:b | "]);
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let (_, violations) = read(text);
        assert_eq!(violations.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_no_group_is_named() {
        check("web: [a]\n", &["1: web: must be a mapping, and is a list"]);
        check("web:\n", &["1: web.pods: is missing"]);
        check(
            "web:\n  hosts: a\n  pods: [x]\n",
            &["2: web.hosts: must be a list, and is a string"],
        );
        check("web:\n  pods: [x]\n  vars: {}\n", &["3: web.vars: not supported"]);
        check(
            "web:\n  pods: [no]\n",
            &["2: web.pods[0]: must be a string, and `no` is a truth value: quote it"],
        );
        check("- web\n", &["1: must be a mapping, and is a list"]);
        check("a: &x\n  pods: []\nb: *x\n", &["3: aliases are not supported: write the value out"]);
        check("", &[]);
    }
}
