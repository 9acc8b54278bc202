//! What is verified: a bundle as it lies there, or an image, which is unpacked.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use bundler::Rootfs;
use bundler::image::Image;
use bundler::staging::Staging;

use super::again::{self, Bundle};
use crate::cli::build;
use crate::command::settings::{self, LostOwners};
use crate::evidence::{self, Documents, LeftOut};
use crate::image::{self, Source};
use crate::report::{Advice, Status};

/// Opens what `args` names: its documents, and itself where it is a bundle.
///
/// # Errors
/// What is neither bundle nor image.
pub(super) fn open(
    args: &build::Verify,
    stop: &AtomicBool,
) -> anyhow::Result<(Documents, Option<Bundle>)> {
    let opened = image::open(args.bundle.as_os_str(), stop).hint(
        "give a bundle directory, oci:DIR[:REF], oci-archive:FILE, docker-archive:FILE, or a name \
         that skopeo, podman or docker knows, such as containers-storage:NAME",
    )?;
    match opened {
        Source::Directory(dir) => {
            let bundle = again::open(&dir, None)?;
            Ok((Documents::Folder(dir.join(evidence::FOLDER)), Some(bundle)))
        }
        Source::Image(_) if args.fix => Err(anyhow::anyhow!("an image is not mended"))
            .hint("mend the bundle, and make the image of it anew: `vzbuild image`")
            .status(Status::Usage as u8),
        Source::Image(_) if args.narrow.is_asked_for() => {
            Err(anyhow::anyhow!("an image has no place for a profile or capabilities"))
                .hint("give them to the bundle, and make the image anew: `vzbuild image`")
                .status(Status::Usage as u8)
        }
        Source::Image(opened) => {
            Ok((Documents::Image(opened, args.bundle.display().to_string()), None))
        }
    }
}

/// Unpacks the image `name` below `work`, with the container that docker would make of it.
///
/// # Errors
/// What cannot be unpacked; a user that the image does not know.
pub(super) fn unpack(
    image: &Image,
    name: &str,
    work: &Path,
    stop: &AtomicBool,
) -> anyhow::Result<Bundle> {
    let dir = work.canonicalize().context("cannot find the directory for the work")?;
    let root = dir.join("rootfs");
    DirBuilder::new().mode(0o755).create(&root).context("cannot make a directory")?;
    let (settings, unpacked) = settings::unpack(image, &root, ("vzbuild", name), stop)?;
    let rootfs = Rootfs::open(&root).context("cannot open the unpacked image")?;
    let mut container = settings.container(None, &[], &rootfs)?;
    container.args = settings.command(&[]);
    let replaced = container.binds.iter().map(|bind| PathBuf::from(&bind.destination)).collect();
    let spec = settings::spec(&container, &root);
    let owners_are_lost = LostOwners::of(&unpacked).are_in(&root);
    let unproven = settings::unproven(container.uid, container.gid, owners_are_lost);
    Ok(Bundle { dir, spec, places: settings.places(), replaced, unproven })
}

/// Where the files came from: what was asked for, else this machine's root, unless
/// the documents tell that it was another one.
pub(super) fn original(args: &build::Verify, documents: &Documents) -> Option<PathBuf> {
    if args.root.is_some() {
        return args.root.clone();
    }
    let left_out = || documents.json::<LeftOut>(evidence::LEFT_OUT).ok();
    // Of another root all directories are accounted for.
    let is_other = args.spec.is_empty() && left_out().is_some_and(|all| all.directories.is_some());
    (!is_other).then(|| PathBuf::from("/"))
}

/// A directory for work, at `path` until it is dropped, that nobody else can enter:
/// the programs of strangers' images may be setuid.
///
/// # Errors
/// Where it cannot be made.
pub(in crate::command) fn private_directory(path: &Path) -> anyhow::Result<Staging> {
    Ok(made_private(Staging::begin(path, |_| false)?)?)
}

/// The same in the directory for temporary files, under a name that begins with `name`;
/// removes what killed ones left.
///
/// # Errors
/// Where it cannot be made.
pub(in crate::command) fn temporary_directory(name: &str) -> anyhow::Result<Staging> {
    Ok(made_private(Staging::scratch(&std::env::temp_dir(), name.as_ref())?)?)
}

fn made_private(work: Staging) -> std::io::Result<Staging> {
    fs::set_permissions(work.dir(), fs::Permissions::from_mode(0o700))?;
    Ok(work)
}
