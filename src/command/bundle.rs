//! `vzbuild bundle`: from specs to an OCI runtime bundle, or to its layer alone.

pub(super) mod contents;
pub(super) mod mounts;
mod private;
pub(super) mod program;
pub(super) mod summary;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::Context;
use bundler::bundle::{self, BundleError};
use bundler::layer::Node;
use bundler::staging::StagingError;
use bundler::{
    AssembleError, Assembled, Container, DiffId, Digests, FileDigest, Layer, RootPath, Sinks,
};
use oci_spec::runtime::Spec;

use crate::cli::build;
use crate::evidence::{self, Document, Documents, FileList, Inventory, Subject};
use crate::report::{Advice, Status};
use crate::{interrupt, progress, report};

use super::source::{Gathered, gather};
use private::Private;
use summary::Summary;

/// Closes the specs and writes the bundle, or with `--tar` the layer.
///
/// # Errors
/// As [`gather`]; with status 1 where something is missing or unreadable; what
/// cannot be written or does not make sense together.
pub fn run(args: &build::Bundle) -> anyhow::Result<ExitCode> {
    make(args, Report::Loud)?;
    Ok(Status::Done.into())
}

/// Makes a bundle anew from the same specs, with `tmpfs` more places in memory. It keeps
/// its profile, under which it was run, and what scanners need, where it has that.
///
/// # Errors
/// As [`run`].
pub(super) fn renew(args: &build::Verify, tmpfs: Vec<OsString>) -> anyhow::Result<()> {
    let (specs, root) = (args.spec.clone(), args.root.clone().unwrap_or_else(|| "/".into()));
    let source = build::Source { specs, root, allow_missing: true, listed: false };
    let config = Some(args.bundle.join("config.json"));
    let evidence = Documents::Folder(args.bundle.join(evidence::FOLDER));
    let files = evidence.json::<FileList>(evidence::FILES);
    let for_scanners = |file: &evidence::File| file.reason.kind == evidence::FOR_SCANNERS;
    let scanner_files = files.is_ok_and(|list| list.files.iter().any(for_scanners));
    let made = build::Bundle::of(source, &args.bundle);
    let bundle = build::Bundle { config, tmpfs, scanner_files, ..made };
    make(&bundle, Report::Quiet)
}

/// Whether a summary is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// It is, and what the bundle may lack is said before.
    Loud,
    /// Only what it may lack is said: it is made of an image.
    Warnings,
    /// Errors are said, and nothing else.
    Quiet,
}

/// Makes the bundle or layer of `args`.
///
/// # Errors
/// As [`run`].
pub(super) fn make(args: &build::Bundle, report: Report) -> anyhow::Result<()> {
    let mut prepared = prepare(args, report)?;
    if prepared.wrote_root && report != Report::Quiet {
        report::warn(
            "vzbuild",
            "the run wrote into `/` itself, which is read-only in the bundle: --writable changes that",
        );
    }
    mounts::fit(&mut prepared.container, &mut prepared.spec, &prepared.plan.layer);
    let (layer, gathered) = (&prepared.plan.layer, &prepared.gathered);
    let mut spec = prepared.spec.clone();
    if !nix::unistd::geteuid().is_root() {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        bundler::rootless::make_rootless(&mut spec, uid, gid);
    }

    let bar = progress::bytes("bundle", layer.bytes());
    let stop = interrupt::flag()?;
    let sinks =
        Sinks { progress: Some(&|bytes| bar.inc(bytes)), stop: Some(&stop), ..Sinks::default() };
    let (place, assembled) = match args.tar.as_deref() {
        Some(tar) => (None, write_tar(tar, gathered, layer, sinks)?),
        None => {
            let digests = Mutex::default();
            let profile = args.config.as_deref().and_then(|config| profile_beside(config, &spec));
            let sinks = Sinks { digests: Some(&digests), ..sinks };
            let beside = |diff_id| {
                let digests = std::mem::take(&mut *digests.lock().map_err(|_| poisoned())?);
                let documents = prepared.documents(diff_id, &digests).map_err(io::Error::other)?;
                let folder = Path::new(evidence::FOLDER);
                let documents = documents.into_iter().map(|one| (folder.join(one.name), one.bytes));
                let profile = profile.iter().cloned();
                let profile = profile.map(|bytes| (folder.join(evidence::PROFILE), bytes));
                Ok(documents.chain(profile).collect())
            };
            let (rootfs, sync) = (&gathered.rootfs, !args.no_sync);
            let written = bundle::write(&args.output, rootfs, layer, spec, sinks, &beside, sync);
            let bundle = written.map_err(|error| explain(error, &args.output))?;
            (Some(bundle.dir), bundle.layer)
        }
    };
    bar.finish_and_clear();
    let Prepared { container, lost, private, .. } = &prepared;
    let summary = Summary { args, place, layer, assembled: &assembled, private, lost, container };
    if report == Report::Loud {
        summary.report()?;
    }
    Ok(())
}

/// All that a bundle, or an image of it, is made of.
pub(super) struct Prepared {
    pub(super) gathered: Gathered,
    pub(super) container: Container,
    pub(super) spec: Spec,
    pub(super) plan: contents::Plan,
    /// What the root holds, where documents or scanners need it.
    inventory: Option<Inventory>,
    /// Files that look like secrets.
    private: Vec<Private>,
    /// Directories whose content ends with the program.
    lost: Vec<RootPath>,
    /// Whether the run wrote into the root directory itself.
    wrote_root: bool,
    /// The time after which nothing may have been made.
    created: Option<i64>,
}

impl Prepared {
    /// Adds to `digests` those of files that a layer below has already.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn add_digests(&self, digests: &mut Digests) -> io::Result<()> {
        let rootfs = &self.gathered.rootfs;
        for entry in &self.plan.layer.entries {
            let digest = match &entry.node {
                _ if digests.contains_key(&entry.path) => continue,
                Node::File(_) => FileDigest::of(rootfs.open_file(&entry.path)?)?,
                Node::Made(content) => FileDigest::of(content.as_slice())?,
                _ => continue,
            };
            digests.insert(entry.path.clone(), digest);
        }
        Ok(())
    }

    /// The documents about the layer that was planned, with this digest and these
    /// digests of its files; none where nobody asked for them.
    ///
    /// # Errors
    /// As [`Inventory::documents`].
    pub(super) fn documents(
        &self,
        diff_id: DiffId,
        digests: &Digests,
    ) -> anyhow::Result<Vec<Document>> {
        let Some(inventory) = &self.inventory else { return Ok(Vec::new()) };
        let program = self.container.args.first().and_then(|program| program.rsplit('/').next());
        inventory.documents(&Subject {
            gathered: &self.gathered,
            layer: &self.plan.layer,
            diff_id,
            digests,
            name: program.unwrap_or("bundle"),
            for_scanners: &self.plan.for_scanners,
            created: self.created,
        })
    }
}

/// From the specs to the plan of a bundle.
pub(super) fn prepare(args: &build::Bundle, report: Report) -> anyhow::Result<Prepared> {
    let gathered = gather(&args.source)?;
    if report != Report::Quiet {
        gathered.say_warnings();
    }
    if report != Report::Quiet || !args.source.allow_missing {
        gathered.refuse_missing(args.source.allow_missing)?;
    }

    let base = args.config.as_deref().map(read_config).transpose()?;
    let mut container = program::decide(args, &gathered, base.as_ref())?;
    let (lost, wrote_root) = mounts::decide(args, &gathered, &mut container)?;
    let spec = program::over(base, args, &container);
    let created = latest_time()?;
    // The layer alone has no place for documents.
    let inventory = (args.tar.is_none() || args.scanner_files)
        .then(|| Inventory::take(&gathered))
        .transpose()?;
    if report != Report::Quiet {
        inventory.iter().for_each(Inventory::say_unread);
    }
    let scanned = inventory.as_ref().filter(|_| args.scanner_files);
    let plan = contents::plan(&gathered, &spec, &container, created, scanned)?;
    refuse_unreadable(&plan.layer, args.source.allow_missing)?;
    let private = private::find(&gathered.rootfs, &plan.layer);
    if report != Report::Quiet {
        private::warn(&private, report == Report::Warnings);
    }
    Ok(Prepared { gathered, container, spec, plan, inventory, private, lost, wrote_root, created })
}

/// A worker panicked: cannot happen, and has been said where it did.
fn poisoned() -> io::Error {
    io::Error::other("a worker ended early")
}

/// The time after which no file may have been changed (reproducible-builds.org).
pub(super) fn latest_time() -> anyhow::Result<Option<i64>> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    seconds.map(Some).with_context(|| {
        format!("SOURCE_DATE_EPOCH is `{}`, no number of seconds", text.to_string_lossy())
    })
}

/// The file for podman and docker with the profile of the bundle that `config` belongs to,
/// where `spec` has taken over that profile.
fn profile_beside(config: &Path, spec: &Spec) -> Option<Vec<u8>> {
    spec.linux().as_ref()?.seccomp().as_ref()?;
    std::fs::read(config.with_file_name(evidence::FOLDER).join(evidence::PROFILE)).ok()
}

fn read_config(path: &Path) -> anyhow::Result<Spec> {
    let text = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("`{}` is no OCI config.json", path.display()))
}

pub(super) fn refuse_unreadable(layer: &Layer, allow: bool) -> anyhow::Result<()> {
    if layer.unreadable.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> =
        layer.unreadable.iter().map(|path| format!("{path}: permission denied")).collect();
    if allow {
        for line in lines {
            report::warn("vzbuild", format_args!("left out: {line}"));
        }
        return Ok(());
    }
    Err(anyhow::anyhow!("{} of the files cannot be read:\n  {}", lines.len(), lines.join("\n  ")))
        .hint("run as root, or give --allow-missing to go on without them")
        .status(Status::No as u8)
}

#[expect(clippy::needless_pass_by_value, reason = "the tar is put into it")]
fn write_tar(
    path: &Path,
    gathered: &Gathered,
    layer: &Layer,
    sinks: Sinks<'_>,
) -> anyhow::Result<Assembled> {
    if path == Path::new("-") {
        let mut out = report::output();
        let sinks = Sinks { tar: Some(&mut out), ..sinks };
        return bundler::assemble(layer, &gathered.rootfs, None, sinks)
            .map_err(|error| explain(error.into(), path));
    }
    let cannot = || format!("cannot write `{}`", path.display());
    // A pipe or a device is written in place; a file gets its name when it is whole.
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        let mut out = BufWriter::new(File::create(path).with_context(cannot)?);
        let sinks = Sinks { tar: Some(&mut out), ..sinks };
        return bundler::assemble(layer, &gathered.rootfs, None, sinks)
            .map_err(|error| explain(error.into(), path));
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let mut part = tempfile::Builder::new()
        .prefix(".vz-tar-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(above.unwrap_or(Path::new(".")))
        .with_context(cannot)?;
    let mut out = BufWriter::with_capacity(1 << 20, part.as_file_mut());
    let sinks = Sinks { tar: Some(&mut out), ..sinks };
    let assembled = bundler::assemble(layer, &gathered.rootfs, None, sinks)
        .map_err(|error| explain(error.into(), path))?;
    out.flush().with_context(cannot)?;
    drop(out);
    part.persist(path).map_err(|e| e.error).with_context(cannot)?;
    Ok(assembled)
}

/// Adds what the user can do about it.
fn explain(error: BundleError, output: &Path) -> anyhow::Error {
    let hint = match &error {
        BundleError::Assemble(AssembleError::Interrupted) => {
            return Err::<(), _>(error).status(interrupt::INTERRUPTED).unwrap_err();
        }
        BundleError::Assemble(AssembleError::Vanished(_) | AssembleError::Changed(_)) => {
            "something writes to the root meanwhile (a running service, an upgrade?): stop it or try again"
        }
        BundleError::Staging(StagingError::Occupied(_)) => {
            "give another directory with -o, or move that one away"
        }
        _ => {
            return anyhow::Error::new(error)
                .context(format!("cannot write `{}`", output.display()));
        }
    };
    Err::<(), _>(error).hint(hint).unwrap_err()
}
