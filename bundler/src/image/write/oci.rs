//! The blobs of an OCI image: layers, configuration, manifest, and what refers to
//! it (image-spec, `manifest.md`).

use std::collections::HashMap;
use std::path::Path;

use oci_spec::image::{
    ANNOTATION_CREATED, ANNOTATION_REF_NAME, ANNOTATION_TITLE, Arch, Descriptor, DescriptorBuilder,
    Digest, ImageManifestBuilder, MediaType, Os, PlatformBuilder,
};

use super::place::{Archive, Place};
use super::{Artifact, Described, NewImage, Watch, WriteError, Written, at, index, put_layers};
use crate::digest::BlobDigest;
use crate::image::config::canonical;

/// Which version of the layout it is (image-spec, `image-layout.md`).
pub(super) const LAYOUT_FILE: &str = "oci-layout";
pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const INDEX_FILE: &str = "index.json";
/// The directories of a layout, outermost first.
pub(super) const DIRECTORIES: [&str; 2] = ["blobs", "blobs/sha256"];
/// containerd's own annotation for the whole name of an image.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image whose blobs are there, but for its artifacts'.
pub(super) struct Put {
    /// What the index is to have of it.
    pub(super) entry: Descriptor,
    pub(super) written: Written,
    pub(super) artifacts: Vec<Artifact>,
    /// What artifacts refer to.
    subject: Descriptor,
    created: String,
}

/// Writes all blobs of `image` but for its artifacts'.
pub(super) fn put(
    place: &mut dyn Place,
    path: &Path,
    reference: Option<String>,
    image: &NewImage<'_>,
    watch: Watch<'_>,
) -> Result<Put, WriteError> {
    let Described { config, layers, artifacts } =
        put_layers(place, path, image, watch, |layer| blob(&layer.digest))?;
    let mut add = |media_type, content: &[u8]| add(place, path, media_type, content);

    let config_text = config.print()?;
    let config_descriptor = add(MediaType::ImageConfig, &config_text)?;
    let layer_descriptors = layers
        .iter()
        .map(|layer| descriptor(layer.compression.media_type(), &layer.digest, layer.size));
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config_descriptor)
        .layers(layer_descriptors.collect::<Result<Vec<_>, _>>()?)
        .build()?;
    let manifest_text = canonical(&manifest)?;
    let mut entry = add(MediaType::ImageManifest, &manifest_text)?;
    let subject = entry.clone();
    let mut annotations = HashMap::new();
    if let Some(reference) = reference.clone() {
        annotations.insert(ANNOTATION_REF_NAME.to_owned(), reference);
    }
    if let Some(name) = image.name.as_ref().filter(|name| name.has_registry()) {
        annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
    }
    if !annotations.is_empty() {
        entry.set_annotations(Some(annotations));
    }
    let platform = PlatformBuilder::default()
        .architecture(Arch::from(config.architecture.as_str()))
        .os(Os::from(config.os.as_str()));
    entry.set_platform(Some(platform.build()?));

    let (id, manifest) = (BlobDigest::of(&config_text), Some(BlobDigest::of(&manifest_text)));
    let written = Written { id, manifest, reference, layers, artifacts: Vec::new() };
    let created = config.created.unwrap_or_default();
    Ok(Put { entry, written, artifacts, subject, created })
}

impl Put {
    /// Writes the artifacts, too. Returns what the index is to have of image and
    /// artifacts.
    pub(super) fn refer(
        self,
        place: &mut dyn Place,
        path: &Path,
    ) -> Result<(Vec<Descriptor>, Written), WriteError> {
        let Put { entry, mut written, artifacts, subject, created } = self;
        let mut add = |media_type, content: &[u8]| add(place, path, media_type, content);
        let mut entries = vec![entry];
        if !artifacts.is_empty() {
            add(MediaType::EmptyJSON, EMPTY)?;
        }
        for artifact in artifacts {
            add(MediaType::from(artifact.artifact_type.as_str()), &artifact.content)?;
            let (text, annotations) = manifest_of(&artifact, &subject, &created)?;
            let mut entry = add(MediaType::ImageManifest, &text)?;
            entry.set_artifact_type(Some(MediaType::from(artifact.artifact_type.as_str())));
            entry.set_annotations(Some(annotations));
            entries.push(entry);
            written.artifacts.push((artifact.title, Some(BlobDigest::of(&text))));
        }
        Ok((entries, written))
    }
}

/// The blob that stands for no configuration, and its descriptor's `data`
/// (image-spec, `manifest.md`, "Guidance for an Empty Descriptor").
const EMPTY: &[u8] = b"{}";
const EMPTY_BASE64: &str = "e30=";

fn manifest_of(
    artifact: &Artifact,
    subject: &Descriptor,
    created: &str,
) -> Result<(Vec<u8>, HashMap<String, String>), WriteError> {
    let mut empty = descriptor(MediaType::EmptyJSON, &BlobDigest::of(EMPTY), EMPTY.len() as u64)?;
    empty.set_data(Some(EMPTY_BASE64.to_owned()));
    let media_type = MediaType::from(artifact.artifact_type.as_str());
    let size = artifact.content.len() as u64;
    let mut content = descriptor(media_type.clone(), &BlobDigest::of(&artifact.content), size)?;
    let title = (ANNOTATION_TITLE.to_owned(), artifact.title.clone());
    content.set_annotations(Some([title].into()));
    let annotations: HashMap<_, _> = [(ANNOTATION_CREATED.to_owned(), created.to_owned())].into();
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .artifact_type(media_type)
        .config(empty)
        .layers([content])
        .subject(subject.clone())
        .annotations(annotations.clone())
        .build()?;
    Ok((canonical(&manifest)?, annotations))
}

fn add(
    place: &mut dyn Place,
    path: &Path,
    media_type: MediaType,
    content: &[u8],
) -> Result<Descriptor, WriteError> {
    let digest = BlobDigest::of(content);
    place.put(&blob(&digest), content).map_err(at(path))?;
    descriptor(media_type, &digest, content.len() as u64)
}

fn descriptor(
    media_type: MediaType,
    digest: &BlobDigest,
    size: u64,
) -> Result<Descriptor, WriteError> {
    let digest: Digest = digest.to_string().parse()?;
    Ok(DescriptorBuilder::default().media_type(media_type).digest(digest).size(size).build()?)
}

/// Where a blob lies in a layout.
pub(super) fn blob(digest: &BlobDigest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Writes a tar of a layout that has only this image.
pub(super) fn write_archive(
    file: &Path,
    reference: Option<&str>,
    image: &NewImage<'_>,
    watch: Watch<'_>,
) -> Result<Written, WriteError> {
    let mut archive = Archive::begin(file)?;
    for name in DIRECTORIES {
        archive.directory(name).map_err(at(file))?;
    }
    let reference = image.reference(reference);
    let Put { entry, mut written, artifacts, .. } =
        put(&mut archive, file, reference, image, watch)?;
    // podman and skopeo take no archive whose index has more than one entry.
    let index = index::print(&index::new(), &[entry])?;
    archive.put(INDEX_FILE, &index).map_err(at(file))?;
    archive.put(LAYOUT_FILE, LAYOUT).map_err(at(file))?;
    written.artifacts = archive.put_evidence(&artifacts).map_err(at(file))?;
    archive.finish().map_err(at(file))?;
    archive.commit(image.sync)?;
    Ok(written)
}
