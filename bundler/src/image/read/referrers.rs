//! Documents about an image that lie beside it (OCI 1.1: manifests with a
//! `subject`).

use std::collections::BTreeMap;
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::choose;
use super::store::{Store, within};
use crate::image::error::ImageError;

/// Manifests that are looked at in search of referrers.
const MAX_LOOKED_AT: usize = 1000;
/// The most bytes that their manifests have together.
const MAX_BYTES: u64 = 8 << 20;
/// The name of the file that a blob of an artifact is (OCI annotations.md).
const TITLE: &str = "org.opencontainers.image.title";

/// A document about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// What kind of document it is, as a media type.
    pub artifact_type: String,
    /// The name of its file, where it has one.
    pub file_name: Option<String>,
    /// The annotations of its manifest.
    pub annotations: Arc<BTreeMap<String, String>>,
    /// Where its content lies.
    pub blob: Descriptor,
}

impl Referrer {
    /// Its content, which is held in memory; `limit` is the most bytes it may have.
    pub(super) fn read(&self, store: &Store, limit: u64) -> Result<Vec<u8>, ImageError> {
        let digest = self.blob.digest();
        within(digest.as_ref(), store.open_blob(&self.blob)?, Some(digest), limit)
    }
}

/// The referrers of `image` in a layout: manifests of its index whose subject it
/// is, and those that the referrers tag of `image` lists.
pub(super) fn find(
    store: &Store,
    index: &ImageIndex,
    image: &Descriptor,
) -> Result<Vec<Referrer>, ImageError> {
    let tag = image.digest().to_string().replace(':', "-");
    let mut bytes = 0_u64;
    let mut is_too_much = |blob: &Descriptor| {
        bytes = bytes.saturating_add(blob.size());
        bytes > MAX_BYTES
    };
    let is_list = |listed: &&Descriptor| choose::name_of(listed).as_deref() == Some(&tag);
    let (lists, mut manifests): (Vec<&Descriptor>, Vec<&Descriptor>) =
        index.manifests().iter().partition(is_list);
    manifests.truncate(MAX_LOOKED_AT);
    let mut manifests: Vec<Descriptor> = manifests.into_iter().cloned().collect();
    for listed in lists {
        if manifests.len() >= MAX_LOOKED_AT || is_too_much(listed) {
            break;
        }
        if let Ok((index, _)) = store.json_blob::<ImageIndex>(listed) {
            let room = MAX_LOOKED_AT - manifests.len();
            manifests.extend(index.manifests().iter().take(room).cloned());
        }
    }
    let mut found = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for descriptor in &manifests {
        if is_too_much(descriptor) {
            break;
        }
        // Other manifests need not even be there, nor in a form that we know.
        let Ok((manifest, _)) = store.json_blob::<ImageManifest>(descriptor) else { continue };
        let about = manifest.subject().as_ref().map(Descriptor::digest);
        if about != Some(image.digest()) || !seen.insert(descriptor.digest().to_string()) {
            continue;
        }
        let kind = manifest.artifact_type().as_ref().unwrap_or(manifest.config().media_type());
        let annotations: BTreeMap<_, _> =
            manifest.annotations().clone().unwrap_or_default().into_iter().collect();
        let annotations = Arc::new(annotations);
        for blob in manifest.layers() {
            let title = |all: &std::collections::HashMap<_, _>| all.get(TITLE).cloned();
            found.push(Referrer {
                artifact_type: kind.to_string(),
                file_name: blob.annotations().as_ref().and_then(title),
                annotations: Arc::clone(&annotations),
                blob: blob.clone(),
            });
        }
    }
    Ok(found)
}
