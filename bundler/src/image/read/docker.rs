//! What `docker save` and `podman save --format docker-archive` write: a
//! `manifest.json` that names a config and the tars of the layers. The layers of
//! older ones lie in `ID/layer.tar`, often as links to one another; newer dockers
//! write an OCI layout with a `manifest.json` that names its blobs.

use oci_spec::image::{Digest, ImageConfiguration};
use serde::Deserialize;

use super::choose::familiar;
use super::layers::LayerBlob;
use super::open::Image;
use super::store::{Store, parse, whole};
use crate::image::error::ImageError;

/// An image in `manifest.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Reads the image `name` of the archive in `store`.
pub(super) fn open(store: Store, name: Option<&str>) -> Result<Image, ImageError> {
    let entries: Vec<Entry> = store.json("manifest.json")?;
    let entry = choose(&entries, name)?.clone();
    let names = entry.repo_tags.unwrap_or_default();
    let wanted = names.iter().find(|tag| name.is_some_and(|n| familiar(n) == familiar(tag)));
    let name = wanted.or(names.first()).cloned();
    let what = format!("`{}`", entry.config);
    let digest = config_digest(&entry.config);
    let config_json = whole(&what, store.open(&entry.config)?, digest.as_ref())?;
    let config: ImageConfiguration = parse(&what, &config_json)?;
    let files = entry.layers.unwrap_or_default();
    let diff_ids = config.rootfs().diff_ids();
    if files.len() != diff_ids.len() {
        return Err(ImageError::Layers { layers: files.len(), diff_ids: diff_ids.len() });
    }
    let mut layers = Vec::with_capacity(files.len());
    for (file, diff_id) in files.into_iter().zip(diff_ids) {
        let diff_id = diff_id.parse().map_err(|_| ImageError::Algorithm(diff_id.clone()))?;
        let size = store.open(&file)?.len();
        // The digest of what is in it says it all.
        layers.push(LayerBlob { file, digest: None, size, diff_id });
    }
    Ok(Image {
        manifest: None,
        config,
        config_json,
        annotations: std::collections::BTreeMap::new(),
        name,
        digest: None,
        referrers: Vec::new(),
        store,
        layers,
    })
}

fn choose<'a>(entries: &'a [Entry], name: Option<&str>) -> Result<&'a Entry, ImageError> {
    let known = || entries.iter().flat_map(|e| e.repo_tags.clone().unwrap_or_default()).collect();
    match (name, entries) {
        (None, [only]) => Ok(only),
        (None, []) => Err(ImageError::Name { name: "*".into(), known: Vec::new() }),
        (None, _) => Err(ImageError::Ambiguous { known: known() }),
        (Some(name), _) => {
            let has = |entry: &&Entry| {
                let mut tags = entry.repo_tags.iter().flatten();
                tags.any(|tag| familiar(tag) == familiar(name))
            };
            let missing = || ImageError::Name { name: name.to_owned(), known: known() };
            entries.iter().find(has).ok_or_else(missing)
        }
    }
}

/// A config is named by its digest: `HEX.json`, or `blobs/sha256/HEX`.
fn config_digest(file: &str) -> Option<Digest> {
    let name = file.rsplit('/').next().unwrap_or(file);
    format!("sha256:{}", name.strip_suffix(".json").unwrap_or(name)).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_are_named_by_their_digest() {
        let hex = "ab".repeat(32);
        let digest = Some(format!("sha256:{hex}").parse().unwrap());
        assert_eq!(config_digest(&format!("{hex}.json")), digest);
        assert_eq!(config_digest(&format!("blobs/sha256/{hex}")), digest);
        assert_eq!(config_digest("config.json"), None);
    }
}
