//! What a bundle is made of and why: documents beside it, and files in it by
//! which scanners name its packages.
//!
//! An [`Inventory`] is taken of the root before the layer is planned, since
//! scanners' files are part of the layer; the documents are written when the
//! layer's digest is known. Equal specs, files and databases give equal bytes.

mod capability;
mod census;
mod created;
mod cyclonedx;
mod documents;
mod files;
mod left_out;
mod scanner;
mod spdx;
mod walk;

use std::collections::BTreeSet;

use bundler::assemble::Digests;
use bundler::{DiffId, Layer, Packages, RootPath};
use tracer::{Record, Spec};

use crate::command::source::Gathered;
use crate::report;

pub use census::{Census, Share, Tally};
pub use documents::{Documents, MAX_DOCUMENT};
pub use files::{FOR_SCANNERS, File, FileList, KeptPackage, Reason};
pub use left_out::{LeftDirectory, LeftOut, LeftPackage, Unread};
pub use scanner::ScannerFile;
use walk::Walk;

/// Name of the folder beside `rootfs` that has the documents.
pub const FOLDER: &str = "evidence";
/// The document with the record of the traced runs.
pub const RECORD: &str = "spec.json";
/// The document with every file: a [`FileList`].
pub const FILES: &str = "files.json";
/// The document with what is left out: a [`LeftOut`].
pub const LEFT_OUT: &str = "left-out.json";

/// Name of the seccomp profile in it, where `--seccomp` made one.
pub const PROFILE: &str = "seccomp.json";

/// One document of the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name in the folder.
    pub name: &'static str,
    /// Its media type, which is the type of the artifact that an image has of it.
    pub media_type: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What a root holds, looked at once.
#[derive(Debug)]
pub struct Inventory {
    /// The packages of the root.
    pub packages: Packages,
    /// All files of the root; nothing where the root is this machine's own, of
    /// which only packages are accounted for.
    walk: Option<Walk>,
}

/// What the documents speak of.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The specs, their records and reasons.
    pub gathered: &'a Gathered,
    /// All that is kept.
    pub layer: &'a Layer,
    /// The layer's digest, from which the documents have their ids.
    pub diff_id: DiffId,
    /// The digests of its files.
    pub digests: &'a Digests,
    /// What the bundle is called in the documents.
    pub name: &'a str,
    /// What is in the layer for scanners alone.
    pub for_scanners: &'a BTreeSet<RootPath>,
    /// The time of the documents, in seconds since 1970; where there is none,
    /// that of the newest file.
    pub created: Option<i64>,
}

/// What both SBOMs are made of.
#[derive(Clone, Copy)]
struct Account<'a> {
    subject: &'a Subject<'a>,
    packages: &'a Packages,
    census: &'a Census,
    rows: &'a [files::Row<'a>],
}

impl Inventory {
    /// Looks at the root and reads the databases of its packages.
    ///
    /// # Errors
    /// A root that is not this machine's own and cannot be listed.
    pub fn take(gathered: &Gathered) -> anyhow::Result<Self> {
        let rootfs = &gathered.rootfs;
        let walk = if walk::is_own_root(rootfs) { None } else { Some(Walk::of(rootfs)?) };
        let packages = match &walk {
            Some(walk) => Packages::read(rootfs, walk.files.iter().map(|file| &file.path)),
            None => Packages::read(rootfs, gathered.closure.entries.keys()),
        };
        Ok(Inventory { packages, walk })
    }

    /// Says which databases could not be read.
    pub fn say_unread(&self) {
        for unread in &self.packages.unread {
            let message = format_args!("packages: {} was not read: {}", unread.path, unread.why);
            report::warn("vzbuild", message);
        }
    }

    /// What scanners need in a layer that keeps these files (no directories).
    pub fn scanner_files(
        &self,
        gathered: &Gathered,
        kept: &BTreeSet<RootPath>,
    ) -> Vec<ScannerFile> {
        scanner::files(&gathered.rootfs, &self.packages, kept)
    }

    /// Writes the documents.
    ///
    /// # Errors
    /// None in practice: every value in them has a JSON form.
    pub fn documents(&self, subject: &Subject<'_>) -> anyhow::Result<Vec<Document>> {
        let packages = &self.packages;
        let census =
            Census::take(&subject.gathered.rootfs, subject.layer, packages, self.walk.as_ref());
        let rows = files::rows(subject, packages);
        let mut documents = vec![Document {
            name: "spec",
            media_type: "text/x-vz-spec",
            bytes: spec(subject.gathered).print(),
        }];
        if let Some(record) = record(subject.gathered) {
            let bytes = record.print()?;
            documents.push(Document {
                name: RECORD,
                media_type: "application/vnd.vz.spec+json",
                bytes,
            });
        }
        let mut add =
            |name, media_type, bytes| documents.push(Document { name, media_type, bytes });
        let left_out = left_out::document(subject, packages, &census);
        add(LEFT_OUT, "application/vnd.vz.left-out+json", report::json_text(&left_out)?);
        let account = Account { subject, packages, census: &census, rows: &rows };
        let spdx = spdx::document(account);
        add("sbom.spdx.json", "application/spdx+json", report::json_text(&spdx)?);
        let cyclonedx = cyclonedx::document(account);
        add("sbom.cdx.json", "application/vnd.cyclonedx+json", report::json_text(&cyclonedx)?);
        let files = files::document(subject, packages, &census, rows);
        add(FILES, "application/vnd.vz.files+json", report::json_text(&files)?);
        Ok(documents)
    }
}

/// The specs, united.
fn spec(gathered: &Gathered) -> Spec {
    let mut spec = Spec::default();
    gathered.inputs.iter().for_each(|input| spec.unite(input.spec.clone()));
    spec
}

/// The records, united. Process ids differ from run to run and are 0.
fn record(gathered: &Gathered) -> Option<Record> {
    let records = gathered.inputs.iter().filter_map(|input| input.record.clone());
    let mut record = records.reduce(Record::unite)?;
    record.files.iter_mut().for_each(|file| file.pid = 0);
    Some(record)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
