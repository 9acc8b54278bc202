//! How much of each package and directory is kept, and how much is left out.

use std::collections::{BTreeMap, HashSet};

use bundler::layer::Node;
use bundler::{Kind, Layer, Packages, RootPath, Rootfs};
use serde::{Deserialize, Serialize};

use super::walk::{Sizes, Walk};

/// A number of files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Everything but directories.
    pub files: u64,
    /// Bytes of content; each content counts once.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }

    fn without(self, kept: Tally) -> Tally {
        Tally {
            files: self.files.saturating_sub(kept.files),
            bytes: self.bytes.saturating_sub(kept.bytes),
        }
    }
}

/// What is kept of a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// What the bundle has of it.
    pub kept: Tally,
    /// What the root has of it.
    pub found: Tally,
    /// Whether the bundle has a program that it is linked into.
    pub linked: bool,
}

impl Share {
    /// Whether the bundle has anything of it.
    pub fn is_kept(&self) -> bool {
        self.kept.files > 0 || self.linked
    }

    /// Whether the root has files of it that the bundle has not.
    pub fn is_partial(&self) -> bool {
        self.kept.files < self.found.files
    }

    /// What is not kept.
    pub fn left_out(&self) -> Tally {
        self.found.without(self.kept)
    }
}

/// The result of counting.
#[derive(Debug, Default)]
pub struct Census {
    /// By the package's place in [`Packages::list`].
    pub packages: Vec<Share>,
    /// What is left out, where all of the root was looked at: the topmost
    /// directories of which nothing is kept (`true`), and files in directories
    /// of which something is. No file is in two of them.
    pub directories: Option<BTreeMap<(RootPath, bool), Tally>>,
    /// What no package owns and is left out, where all was looked at.
    pub unowned: Tally,
}

impl Census {
    /// Counts what `layer` keeps of `rootfs`.
    pub(super) fn take(
        rootfs: &Rootfs,
        layer: &Layer,
        packages: &Packages,
        walk: Option<&Walk>,
    ) -> Census {
        let kept: HashSet<&RootPath> = layer.entries.iter().map(|entry| &entry.path).collect();
        let mut census = Census::default();
        census.packages.resize(packages.list.len(), Share::default());
        for entry in &layer.entries {
            if entry.node == Node::Directory {
                continue;
            }
            for owner in packages.owners(&entry.path).all() {
                if let Some(share) = census.packages.get_mut(owner as usize) {
                    share.kept.add(entry.node.size());
                }
            }
            for &module in packages.inside(&entry.path) {
                if let Some(share) = census.packages.get_mut(module as usize) {
                    share.linked = true;
                }
            }
        }
        match walk {
            Some(walk) => census.count_all(walk, packages, &kept),
            None => census.count_packages(rootfs, packages),
        }
        census
    }

    fn count_all(&mut self, walk: &Walk, packages: &Packages, kept: &HashSet<&RootPath>) {
        let mut directories: BTreeMap<(RootPath, bool), Tally> = BTreeMap::new();
        for file in &walk.files {
            let owners = packages.owners(&file.path);
            for owner in owners.all() {
                if let Some(share) = self.packages.get_mut(owner as usize) {
                    share.found.add(file.size);
                }
            }
            if kept.contains(&file.path) {
                continue;
            }
            if owners.first().is_none() {
                self.unowned.add(file.size);
            }
            directories.entry(place(&file.path, kept)).or_default().add(file.size);
        }
        self.directories = Some(directories);
    }

    /// Of this machine's own root only packages of which something is kept are
    /// looked at.
    fn count_packages(&mut self, rootfs: &Rootfs, packages: &Packages) {
        let mut sizes: Vec<Sizes> = self.packages.iter().map(|_| Sizes::default()).collect();
        let mut count = |path: &RootPath, owner: u32, shares: &mut [Share]| {
            let (Some(share), Some(sizes)) =
                (shares.get_mut(owner as usize), sizes.get_mut(owner as usize))
            else {
                return;
            };
            if !share.is_kept() {
                return;
            }
            if let Ok(meta) = rootfs.lstat(path)
                && meta.kind != Kind::Directory
            {
                share.found.add(sizes.count(&meta));
            }
        };
        for (path, owners) in packages.listed() {
            for owner in owners.all() {
                count(path, owner, &mut self.packages);
            }
        }
        // What is owned by where it lies.
        for (place, package) in (0..).zip(&packages.list) {
            if !self.packages.get(place as usize).is_some_and(Share::is_kept) {
                continue;
            }
            let mut directories = package.directories.clone();
            while let Some(dir) = directories.pop() {
                for name in rootfs.read_dir(&dir).unwrap_or_default() {
                    let Ok(path) = dir.join(&name) else { continue };
                    match rootfs.lstat(&path) {
                        Ok(meta) if meta.kind == Kind::Directory => directories.push(path),
                        // Listed files were counted above.
                        Ok(_)
                            if packages.owners(&path).language == Some(place)
                                && !packages.is_listed(&path, place) =>
                        {
                            count(&path, place, &mut self.packages);
                        }
                        _ => {}
                    }
                }
            }
        }
        // What the run deleted is in the layer and no longer in the root.
        for share in &mut self.packages {
            share.found.files = share.found.files.max(share.kept.files);
            share.found.bytes = share.found.bytes.max(share.kept.bytes);
        }
    }
}

/// Where a file that is left out is counted.
fn place(path: &RootPath, kept: &HashSet<&RootPath>) -> (RootPath, bool) {
    let mut topmost = None;
    let mut above = path.parent();
    let direct = above.clone().unwrap_or_else(RootPath::root);
    while let Some(dir) = above {
        if dir.is_root() || kept.contains(&dir) {
            break;
        }
        above = dir.parent();
        topmost = Some(dir);
    }
    topmost.map_or((direct, false), |dir| (dir, true))
}
