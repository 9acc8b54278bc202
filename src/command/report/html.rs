//! Text for a page: nothing of a bundle can become markup.

use std::fmt::Write;

use tracer::record::BytePath;

/// Characters that turn the direction of text, by which a name can look like another.
const TURNING: [char; 11] = [
    '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}',
    '\u{2067}', '\u{2068}', '\u{2069}',
];

/// Returns `text` with the characters of HTML escaped, and those that cannot be
/// seen written as codes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() || TURNING.contains(&c) => {
                let _ = write!(escaped, "{}", c.escape_unicode());
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// A path as text: bytes that are no UTF-8 are written as `\xNN`.
pub(super) fn text(path: &BytePath) -> String {
    match std::str::from_utf8(&path.0) {
        Ok(text) => text.to_owned(),
        Err(_) => path.0.escape_ascii().to_string(),
    }
}

/// A path for a page.
pub(super) fn path(path: &BytePath) -> String {
    escape(&text(path))
}

/// Bytes in three digits: `7.2 MB`.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["kB", "MB", "GB", "TB"].iter();
    let mut unit = "B";
    while value >= 999.5 {
        let Some(next) = units.next() else { break };
        value /= 1000.0;
        unit = next;
    }
    let digits = if unit == "B" || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_markup() {
        assert_eq!(escape("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
        assert_eq!(escape("gpj.\u{202e}exe\n"), "gpj.\\u{202e}exe\\u{a}");
        assert_eq!(path(&BytePath(b"/a\xff<".to_vec())), "/a\\xff&lt;");
    }

    #[test]
    fn sizes_have_three_digits() {
        let sizes = [0, 999, 1000, 12_345, 999_499, 999_500, 7_240_000];
        let expected = ["0 B", "999 B", "1.00 kB", "12.3 kB", "999 kB", "1.00 MB", "7.24 MB"];
        assert_eq!(sizes.map(size), expected);
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
