//! Layers of another image, taken over as they lie there.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::Ordering;

use super::place::Place;
use super::{Blob, Watch, WriteError, WrittenLayer, at};
use crate::assemble::AssembleError;
use crate::digest::BlobHasher;
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
    for layer in base.raw_layers() {
        let mut layer = layer?;
        let (diff_id, compression) = (layer.diff_id, layer.compression);
        place.begin().map_err(at(path))?;
        let mut blob = Blob { place: &mut *place, hasher: BlobHasher::default(), size: 0 };
        let mut buffer = vec![0; 128 << 10];
        loop {
            if watch.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(AssembleError::Interrupted.into());
            }
            let read = |source| ImageError::Read { what: diff_id.to_string(), source };
            let count = layer.content.read(&mut buffer).map_err(read)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            blob.write_all(bytes).map_err(at(path))?;
        }
        let Blob { hasher, size, .. } = blob;
        let digest = hasher.finish();
        let layer = WrittenLayer { diff_id, tar_bytes: None, digest, size, compression };
        place.end(&name(&layer)).map_err(at(path))?;
        written.push(layer);
    }
    Ok(written)
}

/// What the configuration of `base` says of how its layers came about; a line for each
/// where it says something else.
pub(super) fn history(base: &Image) -> Result<Vec<History>, ConfigError> {
    let history = ImageConfig::parse(&base.config_json)?.history;
    let layers = history.iter().filter(|one| !one.empty_layer).count();
    match layers == base.layer_count() {
        true => Ok(history),
        false => Ok(vec![History::default(); base.layer_count()]),
    }
}
