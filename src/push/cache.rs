//! What was pushed from here before, kept so that deltas can be made against it.
//!
//! ```text
//! objects/HH/DIGEST     contents, each once
//! listings/ID           the trees that they make
//! deltas/BASE-TARGET    finished deltas
//! last/NAME             the revision that was pushed last
//! rates/DIGEST          bytes a second that the line to a node took
//! ```
//!
//! Kept are the newest trees, at most 8 and 4 GB of contents, but always the last, and
//! the newest deltas, at most 32 and 256 MB. All of it can be deleted at any time; then
//! files go whole.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use delta::{Digest, Files, Manifest, ReadAt};

use super::contents;
use super::store::parse_id;
use super::verify;
use crate::tree::FileAt;

/// How much is kept of a kind, the newest first: so many, and so many bytes.
struct Bound {
    count: usize,
    bytes: u64,
}

const TREES: Bound = Bound { count: 8, bytes: 4_000_000_000 };
const DELTAS: Bound = Bound { count: 32, bytes: 256_000_000 };

/// The cache of this user.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// A tree of the cache.
pub struct Cached<'a> {
    cache: &'a Cache,
    /// What is in it.
    pub manifest: Manifest,
}

impl Cache {
    /// The cache at `root`, which need not be there yet.
    pub fn new(root: PathBuf) -> Self {
        Cache { root }
    }

    fn object(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join("objects").join(name.get(..2).unwrap_or_default()).join(name)
    }

    /// The tree `id`, if all of it is here. Contents are checked when they are read.
    pub fn tree(&self, id: &str) -> Option<Cached<'_>> {
        parse_id(id)?;
        let listing = fs::read(self.root.join("listings").join(id)).ok()?;
        let manifest = Manifest::from_bytes(&listing).ok()?;
        let there = |content: &contents::Content| {
            fs::metadata(self.object(&content.digest)).is_ok_and(|m| m.len() == content.size)
        };
        let whole =
            manifest.digest().to_string() == id && contents::of(&manifest).iter().all(there);
        whole.then_some(Cached { cache: self, manifest })
    }

    /// Keeps a tree.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn keep(&self, manifest: &Manifest, files: &dyn Files) -> anyhow::Result<()> {
        let cannot = || format!("cannot write to the cache `{}`", self.root.display());
        for content in contents::of(manifest) {
            let path = self.object(&content.digest);
            if fs::metadata(&path).is_ok_and(|meta| meta.len() == content.size) {
                continue;
            }
            let from = &manifest.entries().get(content.first).context("no such entry")?.path;
            let source = files.open(from)?;
            write(&path, |file| copy(&*source, file)).with_context(cannot)?;
        }
        let listing = self.root.join("listings").join(manifest.digest().to_string());
        write(&listing, |file| file.write_all(&manifest.to_bytes())).with_context(cannot)?;
        self.sweep().with_context(cannot)
    }

    /// Where the delta from `base` to `target` is, or is to be.
    fn delta_path(&self, base: &str, target: &str) -> PathBuf {
        self.root.join("deltas").join(format!("{base}-{target}"))
    }

    /// A delta that was kept, if it still goes from `base` to `target`.
    pub fn delta(&self, base: &str, target: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.delta_path(base, target)).ok()?;
        let digest = bytes.len().checked_sub(32)?;
        let (delta, check) = bytes.split_at(digest);
        (Digest::of(delta).0 == *check).then(|| delta.to_vec())
    }

    /// Keeps a delta.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_delta(&self, base: &str, target: &str, delta: &[u8]) -> anyhow::Result<()> {
        let path = self.delta_path(base, target);
        let written = write(&path, |file| {
            file.write_all(delta)?;
            file.write_all(&Digest::of(delta).0)
        });
        written.with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// The revision that was pushed last as `name`: most likely the next base.
    pub fn last(&self, name: &str) -> Option<String> {
        let id = fs::read_to_string(self.root.join("last").join(name)).ok()?;
        parse_id(&id).map(|_| id)
    }

    /// Notes the revision that was pushed as `name`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, name: &str, id: &str) -> anyhow::Result<()> {
        let path = self.root.join("last").join(name);
        write(&path, |file| file.write_all(id.as_bytes()))
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Whether a delta is kept, unless it is damaged.
    pub fn has_delta(&self, base: &str, target: &str) -> bool {
        self.delta_path(base, target).exists()
    }

    fn rate_path(&self, node: &str) -> PathBuf {
        self.root.join("rates").join(Digest::of(node.as_bytes()).to_string())
    }

    /// Bytes a second that the line to `node` took, if that is known.
    pub fn rate(&self, node: &str) -> Option<f64> {
        fs::read_to_string(self.rate_path(node)).ok()?.parse().ok()
    }

    /// Notes what the line to `node` took.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_rate(&self, node: &str, rate: f64) -> anyhow::Result<()> {
        let path = self.rate_path(node);
        write(&path, |file| file.write_all(format!("{rate:.0}").as_bytes()))
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Removes what is old, and contents that no tree has.
    fn sweep(&self) -> io::Result<()> {
        let (mut count, mut bytes) = (0, 0_u64);
        for path in newest(&self.root.join("deltas"))? {
            (count, bytes) = (count + 1, bytes.saturating_add(fs::metadata(&path)?.len()));
            if count > DELTAS.count || bytes > DELTAS.bytes {
                remove(&path)?;
            }
        }
        self.sweep_trees(&TREES)
    }

    fn sweep_trees(&self, bound: &Bound) -> io::Result<()> {
        let (mut used, mut bytes) = (BTreeSet::new(), 0_u64);
        let mut swept = false;
        for (number, path) in newest(&self.root.join("listings"))?.into_iter().enumerate() {
            let manifest = fs::read(&path).ok().and_then(|bytes| Manifest::from_bytes(&bytes).ok());
            let mut contents = manifest.as_ref().map(contents::of).unwrap_or_default();
            contents.retain(|content| !used.contains(&content.digest));
            let more = contents.iter().map(|content| content.size).fold(bytes, u64::saturating_add);
            if number > 0 && (number >= bound.count || more > bound.bytes) {
                remove(&path)?;
                swept = true;
                continue;
            }
            bytes = more;
            used.extend(contents.iter().map(|content| content.digest));
        }
        if !swept {
            return Ok(());
        }
        for dir in fs::read_dir(self.root.join("objects"))? {
            for object in fs::read_dir(dir?.path())? {
                let object = object?;
                let digest = object.file_name().to_str().and_then(parse_id);
                if digest.is_none_or(|digest| !used.contains(&digest)) {
                    remove(&object.path())?;
                }
            }
        }
        Ok(())
    }
}

impl Files for Cached<'_> {
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn ReadAt + '_>> {
        let info = self.manifest.get(path).and_then(delta::Entry::file);
        let info = info.ok_or(io::ErrorKind::NotFound)?;
        if info.size == 0 {
            return Ok(Box::new(Vec::new()));
        }
        let file = FileAt::whole(File::open(self.cache.object(&info.digest))?)?;
        // The encoder would take a damaged object for a bundle that changed.
        if verify::hash(&file)? != info.digest {
            fs::remove_file(self.cache.object(&info.digest))?;
            return Err(io::Error::other("it was damaged in the cache"));
        }
        Ok(Box::new(file))
    }
}

/// Files of a directory, the newest first.
fn newest(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // Another push may sweep as well.
        let Ok(modified) = entry.metadata().and_then(|meta| meta.modified()) else { continue };
        found.push((modified, entry.path()));
    }
    found.sort();
    Ok(found.into_iter().rev().map(|(_, path)| path).collect())
}

/// Removes a file that another push may have removed.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn copy(source: &dyn ReadAt, out: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    loop {
        let n = source.read_at(&mut buffer, at)?;
        if n == 0 {
            return Ok(());
        }
        out.write_all(buffer.get(..n).unwrap_or_default())?;
        at += n as u64;
    }
}

/// Writes a file that is whole or not there.
fn write(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // Files of a bundle may be secret, and their modes are not kept here.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let aside = dir.join(format!(".{}.{:?}", std::process::id(), std::thread::current().id()));
    let written = File::create(&aside).and_then(|mut file| fill(&mut file));
    let written = written.and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn others_may_not_look_and_what_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vz/objects/aa/b");
        assert!(write(&path, |_| Err(io::ErrorKind::StorageFull.into())).is_err());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
        write(&path, |file| file.write_all(b"x")).unwrap();
        let mode = fs::metadata(dir.path().join("vz")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }

    #[test]
    fn the_newest_trees_stay_within_bounds_and_the_last_always() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("cache"));
        let ids = [1_u8, 2, 3].map(|number| {
            let tree = dir.path().join(format!("{number}"));
            fs::create_dir(&tree).unwrap();
            fs::write(tree.join("common"), [0; 100]).unwrap();
            fs::write(tree.join("own"), [number; 50]).unwrap();
            let tree = crate::tree::Directory::open(&tree).unwrap();
            cache.keep(tree.manifest(), &tree).unwrap();
            let id = tree.manifest().digest().to_string();
            let listing = File::open(cache.root.join("listings").join(&id)).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(number.into());
            listing.set_modified(time).unwrap();
            id
        });
        let check = |count, bytes, expected: [bool; 3]| {
            cache.sweep_trees(&Bound { count, bytes }).unwrap();
            assert_eq!(ids.each_ref().map(|id| cache.tree(id).is_some()), expected);
        };
        let objects = || walkdir::WalkDir::new(cache.root.join("objects")).min_depth(2).into_iter();
        check(8, 250, [true; 3]);
        check(8, 200, [false, true, true]);
        assert_eq!(objects().count(), 3);
        check(1, 200, [false, false, true]);
        check(1, 1, [false, false, true]);
        assert_eq!(objects().count(), 2);
    }
}
