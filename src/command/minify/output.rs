//! Where a proven bundle goes: a directory, or an image.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, anyhow};
use bundler::bundle::is_bundle;
use bundler::digest::BlobDigest;
use bundler::image::{Destination, look_at};
use bundler::staging::Staging;

use super::input::Input;
use crate::cli::build;
use crate::command::bundle::summary::shell_word;
use crate::command::image;
use crate::command::verify::Narrowed;
use crate::evidence;
use crate::report::{Advice, Status};

/// The place, looked at before anything is run.
pub(super) enum Output {
    /// A bundle directory.
    Bundle(Staging),
    /// An image; the path of its layout or archive.
    Image(PathBuf),
}

/// Whether the word names an image and not a directory.
pub(super) fn is_image(output: &OsStr) -> bool {
    Destination::parse(output).is_ok()
}

/// Whether an archive is meant, by the name.
fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar") && !path.is_dir()
}

/// How podman gives an image the rights that were proven, which it has no place for.
pub(super) fn rights(output: &OsStr, narrowed: &Narrowed) -> anyhow::Result<Option<String>> {
    let Ok(destination) = Destination::parse(output) else { return Ok(None) };
    let mut options: Vec<String> = Vec::new();
    let mut before = String::new();
    if let Some(capabilities) = narrowed.capabilities() {
        options.push("--cap-drop all".to_owned());
        options.extend(capabilities.map(|name| format!("--cap-add {name}")));
    }
    if let Some(profile) = narrowed.profile()? {
        let file = match &destination {
            Destination::Layout(dir, _) => {
                let name = format!("blobs/sha256/{}", BlobDigest::of(&profile).hex());
                shell_word(&dir.join(name))
            }
            Destination::OciArchive(file, _) | Destination::DockerArchive(file, _) => {
                let name = format!("{}/{}", evidence::FOLDER, evidence::PROFILE);
                before = format!("`tar -xf {} {name}`, then ", shell_word(file));
                name
            }
        };
        options.push(format!("--security-opt seccomp={file}"));
    }
    Ok(Some(format!("just these rights: {before}`podman run {} IMAGE`\n", options.join(" "))))
}

impl Output {
    /// # Errors
    /// A directory that is no bundle, or cannot be written.
    pub(super) fn begin(args: &build::Minify) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write `{}`", args.output.to_string_lossy());
        let destination = Destination::parse(&args.output);
        if let Ok(destination) = &destination {
            look_at(destination).map_err(image::explain).with_context(cannot)?;
        }
        let path = match destination {
            Ok(
                Destination::Layout(path, _)
                | Destination::OciArchive(path, _)
                | Destination::DockerArchive(path, _),
            ) => path,
            Err(error) if args.output.as_encoded_bytes().contains(&b':') => {
                return Err(error).with_context(cannot).status(Status::Usage as u8);
            }
            Err(_) if is_tar(Path::new(&args.output)) => {
                let shown = args.output.to_string_lossy();
                return Err(anyhow!(
                    "`{shown}` would be a directory, since it says no form of image"
                ))
                .hint(format!("write oci-archive:{shown} or docker-archive:{shown}"))
                .status(Status::Usage as u8);
            }
            Err(_) => {
                let staging = Staging::begin(Path::new(&args.output), is_bundle);
                return Ok(Output::Bundle(staging.with_context(cannot)?));
            }
        };
        Ok(Output::Image(std::path::absolute(path).with_context(cannot)?))
    }

    /// A path beside which there is room for the work.
    pub(super) fn beside(&self) -> &Path {
        match self {
            Output::Bundle(staging) => staging.target(),
            Output::Image(path) => path,
        }
    }

    /// Brings the proven bundle there, and removes the directory `work` that it lies in.
    ///
    /// # Errors
    /// What cannot be written.
    pub(super) fn hand_over(
        self,
        args: &build::Minify,
        input: &Input,
        work: Staging,
        bundle: &Path,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        let cannot = || format!("cannot write `{}`", args.output.to_string_lossy());
        let staging = match self {
            Output::Bundle(staging) => staging,
            Output::Image(_) => {
                let source = build::Source {
                    specs: vec![bundle.to_owned()],
                    root: "/".into(),
                    allow_missing: true,
                    listed: false,
                };
                let words = args.command.iter().map(|word| word.to_string_lossy().into_owned());
                let command: Vec<String> = words.collect();
                let carried_over = || input.settings.carried_over(args, &command);
                let carried_over = input.is_image.then(carried_over);
                return image::write(&build::Image::of(source, &args.output), carried_over, stop);
            }
        };
        for entry in fs::read_dir(bundle).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let place = staging.dir().join(entry.file_name());
            fs::rename(entry.path(), place).with_context(cannot)?;
        }
        // What is removed before it came to the disk never goes there: the whole image.
        drop(work);
        let dir = fs::File::open(staging.dir()).with_context(cannot)?;
        rustix::fs::syncfs(dir).with_context(cannot)?;
        staging.commit().with_context(cannot)?;
        Ok(())
    }
}
