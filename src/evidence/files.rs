//! `files.json`: every file of the bundle, with its digest, its reason, the
//! process that first used it, and the package that it came from.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use bundler::layer::{Entry, Node};
use bundler::{FileDigest, Packages, RootPath, Why, xattr};
use serde::{Deserialize, Serialize};
use tracer::record::{BytePath, FileUse, Use};

use super::census::Kept;
use super::{Census, Subject, Tally, capability, hex, record};
use crate::command::closure;

/// The [`Reason::kind`] of what is in a layer for scanners alone.
pub const FOR_SCANNERS: &str = "scanner";

/// A file of the layer with all that is known of it.
pub(super) struct Row<'a> {
    pub(super) entry: &'a Entry,
    /// Of regular files, under each of their names.
    pub(super) digest: Option<FileDigest>,
    /// Its owners, as places in the list of packages; the system's first.
    pub(super) owners: Vec<u32>,
    pub(super) json: File,
}

/// The content of `files.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileList {
    /// Digest of the layer.
    pub diff_id: String,
    /// Everything but directories that are only on the way, sorted by path.
    pub files: Vec<File>,
    /// What the bundle is called.
    pub name: String,
    /// The packages of these files.
    pub packages: Vec<KeptPackage>,
    /// Version of this format: 1.
    pub version: u32,
}

/// A file of the bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Permitted file capabilities, joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<String>,
    /// Owner's group id.
    pub gid: u32,
    /// `file`, `symlink`, `hard-link`, `directory` and so on.
    pub kind: Cow<'static, str>,
    /// Permissions, four octal digits.
    pub mode: String,
    /// Whether it is as it was before the run changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<bool>,
    /// Package URLs of its owners, the system's first.
    pub packages: Vec<String>,
    /// Where it lies.
    pub path: BytePath,
    /// Executable of the process that first used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<BytePath>,
    /// Why it is in.
    pub reason: Reason,
    /// Of a regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Bytes of content; another name of a file adds none.
    pub size: u64,
    /// Of a link what is written in it; of another name of a file the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<BytePath>,
    /// Owner's user id.
    pub uid: u32,
    /// How the run used it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub uses: BTreeSet<Use>,
}

/// Why a file is in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// The file that wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<BytePath>,
    /// A stable name for scripts, such as `needed`.
    pub kind: Cow<'static, str>,
    /// For people.
    pub text: String,
}

/// A package of which the bundle has something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptPackage {
    /// What the root has of it.
    pub found: Tally,
    /// What the bundle has of it.
    pub kept: Tally,
    /// Its licence in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Its name.
    pub name: String,
    /// Whether the root has more of it.
    pub partial: bool,
    /// Its package URL.
    pub purl: String,
    /// Its version.
    pub version: String,
}

/// The rows of all entries but of directories that are only on the way.
pub(super) fn rows<'a>(subject: &Subject<'a>, packages: &Packages) -> Vec<Row<'a>> {
    // United, since each run uses a file in its own ways.
    let record = record(subject.gathered).unwrap_or_default();
    let uses: HashMap<&[u8], &FileUse> =
        record.files.iter().map(|file| (file.path.0.as_slice(), file)).collect();
    let closure = &subject.gathered.closure.entries;
    let is_row =
        |entry: &&Entry| entry.node != Node::Directory || closure.contains_key(&entry.path);
    let entries = subject.layer.entries.iter().filter(is_row);
    entries.map(|entry| row(subject, packages, entry, uses.get(entry.path.as_bytes()))).collect()
}

fn row<'a>(
    subject: &Subject<'a>,
    packages: &Packages,
    entry: &'a Entry,
    used: Option<&&FileUse>,
) -> Row<'a> {
    let first_name = match &entry.node {
        Node::HardLink(first) => first,
        _ => &entry.path,
    };
    let digest = subject.digests.get(first_name).copied();
    let owners: Vec<u32> = match entry.node {
        Node::Directory => Vec::new(),
        _ => packages.owners(&entry.path).all().collect(),
    };
    let purls = owners.iter().filter_map(|&owner| packages.get(owner)).map(|p| packages.purl(p));
    let json = File {
        capabilities: capabilities(subject, entry),
        gid: entry.gid,
        kind: kind(&entry.node).into(),
        mode: format!("{:04o}", entry.mode),
        original: subject.gathered.rootfs.is_original(&entry.path).then_some(true),
        packages: purls.collect(),
        path: bytes(&entry.path),
        process: used.map(|used| used.process.clone()),
        reason: reason(subject, entry),
        sha256: digest.map(|digest| hex(&digest.sha256)),
        size: entry.node.size(),
        target: match &entry.node {
            Node::Symlink(target) => Some(BytePath(target.clone())),
            Node::HardLink(first) => Some(bytes(first)),
            _ => None,
        },
        uid: entry.uid,
        uses: used.map(|used| used.uses.clone()).unwrap_or_default(),
    };
    Row { entry, digest, owners, json }
}

fn bytes(path: &RootPath) -> BytePath {
    BytePath(path.as_bytes().to_vec())
}

fn kind(node: &Node) -> &'static str {
    match node {
        Node::Directory => "directory",
        Node::File(_) | Node::Made(_) => "file",
        Node::Symlink(_) => "symlink",
        Node::HardLink(_) => "hard-link",
        Node::Fifo => "fifo",
        Node::CharDevice(..) => "char-device",
        Node::BlockDevice(..) => "block-device",
    }
}

fn reason(subject: &Subject<'_>, entry: &Entry) -> Reason {
    let plain = |kind: &'static str, text: &str| Reason {
        from: None,
        kind: kind.into(),
        text: text.to_owned(),
    };
    if subject.for_scanners.contains(&entry.path) {
        return plain(FOR_SCANNERS, "by which scanners name the packages");
    }
    match subject.gathered.closure.entries.get(&entry.path) {
        Some(Why { reason, .. }) => Reason {
            from: reason.from().map(bytes),
            kind: closure::kind(reason).into(),
            text: reason.to_string(),
        },
        None if entry.found => plain("way", "a link on the way to a directory of the bundle"),
        None => plain("made", "made for the bundle"),
    }
}

/// The file capabilities of a program.
fn capabilities(subject: &Subject<'_>, entry: &Entry) -> Option<String> {
    if !matches!(entry.node, Node::File(_)) || entry.mode & 0o111 == 0 {
        return None;
    }
    let file = subject.gathered.rootfs.open_file(&entry.path).ok()?;
    let attributes = xattr::read(file).ok()?;
    let found = attributes.iter().find(|(name, _)| name.as_slice() == b"security.capability");
    found.map(|(_, value)| capability::text(value))
}

/// The content of `files.json`.
pub(super) fn document(
    subject: &Subject<'_>,
    packages: &Packages,
    census: &Census,
    rows: Vec<Row<'_>>,
) -> FileList {
    let package = |(_, Kept { package, share, license }): (u32, Kept<'_>)| KeptPackage {
        found: share.found,
        kept: share.kept,
        license: license.map(str::to_owned),
        name: package.name.clone(),
        partial: share.is_partial(),
        purl: packages.purl(package),
        version: package.version.clone(),
    };
    FileList {
        diff_id: subject.diff_id.to_string(),
        files: rows.into_iter().map(|row| row.json).collect(),
        name: subject.name.to_owned(),
        packages: census.kept(packages).map(package).collect(),
        version: 1,
    }
}
