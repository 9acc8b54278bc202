//! A bundle that comes back from a node.

use std::fs;
use std::path::Path;

use anyhow::Context;
use bundler::staging::Staging;
use delta::Manifest;

use super::files_offer::assemble;
use super::listing::receive_listing;
use super::objects::{Objects, receive_contents};
use crate::push::link::Link;
use crate::push::staging::{Builder, is_bundle};
use crate::push::{contents, space};

/// Receives the tree `target` and puts it at `output`, where a bundle, an empty
/// directory or nothing may be.
///
/// # Errors
/// When what comes is not that tree, or it cannot be written; `output` is as before.
pub fn pull(
    link: &mut Link,
    lengths: (u64, u64),
    target: &str,
    output: &Path,
) -> anyhow::Result<Manifest> {
    let manifest = receive_listing(link, lengths, target)?;
    anyhow::ensure!(is_bundle(&manifest), "{target} is no bundle");
    let staging = Staging::begin(output, bundler::bundle::is_bundle)?;
    let objects = Objects::open(staging.dir().join(".objects"))?;
    let lack = space::check(staging.dir(), manifest.size(), manifest.entries().len() as u64)?;
    if let Some(lack) = lack {
        return Err(lack.into());
    }
    let wanted: Vec<_> = contents::of(&manifest).into_iter().map(|content| (content, 0)).collect();
    receive_contents(link, &objects, &wanted)?;
    let progress = |_| ();
    let mut builder = Builder::new(staging.dir(), None, &progress)?;
    assemble(&mut builder, &manifest, &objects, None)?;
    builder.seal(&manifest)?;
    let tree = staging.dir().join("tree");
    for part in ["config.json", "rootfs"] {
        fs::rename(tree.join(part), staging.dir().join(part))
            .context("cannot finish the bundle")?;
    }
    fs::remove_file(tree.join("manifest"))?;
    fs::remove_dir(&tree)?;
    fs::remove_dir_all(staging.dir().join(".objects"))?;
    staging.commit()?;
    Ok(manifest)
}
