//! Values as YAML in block style.

use std::fmt::Write as _;

use serde_json::Value;

use super::not_a_string;

/// One document, without a `---` before it; `mark` gives what goes before a string, such
/// as a tag.
pub fn text(value: &Value, mark: &dyn Fn(&str) -> &'static str) -> String {
    let mut writer = Writer { text: String::new(), mark };
    writer.block(value, 0);
    writer.text
}

struct Writer<'a> {
    text: String,
    mark: &'a dyn Fn(&str) -> &'static str,
}

impl Writer<'_> {
    fn block(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    let _ = write!(self.text, "{:1$}{2}:", "", depth * 2, name(key));
                    self.below(value, depth);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for value in items {
                    let _ = write!(self.text, "{:1$}-", "", depth * 2);
                    self.below(value, depth);
                }
            }
            other => {
                let scalar = self.scalar(other);
                let _ = writeln!(self.text, "{scalar}");
            }
        }
    }

    fn below(&mut self, value: &Value, depth: usize) {
        let empty = match value {
            Value::Object(map) => map.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => true,
        };
        if empty {
            let scalar = self.scalar(value);
            let _ = writeln!(self.text, " {scalar}");
        } else {
            self.text.push('\n');
            self.block(value, depth + 1);
        }
    }

    /// JSON, which YAML reads alike.
    fn scalar(&self, value: &Value) -> String {
        match value {
            Value::String(text) => format!("{}{value}", (self.mark)(text)),
            _ => value.to_string(),
        }
    }
}

/// A key, without quotes where every reader of YAML takes it for a string.
fn name(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_/.-".contains(c);
    let word = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(plain);
    match word && not_a_string(key).is_none() {
        true => key.to_owned(),
        false => Value::from(key).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_come_back_as_they_are() {
        let value = json!({
            "a": [], "no": {}, "b": [{ "c": "{{ x }}", "d": ["on", 1, true, null, "a: b # c"] }],
        });
        let expected = r#"a: []
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
"#;
        let mark = |text: &str| if text.contains("{{") { "!unsafe " } else { "" };
        assert_eq!(text(&value, &mark), expected);
        assert_eq!(text(&json!({}), &mark), "{}\n");
    }
}
