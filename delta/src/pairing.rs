//! Which file of the base a file of the target is coded against.
//!
//! In order: the same content anywhere, the same path, the same name, the same name
//! but for version numbers (`libfoo.so.1.2`, `libfoo.so.1.3`), similar content.

use std::collections::{BTreeSet, HashMap};

use crate::manifest::{Digest, Manifest};

/// What a file of the target is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// This entry of the base has the same content.
    Same(usize),
    /// This entry of the base is likely to be an earlier version of it.
    Version(usize),
    /// Neither path nor name tells.
    Unknown,
}

/// Pairs each regular file of `target` by its digest, path or name; `None` for
/// entries of other kinds. Numbers are those of the entries of `base`.
#[must_use]
pub fn pair(base: &Manifest, target: &Manifest) -> Vec<Option<Pairing>> {
    let mut by_digest: HashMap<(u64, Digest), usize> = HashMap::new();
    let mut by_stem: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for (number, entry) in base.entries().iter().enumerate() {
        let Some(info) = entry.file() else { continue };
        by_digest.entry((info.size, info.digest)).or_insert(number);
        by_stem.entry(stem(name(&entry.path))).or_default().push(number);
    }
    let of_entry = |entry: &crate::Entry| {
        let info = entry.file()?;
        let here = base.index(&entry.path).filter(|n| base.entries()[*n].file().is_some());
        let same_here = here.filter(|n| {
            base.entries()[*n]
                .file()
                .is_some_and(|f| (f.size, f.digest) == (info.size, info.digest))
        });
        let same = same_here.or_else(|| by_digest.get(&(info.size, info.digest)).copied());
        if let Some(number) = same.filter(|_| info.size > 0 || same_here.is_some()) {
            return Some(Pairing::Same(number));
        }
        let namesakes = by_stem.get(&stem(name(&entry.path))).map_or(&[][..], Vec::as_slice);
        let nearest = namesakes.iter().copied().max_by_key(|number| {
            let there = &base.entries()[*number].path;
            let gone = target.index(there).is_none();
            let shared = entry.path.iter().zip(there).take_while(|(a, b)| a == b).count();
            (stem(there) == stem(&entry.path), name(there) == name(&entry.path), gone, shared)
        });
        Some(here.or(nearest).map_or(Pairing::Unknown, Pairing::Version))
    };
    target.entries().iter().map(of_entry).collect()
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&b| b == b'/').next().unwrap_or_default()
}

/// A name or path with each version number, digits and dots between them, as one `#`.
fn stem(name: &[u8]) -> Vec<u8> {
    let mut stem = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if !byte.is_ascii_digit() {
            stem.push(byte);
            continue;
        }
        loop {
            rest = match rest {
                [b'0'..=b'9', after @ ..] => after,
                [b'.', after @ ..] if after.first().is_some_and(u8::is_ascii_digit) => after,
                _ => break,
            };
        }
        stem.push(b'#');
    }
    stem
}

/// A few hashes that stand for a file's content: files that share content share
/// some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch(BTreeSet<u64>);

/// Bytes of content behind each hash.
const SHINGLE: usize = 32;
/// Hashes in a sketch.
const KEPT: usize = 64;
/// So many of them have to be equal.
const ENOUGH: usize = 4;

impl Sketch {
    /// The smallest hashes of all stretches of 32 bytes; one pass over `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        const BASE: u64 = 0x0100_0000_01b3;
        let leaving = BASE.wrapping_pow(SHINGLE as u32);
        let mut kept = BTreeSet::new();
        let mut largest = u64::MAX;
        let mut hash = 0u64;
        for (at, &byte) in content.iter().enumerate() {
            hash = hash.wrapping_mul(BASE).wrapping_add(u64::from(byte) + 1);
            if let Some(before) = at.checked_sub(SHINGLE) {
                let old = u64::from(content[before]) + 1;
                hash = hash.wrapping_sub(old.wrapping_mul(leaving));
            }
            let mixed = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            if at + 1 >= SHINGLE && mixed < largest && kept.insert(mixed) && kept.len() > KEPT {
                kept.pop_last();
                largest = kept.last().copied().unwrap_or(u64::MAX);
            }
        }
        Sketch(kept)
    }

    /// How many hashes two sketches share.
    fn shared(&self, other: &Sketch) -> usize {
        self.0.intersection(&other.0).count()
    }
}

/// The number of the candidate most like `sketch`, if one is like it at all.
#[must_use]
pub fn most_similar(sketch: &Sketch, candidates: &[(usize, Sketch)]) -> Option<usize> {
    let scored = candidates.iter().map(|(number, other)| (sketch.shared(other), *number));
    let best = scored.max_by_key(|(shared, number)| (*shared, std::cmp::Reverse(*number)));
    best.filter(|(shared, _)| *shared >= ENOUGH).map(|(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Entry, FileInfo, Kind};

    /// A tree of `path=content` words; directories come by themselves.
    fn tree(text: &str) -> Manifest {
        let mut entries: Vec<Entry> = Vec::new();
        let new = |path: &str, kind| {
            let path = path.as_bytes().to_vec();
            Entry { path, mode: 0o644, uid: 0, gid: 0, kind, xattrs: Vec::new() }
        };
        for word in text.split_whitespace() {
            let (path, content) = word.split_once('=').unwrap();
            for (slash, _) in path.match_indices('/') {
                if !entries.iter().any(|e| e.path == path.as_bytes()[..slash]) {
                    entries.push(new(&path[..slash], Kind::Directory));
                }
            }
            let digest = Digest::of(content.as_bytes());
            let info = FileInfo { size: content.len() as u64, mtime: 0, digest };
            entries.push(new(path, Kind::File(info)));
        }
        Manifest::new(entries).unwrap()
    }

    /// Asserts what the only file of `target` is paired with.
    #[track_caller]
    fn check(base: &str, target: &str, expected: &str) {
        let base = tree(base);
        let paired = pair(&base, &tree(target));
        let path = |n: usize| String::from_utf8_lossy(&base.entries()[n].path).into_owned();
        let said = match paired.iter().flatten().next().unwrap() {
            Pairing::Same(n) => format!("same {}", path(*n)),
            Pairing::Version(n) => format!("version {}", path(*n)),
            Pairing::Unknown => "unknown".to_owned(),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn equal_content_comes_before_everything() {
        check("a=1 b=2", "b=1", "same a");
        check("a=1 b=1", "b=1", "same b");
    }

    #[test]
    fn a_path_comes_before_a_name() {
        check("bin/x=1 lib/x=2", "lib/x=3", "version lib/x");
    }

    #[test]
    fn a_name_is_found_in_another_directory() {
        check("usr/lib/libz.so=1 usr/bin/z=2", "lib/libz.so=3", "version usr/lib/libz.so");
    }

    #[test]
    fn version_numbers_do_not_count() {
        check(
            "lib/libfoo.so.1.2=1 lib/libfo.so.1=2",
            "lib/libfoo.so.1.3=3",
            "version lib/libfoo.so.1.2",
        );
        check("d-2.4.5.info/M=1 e-1.0.info/M=2", "d-2.4.6.info/M=3", "version d-2.4.5.info/M");
    }

    #[test]
    fn strangers_stay_unpaired() {
        check("a=1", "b=2", "unknown");
        check("a=", "b=", "unknown");
    }

    #[test]
    fn stems_replace_whole_versions() {
        assert_eq!(stem(b"libfoo.so.1.2.30"), b"libfoo.so.#");
        assert_eq!(stem(b"python3.11.pyc"), b"python#.pyc");
        assert_eq!(stem(b"a.b"), b"a.b");
    }

    #[test]
    fn similar_content_is_found() {
        let text: Vec<u8> = (0..4000u32).flat_map(|n| (n * n).to_string().into_bytes()).collect();
        let mut edited = text.clone();
        edited.splice(1000..1010, *b"something else");
        let noise: Vec<u8> = (0..4000u32).flat_map(|n| (n * 7919).to_le_bytes()).collect();
        let candidates = [(3, Sketch::of(&noise)), (8, Sketch::of(&text))];
        assert_eq!(most_similar(&Sketch::of(&edited), &candidates), Some(8));
        assert_eq!(most_similar(&Sketch::of(b"short"), &candidates), None);
    }
}
