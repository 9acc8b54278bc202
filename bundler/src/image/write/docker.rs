//! Docker's archives, as `docker save` writes them (docker image specification
//! v1.2, "Combined Image JSON + Filesystem Changeset Format"): every tool loads
//! them, and a health check is honoured.

use std::path::Path;

use serde_json::json;

use super::place::{Archive, Place};
use super::{Described, NewImage, Watch, WriteError, Written, at, put_layers};
use crate::digest::BlobDigest;
use crate::image::config::canonical;
use crate::image::name::ImageName;

/// Writes `image` as docker's archive `file`.
pub(super) fn write(
    file: &Path,
    reference: Option<&str>,
    image: &NewImage<'_>,
    watch: Watch<'_>,
) -> Result<Written, WriteError> {
    let name: Option<ImageName> = reference.map(str::parse).transpose()?;
    let name = name.or_else(|| image.name.clone());
    let mut archive = Archive::begin(file)?;
    let layer_name = |diff_id: &dyn ToString| {
        let text = diff_id.to_string();
        format!("{}.tar", text.strip_prefix("sha256:").unwrap_or(&text))
    };
    let put = put_layers(&mut archive, file, image, watch, |layer| layer_name(&layer.diff_id));
    let Described { config, layers, artifacts } = put?;
    let config = config.print()?;
    let id = BlobDigest::of(&config);
    let config_name = format!("{}.json", id.hex());
    archive.put(&config_name, &config).map_err(at(file))?;
    let names: Vec<String> = layers.iter().map(|layer| layer_name(&layer.diff_id)).collect();
    let reference = name.map(|name| name.to_string());
    let tags: Option<Vec<&String>> = reference.as_ref().map(|name| vec![name]);
    let manifest = json!([{ "Config": config_name, "RepoTags": tags, "Layers": names }]);
    archive.put("manifest.json", &canonical(&manifest)?).map_err(at(file))?;
    let artifacts = archive.put_evidence(&artifacts).map_err(at(file))?;
    archive.finish().map_err(at(file))?;
    archive.commit(image.sync)?;
    Ok(Written { id, manifest: None, reference, layers, artifacts })
}
