//! Layers as they lie in an image.

use std::io::{self, Read};

use super::blob::{self, compression};
use super::layers::LayerBlob;
use super::open::Image;
use super::store::verified;
use crate::digest::DiffId;
use crate::image::error::ImageError;
use crate::image::write::Compression;

/// A layer, compressed or not.
pub(in crate::image) struct RawLayer {
    /// The digest of its tar.
    pub(in crate::image) diff_id: DiffId,
    pub(in crate::image) compression: Compression,
    /// Its bytes; fails at the end where their digest is another than the image says.
    pub(in crate::image) content: Box<dyn Read>,
}

impl Image {
    /// All layers, the first at the bottom.
    pub(in crate::image) fn raw_layers(
        &self,
    ) -> impl Iterator<Item = Result<RawLayer, ImageError>> {
        self.layers.iter().map(|layer| self.raw(layer))
    }

    fn raw(&self, layer: &LayerBlob) -> Result<RawLayer, ImageError> {
        let diff_id = layer.diff_id.to_string();
        let diff_id = DiffId::parse(&diff_id).ok_or(ImageError::Algorithm(diff_id))?;
        let compression = self.compression_of(layer)?;
        let part = self.store.open(&layer.file)?;
        let content: Box<dyn Read> = match &layer.digest {
            Some(digest) => Box::new(verified(part, digest)?.0),
            None => Box::new(part),
        };
        Ok(RawLayer { diff_id, compression, content })
    }

    fn compression_of(&self, layer: &LayerBlob) -> Result<Compression, ImageError> {
        let failed = |source| ImageError::Read { what: format!("`{}`", layer.file), source };
        let mut magic = Vec::new();
        self.store.open(&layer.file)?.take(8).read_to_end(&mut magic).map_err(failed)?;
        match compression(&magic) {
            None => Ok(Compression::None),
            Some(blob::Compression::Gzip) => Ok(Compression::Gzip),
            Some(blob::Compression::Zstd) => Ok(Compression::Zstd),
            Some(blob::Compression::Other(name)) => {
                Err(failed(io::Error::other(format!("it is compressed with {name}"))))
            }
        }
    }
}
