//! Values as YAML that Ansible reads back as they are.

use std::fmt::Write as _;

use serde_json::Value;

use crate::fleet::yaml::not_a_string;

/// One document, in block style.
pub(super) fn document(value: &Value) -> String {
    let mut text = "# Written by `vzmaster playbook`, which writes it anew.\n---\n".to_owned();
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let _ = write!(text, "{:1$}{2}:", "", depth * 2, name(key));
                below(value, depth, text);
            }
        }
        Value::Array(items) => {
            for value in items {
                let _ = write!(text, "{:1$}-", "", depth * 2);
                below(value, depth, text);
            }
        }
        other => {
            let _ = writeln!(text, "{}", scalar(other));
        }
    }
}

fn below(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            block(value, depth + 1, text);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            block(value, depth + 1, text);
        }
        other => {
            let _ = writeln!(text, " {}", scalar(other));
        }
    }
}

/// A key, without quotes where every reader of YAML takes it for a string.
fn name(key: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c == '_';
    match key.chars().all(plain) && not_a_string(key).is_none() {
        true => key.to_owned(),
        false => Value::from(key).to_string(),
    }
}

/// JSON, which YAML reads alike; what Ansible would take for a template is marked as
/// text.
fn scalar(value: &Value) -> String {
    let template = |text: &str| ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark));
    match value {
        Value::String(text) if template(text) => format!("!unsafe {value}"),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_come_back_as_they_are() {
        let value = json!({
            "vz_a": [], "no": {}, "b": [{ "c": "{{ x }}", "d": ["on", 1, true, null, "a: b # c"] }],
        });
        let expected = r#"# Written by `vzmaster playbook`, which writes it anew.
---
b:
  -
    c: !unsafe "{{ x }}"
    d:
      - "on"
      - 1
      - true
      - null
      - "a: b # c"
"no": {}
vz_a: []
"#;
        assert_eq!(document(&value), expected);
    }
}
