//! Layers of another image, taken over as they lie there.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering;

use super::place::Place;
use super::{Blob, Compression, Watch, WriteError, WrittenLayer, at};
use crate::assemble::AssembleError;
use crate::digest::{BlobHasher, DiffId};
use crate::image::blob::{self, compression};
use crate::image::layers::LayerBlob;
use crate::image::store::verified;
use crate::image::{ConfigError, History, Image, ImageConfig, ImageError};

/// Copies the layers of `base`, each checked by its digest where it has one.
pub(super) fn copy(
    place: &mut dyn Place,
    path: &Path,
    base: &Image,
    watch: Watch<'_>,
    name: impl Fn(&WrittenLayer) -> String,
) -> Result<Vec<WrittenLayer>, WriteError> {
    let mut written = Vec::new();
    for layer in &base.layers {
        let diff_id = layer.diff_id.to_string();
        let diff_id = DiffId::parse(&diff_id).ok_or(ImageError::Algorithm(diff_id))?;
        let compression = compression_of(base, layer)?;
        let part = base.store.open(&layer.file)?;
        let mut reader: Box<dyn Read> = match &layer.digest {
            Some(digest) => Box::new(verified(part, digest)?.0),
            None => Box::new(part),
        };
        place.begin().map_err(at(path))?;
        let mut blob = Blob { place: &mut *place, hasher: BlobHasher::default(), size: 0 };
        let mut buffer = vec![0; 128 << 10];
        loop {
            if watch.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(AssembleError::Interrupted.into());
            }
            let read = |source| ImageError::Read { what: diff_id.to_string(), source };
            let count = reader.read(&mut buffer).map_err(read)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            io::Write::write_all(&mut blob, bytes).map_err(at(path))?;
        }
        let Blob { hasher, size, .. } = blob;
        let digest = hasher.finish();
        let layer = WrittenLayer { diff_id, tar_bytes: None, digest, size, compression };
        place.end(&name(&layer)).map_err(at(path))?;
        written.push(layer);
    }
    Ok(written)
}

fn compression_of(base: &Image, layer: &LayerBlob) -> Result<Compression, ImageError> {
    let what = || format!("`{}`", layer.file);
    let mut magic = Vec::new();
    let read = base.store.open(&layer.file)?.take(8).read_to_end(&mut magic);
    read.map_err(|source| ImageError::Read { what: what(), source })?;
    match compression(&magic) {
        None => Ok(Compression::None),
        Some(blob::Compression::Gzip) => Ok(Compression::Gzip),
        Some(blob::Compression::Zstd) => Ok(Compression::Zstd),
        Some(blob::Compression::Other(name)) => {
            let source = io::Error::other(format!("it is compressed with {name}"));
            Err(ImageError::Read { what: what(), source })
        }
    }
}

/// What the configuration of `base` says of how its layers came about; a line for each
/// where it says something else.
pub(super) fn history(base: &Image) -> Result<Vec<History>, ConfigError> {
    let history = ImageConfig::parse(&base.config_json)?.history;
    let layers = history.iter().filter(|one| !one.empty_layer).count();
    match layers == base.layers.len() {
        true => Ok(history),
        false => Ok(vec![History::default(); base.layers.len()]),
    }
}
