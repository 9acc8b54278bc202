//! What was written, in a line or as JSON.

use std::path::Path;

use bundler::image::{Destination, NewImage, Written};
use bundler::layer::Node;
use bundler::{Layer, RootPath};
use indicatif::HumanBytes;
use serde_json::json;

use crate::cli::build::Image;
use crate::command::bundle::summary::shell_word;
use crate::report::{self, count};

/// An image that is done.
pub(super) struct Summary<'a> {
    pub(super) args: &'a Image,
    pub(super) destination: &'a Destination,
    pub(super) image: &'a NewImage<'a>,
    pub(super) written: &'a Written,
    /// Of the image without what only its base has.
    pub(super) files: usize,
    /// Files that only its base has.
    pub(super) only_base: usize,
    pub(super) bytes: u64,
}

/// Everything but directories.
pub(super) fn files(layer: &Layer) -> usize {
    layer.entries.iter().filter(|entry| entry.node != Node::Directory).count()
}

impl Summary<'_> {
    /// Prints it: a line to standard error, JSON to standard output.
    pub(super) fn report(&self) -> anyhow::Result<()> {
        if self.args.json {
            return report::json(&self.json());
        }
        let size = self.written.layers.iter().map(|layer| layer.size).sum();
        match self.only_base {
            0 => {}
            more => report::say(
                "vzbuild",
                format_args!(
                    "{} {} the base layer's alone, and in no evidence",
                    count(more, "file"),
                    if more == 1 { "is" } else { "are" }
                ),
            ),
        }
        let (bytes, size) = (HumanBytes(self.bytes), HumanBytes(size));
        let output = shell_word(Path::new(&self.args.output));
        let (files, id) =
            (count(self.files, "file"), self.written.manifest.unwrap_or(self.written.id));
        report::say(
            "vzbuild",
            format_args!("{output}: {files}, {bytes}, layers of {size}, {id}; {}", self.how()),
        );
        Ok(())
    }

    /// How it is run.
    fn how(&self) -> String {
        match self.destination {
            Destination::Layout(dir, _) => {
                let reference = self.written.reference.as_ref().map(|name| format!(":{name}"));
                let dir = shell_word(dir);
                format!("run it with `podman run oci:{dir}{}`", reference.unwrap_or_default())
            }
            Destination::OciArchive(file, _) => {
                format!("load it with `podman load -i {}`", shell_word(file))
            }
            Destination::DockerArchive(file, _) => {
                format!("load it with `docker load -i {}`", shell_word(file))
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        let path = |path: &RootPath| path.to_string();
        let taken_over = self.written.layers.len().saturating_sub(self.image.layers.len());
        let plans = std::iter::repeat_n(None, taken_over).chain(self.image.layers.iter().map(Some));
        let layers = plans.zip(&self.written.layers).map(|(plan, written)| {
            json!({
                "diffId": written.diff_id.to_string(),
                "tarBytes": written.tar_bytes,
                "digest": written.digest.to_string(),
                "bytes": written.size,
                "files": plan.map(|plan| files(plan.layer)),
                "createdBy": plan.map(|plan| plan.created_by),
            })
        });
        let all = || self.image.layers.iter().map(|layer| layer.layer);
        let left_out = all()
            .flat_map(|layer| &layer.left_out)
            .map(|left| json!({ "path": path(&left.path), "why": left.why }));
        let artifacts = self.written.artifacts.iter();
        let artifacts = artifacts.map(
            |(title, digest)| json!({ "title": title, "manifest": digest.map(|d| d.to_string()) }),
        );
        json!({
            "image": self.args.output.to_string_lossy(),
            "name": self.written.reference,
            "manifest": self.written.manifest.map(|digest| digest.to_string()),
            "id": self.written.id.to_string(),
            "files": self.files,
            "bytes": self.bytes,
            "layers": layers.collect::<Vec<_>>(),
            "artifacts": artifacts.collect::<Vec<_>>(),
            "args": self.image.config.config.args(),
            "leftOut": left_out.collect::<Vec<_>>(),
            "unreadable": all().flat_map(|layer| &layer.unreadable).map(path).collect::<Vec<_>>(),
        })
    }
}
