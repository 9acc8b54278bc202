//! OCI image layouts (OCI image-layout.md).

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};

use super::choose::{self, Role};
use super::layers::LayerBlob;
use super::open::Image;
use super::referrers;
use super::store::{Store, blob_name, is_image};
use crate::image::error::ImageError;

/// Indexes that may lie in one another.
const MAX_DEPTH: usize = 4;

/// Reads the image `name` of the layout in `store`.
pub(super) fn open(store: Store, name: Option<&str>) -> Result<Image, ImageError> {
    let top: ImageIndex = store.json("index.json")?;
    let candidates = choose::by_name(&top, name)?;
    let candidates = without_artifacts(&store, candidates)?;
    let mut chosen = choose::by_platform(&candidates)?.clone();
    let name = choose::name_of(&chosen);
    let mut annotations = chosen.annotations().clone().unwrap_or_default();
    for _ in 0..MAX_DEPTH {
        if choose::role(&chosen) != Role::Index {
            break;
        }
        let (index, _): (ImageIndex, _) = store.json_blob(&chosen)?;
        annotations.extend(index.annotations().clone().unwrap_or_default());
        let images: Vec<_> =
            index.manifests().iter().filter(|found| choose::role(found) != Role::Other).collect();
        chosen = choose::by_platform(&without_artifacts(&store, images)?)?.clone();
    }
    if choose::role(&chosen) != Role::Manifest {
        return Err(unread(&chosen));
    }
    let (manifest, _): (ImageManifest, _) = store.json_blob(&chosen)?;
    if !is_image(&manifest) {
        return Err(unread(manifest.config()));
    }
    annotations.extend(manifest.annotations().clone().unwrap_or_default());
    let (config, config_json): (ImageConfiguration, _) = store.json_blob(manifest.config())?;
    let layers = layers(&manifest, &config)?;
    let referrers = referrers::find(&store, &top, &chosen)?;
    Ok(Image {
        manifest: Some(manifest),
        config,
        config_json,
        annotations: annotations.into_iter().collect(),
        name,
        digest: Some(chosen.digest().clone()),
        referrers,
        store,
        layers,
    })
}

/// Where several descriptors could be meant, artifacts among them are told by
/// their manifests.
fn without_artifacts<'a>(
    store: &Store,
    candidates: Vec<&'a Descriptor>,
) -> Result<Vec<&'a Descriptor>, ImageError> {
    if candidates.len() < 2 {
        return Ok(candidates);
    }
    let mut images = Vec::new();
    for found in candidates {
        let is_artifact = match (choose::role(found), found.platform()) {
            (Role::Manifest, None) => !is_image(&store.json_blob::<ImageManifest>(found)?.0),
            _ => false,
        };
        if !is_artifact {
            images.push(found);
        }
    }
    Ok(images)
}

fn unread(descriptor: &Descriptor) -> ImageError {
    ImageError::MediaType {
        what: descriptor.digest().to_string(),
        media_type: descriptor.media_type().to_string(),
    }
}

/// The layers with the digests of their contents.
fn layers(
    manifest: &ImageManifest,
    config: &ImageConfiguration,
) -> Result<Vec<LayerBlob>, ImageError> {
    let (blobs, diff_ids) = (manifest.layers(), config.rootfs().diff_ids());
    if blobs.len() != diff_ids.len() {
        let (layers, diff_ids) = (blobs.len(), diff_ids.len());
        return Err(ImageError::Layers { layers, diff_ids });
    }
    let layers = blobs.iter().zip(diff_ids).map(|(blob, diff_id)| {
        if !is_layer(blob.media_type().as_ref()) {
            return Err(unread(blob));
        }
        let diff_id = diff_id.parse().map_err(|_| ImageError::Algorithm(diff_id.clone()))?;
        let (file, digest) = (blob_name(blob.digest()), Some(blob.digest().clone()));
        Ok(LayerBlob { file, digest, size: blob.size(), diff_id })
    });
    layers.collect()
}

/// Whether layers of this type lie in the image: foreign and nondistributable ones
/// have to be fetched from elsewhere, and encrypted ones need a key.
fn is_layer(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
    )
}
