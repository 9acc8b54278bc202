//! The units of a node's pods in the folders of systemd and Quadlet, and what tells revisions apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::Pods;
use super::pods::{gone, list, relink, write};
use crate::fleet::revision::{Placed, Record};
use crate::fleet::unit::{self, QUADLET};
use crate::fleet::{liveness, network};
use crate::push::store::sync_dir;

/// What starts units at boot.
const WANTS: &str = "multi-user.target.wants";

/// Where liveness scripts have their files.
const LIVE: &str = "live";

/// Whether a unit of `pod` is made of a file.
fn is_of(file: &str, pod: &str) -> bool {
    unit::pod_of(&unit::of_file(file)) == Some(pod)
}

impl Pods {
    /// Gives a revision its tag, by which its units find it, and an address where it
    /// has a network of its own: another one than that of `old` where it runs `beside`
    /// it, else the same, since packets of UDP go on to where they went.
    ///
    /// # Errors
    /// When files cannot be written, or all addresses are taken.
    pub fn tag(
        &self,
        record: &Record,
        id: &str,
        old: Option<&Record>,
        beside: bool,
    ) -> anyhow::Result<()> {
        let dir = self.dir(&record.pod).join("tags");
        let cannot = || format!("cannot write in `{}`", dir.display());
        fs::create_dir_all(&dir).with_context(cannot)?;
        relink(&Path::new("../revs").join(id), &dir.join(&record.tag)).with_context(cannot)?;
        if record.network.is_some() {
            let (own, old) = (self.address(record), old.and_then(|old| self.address(old)));
            let address = match (own, old) {
                (Some(own), old) if beside && old.as_ref() != Some(&own) => own,
                (_, Some(old)) if !beside => old,
                (Some(own), None) => own,
                _ => self.free_address()?,
            };
            // What is there already asks nothing of a full disk.
            if self.address(record).as_ref() != Some(&address) {
                let file = dir.join(format!("{}.address", record.tag));
                write(&file, &address).with_context(cannot)?;
            }
        }
        sync_dir(&dir)
    }

    /// The address of a revision that has a network of its own.
    pub fn address(&self, record: &Record) -> Option<String> {
        record.network.as_ref()?;
        let path = self.dir(&record.pod).join("tags").join(format!("{}.address", record.tag));
        let address = fs::read_to_string(path).ok()?;
        (!address.is_empty()).then_some(address)
    }

    fn free_address(&self) -> anyhow::Result<String> {
        let mut taken = BTreeSet::new();
        for pod in self.names()? {
            let dir = self.dir(&pod).join("tags");
            let files = list(&dir)?.into_iter().filter(|name| name.ends_with(".address"));
            taken.extend(files.filter_map(|name| fs::read_to_string(dir.join(name)).ok()));
        }
        let mut all = (1..).map_while(network::address);
        all.find(|address| !taken.contains(address)).context("all addresses of pods are taken")
    }

    /// Forgets the tags of revisions that are not there any more.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub(super) fn prune_tags(&self, pod: &str) -> anyhow::Result<()> {
        let dir = self.dir(pod).join("tags");
        for tag in list(&dir)?.iter().filter(|name| !name.contains('.')) {
            if !dir.join(tag).exists() {
                for name in [tag.clone(), format!("{tag}.address")] {
                    gone(fs::remove_file(dir.join(&name)))
                        .with_context(|| format!("cannot remove `{name}`"))?;
                }
            }
        }
        self.prune_counts(pod)
    }

    /// How often a container was started again since it did not answer.
    pub(super) fn unanswered(&self, placed: &Placed) -> u64 {
        let file = format!("{}{}", placed.id, liveness::RESTARTS);
        let text = fs::read_to_string(self.places.run.join(LIVE).join(file)).unwrap_or_default();
        text.split_whitespace().next().and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// The timer that asks a container whether it is alive; scripts of an earlier vzmaster have
    /// one name for all, and no file of it.
    pub(super) fn timer(&self, placed: &Placed) -> String {
        let file = self.places.run.join(LIVE).join(&placed.id).join(liveness::TIMER);
        match fs::read_to_string(file).as_deref().map(str::trim_end) {
            Ok(name) if !name.is_empty() => name.to_owned(),
            _ => format!("{}.timer", liveness::timer(&placed.id)),
        }
    }

    /// Forgets those counts of revisions of `pod` that are not there any more.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub(super) fn prune_counts(&self, pod: &str) -> anyhow::Result<()> {
        let (live, tags) = (self.places.run.join(LIVE), self.dir(pod).join("tags"));
        for name in list(&live)? {
            let id = name.strip_suffix(liveness::RESTARTS).and_then(|id| id.strip_prefix(pod));
            let Some((_, tag)) = id.and_then(|id| id.strip_prefix('.')?.split_once('.')) else {
                continue;
            };
            if !tags.join(tag).exists() {
                gone(fs::remove_file(live.join(&name)))
                    .with_context(|| format!("cannot remove `{name}`"))?;
            }
        }
        Ok(())
    }

    /// Makes systemd's folder have the units of `pod` that `records` name, and no others.
    ///
    /// # Errors
    /// When a link cannot be made or removed.
    pub fn link_units(&self, pod: &str, records: &[&Record]) -> anyhow::Result<()> {
        let wished: BTreeMap<String, PathBuf> = records
            .iter()
            .flat_map(|record| record.unit_files().into_iter().map(|(_, file)| (*record, file)))
            .map(|(record, file)| (file.clone(), self.unit_target(record, &file)))
            .collect();
        let wants = self.places.units.join(WANTS);
        let cannot = || format!("cannot link the units of `{pod}`");
        fs::create_dir_all(&wants).with_context(cannot)?;
        for file in self.unit_files()?.iter().filter(|file| is_of(file, pod)) {
            if !wished.contains_key(file) {
                gone(fs::remove_file(wants.join(file))).with_context(cannot)?;
                gone(fs::remove_file(self.unit_link(file))).with_context(cannot)?;
            }
        }
        for (file, target) in &wished {
            let link = self.unit_link(file);
            if let Some(folder) = link.parent() {
                fs::create_dir_all(folder).with_context(cannot)?;
            }
            relink(target, &link).with_context(cannot)?;
            // Quadlet does the same with the file's own [Install].
            if !file.ends_with(QUADLET) {
                relink(&Path::new("..").join(file), &wants.join(file)).with_context(cannot)?;
            }
        }
        for folder in [&wants, &self.places.units, &self.places.quadlets] {
            if folder.is_dir() {
                sync_dir(folder)?;
            }
        }
        Ok(())
    }

    /// What systemd and Quadlet are given, of all pods.
    fn unit_files(&self) -> anyhow::Result<Vec<String>> {
        let mut files = list(&self.places.units)?;
        files.retain(|file| !file.ends_with(QUADLET));
        let mut quadlets = list(&self.places.quadlets)?;
        quadlets.retain(|file| file.ends_with(QUADLET));
        files.extend(quadlets);
        files.retain(|file| unit::pod_of(&unit::of_file(file)).is_some());
        Ok(files)
    }

    /// Where a file that a unit is made of is looked for.
    fn unit_link(&self, file: &str) -> PathBuf {
        let quadlet = file.ends_with(QUADLET);
        if quadlet { &self.places.quadlets } else { &self.places.units }.join(file)
    }

    /// The units of `pod` in the folders of systemd and Quadlet.
    ///
    /// # Errors
    /// When one cannot be listed.
    pub fn linked(&self, pod: &str) -> anyhow::Result<Vec<String>> {
        let files = self.unit_files()?;
        Ok(files.iter().filter(|file| is_of(file, pod)).map(|file| unit::of_file(file)).collect())
    }

    fn unit_target(&self, record: &Record, file: &str) -> PathBuf {
        self.dir(&record.pod).join("tags").join(&record.tag).join("units").join(file)
    }

    /// Whether systemd or Quadlet is given the revision's own file of a unit, and whether
    /// that starts at boot.
    pub fn unit_links(&self, record: &Record, placed: &Placed) -> (bool, bool) {
        let file = unit::file(&placed.unit, &placed.runtime);
        let target = self.unit_target(record, &file);
        let linked = fs::read_link(self.unit_link(&file)).is_ok_and(|to| to == target);
        let wants = self.places.units.join(WANTS).join(&file);
        (linked, file.ends_with(QUADLET) || fs::symlink_metadata(wants).is_ok())
    }

    /// Lets units start although their revision is not the current one; a reboot
    /// forgets it. No record forbids those of `pod`.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub fn allow(&self, pod: &str, record: Option<&Record>) -> anyhow::Result<()> {
        let dir = self.places.run.join("try");
        let cannot = || format!("cannot write in `{}`", dir.display());
        fs::create_dir_all(&dir).with_context(cannot)?;
        for old in list(&dir)?.iter().filter(|unit| unit::pod_of(unit) == Some(pod)) {
            gone(fs::remove_file(dir.join(old))).with_context(cannot)?;
        }
        for unit in record.iter().flat_map(|record| record.all_units()) {
            fs::write(dir.join(unit), "").with_context(cannot)?;
        }
        Ok(())
    }

    /// Units of ours whose pod is not there.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn stray(&self) -> anyhow::Result<Vec<String>> {
        let mut units: Vec<String> =
            self.unit_files()?.iter().map(|file| unit::of_file(file)).collect();
        units.retain(|unit| {
            unit::pod_of(unit).is_some_and(|pod| {
                self.link(pod, "current").is_none() && self.pending(pod).is_none()
            })
        });
        Ok(units)
    }

    /// The record of the current revision; none where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn current(&self, pod: &str) -> anyhow::Result<Option<Record>> {
        let id = self.link(pod, "current");
        let record = id.map(|id| self.record(pod, &id)).transpose()?;
        if record.as_ref().is_some_and(|record| record.pod != pod) {
            bail!("the revision of `{pod}` is that of another pod");
        }
        Ok(record)
    }
}
