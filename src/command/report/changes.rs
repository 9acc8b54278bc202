//! What has changed between two bundles.

use std::collections::BTreeMap;

use serde::Serialize;
use tracer::record::BytePath;

use super::model::Model;
use crate::evidence::{File, KeptPackage};

/// What the newer of two bundles has otherwise.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Changes {
    pub(super) old_diff_id: String,
    pub(super) old_bytes: u64,
    pub(super) added: Vec<Changed>,
    pub(super) removed: Vec<Changed>,
    pub(super) changed: Vec<Changed>,
    pub(super) packages: Vec<PackageChange>,
}

/// A file that is not as it was.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Changed {
    pub(super) path: BytePath,
    /// Bytes in the older bundle.
    pub(super) old_size: u64,
    /// Bytes in the newer one.
    pub(super) size: u64,
    /// What differs.
    pub(super) what: Vec<&'static str>,
}

/// A package that came, went, or has another version.
#[derive(Debug, Serialize)]
pub(super) struct PackageChange {
    pub(super) name: String,
    pub(super) old: Option<String>,
    pub(super) new: Option<String>,
}

/// Compares the files by path and the packages by kind and name.
pub(super) fn between(old: &Model, new: &Model) -> Changes {
    let mut changes = Changes {
        old_diff_id: old.diff_id.clone(),
        old_bytes: old.bytes,
        packages: packages(&old.packages, &new.packages),
        ..Changes::default()
    };
    let mut before: BTreeMap<&BytePath, &File> =
        old.files.iter().map(|file| (&file.path, file)).collect();
    for file in &new.files {
        let changed = |old: Option<&File>, what| Changed {
            path: file.path.clone(),
            old_size: old.map_or(0, |old| old.size),
            size: file.size,
            what,
        };
        match before.remove(&file.path) {
            None => changes.added.push(changed(None, Vec::new())),
            Some(old) => {
                let what = differences(old, file);
                if !what.is_empty() {
                    changes.changed.push(changed(Some(old), what));
                }
            }
        }
    }
    changes.removed = before
        .into_values()
        .map(|old| Changed {
            path: old.path.clone(),
            old_size: old.size,
            size: 0,
            what: Vec::new(),
        })
        .collect();
    changes
}

fn differences(old: &File, new: &File) -> Vec<&'static str> {
    [
        (old.kind != new.kind, "kind"),
        (old.sha256 != new.sha256, "content"),
        (old.target != new.target, "target"),
        (old.mode != new.mode, "mode"),
        ((old.uid, old.gid) != (new.uid, new.gid), "owner"),
        (old.capabilities != new.capabilities, "capabilities"),
    ]
    .into_iter()
    .filter_map(|(differs, what)| differs.then_some(what))
    .collect()
}

/// Packages by kind, name and architecture; several versions of one are one text.
fn packages(old: &[KeptPackage], new: &[KeptPackage]) -> Vec<PackageChange> {
    fn by_name(packages: &[KeptPackage]) -> BTreeMap<(&str, &str), String> {
        let mut named: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for package in packages {
            let kind = package.purl.split('/').next().unwrap_or_default();
            named.entry((&package.name, kind)).or_default().push(&package.version);
        }
        for versions in named.values_mut() {
            versions.sort_unstable();
            versions.dedup();
        }
        named.into_iter().map(|(name, versions)| (name, versions.join(", "))).collect()
    }
    let (old, new) = (by_name(old), by_name(new));
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changes = names.into_iter().map(|name| PackageChange {
        name: name.0.to_owned(),
        old: old.get(name).cloned(),
        new: new.get(name).cloned(),
    });
    changes.filter(|change| change.old != change.new).collect()
}
