//! Inventories in INI.

use super::{Group, Inventory, InventoryError, Vars};

/// A range in a host's name may stand for so many hosts.
const MAX_RANGE: u32 = 10_000;

enum Section {
    Hosts(String),
    Children(String),
    Vars(String),
}

pub(super) fn parse(text: &str) -> Result<Inventory, InventoryError> {
    let mut inventory = Inventory::default();
    let mut section = Section::Hosts("ungrouped".to_owned());
    for (line, text) in (1..).zip(text.lines()) {
        let wrong = |what: &str| InventoryError::Line { line, what: what.to_owned() };
        let text = text.trim();
        if text.is_empty() || text.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (name, after) = rest.split_once(']').ok_or_else(|| wrong("`[` without `]`"))?;
            if !after.trim().is_empty() && !after.trim().starts_with(['#', ';']) {
                return Err(wrong("text after `]`"));
            }
            section = header(name)
                .ok_or_else(|| wrong("a section is [GROUP], [GROUP:children] or [GROUP:vars]"))?;
            let (Section::Hosts(name) | Section::Children(name) | Section::Vars(name)) = &section;
            inventory.groups.entry(name.clone()).or_default();
            continue;
        }
        match &section {
            Section::Hosts(group) => {
                let words = words(text).ok_or_else(|| wrong("a quote is not closed"))?;
                let (host, vars) = words.split_first().ok_or_else(|| wrong("no host"))?;
                let hosts = expand(host).ok_or_else(|| {
                    wrong("a range is not like [01:20], or of more than 10000 hosts")
                })?;
                let vars: Option<Vars> = vars.iter().map(|word| variable(word)).collect();
                let vars = vars.ok_or_else(|| wrong("a variable is not like name=value"))?;
                for host in hosts {
                    add(&mut inventory, group, &host, &vars);
                }
            }
            Section::Children(group) => {
                let child = text.split(['#', ';']).next().unwrap_or_default().trim();
                if child.is_empty() || child.contains(char::is_whitespace) {
                    return Err(wrong("a child is one group's name"));
                }
                inventory.groups.entry(child.to_owned()).or_default();
                let group = inventory.groups.entry(group.clone()).or_default();
                group.children.insert(child.to_owned());
            }
            Section::Vars(group) => {
                let (name, value) =
                    variable(text).ok_or_else(|| wrong("a variable is not like name=value"))?;
                let group: &mut Group = inventory.groups.entry(group.clone()).or_default();
                group.vars.insert(name, value);
            }
        }
    }
    Ok(inventory)
}

fn add(inventory: &mut Inventory, group: &str, host: &str, vars: &Vars) {
    inventory.hosts.entry(host.to_owned()).or_default().extend(vars.clone());
    let group = inventory.groups.entry(group.to_owned()).or_default();
    group.hosts.insert(host.to_owned());
}

fn header(name: &str) -> Option<Section> {
    let (name, kind) = name.split_once(':').unwrap_or((name, ""));
    let name = name.trim().to_owned();
    match kind.trim() {
        _ if name.is_empty() => None,
        "" => Some(Section::Hosts(name)),
        "children" => Some(Section::Children(name)),
        "vars" => Some(Section::Vars(name)),
        _ => None,
    }
}

fn variable(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let value = value.trim();
    let unquoted = ['"', '\''].into_iter().find_map(|q| value.strip_prefix(q)?.strip_suffix(q));
    let name = name.trim();
    (!name.is_empty()).then(|| (name.to_owned(), unquoted.unwrap_or(value).to_owned()))
}

/// Splits a line at white space outside of quotes, up to a comment.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(open) => {
                if c == open {
                    quote = None;
                }
                word.push(c);
            }
            None if c == '#' && word.is_empty() => break,
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            None => {
                if c == '"' || c == '\'' {
                    quote = Some(c);
                }
                word.push(c);
            }
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    quote.is_none().then_some(words)
}

/// Writes out the ranges `[01:20]`, `[1:9:2]` and `[a:f]` in a host's name.
pub(super) fn expand(host: &str) -> Option<Vec<String>> {
    let Some((head, rest)) = host.split_once('[') else { return Some(vec![host.to_owned()]) };
    let (range, tail) = rest.split_once(']')?;
    let mut parts = range.split(':');
    let (first, last) = (parts.next()?, parts.next()?);
    let step: usize = parts.next().map_or(Some(1), |s| s.parse().ok().filter(|s| *s > 0))?;
    let letter = |s: &str| match s.as_bytes() {
        [c] if c.is_ascii_alphabetic() => Some(*c),
        _ => None,
    };
    let middle: Vec<String> = match (letter(first), letter(last)) {
        (Some(a), Some(b)) => (a..=b).step_by(step).map(|c| char::from(c).to_string()).collect(),
        _ => {
            let (a, b): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            let width = if first.starts_with('0') { first.len() } else { 1 };
            if b.checked_sub(a)? > MAX_RANGE {
                return None;
            }
            (a..=b).step_by(step).map(|n| format!("{n:0width$}")).collect()
        }
    };
    let tails = expand(tail)?;
    let joined = middle.iter().flat_map(|m| tails.iter().map(move |t| format!("{head}{m}{t}")));
    Some(joined.collect())
}
