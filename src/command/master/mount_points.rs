//! The places in a bundle where volumes are mounted.
//!
//! Runtimes make what is missing for a mount in the root file system itself, which is
//! a revision and never written to. So it has to be there.

use std::path::Path;

use anyhow::{Context, anyhow};
use bundler::resolve::Resolver;
use bundler::{Kind, Rootfs};

use crate::fleet::pod::{Container, Mount};
use crate::report::Advice;

/// The mounts of `container` for which its bundle has no place.
///
/// # Errors
/// When its root file system cannot be read.
pub(super) fn absent<'a>(
    bundle: &Path,
    container: &'a Container,
) -> anyhow::Result<Vec<&'a Mount>> {
    let rootfs = Rootfs::open(&bundle.join("rootfs")).context("its rootfs cannot be read")?;
    let resolver = Resolver::new(&rootfs);
    let is_absent = |mount: &&Mount| {
        let found = resolver.resolve(mount.path.as_bytes());
        !found.is_ok_and(|found| matches!(found.meta.kind, Kind::Directory | Kind::File))
    };
    Ok(container.mounts.iter().filter(is_absent).collect())
}

/// What makes the places for `mounts` in a bundle.
pub(super) fn remedy(mounts: &[&Mount]) -> String {
    let flags: String =
        mounts.iter().map(|mount| format!(" --volume /srv:{}", mount.path)).collect();
    let (places, stand) = match mounts.len() {
        1 => ("the place", "the pod's volume stands"),
        _ => ("the places", "the pod's volumes stand"),
    };
    format!("`vzbuild bundle{flags}` makes {places}; {stand} in for /srv")
}

/// Looks for a place for each mount of `container`.
///
/// # Errors
/// Which ones its bundle lacks, or that it cannot be read.
pub(super) fn check(bundle: &Path, container: &Container) -> anyhow::Result<()> {
    let absent = absent(bundle, container)?;
    if absent.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = absent.iter().map(|mount| format!("`{}`", mount.path)).collect();
    Err(anyhow!("its bundle has nothing at {}, where volumes are to be mounted", named.join(", ")))
        .hint(remedy(&absent))
}
