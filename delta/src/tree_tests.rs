//! Whole trees in memory, there and back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::manifest::{FileInfo, Kind};
use crate::{ReadAt, inspect};

/// Contents by path; every directory comes by itself.
type Contents = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Memory {
    manifest: Manifest,
    contents: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Files for Memory {
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn ReadAt + '_>> {
        let content = self.contents.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(content.as_slice()))
    }
}

fn entry(path: &[u8], kind: Kind) -> Entry {
    Entry { path: path.to_vec(), mode: 0o644, uid: 0, gid: 0, kind, xattrs: Vec::new() }
}

impl Memory {
    fn new(files: &Contents) -> Self {
        let mut contents = BTreeMap::new();
        let mut entries = BTreeMap::new();
        for (path, content) in files {
            for (slash, _) in path.match_indices('/') {
                let dir = path.as_bytes()[..slash].to_vec();
                entries.insert(dir.clone(), entry(&dir, Kind::Directory));
            }
            let path = path.as_bytes();
            let (size, digest) = (content.len() as u64, crate::Digest::of(content));
            let info = FileInfo { size, mtime: 1_700_000_000, digest };
            entries.insert(path.to_vec(), entry(path, Kind::File(info)));
            contents.insert(path.to_vec(), content.clone());
        }
        Memory { manifest: Manifest::new(entries.into_values().collect()).unwrap(), contents }
    }

    fn with(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        let all = self.manifest.entries().iter().cloned().chain(entries).collect();
        self.manifest = Manifest::new(all).unwrap();
        self
    }
}

/// Builds a tree in memory; what is kept is read and checked.
#[derive(Default)]
struct Building {
    built: Vec<Entry>,
    contents: BTreeMap<Vec<u8>, Vec<u8>>,
    current: Vec<u8>,
    committed: bool,
}

impl Sink for Building {
    fn special(&mut self, entry: &Entry) -> io::Result<()> {
        self.built.push(entry.clone());
        Ok(())
    }

    fn begin(&mut self, _: &Entry) -> io::Result<()> {
        self.current.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.current.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, entry: &Entry) -> io::Result<()> {
        self.built.push(entry.clone());
        self.contents.insert(entry.path.clone(), self.current.clone());
        Ok(())
    }

    fn commit(&mut self) -> io::Result<()> {
        self.committed = true;
        Ok(())
    }
}

fn delta_of(old: &Memory, new: &Memory) -> Encoded {
    let options = Options { effort: Effort::new(5), jobs: 2, progress: &|_| () };
    encode((&old.manifest, old), (&new.manifest, new), &options).unwrap()
}

fn apply_to(delta: &[u8], old: &Memory) -> Result<Memory, TreeError> {
    let mut sink = Building::default();
    let limits = Limits { target: 64 << 20, ..Limits::default() };
    let manifest = apply(&delta, &old.manifest, old, &mut sink, limits);
    assert_eq!(sink.committed, manifest.is_ok());
    let manifest = manifest?;
    assert_eq!(Manifest::new(sink.built).unwrap(), manifest);
    Ok(Memory { manifest, contents: sink.contents })
}

/// Encodes, applies, compares; returns the delta.
#[track_caller]
fn check(old: &Memory, new: &Memory) -> Encoded {
    let encoded = delta_of(old, new);
    assert_eq!(apply_to(&encoded.delta, old).unwrap(), *new);
    encoded
}

fn files<'a>(list: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Memory {
    Memory::new(&list.into_iter().map(|(path, content)| (path.to_owned(), content)).collect())
}

fn text(lines: usize, seed: u64) -> Vec<u8> {
    let line =
        |n: usize| format!("{n} {:x}\n", (n as u64 + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (0..lines).map(line).collect::<String>().into_bytes()
}

#[test]
fn equal_trees_take_less_than_200_bytes() {
    let tree = files([("a", text(100, 1)), ("d/b", text(9, 2)), ("d/e/c", Vec::new())]);
    let encoded = check(&tree, &tree);
    assert!(encoded.delta.len() < 120, "{}", encoded.delta.len());
    assert_eq!((encoded.kept, encoded.files.len(), encoded.full), (3, 0, false));
}

#[test]
fn a_changed_line_in_a_large_tree_takes_less_than_a_kilobyte() {
    let names: Vec<String> = (0..100).map(|n| format!("etc/conf.d/{n}.conf")).collect();
    let old: Contents = names.iter().cloned().zip((0..).map(|n| text(4800, n))).collect();
    let mut new = old.clone();
    let edited = new.get_mut("etc/conf.d/42.conf").unwrap();
    edited.splice(50_000..50_010, *b"another setting\n");
    let (old, new) = (Memory::new(&old), Memory::new(&new));
    assert!(old.manifest.size() > 10_000_000);
    let encoded = check(&old, &new);
    assert!(encoded.delta.len() < 300, "{}", encoded.delta.len());
    assert_eq!(encoded.files[0].path, b"etc/conf.d/42.conf");
}

#[test]
fn renamed_files_travel_as_copies_and_new_versions_as_patches() {
    let old =
        files([("bin/a", text(900, 1)), ("lib/libx.so.1.2", text(900, 2)), ("z", text(9, 9))]);
    let mut changed = text(900, 2);
    changed[500] = b'?';
    let new =
        files([("usr/bin/a2", text(900, 1)), ("lib/libx.so.1.3", changed), ("z", text(9, 9))]);
    let encoded = check(&old, &new);
    let travels: Vec<_> =
        encoded.files.iter().map(|f| (f.travel.codec, f.travel.base.as_deref())).collect();
    assert_eq!(travels[0].1, Some(&b"lib/libx.so.1.2"[..]));
    assert_eq!(travels[1], (Codec::Copy, Some(&b"bin/a"[..])));
    assert!(encoded.delta.len() < 400, "{}", encoded.delta.len());
}

#[test]
fn all_kinds_and_fields_come_back() {
    let old = files([("a", b"x".to_vec()), ("b", b"y".to_vec())]).with([
        entry(b"link", Kind::Symlink(b"/etc".to_vec())),
        entry(b"other", Kind::Fifo),
        entry(b"same", Kind::Symlink(b"a".to_vec())),
    ]);
    let mut moved = entry(b"same", Kind::Symlink(b"a".to_vec()));
    (moved.mode, moved.uid, moved.gid) = (0o777, 5, 6);
    moved.xattrs = vec![(b"user.x".to_vec(), vec![0; 300])];
    let new = files([("a", b"x".to_vec())]).with([
        entry(b"b", Kind::HardLink(b"a".to_vec())),
        entry(b"c", Kind::Directory),
        entry(b"dev", Kind::CharDevice(1, 3)),
        entry(b"disk", Kind::BlockDevice(8, 0)),
        entry(b"link", Kind::Symlink(b"/usr/etc".to_vec())),
        entry(b"other", Kind::Socket),
        moved,
    ]);
    check(&old, &new);
    check(&new, &old);
}

#[test]
fn a_new_mtime_on_every_file_takes_next_to_nothing() {
    let names: Vec<String> = (0..200).map(|n| format!("f{n}")).collect();
    let old = Memory::new(&names.iter().cloned().zip((0..).map(|n| text(5, n))).collect());
    let mut new = old.clone();
    let later = |mut entry: Entry| {
        if let Kind::File(info) = &mut entry.kind {
            info.mtime += 1_000_000;
        }
        entry
    };
    new.manifest =
        Manifest::new(old.manifest.entries().iter().cloned().map(later).collect()).unwrap();
    let encoded = check(&old, &new);
    assert!(encoded.delta.len() < 600, "{}", encoded.delta.len());
}

#[test]
fn strangers_are_pushed_whole_and_need_no_base() {
    let (old, new) = (files([("a", text(500, 1))]), files([("q", text(500, 77))]));
    let encoded = check(&old, &new);
    assert!(encoded.full);
    assert_eq!(apply_to(&encoded.delta, &Memory::default()).unwrap(), new);
}

#[test]
fn a_plain_file_is_a_tree_of_its_own() {
    let plain = |content: Vec<u8>| Memory {
        manifest: Manifest::of_file(content.len() as u64, crate::Digest::of(&content)),
        contents: BTreeMap::from([(Vec::new(), content)]),
    };
    let mut changed = text(1000, 1);
    changed.truncate(9000);
    check(&plain(text(1000, 1)), &plain(changed));
    check(&plain(Vec::new()), &plain(text(1, 1)));
    check(&plain(text(1, 1)), &plain(Vec::new()));
}

#[test]
fn a_base_that_differs_is_named() {
    let names: Vec<String> = (0..50).map(|n| format!("f{n}")).collect();
    let tree: Contents = names.iter().cloned().zip((0..).map(|n| text(50, n))).collect();
    let old = Memory::new(&tree);
    let mut new = tree.clone();
    new.insert("f3".to_owned(), text(51, 3));
    let delta = delta_of(&old, &Memory::new(&new)).delta;
    let mut touched = tree.clone();
    touched.insert("f17".to_owned(), b"rotten".to_vec());
    let said = apply_to(&delta, &Memory::new(&touched)).unwrap_err().to_string();
    assert_eq!(said, "the base is not the one that the delta was made from: `f17` differs");
    // Bit rot behind the manifest's back, in a file that is kept and in one that is patched.
    for name in ["f17", "f3"] {
        let mut rotten = old.clone();
        rotten.contents.get_mut(name.as_bytes()).unwrap()[9] ^= 1;
        let said = apply_to(&delta, &rotten).unwrap_err().to_string();
        assert!(said.contains(&format!("`{name}`")), "{said}");
    }
}

/// A tree with something of everything, small enough to try every byte of its delta.
fn sample() -> (Memory, Memory) {
    let mut changed = text(400, 4);
    changed.splice(3000..3020, *b"new words in the middle of it");
    changed[8000] ^= 0x55;
    let old = files([("a/b", text(400, 4)), ("kept", text(40, 5)), ("gone", text(10, 6))]);
    let new = files([("a/b", changed), ("kept", text(40, 5)), ("new", text(20, 7))])
        .with([entry(b"link", Kind::Symlink(b"kept".to_vec()))]);
    (old, new)
}

#[test]
fn every_changed_byte_is_refused_or_gives_exactly_the_target() {
    let (old, new) = sample();
    let delta = delta_of(&old, &new).delta;
    for at in 0..delta.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = delta.clone();
            changed[at] ^= change;
            if let Ok(result) = apply_to(&changed, &old) {
                assert_eq!(result, new, "byte {at} ^ {change}");
            }
        }
    }
}

#[test]
fn a_delta_cut_anywhere_is_refused_and_so_is_one_that_goes_on() {
    let (old, new) = sample();
    let delta = delta_of(&old, &new).delta;
    for len in 0..delta.len() {
        assert!(apply_to(&delta[..len], &old).is_err(), "cut at {len}");
        assert!(inspect(&&delta[..len], Limits::default()).is_err() || len > 106);
    }
    let longer = [&delta[..], b"x"].concat();
    assert!(matches!(apply_to(&longer, &old), Err(TreeError::Trailing)));
}

#[test]
fn a_target_over_the_limit_is_refused_before_anything_is_written() {
    let (old, new) = (files([("a", text(9, 1))]), files([("a", vec![0; 1 << 20])]));
    let delta = delta_of(&old, &new).delta;
    let limits = Limits { target: 1 << 19, ..Limits::default() };
    let refused = apply(&delta, &old.manifest, &old, &mut Building::default(), limits);
    assert!(matches!(refused, Err(TreeError::TooLarge { size: 0x10_0000, .. })));
    let limits = Limits { records: 100, ..Limits::default() };
    assert!(matches!(inspect(&delta, limits), Err(TreeError::Records(_))));
}

#[test]
fn another_version_is_refused_by_number() {
    let (old, new) = sample();
    let mut delta = delta_of(&old, &new).delta;
    delta[7] = b'2';
    let said = apply_to(&delta, &old).unwrap_err().to_string();
    assert_eq!(said, "it is a delta of version `2`, and only version 1 is read here");
}

#[test]
fn equal_inputs_give_equal_bytes_whatever_the_jobs() {
    let (old, new) = sample();
    let with = |jobs| {
        let options = Options { effort: Effort::new(5), jobs, progress: &|_| () };
        encode((&old.manifest, &old), (&new.manifest, &new), &options).unwrap().delta
    };
    assert_eq!(with(1), with(4));
}

fn contents() -> impl Strategy<Value = Contents> {
    let name = prop::sample::select(vec!["a", "b.so.1", "b.so.2", "d/x", "d/y", "d/e/z"]);
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..50),
        (0u64..4, 0usize..200).prop_map(|(seed, lines)| text(lines, seed)),
    ];
    prop::collection::btree_map(name.prop_map(str::to_owned), content, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_trees_come_back(old in contents(), new in contents()) {
        let (old, new) = (Memory::new(&old), Memory::new(&new));
        let delta = delta_of(&old, &new).delta;
        prop_assert_eq!(apply_to(&delta, &old).unwrap(), new);
    }

    #[test]
    fn random_edits_come_back(
        tree in contents(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..40, prop::collection::vec(any::<u8>(), 0..40)), 1..6),
    ) {
        let mut edited = tree.clone();
        for (file, at, remove, insert) in edits {
            if let Some(content) = edited.values_mut().nth(file.index(tree.len().max(1))) {
                let at = at.index(content.len() + 1);
                let end = content.len().min(at + remove);
                content.splice(at..end, insert);
            }
        }
        let (old, new) = (Memory::new(&tree), Memory::new(&edited));
        let delta = delta_of(&old, &new).delta;
        prop_assert_eq!(apply_to(&delta, &old).unwrap(), new);
    }

    #[test]
    fn random_bytes_behind_a_good_head_never_panic(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let (old, new) = sample();
        let mut delta = delta_of(&old, &new).delta;
        delta.truncate(106);
        delta.extend(tail);
        prop_assert!(apply_to(&delta, &old).is_err());
    }
}
