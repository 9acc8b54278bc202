//! Base and application as layers of their own, so that registries and nodes
//! store a base once for all images on it.
//!
//! The base's layer is whole and depends on nothing else, so its digest is the same
//! in every image; the other layer has what is not in the base exactly so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};

use crate::layer::{Entry, Layer, Node};
use crate::path::RootPath;
use crate::rootfs::Rootfs;
use crate::xattr;

/// A layer and where its files are.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The entries.
    pub layer: &'a Layer,
    /// Where their contents are.
    pub rootfs: &'a Rootfs,
}

/// A file that could not be compared with the base's.
#[derive(Debug, thiserror::Error)]
#[error("cannot compare `{path}` with the base's")]
pub struct CompareError {
    /// The file.
    pub path: RootPath,
    /// What the system said.
    pub source: io::Error,
}

/// Returns what `image` has beyond `base`: entries that the base does not have
/// with the same type, mode, owner, time, attributes and content, and the
/// directories above them. Names of one file stay together, since a hard link
/// cannot lead from one layer into another.
///
/// # Errors
/// The first file that cannot be read.
pub fn beyond(image: Content<'_>, base: Content<'_>) -> Result<Layer, CompareError> {
    let theirs: BTreeMap<&RootPath, &Entry> = by_path(base.layer);
    let ours = by_path(image.layer);
    let (our_names, their_names) = (names(image.layer), names(base.layer));
    let mut kept: BTreeSet<&RootPath> = BTreeSet::new();
    for entry in &image.layer.entries {
        if matches!(entry.node, Node::HardLink(_)) {
            continue;
        }
        let names = our_names.get(&entry.path);
        let is_there = match theirs.get(&entry.path) {
            Some(other) => {
                names == their_names.get(&entry.path)
                    && same(entry, image.rootfs, other, base.rootfs)
                        .map_err(|source| CompareError { path: entry.path.clone(), source })?
            }
            None => false,
        };
        if !is_there {
            kept.insert(&entry.path);
            kept.extend(names.into_iter().flatten());
        }
    }
    let mut above: BTreeSet<RootPath> = BTreeSet::new();
    for path in &kept {
        let mut parent = path.parent();
        while let Some(dir) = parent.take_if(|dir| !above.contains(dir)) {
            parent = dir.parent();
            above.insert(dir);
        }
    }
    let is_kept = |path: &RootPath| kept.contains(path) || above.contains(path);
    let entries = ours.into_values().filter(|entry| is_kept(&entry.path)).cloned().collect();
    Ok(Layer { entries, ..Layer::default() })
}

fn by_path(layer: &Layer) -> BTreeMap<&RootPath, &Entry> {
    layer.entries.iter().map(|entry| (&entry.path, entry)).collect()
}

/// The other names of each file that has several, by its first.
fn names(layer: &Layer) -> BTreeMap<&RootPath, BTreeSet<&RootPath>> {
    let mut names: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for entry in &layer.entries {
        if let Node::HardLink(first) = &entry.node {
            names.entry(first).or_default().insert(&entry.path);
        }
    }
    names
}

fn same(a: &Entry, from_a: &Rootfs, b: &Entry, from_b: &Rootfs) -> io::Result<bool> {
    let attributes = |entry: &Entry| (entry.mode, entry.uid, entry.gid, entry.mtime);
    if attributes(a) != attributes(b) {
        return Ok(false);
    }
    match (&a.node, &b.node) {
        (Node::File(_) | Node::Made(_), Node::File(_) | Node::Made(_)) => {
            if a.node.size() != b.node.size() {
                return Ok(false);
            }
        }
        (one, other) => {
            return Ok(
                one == other && (*one != Node::Directory || same_xattrs(a, from_a, b, from_b)?)
            );
        }
    }
    if a.found && b.found && from_a.lstat(&a.path)?.inode == from_b.lstat(&b.path)?.inode {
        return Ok(true);
    }
    Ok(same_xattrs(a, from_a, b, from_b)? && same_bytes(open(a, from_a)?, open(b, from_b)?)?)
}

fn same_xattrs(a: &Entry, from_a: &Rootfs, b: &Entry, from_b: &Rootfs) -> io::Result<bool> {
    let read = |entry: &Entry, rootfs: &Rootfs| match entry.found {
        true => xattr::read(rootfs.open_file(&entry.path)?),
        false => Ok(Vec::new()),
    };
    Ok(read(a, from_a)? == read(b, from_b)?)
}

/// The content of a regular file.
enum Bytes<'a> {
    Made(&'a [u8]),
    File(File),
}

fn open<'a>(entry: &'a Entry, rootfs: &Rootfs) -> io::Result<Bytes<'a>> {
    match &entry.node {
        Node::Made(content) => Ok(Bytes::Made(content)),
        _ => rootfs.open_file(&entry.path).map(Bytes::File),
    }
}

impl Read for Bytes<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Bytes::Made(content) => content.read(buf),
            Bytes::File(file) => file.read(buf),
        }
    }
}

fn same_bytes(mut a: Bytes<'_>, mut b: Bytes<'_>) -> io::Result<bool> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        const PIECE: u64 = 128 << 10;
        left.clear();
        right.clear();
        a.by_ref().take(PIECE).read_to_end(&mut left)?;
        b.by_ref().take(PIECE).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Planner;
    use crate::testing::tree;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn plan(dir: &Path) -> (Rootfs, Layer) {
        let rootfs = Rootfs::open(dir).unwrap();
        let mut planner = Planner::new(&rootfs, Some(0));
        planner.add_below(&RootPath::root(), &|_| true).unwrap();
        let layer = planner.finish().unwrap();
        (rootfs, layer)
    }

    /// Shows what the second tree has beyond the first, without directories.
    fn check(base: &str, image: &str, change: impl FnOnce(&Path), expected: &str) {
        let (base, image) = (tree(base), tree(image));
        change(image.path());
        let (base_rootfs, base) = plan(base.path());
        let (rootfs, layer) = plan(image.path());
        let base = Content { layer: &base, rootfs: &base_rootfs };
        let found = beyond(Content { layer: &layer, rootfs: &rootfs }, base).unwrap();
        for entry in &found.entries {
            let Some(parent) = entry.path.parent() else { continue };
            assert!(found.entries.iter().any(|other| other.path == parent), "{}", entry.path);
        }
        let files = found.entries.iter().filter(|entry| entry.node != Node::Directory);
        let files: Vec<String> = files.map(|entry| entry.path.to_string()).collect();
        assert_eq!(files.join(" "), expected);
    }

    #[test]
    fn only_what_is_equal_is_the_bases() {
        let base = "/lib/a = one\n/lib/b = two\n/bin -> lib\n/etc/only-there";
        check(base, "/lib/a = one\n/lib/b = TWO\n/bin -> lib\n/srv/c", |_| {}, "/lib/b /srv/c");
        check(base, "/lib/a = one\n/bin -> lib", |_| {}, "");
        check(base, "/lib/a = one\n/bin -> usr", |_| {}, "/bin");
        let open_up = |dir: &Path| {
            fs::set_permissions(dir.join("lib/a"), PermissionsExt::from_mode(0o700)).unwrap();
        };
        check(base, "/lib/a = one\n/lib/b = two", open_up, "/lib/a");
    }

    #[test]
    fn names_of_one_file_stay_together() {
        let link = |dir: &Path| {
            fs::create_dir_all(dir.join("z")).unwrap();
            fs::hard_link(dir.join("lib/a"), dir.join("z/b")).unwrap();
        };
        check("/lib/a = one", "/lib/a = one", link, "/lib/a /z/b");
        check("/lib/a = one\n/z/b = one", "/lib/a = one", link, "/lib/a /z/b");
    }
}
