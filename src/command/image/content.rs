//! What an image is made of: the plan of a bundle, or a bundle as it lies there.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use bundler::image::base::Content;
use bundler::image::runtime::{self, NotInImage};
use bundler::image::{Artifact, Execution, WrittenLayer};
use bundler::{DiffId, Digests, Kind, Layer, Planner, RootPath, Rootfs};
use oci_spec::runtime::Spec;

use super::flags;
use crate::cli::build;
use crate::command::bundle::program::read;
use crate::command::bundle::{self, Prepared, Report, refuse_unreadable};
use crate::evidence::{self, Document, MAX_DOCUMENT};
use crate::report::{Advice, Status};

/// All that an image is made of.
pub(super) struct Source {
    pub(super) files: Files,
    /// The documents beside a bundle.
    pub(super) artifacts: Vec<Artifact>,
    pub(super) execution: Execution,
    pub(super) not_in_image: NotInImage,
}

/// The files of an image, and what is known of them.
pub(super) enum Files {
    /// Those of a bundle.
    Bundle { rootfs: Rootfs, layer: Layer },
    /// Those that specs name.
    Specs(Box<Prepared>),
}

impl Files {
    /// Which they are, and where.
    pub(super) fn content(&self) -> Content<'_> {
        match self {
            Files::Bundle { rootfs, layer } => Content { layer, rootfs },
            Files::Specs(prepared) => {
                Content { layer: &prepared.plan.layer, rootfs: &prepared.gathered.rootfs }
            }
        }
    }

    /// What makes documents about the image; those of a bundle are there already.
    pub(super) fn documents(
        &self,
    ) -> Option<impl Fn(&[WrittenLayer], &Digests) -> io::Result<Vec<Artifact>>> {
        let Files::Specs(prepared) = self else { return None };
        Some(move |layers: &[WrittenLayer], digests: &Digests| {
            let all = DiffId::chain(layers.iter().map(|layer| layer.diff_id));
            let Some(all) = all else { return Ok(Vec::new()) };
            let mut digests = digests.clone();
            prepared.add_digests(&mut digests)?;
            let documents = prepared.documents(all, &digests).map_err(io::Error::other)?;
            let mut artifacts: Vec<Artifact> = documents.into_iter().map(artifact).collect();
            artifacts.sort_by(|a, b| a.title.cmp(&b.title));
            Ok(artifacts)
        })
    }
}

fn artifact(document: Document) -> Artifact {
    let title = document.name.to_owned();
    let artifact_type = artifact_type(&title).to_owned();
    Artifact { artifact_type, title, content: document.bytes }
}

/// Reads the bundle, or closes the specs, that `args` name.
pub(super) fn open(args: &build::Image, latest: Option<i64>) -> anyhow::Result<Source> {
    match args.source.specs.as_slice() {
        [only] if only.is_dir() => open_bundle(only, args, latest),
        several if several.iter().any(|spec| spec.is_dir()) => {
            Err(anyhow::anyhow!("a bundle makes an image alone, and there are several arguments"))
                .status(Status::Usage as u8)
        }
        _ => from_specs(args),
    }
}

/// The image of the bundle that the specs make.
fn from_specs(args: &build::Image) -> anyhow::Result<Source> {
    let bundle = build::Bundle {
        program: args.program.clone(),
        // In a bundle they are mounts, and a mount has a place.
        tmpfs: args.volume.clone(),
        scanner_files: !args.no_scanner_files,
        ..build::Bundle::of(args.source.clone(), Path::new(""))
    };
    let prepared = bundle::prepare(&bundle, Report::Loud)?;
    let rootfs = &prepared.gathered.rootfs;
    let [passwd, group] = ["/etc/passwd", "/etc/group"].map(|path| read(rootfs, path));
    let (execution, not_in_image) =
        runtime::execution(&prepared.spec, BTreeSet::new(), &passwd, &group);
    let files = Files::Specs(Box::new(prepared));
    Ok(Source { files, artifacts: Vec::new(), execution, not_in_image })
}

fn open_bundle(dir: &Path, args: &build::Image, latest: Option<i64>) -> anyhow::Result<Source> {
    let (rootfs, layer) = open_tree(dir, latest)?;
    refuse_unreadable(&layer, args.source.allow_missing)?;
    let path = dir.join("config.json");
    let text = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let spec: Spec = serde_json::from_slice(&text)
        .with_context(|| format!("`{}` is no OCI config.json", path.display()))?;
    let [passwd, group] = ["/etc/passwd", "/etc/group"].map(|path| read(&rootfs, path));
    let volumes = volumes(&spec, &rootfs);
    let (mut execution, not_in_image) = runtime::execution(&spec, volumes, &passwd, &group);
    flags::apply_program(&args.program, &rootfs, &mut execution)?;
    let artifacts = artifacts(&dir.join(evidence::FOLDER))?;
    Ok(Source { files: Files::Bundle { rootfs, layer }, artifacts, execution, not_in_image })
}

/// The root file system of a bundle, all of it.
pub(super) fn open_tree(dir: &Path, latest: Option<i64>) -> anyhow::Result<(Rootfs, Layer)> {
    if !bundler::bundle::is_bundle(dir) {
        return Err(anyhow::anyhow!("`{}` is a directory and no bundle", dir.display()))
            .hint("give a spec, or a directory with config.json and rootfs/ that `vzbuild bundle` made")
            .status(Status::Usage as u8);
    }
    let (rootfs, mut layer) = plan_tree(&dir.join("rootfs"), latest)?;
    // An ordinary user cannot make files of root's, so in a bundle theirs are meant.
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if !uid.is_root() {
        for entry in &mut layer.entries {
            entry.uid = if entry.uid == uid.as_raw() { 0 } else { entry.uid };
            entry.gid = if entry.gid == gid.as_raw() { 0 } else { entry.gid };
        }
    }
    Ok((rootfs, layer))
}

/// All that lies below `tree`.
pub(super) fn plan_tree(tree: &Path, latest: Option<i64>) -> anyhow::Result<(Rootfs, Layer)> {
    let cannot = || format!("cannot read `{}`", tree.display());
    let rootfs = Rootfs::open(tree).with_context(cannot)?;
    let mut planner = Planner::new(&rootfs, latest);
    planner.add_below(&RootPath::root(), &|_| true).with_context(cannot)?;
    let layer = planner.finish().with_context(cannot)?;
    Ok((rootfs, layer))
}

/// The directories of the container that `--volume` mounts the host's at.
fn volumes(spec: &Spec, rootfs: &Rootfs) -> BTreeSet<String> {
    let binds = spec.mounts().iter().flatten().filter(|mount| {
        let options = mount.options().iter().flatten();
        mount.typ().as_deref() == Some("bind")
            || options.into_iter().any(|option| option == "bind" || option == "rbind")
    });
    let places = binds.filter_map(|mount| mount.destination().to_str());
    let is_data = |place: &&str| {
        let path = RootPath::new(place.as_bytes());
        let of_runtime =
            ["/dev", "/proc", "/sys"].iter().any(|own| Path::new(place).starts_with(own));
        !of_runtime
            && path.is_ok_and(|path| {
                rootfs.lstat(&path).is_ok_and(|meta| meta.kind == Kind::Directory)
            })
    };
    places.filter(is_data).map(str::to_owned).collect()
}

/// The documents beside a bundle, by name.
fn artifacts(dir: &Path) -> anyhow::Result<Vec<Artifact>> {
    let cannot = || format!("cannot read `{}`", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(cannot)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(cannot)?;
        let meta = entry.metadata().with_context(cannot)?;
        let title = entry.file_name().to_string_lossy().into_owned();
        if !meta.is_file() {
            continue;
        }
        if meta.len() > MAX_DOCUMENT {
            bail!("`{}` is larger than {} MiB", entry.path().display(), MAX_DOCUMENT >> 20);
        }
        let content = std::fs::read(entry.path()).with_context(cannot)?;
        found.push(Artifact { artifact_type: artifact_type(&title).to_owned(), title, content });
    }
    found.sort_by(|a, b| a.title.cmp(&b.title));
    Ok(found)
}

/// The media type that a document is known by; SBOMs have registered ones.
fn artifact_type(title: &str) -> &'static str {
    match title {
        name if name.ends_with(".spdx.json") => "application/spdx+json",
        name if name.ends_with(".cdx.json") => "application/vnd.cyclonedx+json",
        _ => "application/vnd.vz.evidence",
    }
}
