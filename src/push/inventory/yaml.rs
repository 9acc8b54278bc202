//! Inventories in YAML, and the JSON of `ansible-inventory --list`.

use yaml_rust2::{Yaml, YamlLoader};

use super::{Inventory, InventoryError, Vars, ini};

/// Groups within groups, at most: more is no inventory but an attack on the stack.
const MAX_DEPTH: usize = 64;

pub(super) fn parse(text: &str) -> Result<Inventory, InventoryError> {
    let documents = YamlLoader::load_from_str(text).map_err(|error| InventoryError::Line {
        line: error.marker().line(),
        what: error.info().to_owned(),
    })?;
    let mut inventory = Inventory::default();
    let Some(Yaml::Hash(top)) = documents.first() else {
        return Err(wrong(text, "", "an inventory is a mapping of groups"));
    };
    for (name, group) in top {
        let name = key(text, name)?;
        if name == "_meta" {
            for (host, vars) in pairs(text, &group["hostvars"], "hostvars")? {
                inventory.hosts.entry(host).or_default().extend(variables(text, vars)?);
            }
            continue;
        }
        add(&mut inventory, text, &name, group, 0)?;
    }
    Ok(inventory)
}

fn add(
    inventory: &mut Inventory,
    text: &str,
    name: &str,
    value: &Yaml,
    depth: usize,
) -> Result<(), InventoryError> {
    if depth > MAX_DEPTH {
        return Err(wrong(text, name, "groups are nested too deeply"));
    }
    inventory.groups.entry(name.to_owned()).or_default();
    for (part, value) in pairs(text, value, name)? {
        match part.as_str() {
            "hosts" => {
                for (host, vars) in pairs(text, value, "hosts")? {
                    let hosts = ini::expand(&host).ok_or_else(|| {
                        wrong(
                            text,
                            &host,
                            "a range is not like [01:20], or of more than 10000 hosts",
                        )
                    })?;
                    let vars = variables(text, vars)?;
                    for host in hosts {
                        inventory.hosts.entry(host.clone()).or_default().extend(vars.clone());
                        inventory.groups.entry(name.to_owned()).or_default().hosts.insert(host);
                    }
                }
            }
            "children" => {
                for (child, value) in pairs(text, value, "children")? {
                    let group = inventory.groups.entry(name.to_owned()).or_default();
                    group.children.insert(child.clone());
                    add(inventory, text, &child, value, depth + 1)?;
                }
            }
            "vars" => {
                let vars = variables(text, value)?;
                inventory.groups.entry(name.to_owned()).or_default().vars.extend(vars);
            }
            other => {
                return Err(wrong(text, other, "a group has `hosts`, `children` and `vars`"));
            }
        }
    }
    Ok(())
}

/// Keys and values of a mapping; a list has keys alone, as in Ansible's JSON.
fn pairs<'a>(
    text: &str,
    value: &'a Yaml,
    what: &str,
) -> Result<Vec<(String, &'a Yaml)>, InventoryError> {
    match value {
        Yaml::Null | Yaml::BadValue => Ok(Vec::new()),
        Yaml::Hash(hash) => hash.iter().map(|(k, v)| Ok((key(text, k)?, v))).collect(),
        Yaml::Array(list) => list.iter().map(|k| Ok((key(text, k)?, &Yaml::Null))).collect(),
        _ => Err(wrong(text, what, "this is no mapping")),
    }
}

fn key(text: &str, value: &Yaml) -> Result<String, InventoryError> {
    scalar(value).ok_or_else(|| wrong(text, "", "a name is not a word"))
}

fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Those variables that are words; lists and mappings matter to Ansible alone.
fn variables(text: &str, value: &Yaml) -> Result<Vars, InventoryError> {
    let pairs = pairs(text, value, "vars")?;
    Ok(pairs.into_iter().filter_map(|(name, value)| Some((name, scalar(value)?))).collect())
}

/// The loader keeps no lines, so the first line with the word is named.
fn wrong(text: &str, word: &str, what: &str) -> InventoryError {
    let has = |line: &str| !word.is_empty() && line.contains(word);
    let line = text.lines().position(has).map_or(1, |at| at + 1);
    InventoryError::Line { line, what: what.to_owned() }
}
