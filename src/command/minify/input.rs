//! What is minified: an image, unpacked, or a root file system as it lies.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use bundler::Rootfs;
use bundler::image::Unpacked;

use crate::cli::build;
use crate::command::settings::{LostOwners, Settings, unpack};
use crate::image::{self, Source};
use crate::report::Advice;

/// An image on disk.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) rootfs: Rootfs,
    /// Real path of its root.
    pub(super) root: PathBuf,
    pub(super) settings: Settings,
    /// Whether it is an image, whose settings are its own.
    pub(super) is_image: bool,
    pub(super) lost_owners: LostOwners,
    pub(super) size: Size,
}

/// How much there is of a root file system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// Everything but directories.
    pub(super) files: u64,
    /// Bytes of content; of several names of a file, once.
    pub(super) bytes: u64,
}

/// Opens what `args` names; an image is unpacked below `work`.
///
/// # Errors
/// What is no image, or cannot be unpacked.
pub(super) fn open(args: &build::Minify, work: &Path, stop: &AtomicBool) -> anyhow::Result<Input> {
    let name = args.image.to_string_lossy();
    let opened = image::open(&args.image, stop).hint(
        "IMAGE is oci:DIR, oci-archive:FILE, docker-archive:FILE, a root file system, or a name \
         that skopeo, podman or docker knows, such as containers-storage:NAME",
    )?;
    let (root, (settings, unpacked)) = match &opened {
        Source::Directory(dir) => {
            let dir =
                if bundler::bundle::is_bundle(dir) { dir.join("rootfs") } else { dir.clone() };
            (dir, (Settings::default(), Unpacked::default()))
        }
        Source::Image(opened) => {
            let root = work.join("image");
            fs::DirBuilder::new().mode(0o755).create(&root)?;
            (root.clone(), unpack(&opened.image, &root, ("vzbuild", &name), stop)?)
        }
    };
    let root = root.canonicalize().with_context(|| format!("cannot find `{}`", root.display()))?;
    let rootfs =
        Rootfs::open(&root).with_context(|| format!("cannot open `{}`", root.display()))?;
    let size = Size::of(&root).with_context(|| format!("cannot read `{}`", root.display()))?;
    let is_image = matches!(opened, Source::Image(_));
    let lost_owners = LostOwners::of(&unpacked);
    Ok(Input { rootfs, root, settings, is_image, lost_owners, size })
}

impl Size {
    /// Counts what lies below `root`, on its file system.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub(super) fn of(root: &Path) -> std::io::Result<Self> {
        let device = fs::metadata(root)?.dev();
        let mut size = Size::default();
        let mut seen = std::collections::HashSet::new();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let meta = entry.metadata()?;
                if meta.is_dir() {
                    if meta.dev() == device {
                        directories.push(entry.path());
                    }
                    continue;
                }
                size.files += 1;
                let is_counted = meta.nlink() > 1 && !seen.insert(meta.ino());
                if meta.is_file() && !is_counted {
                    size.bytes += meta.len();
                }
            }
        }
        Ok(size)
    }
}
