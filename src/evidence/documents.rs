//! The documents that were kept beside a bundle or with an image.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use serde::de::DeserializeOwned;

use crate::image::Opened;

/// Larger documents are none of ours.
pub const MAX_DOCUMENT: u64 = 256 << 20;

/// Where the documents are.
#[derive(Debug)]
pub enum Documents {
    /// In the evidence folder of a bundle.
    Folder(PathBuf),
    /// With an image, which was named so.
    Image(Box<Opened>, String),
}

impl Documents {
    /// The content of the document `name`.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn read(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        match self {
            Documents::Folder(folder) => {
                let path = folder.join(name);
                std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))
            }
            Documents::Image(opened, image) => {
                let content = opened.image.document(name, MAX_DOCUMENT);
                let content = content.with_context(|| format!("cannot read `{name}` of `{image}`"));
                content?.ok_or_else(|| anyhow!("no `{name}` goes with the image `{image}`"))
            }
        }
    }

    /// The same, a description in JSON.
    ///
    /// # Errors
    /// As [`read`](Self::read); where it is none.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<T> {
        let text = self.read(name)?;
        serde_json::from_slice(&text).with_context(|| match self {
            Documents::Folder(folder) => format!("`{}` is damaged", folder.join(name).display()),
            Documents::Image(_, image) => format!("`{name}` of `{image}` is damaged"),
        })
    }

    /// What to do where there are none.
    pub fn way_out(&self) -> &'static str {
        match self {
            Documents::Folder(_) => {
                "`vzbuild bundle` of this version writes it into BUNDLE/evidence"
            }
            Documents::Image(..) => {
                "name what `vzbuild image` or `vzbuild minify` wrote (oci:DIR, oci-archive:FILE, \
                 docker-archive:FILE): registries, podman and docker keep the image alone"
            }
        }
    }
}
