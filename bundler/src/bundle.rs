//! An OCI runtime bundle on disk: `config.json` beside `rootfs/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::assemble::{AssembleError, Assembled, Sinks, assemble};
use crate::config;
use crate::digest::DiffId;
use crate::layer::Layer;
use crate::rootfs::Rootfs;
use crate::staging::{Staging, StagingError};

/// Why a bundle could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The bundle's directory could not be made or replaced.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// A file of the layer could not be read or written.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// `config.json` cannot be written.
    #[error("cannot write config.json")]
    Config(#[source] io::Error),
    /// What is to lie beside it cannot be made or written.
    #[error("cannot write what lies beside the root file system")]
    Beside(#[source] io::Error),
}

/// A bundle that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Its directory, without links.
    pub dir: PathBuf,
    /// What its root file system is.
    pub layer: Assembled,
}

/// Makes the files that lie beside `rootfs`, each with its name below the bundle's
/// directory, once the layer's digest is known.
pub type Beside<'a> = dyn Fn(DiffId) -> io::Result<Vec<(PathBuf, Vec<u8>)>> + 'a;

/// Writes `layer` of `rootfs` and `spec` as a bundle at `target`, in place of
/// a bundle or an empty directory that is there. The spec gets the layer's
/// digest as an annotation. `beside` makes what else lies in the bundle's
/// directory. With `sync` the bundle is on the disk before it gets its name.
///
/// # Errors
/// When something that is no bundle is at `target`, when a file cannot be read
/// or written, when the caller asked to stop. What was at `target` is then as
/// it was, and nothing else is left.
pub fn write(
    target: &Path,
    rootfs: &Rootfs,
    layer: &Layer,
    mut spec: Spec,
    sinks: Sinks<'_>,
    beside: &Beside<'_>,
    sync: bool,
) -> Result<Bundle, BundleError> {
    let staging = Staging::begin(target, is_bundle)?;
    let tree = staging.dir().join("rootfs");
    fs::create_dir(&tree).map_err(BundleError::Config)?;
    let stop = sinks.stop;
    let assembled = assemble(layer, rootfs, Some(&tree), sinks)?;
    config::set_diff_id(&mut spec, assembled.diff_id);
    let text = config::print(&spec).map_err(|e| BundleError::Config(e.into()))?;
    for (name, bytes) in beside(assembled.diff_id).map_err(BundleError::Beside)? {
        let path = staging.dir().join(name);
        let parent = path.parent().unwrap_or(staging.dir());
        fs::create_dir_all(parent).map_err(BundleError::Beside)?;
        fs::write(&path, bytes).map_err(BundleError::Beside)?;
    }
    let config = staging.dir().join("config.json");
    fs::write(&config, text).map_err(BundleError::Config)?;
    if sync {
        let file = fs::File::open(&config).map_err(BundleError::Config)?;
        rustix::fs::syncfs(file).map_err(|e| BundleError::Config(e.into()))?;
    }
    if stop.is_some_and(|stop| stop.load(std::sync::atomic::Ordering::Relaxed)) {
        return Err(AssembleError::Interrupted.into());
    }
    let dir = staging.commit()?;
    Ok(Bundle { dir, layer: assembled })
}

/// Whether there is a bundle at `dir`: a directory with a `config.json` and a
/// directory `rootfs`.
pub fn is_bundle(dir: &Path) -> bool {
    let is = |name: &str, kind: fn(&fs::FileType) -> bool| {
        fs::symlink_metadata(dir.join(name)).is_ok_and(|meta| kind(&meta.file_type()))
    };
    is("config.json", fs::FileType::is_file) && is("rootfs", fs::FileType::is_dir)
}
