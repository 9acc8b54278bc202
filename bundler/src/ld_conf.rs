//! /etc/ld.so.conf: the directories that ldconfig(8) looks through.

use std::collections::BTreeSet;

use crate::resolve::Resolver;
use crate::rootfs::Kind;

/// How deep files may include one another.
const MAX_DEPTH: usize = 8;
/// Most bytes of one file that are read.
const MAX_FILE: u64 = 1024 * 1024;

/// One line that says something.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Directory(&'a [u8]),
    Include(Vec<&'a [u8]>),
}

/// Returns the directories in the order of the files, each once.
pub fn directories(resolver: &Resolver<'_>) -> Vec<Vec<u8>> {
    let mut found = Found::default();
    found.file(resolver, b"/etc/ld.so.conf", 0);
    found.directories
}

#[derive(Default)]
struct Found {
    directories: Vec<Vec<u8>>,
    files: BTreeSet<Vec<u8>>,
}

impl Found {
    fn file(&mut self, resolver: &Resolver<'_>, path: &[u8], depth: usize) {
        let Ok(file) = resolver.resolve(path) else { return };
        let sound = file.meta.kind == Kind::File && file.meta.size <= MAX_FILE;
        if depth > MAX_DEPTH || !sound || !self.files.insert(file.path.as_bytes().to_vec()) {
            return;
        }
        let Ok(text) = resolver.rootfs().read(&file.path) else { return };
        let beside = path.iter().rposition(|&b| b == b'/').and_then(|slash| path.get(..slash));
        for line in text.split(|&b| b == b'\n').filter_map(parse_line) {
            match line {
                Line::Directory(directory) => {
                    if !self.directories.iter().any(|known| known == directory) {
                        self.directories.push(directory.to_vec());
                    }
                }
                Line::Include(patterns) => {
                    for pattern in patterns {
                        let pattern = match pattern.first() {
                            Some(b'/') => pattern.to_vec(),
                            _ => [beside.unwrap_or_default(), b"/", pattern].concat(),
                        };
                        for path in glob(resolver, &pattern) {
                            self.file(resolver, &path, depth + 1);
                        }
                    }
                }
            }
        }
    }
}

fn parse_line(line: &[u8]) -> Option<Line<'_>> {
    let line = line.split(|&b| b == b'#').next().unwrap_or_default().trim_ascii();
    let include = line
        .strip_prefix(b"include")
        .filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace));
    if let Some(patterns) = include {
        let words = patterns.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        return Some(Line::Include(words.collect()));
    }
    // `directory=libc6` names a kind of library that ldconfig no longer needs.
    let mut directory = line.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii_end();
    while let Some(shorter) = directory.strip_suffix(b"/") {
        directory = shorter;
    }
    directory.starts_with(b"/").then_some(Line::Directory(directory))
}

/// The paths that match `pattern`, sorted, as glob(3) has it.
fn glob(resolver: &Resolver<'_>, pattern: &[u8]) -> Vec<Vec<u8>> {
    let mut paths = vec![Vec::new()];
    for part in pattern.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for path in paths {
            if !part.iter().any(|b| b"*?[".contains(b)) {
                next.push([&*path, b"/", part].concat());
                continue;
            }
            let Ok(directory) = resolver.resolve(&path) else { continue };
            let names = resolver.rootfs().read_dir(&directory.path).unwrap_or_default();
            let fits = |name: &&Vec<u8>| {
                matches(part, name) && (part.starts_with(b".") || !name.starts_with(b"."))
            };
            next.extend(names.iter().filter(fits).map(|name| [&*path, b"/", name].concat()));
        }
        paths = next;
    }
    paths
}

/// Whether `name` fits `pattern`, in which `*`, `?` and `[…]` are special.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // On a mismatch the last star takes one byte more, so the time is at most
    // the product of both lengths.
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    loop {
        let taken = match (pattern.get(p..).unwrap_or_default(), name.get(n)) {
            ([], None) => return true,
            ([b'*', ..], _) => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            ([b'?', ..], Some(_)) => Some(1),
            ([b'[', class @ ..], Some(&byte)) => in_class(class, byte),
            ([b'\\', literal, ..], Some(byte)) => (literal == byte).then_some(2),
            ([literal, ..], Some(byte)) => (literal == byte).then_some(1),
            _ => None,
        };
        match (taken, star) {
            (Some(length), _) => (p, n) = (p + length, n + 1),
            (None, Some((at, from))) if from < name.len() => {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
            _ => return false,
        }
    }
}

/// The pattern's length if `byte` is in the class, which begins after its `[`.
fn in_class(class: &[u8], byte: u8) -> Option<usize> {
    let (negated, mut rest) = match class {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    let mut first = true;
    loop {
        match rest {
            [b']', ..] if !first => break,
            [low, b'-', high, after @ ..] if *high != b']' => {
                found |= (low..=high).contains(&&byte);
                rest = after;
            }
            [one, after @ ..] => {
                found |= *one == byte;
                rest = after;
            }
            [] => return None,
        }
        first = false;
    }
    (found != negated).then(|| class.len() - rest.len() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::Rootfs;
    use crate::testing::tree;

    #[track_caller]
    fn check(files: &str, expected: &[&str]) {
        let dir = tree(files);
        let rootfs = Rootfs::open(dir.path()).unwrap();
        let found = directories(&Resolver::new(&rootfs));
        let found: Vec<String> = found.iter().map(|d| String::from_utf8_lossy(d).into()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn includes_are_read_in_the_order_of_their_names() {
        check(
            "/etc/ld.so.conf = /first\\ninclude ld.so.conf.d/*.conf # all\\n/last/\n\
             /etc/ld.so.conf.d/b.conf = /b=libc6\n\
             /etc/ld.so.conf.d/a.conf = # nothing\\n  /a\\n\n\
             /etc/ld.so.conf.d/c.disabled = /c",
            &["/first", "/a", "/b", "/last"],
        );
    }

    #[test]
    fn files_that_include_themselves_end() {
        check("/etc/ld.so.conf = include /etc/*.conf\\n/a", &["/a"]);
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("[a-c]?*", "bxy", true),
            ("[!a-c]*", "bxy", false),
            ("a*b*c", "aXbYbc", true),
            ("[", "[", false),
            ("\\*", "*", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
    }
}
