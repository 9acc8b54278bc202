//! What an image lies on: a layer that images have in common, or another image.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use bundler::image::base::Content;
use bundler::image::{Image, NewLayer};
use bundler::staging::Staging;
use bundler::{Layer, Rootfs};

use super::content::open_tree;
use crate::cli::build;
use crate::command::bundle::{contents, refuse_unreadable};
use crate::command::source::gather;
use crate::command::{settings, verify};
use crate::image::{self, Opened, Source};
use crate::report::Advice;

/// Bytes of a tar's header.
const BLOCK: u64 = 512;
/// How files of gzip, zstd, bzip2 and xz begin.
const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ"];

/// What the history of an image says of a layer that it shares with others.
const CREATED_BY: &str = "vzbuild image (base layer)";
/// The files below an image's own; nothing in them depends on it.
pub(super) struct Base {
    rootfs: Rootfs,
    layer: Layer,
    /// Where its layers come from as they are; unpacked as long as this is there.
    image: Option<(Box<Opened>, Staging)>,
}

/// Whether the file has nothing that a list of paths cannot have; archives have NULs in
/// their first header, compressed ones and others no text.
fn is_text(file: &Path) -> bool {
    let mut start = Vec::new();
    let opened = std::fs::File::open(file).ok().filter(|_| file.is_file());
    let read = opened.map(|file| file.take(BLOCK).read_to_end(&mut start));
    let is_compressed = COMPRESSED.iter().any(|magic| start.starts_with(magic));
    read.is_some_and(|read| read.is_ok()) && !start.contains(&0) && !is_compressed
}

impl Base {
    /// Opens the bundle, spec or image that `args` name as base.
    ///
    /// # Errors
    /// What is none of these, or cannot be read.
    pub(super) fn open(
        args: &build::Image,
        latest: Option<i64>,
        stop: &AtomicBool,
    ) -> anyhow::Result<Option<Self>> {
        let Some(base) = &args.base_layer else { return Ok(None) };
        let made = match image::open(base.as_os_str(), stop) {
            Ok(Source::Image(opened)) => Base::unpack(opened, base, latest, stop)?,
            Ok(Source::Directory(dir)) => {
                let (rootfs, layer) = open_tree(&dir, latest)?;
                Base { rootfs, layer, image: None }
            }
            // What is no archive is a list of paths.
            Err(_) if base == Path::new("-") || is_text(base) => {
                let specs = vec![base.clone()];
                let source = build::Source { specs, ..args.source.clone() };
                let gathered = gather(&source).context("cannot make the base layer")?;
                gathered.refuse_missing(args.source.allow_missing)?;
                let layer = contents::closure(&gathered, latest)?;
                Base { rootfs: gathered.rootfs, layer, image: None }
            }
            Err(error) => return Err(error).hint("--base-layer is a spec, a bundle or an image"),
        };
        refuse_unreadable(&made.layer, args.source.allow_missing)?;
        Ok(Some(made))
    }

    fn unpack(
        opened: Box<Opened>,
        base: &Path,
        latest: Option<i64>,
        stop: &AtomicBool,
    ) -> anyhow::Result<Self> {
        let work = verify::temporary_directory("vz-base")?;
        let root = work.dir().join("rootfs");
        std::fs::create_dir(&root).context("cannot make a directory")?;
        let name = base.to_string_lossy();
        let (_, unpacked) = settings::unpack(&opened.image, &root, ("vzbuild", &name), stop)?;
        let (rootfs, mut layer) = super::content::plan_tree(&root, latest)?;
        // What an ordinary user has unpacked still is whose the image says.
        if let Some(owners) = &unpacked.owners {
            for entry in &mut layer.entries {
                let meta = rootfs.lstat(&entry.path);
                let inode =
                    meta.with_context(|| format!("cannot read `{}`", root.display()))?.inode;
                (entry.uid, entry.gid) = owners.get(&inode).copied().unwrap_or_default();
            }
        }
        Ok(Base { rootfs, layer, image: Some((opened, work)) })
    }

    /// Its files.
    pub(super) fn content(&self) -> Content<'_> {
        Content { layer: &self.layer, rootfs: &self.rootfs }
    }

    /// The image whose layers are taken over.
    pub(super) fn image(&self) -> Option<&Image> {
        self.image.as_ref().map(|(opened, _)| &opened.image)
    }

    /// The layer to be written, where it is not there already.
    pub(super) fn new_layer(&self) -> Option<NewLayer<'_>> {
        let (layer, rootfs) = (&self.layer, &self.rootfs);
        self.image.is_none().then_some(NewLayer { layer, rootfs, created_by: CREATED_BY })
    }
}
