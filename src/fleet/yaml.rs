//! YAML as a tree that knows its lines. Pure.
//!
//! What could be read in two ways, or costs more than it says, is refused: aliases
//! (and so bombs), tags, keys that come twice, keys that are no words, documents
//! nested deeper than [`MAX_DEPTH`] or longer than [`MAX_BYTES`].

pub mod write;

use yaml_rust2::Event;
use yaml_rust2::parser::Parser;
use yaml_rust2::scanner::{Marker, TScalarStyle};

/// Deepest nesting: a Pod needs 9 levels.
pub const MAX_DEPTH: usize = 32;
/// Longest text, in bytes: Kubernetes accepts 1.5 MiB.
pub const MAX_BYTES: usize = 1 << 20;

/// A value, and the line it begins on, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its line.
    pub line: usize,
    /// What it is.
    pub value: Value,
}

/// A value of YAML; scalars are left to those who know what they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word without quotes: a string, number, truth value or null.
    Plain(String),
    /// A string in quotes or a block.
    Quoted(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the text; no key comes twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its line.
    pub line: usize,
    /// The word.
    pub text: String,
}

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct YamlError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

/// A collection that is not closed yet.
enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(Key, Node)>, Option<Key>),
}

/// Reads all documents of `text`; one that is empty is left out.
///
/// # Errors
/// The first place that is no YAML, or that is refused.
pub fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    if text.len() > MAX_BYTES {
        return Err(YamlError { line: 1, what: format!("longer than {MAX_BYTES} bytes") });
    }
    let mut parser = Parser::new_from_str(text.trim_start_matches('\u{feff}'));
    let mut documents = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    loop {
        let (event, mark) = parser.next_token().map_err(|error| YamlError {
            line: error.marker().line(),
            what: error.info().to_owned(),
        })?;
        let line = mark.line();
        let fault = |what: &str| Err(YamlError { line, what: what.to_owned() });
        let done = match event {
            Event::StreamEnd => return Ok(documents),
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => {
                continue;
            }
            Event::Alias(_) => return fault("aliases are not supported: write the value out"),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => return fault("tags are not supported"),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= MAX_DEPTH => {
                return fault("nested too deeply");
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(line, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(line, Vec::new(), None));
                continue;
            }
            Event::Scalar(text, style, ..) => scalar(text, style, mark),
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(line, items)) => Node { line, value: Value::List(items) },
                Some(Open::Map(line, entries, _)) => Node { line, value: Value::Map(entries) },
                None => return fault("an end without a beginning"),
            },
        };
        match open.last_mut() {
            None if done.is_null() => {}
            None => documents.push(done),
            Some(parent) => parent.take(done)?,
        }
    }
}

fn scalar(text: String, style: TScalarStyle, mark: Marker) -> Node {
    let value = match style {
        TScalarStyle::Plain => Value::Plain(text),
        _ => Value::Quoted(text),
    };
    Node { line: mark.line(), value }
}

impl Open {
    fn take(&mut self, mut node: Node) -> Result<(), YamlError> {
        match self {
            Open::List(_, items) => items.push(node),
            Open::Map(_, entries, waiting) => match waiting.take() {
                Some(key) => {
                    // The parser finds out that nothing is there only further down.
                    if node.value == Value::Plain(String::new()) {
                        node.line = key.line;
                    }
                    entries.push((key, node));
                }
                None => *waiting = Some(key(node, entries)?),
            },
        }
        Ok(())
    }
}

fn key(node: Node, entries: &[(Key, Node)]) -> Result<Key, YamlError> {
    let line = node.line;
    let (Value::Plain(text) | Value::Quoted(text)) = node.value else {
        return Err(YamlError { line, what: "a key must be a word".to_owned() });
    };
    if let Some((first, _)) = entries.iter().find(|(key, _)| key.text == text) {
        let what = format!("`{}` is here twice, first in line {}", text.escape_debug(), first.line);
        return Err(YamlError { line, what });
    }
    Ok(Key { line, text })
}

impl Node {
    /// Whether it is nothing: an empty place or a null.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Plain(text) if is_null(text))
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Why a word without quotes may be no string for some reader of YAML (1.1 or 1.2).
pub fn not_a_string(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_start_matches(['+', '-']);
    let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && (digits.replace('_', "").parse::<f64>().is_ok()
            || digits.split(':').all(|part| {
                !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit() || c == b'_')
            })
            || ["0x", "0o", "0b"].iter().any(|prefix| {
                let rest = digits.strip_prefix(prefix);
                rest.is_some_and(|rest| rest.bytes().all(|c| c.is_ascii_hexdigit() || c == b'_'))
            }));
    match lower.as_str() {
        "" | "~" | "null" => Some("null"),
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" => Some("a truth value"),
        ".inf" | "-.inf" | "+.inf" | ".nan" => Some("a number"),
        _ if number => Some("a number"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(node: &Node) -> String {
        let inner = match &node.value {
            Value::Plain(text) => text.clone(),
            Value::Quoted(text) => format!("{text:?}"),
            Value::List(items) => {
                format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" "))
            }
            Value::Map(entries) => {
                let entry = |(key, node): &(Key, Node)| format!("{}={}", key.text, shown(node));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
        };
        format!("{}:{inner}", node.line)
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let documents = parse(text).unwrap();
        assert_eq!(documents.iter().map(shown).collect::<Vec<_>>().join("\n"), expected);
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn values_know_their_lines() {
        check("a: 1\nb:\n  - x\n  - 'y'\n", "1:{a=1:1 b=3:[3:x 4:\"y\"]}");
        check("a: 1\n---\n# nothing\n---\n- b\n", "1:{a=1:1}\n5:[5:b]");
        check("a:\nb: |\n  text\n", "1:{a=1: b=3:\"text\\n\"}");
        check("", "");
        check("\u{feff}a: 1\r\nb: 2\r\n", "1:{a=1:1 b=2:2}");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        refused("a: 1\nb: 2\na: 3\n", "line 3: `a` is here twice, first in line 1");
        refused("a: &x [1]\nb: *x\n", "line 2: aliases are not supported");
        refused("a: !!str 1\n", "line 1: tags are not supported");
        refused("? [a, b]\n: 1\n", "line 1: a key must be a word");
        refused("a:\n\t- 1\n", "line 2: ");
        refused("a: [1\nb: 2\n", "line 2: ");
        refused("a: 'x\n", "line ");
    }

    #[test]
    fn bombs_do_not_go_off() {
        refused(&"[".repeat(100_000), "line 1: ");
        refused(&"- ".repeat(100_000), "line 1: nested too deeply");
        refused(&"{a: ".repeat(100), "line 1: nested too deeply");
        refused(&format!("a: {}", "x".repeat(MAX_BYTES)), "line 1: longer than");
        let billion = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
        refused(billion, "line 2: aliases");
    }

    #[test]
    fn words_that_are_no_strings_for_some_readers_are_known() {
        let numbers =
            ["1", "-1", "+1.5", "1e3", "0x1F", "0o17", "017", "1_000", "22:22", ".5", ".inf"];
        for word in numbers {
            assert_eq!(not_a_string(word), Some("a number"), "{word}");
        }
        for word in ["yes", "No", "on", "OFF", "true", "n"] {
            assert_eq!(not_a_string(word), Some("a truth value"), "{word}");
        }
        for word in ["", "~", "null"] {
            assert_eq!(not_a_string(word), Some("null"), "{word}");
        }
        for word in
            ["web", "10.0.0.1", "1.2.3", "64Mi", "1-2", "e3", "a:1", "::1", "-", "2026-11-21"]
        {
            assert_eq!(not_a_string(word), None, "{word}");
        }
    }
}
