//! Writes images: OCI image layouts, archives of them, and docker's archives.
//!
//! A layer goes in one pass from its files through the digest of its tar, the
//! compressor and the digest of the blob to where it stays; only its name, which
//! is its digest, comes afterwards. Equal images have equal bytes in all forms.

mod below;
mod compress;
mod docker;
mod index;
mod layout;
mod oci;
mod place;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::time::rfc3339;
pub use compress::Compression;
use place::Place;

use super::config::{ConfigError, History, ImageConfig};
use super::destination::Destination;
use super::error::ImageError;
use super::name::ImageName;
use super::read::Image;
use crate::assemble::{AssembleError, Digests, Sinks, assemble};
use crate::digest::{BlobDigest, BlobHasher, DiffId};
use crate::layer::{Layer, Node};
use crate::rootfs::Rootfs;
use crate::staging::StagingError;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// An archive could not be made or named.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// A file of a layer could not be read, or the caller asked to stop.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// A file of the image could not be written.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// The layout or archive.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An image is to go where something else is.
    #[error("`{}` is there already and is no OCI image layout", .0.display())]
    Occupied(PathBuf),
    /// The index of an existing layout cannot be added to.
    #[error("`{}` is no image index", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A document of the image has no JSON form.
    #[error("cannot print the image's JSON")]
    Json(#[from] serde_json::Error),
    /// A document of the image would not be valid.
    #[error("cannot describe the image")]
    Spec(#[from] oci_spec::OciSpecError),
    /// A reference that is no name for docker.
    #[error(transparent)]
    Name(#[from] super::name::NameError),
    /// The layers of another image could not be taken over.
    #[error("cannot take over the layers of the base image")]
    Below(#[from] ImageError),
    /// The other image's configuration cannot be used.
    #[error("cannot take over the history of the base image")]
    History(#[from] ConfigError),
    /// The documents about the image could not be made.
    #[error("cannot make the documents about the image")]
    Documents(#[source] io::Error),
}

/// An image to be written.
#[derive(Default)]
pub struct NewImage<'a> {
    /// An image whose layers lie below all others, taken over as they are.
    pub below: Option<&'a Image>,
    /// The layers, the first at the bottom.
    pub layers: Vec<NewLayer<'a>>,
    /// Its configuration; layers, history and time are filled in.
    pub config: ImageConfig,
    /// Its time in seconds since 1970; else the newest of its regular files.
    pub created: Option<i64>,
    /// How layers are compressed.
    pub compression: Compression,
    /// Its name, beside the reference of the destination.
    pub name: Option<ImageName>,
    /// What goes with the image and refers to it: in a layout as artifacts, in an
    /// archive as files of [`EVIDENCE`], since podman loads no archive whose index has
    /// more than the image, and docker's have no index.
    pub artifacts: Vec<Artifact>,
    /// Makes more of them when the layers are written.
    pub documents: Option<&'a Documents<'a>>,
    /// Whether it is on the disk before it gets its name.
    pub sync: bool,
}

/// Makes documents about an image of its layers, the first at the bottom, and the
/// digests of the files in them.
pub type Documents<'a> = dyn Fn(&[WrittenLayer], &Digests) -> io::Result<Vec<Artifact>> + 'a;

/// The folder of an archive that has the documents about its image.
pub const EVIDENCE: &str = "evidence";

/// A layer to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewLayer<'a> {
    /// Its entries.
    pub layer: &'a Layer,
    /// Where their contents are.
    pub rootfs: &'a Rootfs,
    /// What the image's history is to say of it.
    pub created_by: &'a str,
}

/// A document about an image, such as its SBOM: a manifest of its own whose
/// subject is the image (image-spec, `manifest.md`, "Guidelines for Artifact Usage").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// What sort of document it is, as a media type.
    pub artifact_type: String,
    /// Name of its file.
    pub title: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// Who watches the work.
#[derive(Clone, Copy, Default)]
pub struct Watch<'a> {
    /// Called with the number of tar bytes that went by since the last call.
    pub progress: Option<&'a dyn Fn(u64)>,
    /// Ends the work with [`AssembleError::Interrupted`] once it is true.
    pub stop: Option<&'a AtomicBool>,
}

/// An image that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Digest of its configuration, which docker and podman call the image's ID.
    pub id: BlobDigest,
    /// Digest of its manifest; a docker archive has none.
    pub manifest: Option<BlobDigest>,
    /// The name under which it is found there.
    pub reference: Option<String>,
    /// Its layers, the first at the bottom, those of the image below among them.
    pub layers: Vec<WrittenLayer>,
    /// The titles of the artifacts, and the digests of their manifests where they have
    /// some.
    pub artifacts: Vec<(String, Option<BlobDigest>)>,
}

/// A layer that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenLayer {
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Bytes of its tar; nothing where it was taken over.
    pub tar_bytes: Option<u64>,
    /// Digest of the blob.
    pub digest: BlobDigest,
    /// Bytes of the blob.
    pub size: u64,
    /// How it is compressed.
    pub compression: Compression,
}

impl NewImage<'_> {
    /// Its name in an index: that of the destination, else its own.
    fn reference(&self, of_destination: Option<&str>) -> Option<String> {
        of_destination.map(str::to_owned).or_else(|| self.name.as_ref().map(ToString::to_string))
    }
}

/// Writes `image` to `destination`. In a layout that exists, it takes the place of
/// the image with the same reference (without one, of the image that has none) and
/// of what refers to that one; all else stays.
///
/// # Errors
/// What cannot be read or written; the wish to stop. What was at the destination is
/// then as it was, and nothing else is left.
pub fn write(
    destination: &Destination,
    image: &NewImage<'_>,
    watch: Watch<'_>,
) -> Result<Written, WriteError> {
    match destination {
        Destination::Layout(dir, reference) => {
            layout::write(dir, reference.as_deref(), image, watch)
        }
        Destination::OciArchive(file, reference) => {
            oci::write_archive(file, reference.as_deref(), image, watch)
        }
        Destination::DockerArchive(file, reference) => {
            docker::write(file, reference.as_deref(), image, watch)
        }
    }
}

/// Looks whether an image could go to `destination`, as far as that can be told before
/// there is one.
///
/// # Errors
/// A directory that is no layout, something that is no file, a name that docker does not
/// take.
pub fn look_at(destination: &Destination) -> Result<(), WriteError> {
    let (file, name) = match destination {
        Destination::Layout(dir, _) => return layout::look_at(dir),
        Destination::OciArchive(file, _) => (file, None),
        Destination::DockerArchive(file, name) => (file, name.as_ref()),
    };
    name.map(|name| name.parse::<super::name::ImageName>()).transpose()?;
    if std::fs::metadata(file).is_ok_and(|meta| !meta.is_file()) {
        return Err(StagingError::NotFile(file.clone()).into());
    }
    Ok(())
}

/// Adds the path to what a place says.
fn at(path: &Path) -> impl Fn(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError::Io { path: path.clone(), source }
}

/// What an image is described by.
struct Described {
    config: ImageConfig,
    layers: Vec<WrittenLayer>,
    artifacts: Vec<Artifact>,
}

/// Writes the layers, named by `name`, and returns what goes with them.
fn put_layers(
    place: &mut dyn Place,
    path: &Path,
    image: &NewImage<'_>,
    watch: Watch<'_>,
    name: impl Fn(&WrittenLayer) -> String,
) -> Result<Described, WriteError> {
    let below = image.below.map(|base| below::copy(place, path, base, watch, &name));
    let mut written = below.transpose()?.unwrap_or_default();
    let digests = Mutex::default();
    for layer in &image.layers {
        place.begin().map_err(at(path))?;
        let blob = Blob { place: &mut *place, hasher: BlobHasher::default(), size: 0 };
        let mut encoder = image.compression.encoder(blob).map_err(at(path))?;
        let sinks = Sinks {
            tar: Some(&mut encoder),
            progress: watch.progress,
            stop: watch.stop,
            digests: image.documents.map(|_| &digests),
        };
        let assembled = match assemble(layer.layer, layer.rootfs, None, sinks) {
            Err(AssembleError::Tar(source)) => return Err(at(path)(source)),
            other => other?,
        };
        let Blob { hasher, size, .. } = encoder.finish().map_err(at(path))?;
        let layer = WrittenLayer {
            diff_id: assembled.diff_id,
            tar_bytes: Some(assembled.tar_bytes),
            digest: hasher.finish(),
            size,
            compression: image.compression,
        };
        place.end(&name(&layer)).map_err(at(path))?;
        written.push(layer);
    }
    if watch.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
        return Err(AssembleError::Interrupted.into());
    }
    let mut artifacts = image.artifacts.clone();
    if let Some(documents) = image.documents {
        let digests = digests.into_inner().unwrap_or_else(PoisonError::into_inner);
        artifacts.extend(documents(&written, &digests).map_err(WriteError::Documents)?);
    }
    Ok(Described { config: config(image, &written)?, layers: written, artifacts })
}

fn config(image: &NewImage<'_>, layers: &[WrittenLayer]) -> Result<ImageConfig, WriteError> {
    let created = rfc3339(image.created.unwrap_or_else(|| newest(image)));
    let mut config = image.config.clone();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    config.history = image.below.map(below::history).transpose()?.unwrap_or_default();
    config.history.extend(image.layers.iter().map(|layer| History {
        created: Some(created.clone()),
        created_by: Some(layer.created_by.to_owned()),
        ..History::default()
    }));
    config.created = Some(created);
    let or = |word: &mut String, default: &str| {
        if word.is_empty() {
            default.clone_into(word);
        }
    };
    or(&mut config.os, "linux");
    or(&mut config.architecture, architecture());
    Ok(config)
}

/// This machine's architecture, as Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        other => other,
    }
}

fn newest(image: &NewImage<'_>) -> i64 {
    let entries = image.layers.iter().flat_map(|layer| &layer.layer.entries);
    let files = entries.filter(|entry| matches!(entry.node, Node::File(_)));
    files.map(|entry| entry.mtime).max().unwrap_or(0)
}

/// A blob on its way to its place: digested and counted.
struct Blob<'a> {
    place: &'a mut dyn Place,
    hasher: BlobHasher,
    size: u64,
}

impl Write for Blob<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.place.write(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
