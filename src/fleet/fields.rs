//! Reading a [`Node`] as what it should be; what it is not becomes a [`Violation`],
//! and reading goes on.

use std::fmt;

use super::yaml::{self, Key, Node, Value, not_a_string};

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The line, from 1.
    pub line: usize,
    /// Which field, as `spec.containers[0].name`; empty for the file as a whole.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}: {}", self.line, self.what),
            path => write!(f, "{}: {path}: {}", self.line, self.what),
        }
    }
}

/// Where something stands in its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// Which field, as `spec.containers[0].name`.
    pub path: String,
}

/// A node and how it is reached.
#[derive(Clone, Debug)]
pub struct At<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its path.
    pub path: String,
}

/// The violations of one file, as they are found.
#[derive(Debug, Default)]
pub struct Check {
    /// In the order in which they were found.
    pub violations: Vec<Violation>,
}

/// The entries of a mapping all of whose keys are known.
#[derive(Debug)]
pub struct Fields<'a> {
    entries: &'a [(Key, Node)],
    path: String,
    line: usize,
}

impl<'a> At<'a> {
    /// The top of a document.
    pub fn top(node: &'a Node) -> Self {
        At { node, path: String::new() }
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        Place { line: self.node.line, path: self.path.clone() }
    }
}

/// The path of `name` below `path`; a name with other letters is quoted.
fn below(path: &str, name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    match (path, name.chars().all(plain)) {
        ("", true) => name.to_owned(),
        (_, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[\"{}\"]", name.escape_debug()),
    }
}

impl<'a> Fields<'a> {
    /// The value of `name`, unless it is absent or null.
    pub fn get(&self, name: &str) -> Option<At<'a>> {
        let (_, node) = self.entries.iter().find(|(key, _)| key.text == name)?;
        (!node.is_null()).then(|| At { node, path: below(&self.path, name) })
    }

    /// Every key with its value.
    pub fn all(&self) -> impl Iterator<Item = (&'a Key, At<'a>)> + '_ {
        self.entries
            .iter()
            .map(|(key, node)| (key, At { node, path: below(&self.path, &key.text) }))
    }

    /// Where the mapping itself is, for what is missing in it.
    pub fn place(&self) -> (usize, &str) {
        (self.line, &self.path)
    }
}

impl Check {
    /// The documents of `text`; none, and a violation, where it is no YAML.
    pub fn documents(&mut self, text: &str) -> Vec<Node> {
        yaml::parse(text).unwrap_or_else(|error| {
            self.note(error.line, "", error.what);
            Vec::new()
        })
    }

    /// Notes that something is wrong with `at`.
    pub fn wrong(&mut self, at: &At<'_>, what: impl Into<String>) {
        self.note(at.node.line, &at.path, what);
    }

    /// Notes that something is wrong at a line and path.
    pub fn note(&mut self, line: usize, path: &str, what: impl Into<String>) {
        self.violations.push(Violation { line, path: path.to_owned(), what: what.into() });
    }

    /// A mapping with any keys.
    pub fn map<'a>(&mut self, at: &At<'a>) -> Option<Fields<'a>> {
        let Value::Map(entries) = &at.node.value else {
            self.wrong(at, format!("must be a mapping, and is {}", kind(at.node)));
            return None;
        };
        Some(Fields { entries, path: at.path.clone(), line: at.node.line })
    }

    /// A mapping with no keys but `known`; `why` says of others why they are refused,
    /// where there is more to say.
    pub fn fields<'a>(
        &mut self,
        at: &At<'a>,
        known: &[&str],
        why: impl Fn(&str) -> &'static str,
    ) -> Option<Fields<'a>> {
        let fields = self.map(at)?;
        for (key, value) in fields.all() {
            if !known.contains(&key.text.as_str()) {
                let what = match why(&key.text) {
                    "" => format!("not supported{}", or_near(&key.text, known)),
                    why => format!("not supported: {why}"),
                };
                self.note(key.line, &value.path, what);
            }
        }
        Some(fields)
    }

    /// Notes that `name` is missing.
    pub fn missing(&mut self, fields: &Fields<'_>, name: &str) {
        let (line, path) = fields.place();
        self.missing_below(line, path, name);
    }

    /// Notes that `name` is missing where there is not even a mapping.
    pub fn missing_below(&mut self, line: usize, path: &str, name: &str) {
        self.note(line, &below(path, name), "is missing");
    }

    /// The items of a sequence.
    pub fn list<'a>(&mut self, at: &At<'a>) -> Vec<At<'a>> {
        let Value::List(items) = &at.node.value else {
            self.wrong(at, format!("must be a list, and is {}", kind(at.node)));
            return Vec::new();
        };
        let item = |(n, node)| At { node, path: format!("{}[{n}]", at.path) };
        items.iter().enumerate().map(item).collect()
    }

    /// A string that every reader of YAML takes for one.
    pub fn text(&mut self, at: &At<'_>) -> Option<String> {
        match &at.node.value {
            Value::Quoted(text) => Some(text.clone()),
            Value::Plain(text) => match not_a_string(text) {
                None => Some(text.clone()),
                Some(what) => {
                    self.wrong(at, format!("must be a string, and `{text}` is {what}: quote it"));
                    None
                }
            },
            _ => {
                self.wrong(at, format!("must be a string, and is {}", kind(at.node)));
                None
            }
        }
    }

    /// A list of strings.
    pub fn texts(&mut self, at: &At<'_>) -> Vec<String> {
        let items = self.list(at);
        items.iter().filter_map(|item| self.text(item)).collect()
    }

    /// A whole number within `range`, in plain decimal digits: YAML 1.1 reads `010`
    /// as eight, YAML 1.2 as ten.
    pub fn number(&mut self, at: &At<'_>, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let text = match &at.node.value {
            Value::Plain(text) => text,
            Value::Quoted(text) => {
                self.wrong(at, format!("must be a number, and `\"{text}\"` is a string"));
                return None;
            }
            _ => {
                self.wrong(at, format!("must be a number, and is {}", kind(at.node)));
                return None;
            }
        };
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        if digits && text.len() > 1 && text.starts_with('0') {
            self.wrong(at, format!("`{text}` is octal for some and decimal for others: write it without the leading zero"));
            return None;
        }
        match text.parse().ok().filter(|number| digits && range.contains(number)) {
            Some(number) => Some(number),
            None => {
                let (first, last) = (range.start(), range.end());
                self.wrong(at, format!("must be a number from {first} to {last}, and is `{text}`"));
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn truth(&mut self, at: &At<'_>) -> Option<bool> {
        match &at.node.value {
            Value::Plain(text) if text == "true" => Some(true),
            Value::Plain(text) if text == "false" => Some(false),
            Value::Plain(text) | Value::Quoted(text) => {
                self.wrong(at, format!("must be true or false, and is `{text}`"));
                None
            }
            _ => {
                self.wrong(at, format!("must be true or false, and is {}", kind(at.node)));
                None
            }
        }
    }

    /// A quantity of Kubernetes as text: a number or a string.
    pub fn quantity(&mut self, at: &At<'_>) -> Option<String> {
        match &at.node.value {
            Value::Plain(text) | Value::Quoted(text) => Some(text.clone()),
            _ => {
                self.wrong(at, format!("must be a quantity, and is {}", kind(at.node)));
                None
            }
        }
    }

    /// A name as DNS has its labels: what Kubernetes takes for names of most things.
    pub fn label(&mut self, at: &At<'_>) -> Option<String> {
        let text = self.text(at)?;
        if is_label(&text) {
            return Some(text);
        }
        let rule = "at most 63 small letters, digits and `-`, with no `-` at either end";
        self.wrong(at, format!("`{}` is no name: {rule}", text.escape_debug()));
        None
    }
}

/// `: did you mean …?` where one of `known` is so near to `word` that it may be meant: a
/// letter of three is another one, twice at most, whether small or large.
pub fn or_near<T: AsRef<str>>(word: &str, known: impl IntoIterator<Item = T>) -> String {
    let small = word.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&small, &name.to_lowercase());
    let near = known.into_iter().map(|name| (distance(name.as_ref()), name));
    let most = (word.chars().count() / 3).min(2);
    match near.min_by_key(|(distance, _)| *distance).filter(|(distance, _)| *distance <= most) {
        Some((_, name)) => format!(": did you mean `{}`?", name.as_ref().escape_debug()),
        None => String::new(),
    }
}

/// Whether `text` is a DNS label (RFC 1123).
pub fn is_label(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn kind(node: &Node) -> &'static str {
    match &node.value {
        Value::Plain(text) => not_a_string(text).unwrap_or("a string"),
        Value::Quoted(_) => "a string",
        Value::List(_) => "a list",
        Value::Map(_) => "a mapping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_meant_is_named() {
        let known = ["readinessProbe", "livenessProbe", "ports", "env", "args"];
        for (word, expected) in [
            ("readynessProbe", ": did you mean `readinessProbe`?"),
            ("readinessprobe", ": did you mean `readinessProbe`?"),
            ("port", ": did you mean `ports`?"),
            ("evn", ": did you mean `env`?"),
            ("ev", ""),
            ("lifecycle", ""),
            ("tty", ""),
            ("", ""),
        ] {
            assert_eq!(or_near(word, known), expected, "{word}");
        }
    }
}
