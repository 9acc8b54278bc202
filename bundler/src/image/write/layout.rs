//! An OCI image layout as a directory (image-spec, `image-layout.md`), which may
//! hold other images.
//!
//! Blobs come first and `index.json` last, each by rename, so a reader finds the
//! old images or the new one too. Writers take turns by a lock on the directory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::Value;

use super::place::{Directory, Place};
use super::{NewImage, Watch, WriteError, Written, at, index, oci};
use crate::assemble::AssembleError;

/// How often a lock that another has is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// Larger manifests are no registry's (distribution-spec: 4 MiB).
const MAX_MANIFEST: u64 = 4 << 20;

/// What an image without a name is called where the index has more than it: there
/// podman and skopeo find nothing without a name.
const NAMELESS: &str = "latest";

/// Writes `image` into the layout `dir`, which is made where there is none.
pub(super) fn write(
    dir: &Path,
    reference: Option<&str>,
    image: &NewImage<'_>,
    watch: Watch<'_>,
) -> Result<Written, WriteError> {
    let mut place = Directory::new(dir, image.sync);
    lock(dir, &mut place, watch)?;
    let old = begin(dir, &mut place)?;
    let mut reference = image.reference(reference);
    if !image.artifacts.is_empty() || image.documents.is_some() {
        reference.get_or_insert_with(|| NAMELESS.to_owned());
    }
    let put = oci::put(&mut place, dir, reference, image, watch)?;
    let (entries, written) = put.refer(&mut place, dir)?;
    let mut index = old.unwrap_or_else(index::new);
    let reference = written.reference.as_deref();
    index::make_room(&mut index, reference, |digest| subject(dir, digest));
    let text = index::print(&index, &entries)?;
    // All that the index is going to speak of must be there before it.
    place.settle(&oci::DIRECTORIES).map_err(at(dir))?;
    place.put(oci::INDEX_FILE, &text).map_err(at(dir))?;
    place.keep();
    place.settle(&[""]).map_err(at(dir))?;
    Ok(written)
}

/// Makes `dir` where it is not there, and locks it.
fn lock(dir: &Path, place: &mut Directory, watch: Watch<'_>) -> Result<(), WriteError> {
    loop {
        place.make("").map_err(at(dir))?;
        let opened = match File::open(dir) {
            // Another writer has given up, and removed what it had made.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(at(dir))?,
        };
        while let Err(error) = flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            if error != Errno::WOULDBLOCK {
                return Err(at(dir)(error.into()));
            }
            if watch.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(AssembleError::Interrupted.into());
            }
            std::thread::sleep(RETRY);
        }
        let ours = opened.metadata().map_err(at(dir))?;
        if fs::metadata(dir).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino())) {
            place.hold(opened);
            return Ok(());
        }
    }
}

/// Whether `dir` is a layout, empty or not there.
pub(super) fn look_at(dir: &Path) -> Result<(), WriteError> {
    if fs::metadata(dir.join(oci::LAYOUT_FILE)).is_ok() {
        return Ok(());
    }
    match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(at(dir)(e)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(WriteError::Occupied(dir.to_owned())),
        },
    }
}

/// Makes an empty directory a layout; returns the index that a layout has.
fn begin(dir: &Path, place: &mut Directory) -> Result<Option<Value>, WriteError> {
    look_at(dir)?;
    if fs::metadata(dir.join(oci::LAYOUT_FILE)).is_err() {
        place.put(oci::LAYOUT_FILE, oci::LAYOUT).map_err(at(dir))?;
    }
    for name in oci::DIRECTORIES {
        place.make(name).map_err(at(dir))?;
    }
    let path = dir.join(oci::INDEX_FILE);
    match fs::read(&path) {
        // Its maker was killed before there was one.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(WriteError::Io { path, source }),
        Ok(text) => match index::parse(&text) {
            Ok(index) => Ok(Some(index)),
            Err(source) => Err(WriteError::Index { path, source }),
        },
    }
}

/// The digest that the manifest `digest` refers to.
fn subject(dir: &Path, digest: &str) -> Option<String> {
    let hex = digest.strip_prefix("sha256:")?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let path: PathBuf = is_hex.then(|| dir.join("blobs/sha256").join(hex))?;
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX_MANIFEST).read_to_end(&mut text).ok()?;
    let manifest: Value = serde_json::from_slice(&text).ok()?;
    manifest.get("subject")?.get("digest")?.as_str().map(str::to_owned)
}
