//! Words for a shell.

/// A word as a shell and Python's shlex read it back: in single
/// quotes where it has anything but plain characters.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\"'\"'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        for (word, expected) in [
            ("a/b.c", "a/b.c"),
            ("a b", "'a b'"),
            ("", "''"),
            ("it's $HOME", "'it'\"'\"'s $HOME'"),
            ("a\nb", "'a\nb'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
