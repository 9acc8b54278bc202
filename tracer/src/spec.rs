//! The text form of a spec: one absolute path a line.
//!
//! Lines are raw bytes, sorted bytewise, unique, without comments, so that
//! `rsync --files-from`, `sort`, `comm` and `grep` work on them. Only a path
//! that holds a newline is quoted: in double quotes, with `\n`, `\"` and `\\`.
//! (Such a line is the only kind that does not begin with a slash.)

use std::collections::BTreeSet;

/// A set of absolute paths, as in a `spec` file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec(BTreeSet<Vec<u8>>);

/// What is wrong with a line of a spec; lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The line is not an absolute path.
    #[error("line {line}: `{text}` does not begin with `/`")]
    Relative {
        /// Number of the line.
        line: usize,
        /// The line, escaped.
        text: String,
    },
    /// The line has a `..` component, whose meaning depends on links.
    #[error("line {line}: `{text}` has a `..` component; write the path it stands for")]
    DotDot {
        /// Number of the line.
        line: usize,
        /// The line, escaped.
        text: String,
    },
    /// The line has a NUL byte, which no path can hold.
    #[error("line {line}: `{text}` has a NUL byte (a binary file, or `find -print0`?)")]
    Nul {
        /// Number of the line.
        line: usize,
        /// The line, escaped.
        text: String,
    },
    /// The line begins with a double quote and is not a quoted path.
    #[error("line {line}: `{text}` is not a path in double quotes")]
    Quote {
        /// Number of the line.
        line: usize,
        /// The line, escaped.
        text: String,
    },
}

impl Spec {
    /// Reads the text of a spec. Empty lines, order and doubled lines do not
    /// matter, so that specs written by hand or with `cat a b` are fine, and a
    /// path is brought into one spelling (no `//`, no `/./`, no slash at the end).
    ///
    /// # Errors
    /// The first line that is no absolute path, has `..` or a NUL byte.
    pub fn parse(text: &[u8]) -> Result<Self, SpecError> {
        let mut paths = BTreeSet::new();
        for (index, line) in text.split(|&b| b == b'\n').enumerate() {
            if !line.is_empty() {
                paths.insert(parse_line(index + 1, line)?);
            }
        }
        Ok(Spec(paths))
    }

    /// Returns the text: sorted, one path a line, each with a newline.
    pub fn print(&self) -> Vec<u8> {
        print(self.paths())
    }

    /// The paths, sorted bytewise.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Adds an absolute path; its caller vouches for its form.
    pub fn insert(&mut self, path: Vec<u8>) {
        self.0.insert(path);
    }

    /// Takes in all paths of `other`.
    pub fn unite(&mut self, other: Spec) {
        self.0.extend(other.0);
    }

    /// Whether `path` is one of the paths.
    pub fn contains(&self, path: &[u8]) -> bool {
        self.0.contains(path)
    }
}

impl FromIterator<Vec<u8>> for Spec {
    fn from_iter<I: IntoIterator<Item = Vec<u8>>>(paths: I) -> Self {
        Spec(paths.into_iter().collect())
    }
}

/// Returns the text of a spec of these paths, which are sorted and unique.
pub fn print<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut text = Vec::new();
    for path in paths {
        if path.contains(&b'\n') {
            quote(path, &mut text);
        } else {
            text.extend_from_slice(path);
        }
        text.push(b'\n');
    }
    text
}

fn parse_line(line: usize, bytes: &[u8]) -> Result<Vec<u8>, SpecError> {
    let text = || bytes.escape_ascii().to_string();
    let path = match bytes {
        [b'"', quoted @ .., b'"'] => {
            unquote(quoted).ok_or_else(|| SpecError::Quote { line, text: text() })?
        }
        [b'"', ..] => return Err(SpecError::Quote { line, text: text() }),
        _ => bytes.to_vec(),
    };
    if path.first() != Some(&b'/') {
        return Err(SpecError::Relative { line, text: text() });
    }
    if path.contains(&0) {
        return Err(SpecError::Nul { line, text: text() });
    }
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(SpecError::DotDot { line, text: text() }),
            name => {
                clean.push(b'/');
                clean.extend_from_slice(name);
            }
        }
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    Ok(clean)
}

fn quote(path: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in path {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        path.push(match byte {
            b'"' => return None,
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                &escaped @ (b'"' | b'\\') => escaped,
                _ => return None,
            },
            _ => byte,
        });
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_refused(text: &[u8], message: &str) {
        assert_eq!(Spec::parse(text).unwrap_err().to_string(), message);
    }

    #[test]
    fn a_spec_written_by_hand_is_sorted_and_unique() {
        let spec = Spec::parse(b"/usr/bin/perl\n\n/etc//passwd\n/usr/bin/perl/\n").unwrap();
        assert_eq!(spec.print(), b"/etc/passwd\n/usr/bin/perl\n");
    }

    #[test]
    fn a_newline_in_a_path_is_quoted() {
        let spec = Spec::from_iter([b"/a\n\"b\\".to_vec()]);
        assert_eq!(spec.print(), b"\"/a\\n\\\"b\\\\\"\n");
    }

    #[test]
    fn bad_lines_are_named() {
        check_refused(b"/a\nusr/bin", "line 2: `usr/bin` does not begin with `/`");
        check_refused(
            b"/a/../b",
            "line 1: `/a/../b` has a `..` component; write the path it stands for",
        );
        check_refused(
            b"/a\0/b",
            "line 1: `/a\\x00/b` has a NUL byte (a binary file, or `find -print0`?)",
        );
        check_refused(b"\"/a", "line 1: `\\\"/a` is not a path in double quotes");
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(
            names in proptest::collection::vec("[^/\0]{1,8}", 1..20)
        ) {
            let paths = names.iter().filter(|n| *n != "." && *n != "..");
            let spec: Spec = paths.map(|n| format!("/{n}").into_bytes()).collect();
            prop_assert_eq!(Spec::parse(&spec.print()), Ok(spec));
        }

        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(spec) = Spec::parse(&bytes) {
                prop_assert_eq!(Spec::parse(&spec.print()), Ok(spec));
            }
        }
    }
}
