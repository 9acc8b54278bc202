//! Pods as a node keeps them.
//!
//! ```text
//! POD/revs/ID/…          a revision's files; never written to again
//! POD/current, previous  links to revisions, switched by rename
//! POD/tags/TAG           a link to the revision whose units have this tag
//! POD/tags/TAG.address   that of its network
//! POD/history            a line of JSON for each deployment
//! ```
//!
//! Units start where `current` leads to their revision, so that one rename switches all
//! containers of a pod: a node that loses power has the old pod or the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Places;
use crate::fleet::fields::is_label;
use crate::fleet::revision::{Files, Placed, RECORD, Record, valid_path};
use crate::fleet::state::Entry;
use crate::push::protocol::valid_name;
use crate::push::store::{Store, parse_id, sync_dir};
use crate::push::sweep;
use crate::push::verify::{self, Difference};

/// Revisions of a pod that are kept beside the current and the previous one.
const KEPT: usize = 5;
/// Lines of history that are kept.
const HISTORY: usize = 200;
/// The pods of a node.
pub struct Pods {
    pub(super) places: Places,
}

impl Pods {
    /// Those at `places`.
    pub fn new(places: &Places) -> Self {
        Pods { places: places.clone() }
    }

    pub(super) fn dir(&self, pod: &str) -> PathBuf {
        self.places.pods.join(pod)
    }

    fn revision(&self, pod: &str, id: &str) -> PathBuf {
        self.dir(pod).join("revs").join(id)
    }

    /// Their names, sorted.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn names(&self) -> anyhow::Result<Vec<String>> {
        let mut names = list(&self.places.pods)?;
        names.retain(|name| is_label(name));
        Ok(names)
    }

    /// The revisions of a pod that are there, the newest first.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn ids(&self, pod: &str) -> anyhow::Result<Vec<String>> {
        let mut ids = list(&self.dir(pod).join("revs"))?;
        ids.retain(|id| parse_id(id).is_some());
        let age = |id: &String| {
            fs::metadata(self.revision(pod, id)).and_then(|meta| meta.modified()).ok()
        };
        ids.sort_by_key(|id| std::cmp::Reverse(age(id)));
        Ok(ids)
    }

    /// Which revision the link `which` names, if it is there.
    pub fn link(&self, pod: &str, which: &str) -> Option<String> {
        let target = fs::read_link(self.dir(pod).join(which)).ok()?;
        let id = target.file_name()?.to_str()?.to_owned();
        parse_id(&id)?;
        self.revision(pod, &id).is_dir().then_some(id)
    }

    /// Makes the link `which` name the revision, or takes it away.
    ///
    /// # Errors
    /// When it cannot be switched; then it is as before.
    pub fn set_link(&self, pod: &str, which: &str, id: Option<&str>) -> anyhow::Result<()> {
        let dir = self.dir(pod);
        let (link, aside) = (dir.join(which), dir.join(format!(".{which}")));
        let switch = || match id {
            Some(id) => {
                gone(fs::remove_file(&aside))?;
                symlink(format!("revs/{id}"), &aside)?;
                fs::rename(&aside, &link)
            }
            None => gone(fs::remove_file(&link)),
        };
        switch().with_context(|| format!("cannot switch `{}`", link.display()))?;
        sync_dir(&dir)
    }

    /// Writes a revision, whole or not at all.
    ///
    /// # Errors
    /// When a path cannot be one, or a file cannot be written.
    pub fn write(&self, pod: &str, id: &str, files: &Files) -> anyhow::Result<()> {
        if let Some(bad) = files.keys().find(|path| !valid_path(path)) {
            bail!("`{}` cannot be a file of a revision", bad.escape_debug());
        }
        let target = self.revision(pod, id);
        if self.files(pod, id).is_ok_and(|there| there == *files) {
            return Ok(());
        }
        let revs = self.dir(pod).join("revs");
        let aside = revs.join(".new");
        let put = || -> anyhow::Result<()> {
            gone(fs::remove_dir_all(&aside))?;
            let mut folders = BTreeSet::new();
            for (path, text) in files {
                let path = aside.join(path);
                let folder = path.parent().unwrap_or(&aside);
                fs::create_dir_all(folder)?;
                write(&path, text)?;
                folders.insert(folder.to_owned());
            }
            folders.iter().try_for_each(|folder| sync_dir(folder))?;
            if !target.exists() {
                return Ok(fs::rename(&aside, &target)?);
            }
            // One that was changed on the node gives way, in one step where the file
            // system can: it may be the current one.
            if renameat_with(CWD, &aside, CWD, &target, RenameFlags::EXCHANGE).is_err() {
                fs::remove_dir_all(&target)?;
                fs::rename(&aside, &target)?;
            }
            Ok(())
        };
        let put =
            put().with_context(|| format!("cannot write the revision `{}`", target.display()));
        // What is left of one that could not be written fills a disk that may be full.
        let cleared = sweep::delete(&aside);
        put?;
        sync_dir(&revs)?;
        cleared
    }

    /// The files of a revision.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn files(&self, pod: &str, id: &str) -> anyhow::Result<Files> {
        let top = self.revision(pod, id);
        let mut files = Files::new();
        for name in list(&top)? {
            let path = top.join(&name);
            let below = match path.is_dir() {
                true => list(&path)?.into_iter().map(|file| format!("{name}/{file}")).collect(),
                false => vec![name],
            };
            for file in below {
                let path = top.join(&file);
                let text = fs::read_to_string(&path);
                files.insert(
                    file,
                    text.with_context(|| format!("cannot read `{}`", path.display()))?,
                );
            }
        }
        Ok(files)
    }

    /// The record of a revision.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn record(&self, pod: &str, id: &str) -> anyhow::Result<Record> {
        let path = self.revision(pod, id).join(RECORD);
        let text = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("`{}` is damaged", path.display()))
    }

    /// Whether the bundle of a container is in the store.
    pub fn has_bundle(&self, placed: &Placed) -> bool {
        let store = Store::new(self.places.store.clone());
        let known = valid_name(&placed.bundle) && parse_id(&placed.bundle_id).is_some();
        known && store.revision(&placed.bundle, &placed.bundle_id).join("rootfs").is_dir()
    }

    /// Hashes the bundle of a container again; what is not as it was pushed comes back.
    ///
    /// # Errors
    /// When it cannot be read, or has lost its listing.
    pub fn verify_bundle(&self, placed: &Placed) -> anyhow::Result<Vec<Difference>> {
        let store = Store::new(self.places.store.clone());
        verify::revision(&store, &placed.bundle, &placed.bundle_id)
    }

    /// What was done to a pod, the oldest first.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn history(&self, pod: &str) -> anyhow::Result<Vec<Entry>> {
        let path = self.dir(pod).join("history");
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                bail!("nothing was ever done to a pod `{pod}` on this node")
            }
            other => other.with_context(|| format!("cannot read `{}`", path.display()))?,
        };
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Adds a line to the history, with the bundles of its revision.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, pod: &str, mut entry: Entry) -> anyhow::Result<()> {
        let mut entries = self.history(pod).unwrap_or_default();
        if let Ok(record) = self.record(pod, &entry.revision) {
            let bundles = record.containers.into_iter().map(|c| (c.name, c.bundle_id));
            entry.bundles = bundles.collect();
        }
        entries.push(entry);
        let from = entries.len().saturating_sub(HISTORY);
        let lines: Vec<String> = entries
            .iter()
            .skip(from)
            .filter_map(|entry| serde_json::to_string(entry).ok())
            .collect();
        let path = self.dir(pod).join("history");
        let written = write(&path, &format!("{}\n", lines.join("\n")));
        written.with_context(|| format!("cannot write `{}`", path.display()))?;
        sync_dir(&self.dir(pod))
    }

    /// Removes revisions beyond those kept, and tells the store which bundles the
    /// others need.
    ///
    /// # Errors
    /// When one cannot be removed, or the store not told.
    pub fn prune(&self, pod: &str) -> anyhow::Result<()> {
        let linked = [self.link(pod, "current"), self.link(pod, "previous")];
        let ids = self.ids(pod)?;
        let old = ids.iter().filter(|id| !linked.contains(&Some((*id).clone())));
        for id in old.skip(KEPT) {
            sweep::delete(&self.revision(pod, id))?;
        }
        self.prune_tags(pod)?;
        self.pin()
    }

    /// Tells the store which bundles revisions need, so that no push sweeps them.
    ///
    /// # Errors
    /// When the store cannot be told.
    pub fn pin(&self) -> anyhow::Result<()> {
        let mut needed = BTreeSet::new();
        for pod in self.names()? {
            for id in self.ids(&pod)? {
                let Ok(record) = self.record(&pod, &id) else { continue };
                needed.extend(record.containers.into_iter().map(|c| (c.bundle, c.bundle_id)));
            }
        }
        Store::new(self.places.store.clone()).pin(&needed)
    }

    /// Removes a pod with its revisions and its history.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, pod: &str) -> anyhow::Result<()> {
        sweep::delete(&self.dir(pod))?;
        self.prune_counts(pod)?;
        self.pin()
    }
}

impl Entry {
    /// A line of this moment.
    pub(super) fn now(revision: &str, outcome: String, by: &str) -> Self {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Entry {
            time: time.map_or(0, |time| time.as_secs()),
            revision: revision.to_owned(),
            outcome,
            by: by.to_owned(),
            bundles: BTreeMap::new(),
        }
    }
}

/// Writes a file to the disk, not only to memory, and gives it its name when it is whole.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}"));
    let mut file = File::create(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)
}

/// Makes `link` lead to `target`, if it does not.
pub(super) fn relink(target: &Path, link: &Path) -> io::Result<()> {
    if fs::read_link(link).is_ok_and(|to| to == target) {
        return Ok(());
    }
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    let aside = link.with_file_name(format!(".{name}"));
    gone(fs::remove_file(&aside))?;
    symlink(target, &aside)?;
    fs::rename(&aside, link)
}

/// What is not there need not be removed.
pub(super) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names in a directory, sorted; none where it is not there.
pub(super) fn list(dir: &Path) -> anyhow::Result<Vec<String>> {
    let cannot = || format!("cannot list `{}`", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(cannot)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.with_context(cannot)?.file_name().into_string());
    }
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}
