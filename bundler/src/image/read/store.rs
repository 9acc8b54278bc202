//! What an image is kept in: a directory or an archive.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use oci_spec::image::{Descriptor, Digest, ImageManifest};
use rustix::fs::{Mode, OFlags};
use serde::de::DeserializeOwned;

use super::archive::{Archive, Part};
use super::blob::{Hasher, Verified};
use crate::image::error::ImageError;
use crate::image::write::EVIDENCE;

/// Longest manifest, index or config that is read; registries take 4 MiB
/// (OCI distribution-spec, "Pushing Manifests").
const MAX_JSON: u64 = 8 << 20;

/// Files by name, in a directory or an archive.
#[derive(Debug)]
pub(super) enum Store {
    Directory(PathBuf),
    Archive(Archive),
}

impl Store {
    /// Opens the archive `file`.
    pub(super) fn archive(file: PathBuf) -> Result<Store, ImageError> {
        let opened =
            File::open(&file).map_err(|source| ImageError::Open { path: file.clone(), source })?;
        match Archive::open(opened) {
            Ok(archive) => Ok(Store::Archive(archive)),
            Err(why) => Err(ImageError::NotImage { path: file, why: why.to_string() }),
        }
    }

    /// Opens the file `name`, which has no `..`.
    pub(super) fn open(&self, name: &str) -> Result<Part, ImageError> {
        let read = |source| ImageError::Read { what: format!("`{name}`"), source };
        match self {
            Store::Archive(archive) => archive.read(name.as_bytes()).map_err(read),
            Store::Directory(dir) => {
                // A fifo must not keep us waiting.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let file = rustix::fs::open(dir.join(name), flags, Mode::empty());
                let file = File::from(file.map_err(|e| read(e.into()))?);
                let meta = file.metadata().map_err(read)?;
                if !meta.is_file() {
                    return Err(read(io::Error::other("it is no regular file")));
                }
                Ok(Part::new(&Arc::new(file), 0, meta.len()))
            }
        }
    }

    /// Opens the blob of `descriptor`, whose size is as the descriptor says.
    pub(super) fn open_blob(&self, descriptor: &Descriptor) -> Result<Part, ImageError> {
        let part = self.open(&blob_name(descriptor.digest()))?;
        if part.len() != descriptor.size() {
            return Err(ImageError::Size {
                what: descriptor.digest().to_string(),
                expected: descriptor.size(),
                found: part.len(),
            });
        }
        Ok(part)
    }

    /// The blob of `descriptor`, a description in JSON; with its text.
    pub(super) fn json_blob<T: DeserializeOwned>(
        &self,
        descriptor: &Descriptor,
    ) -> Result<(T, Vec<u8>), ImageError> {
        let digest = descriptor.digest();
        let text = whole(digest.as_ref(), self.open_blob(descriptor)?, Some(digest))?;
        Ok((parse(digest.as_ref(), &text)?, text))
    }

    /// Whether it is an archive that has the file `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        matches!(self, Store::Archive(archive) if archive.has(name.as_bytes()))
    }

    /// The file `name` of the folder that archives have for documents about their image.
    pub(super) fn evidence(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let name = format!("{EVIDENCE}/{name}");
        match self.has(&name) {
            true => within(&format!("`{name}`"), self.open(&name)?, None, limit).map(Some),
            false => Ok(None),
        }
    }

    /// The file `name`, a description in JSON that has no digest.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, ImageError> {
        let what = format!("`{name}`");
        parse(&what, &whole(&what, self.open(name)?, None)?)
    }
}

/// Where the blob with this digest lies in a layout (OCI image-layout.md).
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.digest())
}

/// All of a description, checked against its digest where it has one.
pub(super) fn whole(
    what: &str,
    part: Part,
    digest: Option<&Digest>,
) -> Result<Vec<u8>, ImageError> {
    within(what, part, digest, MAX_JSON)
}

/// The same, of at most `limit` bytes.
pub(super) fn within(
    what: &str,
    part: Part,
    digest: Option<&Digest>,
    limit: u64,
) -> Result<Vec<u8>, ImageError> {
    let what = what.to_owned();
    if part.len() > limit {
        return Err(ImageError::Long { what, size: part.len(), limit });
    }
    let mut text = Vec::new();
    let read = match digest {
        Some(digest) => verified(part, digest)?.0.read_to_end(&mut text),
        None => { part }.read_to_end(&mut text),
    };
    read.map_err(|source| ImageError::Read { what, source })?;
    Ok(text)
}

/// `part` as a reader that fails at its end where its digest is another one, and
/// whether the end was reached.
pub(super) fn verified(
    part: Part,
    digest: &Digest,
) -> Result<(Verified<Part>, Arc<AtomicBool>), ImageError> {
    let hasher = Hasher::like(digest).ok_or_else(|| ImageError::Algorithm(digest.to_string()))?;
    let done = Arc::new(AtomicBool::new(false));
    Ok((Verified::new(part, digest, hasher, Arc::clone(&done)), done))
}

pub(super) fn parse<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(text).map_err(|source| ImageError::Json { what: what.into(), source })
}

/// Whether `manifest` is of an image, and not of an artifact.
pub(super) fn is_image(manifest: &ImageManifest) -> bool {
    const CONFIGS: [&str; 2] = [
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    ];
    manifest.artifact_type().is_none() && CONFIGS.contains(&manifest.config().media_type().as_ref())
}
