//! What a node keeps, and where.
//!
//! ```text
//! revs/NAME/ID/{config.json, rootfs/, manifest}   a revision; never written to again
//! NAME/current, NAME/previous                     links to revisions, switched by rename
//! NAME/.previous                                  what `previous` becomes, while they are switched
//! NAME/lock                                       locked while NAME is changed
//! incoming/NAME.ID/                               a push under way, or broken off
//! bin/vzpush-DIGEST                               the receiver
//! .pinned                                         revisions that pods need, `NAME ID` a line
//! ```
//!
//! ID is the tree digest of the bundle, and the SHA-256 of the file `manifest`
//! (a listing, [`delta::Manifest::to_bytes`]); so `sha256sum` proves a listing, and a
//! listing proves a tree.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bundler::Rootfs;
use delta::{Digest, Files, Manifest, ReadAt};

use super::lock::{self, Lock};
use super::protocol::{MAX_LISTING, valid_name};
use crate::tree::FileAt;

/// What `previous` is to become, while links are switched.
const PENDING: &str = ".previous";
/// A link before it takes its name.
const ASIDE: &str = ".link";
/// The file of the revisions that are needed however old they are.
const PINNED: &str = ".pinned";

/// A node's store.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// The digest that `id` writes in hexadecimal, if it does.
pub fn parse_id(id: &str) -> Option<Digest> {
    let digits = id.as_bytes();
    if digits.len() != 64 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Digest(digest))
}

impl Store {
    /// The store at `root`, which need not be there yet.
    pub fn new(root: PathBuf) -> Self {
        Store { root }
    }

    /// Makes the store's folders; others can pass through it, not look around.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn make(&self) -> anyhow::Result<()> {
        let mut dir = fs::DirBuilder::new();
        let made = dir.recursive(true).mode(0o711).create(&self.root);
        let made = made.and_then(|()| dir.create(self.root.join("revs")));
        let made = made.and_then(|()| dir.mode(0o700).create(self.root.join("incoming")));
        made.with_context(|| format!("cannot make the store `{}`", self.root.display()))
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the lock of `name`, waiting for `patience`.
    ///
    /// # Errors
    /// When another holds it for longer, or it cannot be made.
    pub fn lock(&self, name: &str, patience: Duration) -> anyhow::Result<Lock> {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        let lock = lock::take(&dir.join("lock"), patience)
            .with_context(|| format!("cannot lock `{name}`"))?;
        let lock =
            lock.with_context(|| format!("another vzpush is at work on `{name}` on this node"))?;
        self.settle(name).with_context(|| format!("cannot settle the links of `{name}`"))?;
        Ok(lock)
    }

    /// The names of which there are revisions, sorted.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = list(&self.root.join("revs"))?;
        names.retain(|name| valid_name(name));
        Ok(names)
    }

    /// The revisions of `name` as they are on disk, sorted, whole or not.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn ids(&self, name: &str) -> io::Result<Vec<String>> {
        let mut ids = list(&self.root.join("revs").join(name))?;
        ids.retain(|id| parse_id(id).is_some());
        Ok(ids)
    }

    /// Where the revision `id` of `name` lies.
    pub fn revision(&self, name: &str, id: &str) -> PathBuf {
        self.root.join("revs").join(name).join(id)
    }

    /// Where the push of `id` as `name` gathers what it gets.
    pub fn incoming(&self, name: &str, id: &str) -> PathBuf {
        self.root.join("incoming").join(format!("{name}.{id}"))
    }

    /// Which revision is current.
    pub fn current(&self, name: &str) -> Option<String> {
        self.link(name, "current")
    }

    /// Which revision was current before; also right where a switch was broken off.
    pub fn previous(&self, name: &str) -> Option<String> {
        let pending = self.link(name, PENDING).filter(|id| self.current(name).as_ref() != Some(id));
        pending.or_else(|| self.link(name, "previous"))
    }

    /// Which revision the link `which` of `name` names, if it is there.
    fn link(&self, name: &str, which: &str) -> Option<String> {
        let target = fs::read_link(self.root.join(name).join(which)).ok()?;
        let id = target.file_name()?.to_str()?.to_owned();
        parse_id(&id)?;
        self.revision(name, &id).is_dir().then_some(id)
    }

    /// Notes which revisions are needed however old they are, by name and digest, in
    /// place of those noted before.
    ///
    /// # Errors
    /// When it cannot be noted.
    pub fn pin(&self, needed: &BTreeSet<(String, String)>) -> anyhow::Result<()> {
        let path = self.root.join(PINNED);
        let aside = self.root.join(format!("{PINNED}.new"));
        let text: String = needed.iter().map(|(name, id)| format!("{name} {id}\n")).collect();
        let write = || {
            let mut file = File::create(&aside)?;
            file.write_all(text.as_bytes())?;
            // A power cut must not leave it empty, and all of them to be swept.
            file.sync_all()?;
            fs::rename(&aside, &path)
        };
        write().with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Whether [`Store::pin`] noted this revision.
    pub fn is_pinned(&self, name: &str, id: &str) -> bool {
        let text = fs::read_to_string(self.root.join(PINNED)).unwrap_or_default();
        text.lines().any(|line| line.split_once(' ') == Some((name, id)))
    }

    /// The listing of a revision, checked against its digest.
    ///
    /// # Errors
    /// When it cannot be read or is another one.
    pub fn listing(&self, name: &str, id: &str) -> anyhow::Result<Manifest> {
        let path = self.revision(name, id).join("manifest");
        let cannot = || format!("cannot read `{}`", path.display());
        let mut bytes = Vec::new();
        let file = File::open(&path).with_context(cannot)?;
        file.take(MAX_LISTING).read_to_end(&mut bytes).with_context(cannot)?;
        if Some(Digest::of(&bytes)) != parse_id(id) {
            bail!("`{}` is not the listing of this revision", path.display());
        }
        Manifest::from_bytes(&bytes).with_context(cannot)
    }

    /// Makes `id` the current revision of `name`, and what was current the previous
    /// one; returns that. Broken off anywhere, both links are as before or as they
    /// are to be ([`Store::previous`]), and the next lock finishes it.
    ///
    /// # Errors
    /// When a link cannot be switched; then the current one is as before.
    pub fn switch(&self, name: &str, id: &str) -> anyhow::Result<Option<String>> {
        let before = self.current(name).filter(|old| old != id);
        if let Some(old) = &before {
            self.set_link(name, PENDING, old)?;
        }
        // From this rename on, the pending link counts.
        self.set_link(name, "current", id)?;
        self.settle(name).with_context(|| format!("cannot settle the links of `{name}`"))?;
        sync_dir(&self.root.join(name))?;
        sync_dir(&self.root)?;
        Ok(before)
    }

    /// Finishes a switch: with the lock held, since the pending link is its holder's.
    fn settle(&self, name: &str) -> io::Result<()> {
        let path = |which: &str| self.root.join(name).join(which);
        let pending = self.link(name, PENDING);
        if pending.is_some() && pending != self.current(name) {
            return fs::rename(path(PENDING), path("previous"));
        }
        for left in [PENDING, ASIDE] {
            match fs::remove_file(path(left)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Exchanges `current` and `previous`; returns both as they are then.
    ///
    /// # Errors
    /// When there is no previous revision, or a link cannot be switched.
    pub fn roll_back(&self, name: &str) -> anyhow::Result<(String, String)> {
        let current = self.current(name);
        let current =
            current.with_context(|| format!("there is no current revision of `{name}`"))?;
        let previous = self
            .previous(name)
            .filter(|previous| *previous != current)
            .with_context(|| format!("there is no previous revision of `{name}`"))?;
        self.switch(name, &previous)?;
        Ok((previous, current))
    }

    fn set_link(&self, name: &str, which: &str, id: &str) -> anyhow::Result<()> {
        let link = self.root.join(name).join(which);
        let aside = self.root.join(name).join(ASIDE);
        let switch = || {
            match fs::remove_file(&aside) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            symlink(format!("../revs/{name}/{id}"), &aside)?;
            fs::rename(&aside, &link)
        };
        switch().with_context(|| format!("cannot switch `{}`", link.display()))
    }
}

/// The names in a directory, sorted; none where it is not there.
fn list(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Makes what was renamed into or out of `dir` outlive a power cut.
///
/// # Errors
/// As `fsync`.
pub fn sync_dir(dir: &Path) -> anyhow::Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.with_context(|| format!("cannot sync `{}`", dir.display()))
}

/// The contents of a revision; no link in it is followed.
pub struct Contents(pub Rootfs);

impl Contents {
    /// Of the revision at `dir`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Ok(Contents(Rootfs::open(dir)?))
    }

    /// Opens the regular file at `path`, relative to the revision.
    ///
    /// # Errors
    /// As `open`.
    pub fn file(&self, path: &[u8]) -> io::Result<File> {
        let path = bundler::RootPath::new(&[b"/", path].concat()).map_err(io::Error::other)?;
        let file = self.0.open_file(&path)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("it is no regular file")),
        }
    }
}

impl Files for Contents {
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn ReadAt + '_>> {
        Ok(Box::new(FileAt::whole(self.file(path)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_follow_a_push_and_a_rollback() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("vz"));
        store.make().unwrap();
        let [a, b] = ["a", "b"].map(|digit| digit.repeat(64));
        for id in [&a, &b] {
            fs::create_dir_all(store.revision("web", id)).unwrap();
        }
        drop(store.lock("web", Duration::ZERO).unwrap());
        assert_eq!(store.switch("web", &a).unwrap(), None);
        assert!(store.roll_back("web").is_err());
        assert_eq!(store.switch("web", &b).unwrap(), Some(a.clone()));
        assert_eq!(store.roll_back("web").unwrap(), (a.clone(), b.clone()));
        assert_eq!(store.current("web"), Some(a));
        assert_eq!(store.previous("web"), Some(b));
        assert_eq!(store.names().unwrap(), ["web"]);
    }

    /// Whatever of a switch from B to C was done when the power went, `previous` is A
    /// with B, or B with C, and the next lock leaves no more than the two links.
    #[test]
    fn a_switch_that_is_broken_off_has_both_links_old_or_new() {
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(64));
        let steps: [&[(&str, &String)]; 4] = [
            &[(ASIDE, &b)],
            &[(PENDING, &b)],
            &[(PENDING, &b), (ASIDE, &c)],
            &[(PENDING, &b), ("current", &c)],
        ];
        for done in steps {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::new(dir.path().join("vz"));
            store.make().unwrap();
            for id in [&a, &b, &c] {
                fs::create_dir_all(store.revision("web", id)).unwrap();
            }
            drop(store.lock("web", Duration::ZERO).unwrap());
            store.switch("web", &a).unwrap();
            store.switch("web", &b).unwrap();
            for (which, id) in done {
                let link = store.root().join("web").join(which);
                let _ = fs::remove_file(&link);
                symlink(format!("../revs/web/{id}"), link).unwrap();
            }
            let links = || (store.current("web").unwrap(), store.previous("web").unwrap());
            let expected = match links().0 == c {
                true => (c.clone(), b.clone()),
                false => (b.clone(), a.clone()),
            };
            assert_eq!(links(), expected, "{done:?}");
            drop(store.lock("web", Duration::ZERO).unwrap());
            assert_eq!(links(), expected, "{done:?}");
            assert_eq!(list(&store.root().join("web")).unwrap(), ["current", "lock", "previous"]);
        }
    }

    #[test]
    fn an_id_is_64_small_hexadecimal_digits() {
        assert_eq!(parse_id(&"0a".repeat(32)), Some(Digest([10; 32])));
        for bad in ["", "..", &"A0".repeat(32), &"0a".repeat(31), &"é".repeat(32)] {
            assert_eq!(parse_id(bad), None);
        }
    }
}
