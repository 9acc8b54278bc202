//! `left-out.json`: what of the root is not in the bundle, by package and by
//! directory.

use bundler::Packages;
use serde::{Deserialize, Serialize};
use tracer::record::BytePath;

use super::{Census, Subject, Tally};

/// The content of `left-out.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Digest of the layer.
    pub diff_id: String,
    /// By directory; nothing where only the packages of the bundle's own files
    /// were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directories: Option<Vec<LeftDirectory>>,
    /// What the bundle is called.
    pub name: String,
    /// Packages of which something is left out, or all.
    pub packages: Vec<LeftPackage>,
    /// All that is left out, where all of the root was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Tally>,
    /// What no package owns, where all of the root was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unowned: Option<Tally>,
    /// Databases that could not be read, with the reason.
    pub unread: Vec<Unread>,
    /// Version of this format: 1.
    pub version: u32,
}

/// What is left out of a package.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftPackage {
    /// What the root has of it.
    pub found: Tally,
    /// What the bundle has of it.
    pub kept: Tally,
    /// What it has not.
    pub left_out: Tally,
    /// Its name.
    pub name: String,
    /// Its package URL.
    pub purl: String,
    /// Its version.
    pub version: String,
}

/// What is left out of a directory.
#[derive(Debug, Serialize, Deserialize)]
pub struct LeftDirectory {
    /// Bytes of content.
    pub bytes: u64,
    /// Everything but directories.
    pub files: u64,
    /// Where it lies.
    pub path: BytePath,
    /// Whether nothing of it is kept; else the files right in it are meant.
    pub whole: bool,
}

/// A database of packages that could not be read.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unread {
    /// The file.
    pub path: BytePath,
    /// The end of a sentence.
    pub why: String,
}

pub(super) fn document(subject: &Subject<'_>, packages: &Packages, census: &Census) -> LeftOut {
    let shares = packages.list.iter().zip(&census.packages);
    let told = shares.filter(|(_, share)| share.is_partial());
    let package = |(package, share): (&bundler::Package, &super::Share)| LeftPackage {
        found: share.found,
        kept: share.kept,
        left_out: share.left_out(),
        name: package.name.clone(),
        purl: packages.purl(package),
        version: package.version.clone(),
    };
    let directories = census.directories.as_ref();
    let directory = |((path, whole), tally): (&(bundler::RootPath, bool), &Tally)| LeftDirectory {
        bytes: tally.bytes,
        files: tally.files,
        path: BytePath(path.as_bytes().to_vec()),
        whole: *whole,
    };
    LeftOut {
        diff_id: subject.diff_id.to_string(),
        directories: directories.map(|all| all.iter().map(directory).collect()),
        name: subject.name.to_owned(),
        packages: told.map(package).collect(),
        total: directories.map(|all| {
            let sum = |of: fn(&Tally) -> u64| all.values().map(of).sum();
            Tally { files: sum(|tally| tally.files), bytes: sum(|tally| tally.bytes) }
        }),
        unowned: directories.map(|_| census.unowned),
        unread: packages
            .unread
            .iter()
            .map(|unread| Unread {
                path: BytePath(unread.path.as_bytes().to_vec()),
                why: unread.why.clone(),
            })
            .collect(),
        version: 1,
    }
}
