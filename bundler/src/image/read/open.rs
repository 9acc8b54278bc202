//! An image and what it says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::image::{Digest, ImageConfiguration, ImageManifest};

use super::layers::LayerBlob;
use super::referrers::Referrer;
use super::store::Store;
use super::{docker, layout};
use crate::image::error::ImageError;
use crate::image::reference::{Foreign, Reference};

/// An image that can be unpacked.
#[derive(Debug)]
pub struct Image {
    /// Its manifest; docker's archives have none.
    pub manifest: Option<ImageManifest>,
    /// Its config.
    pub config: ImageConfiguration,
    /// The config as it stands in the image, with what the parsed form leaves out,
    /// such as docker's `Healthcheck`.
    pub config_json: Vec<u8>,
    /// Annotations of its manifest, and of the index entries that lead to it.
    pub annotations: BTreeMap<String, String>,
    /// Its name where it lies: `name:tag`, or what the layout calls it.
    pub name: Option<String>,
    /// The digest of its manifest; docker's archives have none.
    pub digest: Option<Digest>,
    /// Documents about it that lie beside it: those that the first 1000 manifests of
    /// the index say, up to 8 MiB of manifests.
    pub referrers: Vec<Referrer>,
    pub(super) store: Store,
    pub(super) layers: Vec<LayerBlob>,
}

impl Image {
    /// Opens the image that `reference` names; of an image for several platforms
    /// this machine's. An image that is for another platform alone is opened, too.
    ///
    /// # Errors
    /// Where it cannot be read or is no image, where it names none or several,
    /// and where a layer of it lies elsewhere. Foreign names and root file
    /// systems are no images here.
    pub fn open(reference: &Reference) -> Result<Image, ImageError> {
        match reference {
            Reference::OciLayout { dir, name } => {
                if !dir.join("oci-layout").is_file() {
                    let why = "it has no file `oci-layout`".to_owned();
                    return Err(ImageError::NotImage { path: dir.clone(), why });
                }
                layout::open(Store::Directory(dir.clone()), name.as_deref())
            }
            Reference::OciArchive { file, name } => {
                layout::open(archive(file, &OCI, &DOCKER)?, name.as_deref())
            }
            Reference::DockerArchive { file, name } => {
                docker::open(archive(file, &DOCKER, &OCI)?, name.as_deref())
            }
            Reference::Directory(dir) => Err(ImageError::NotImage {
                path: dir.clone(),
                why: "it is a root file system or a bundle".to_owned(),
            }),
            Reference::Foreign(foreign) => Err(ImageError::Foreign(match foreign {
                Foreign::ContainersStorage(name) => format!("containers-storage:{name}"),
                Foreign::DockerDaemon(name) => format!("docker-daemon:{name}"),
                Foreign::Registry(name) => format!("docker://{name}"),
            })),
        }
    }

    /// Bytes of all its layers as they lie in the image: how far unpacking goes.
    pub fn layer_bytes(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
    }

    /// How many layers it has.
    pub fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// The document about it that is called `name`: the first of its referrers with
    /// that file name, else what an archive has of it in its folder
    /// [`EVIDENCE`](crate::image::write::EVIDENCE); nothing where there is none. `limit` as
    /// for [`read_referrer`](Self::read_referrer).
    ///
    /// # Errors
    /// Where it cannot be read, is too long or has another digest.
    pub fn document(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let mut referrers = self.referrers.iter();
        if let Some(found) = referrers.find(|one| one.file_name.as_deref() == Some(name)) {
            return found.read(&self.store, limit).map(Some);
        }
        self.store.evidence(name, limit)
    }

    /// The content of `referrer`, checked by its digest; it is refused where it is
    /// longer than `limit` bytes, since it is held in memory.
    ///
    /// # Errors
    /// Where it cannot be read, is too long or has another digest.
    pub fn read_referrer(&self, referrer: &Referrer, limit: u64) -> Result<Vec<u8>, ImageError> {
        referrer.read(&self.store, limit)
    }
}

/// A form of archives: what it is called, and the file that tells it.
type Form = (&'static str, &'static str);
const OCI: Form = ("oci-archive", "index.json");
const DOCKER: Form = ("docker-archive", "manifest.json");

/// Opens an archive of the form `form`; one that is of the `other` is said to be that.
fn archive(file: &Path, form: &Form, other: &Form) -> Result<Store, ImageError> {
    let store = Store::archive(file.to_owned())?;
    if store.has(form.1) {
        return Ok(store);
    }
    let mut why = format!("it has no file `{}`", form.1);
    if store.has(other.1) {
        why.push_str(&format!(", but `{}`: give it as `{}:`", other.1, other.0));
    }
    Err(ImageError::NotImage { path: file.to_owned(), why })
}
