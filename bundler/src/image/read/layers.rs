//! Unpacks the layers of an image one over the other.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oci_spec::image::Digest;

use super::apply::Unpacker;
use super::blob::{Hasher, Verified};
use super::open::Image;
use super::pipe::Pipe;
use super::store::verified;
use crate::image::error::ImageError;
use crate::tree::Unkept;

/// A layer as it lies in an image.
#[derive(Clone, Debug)]
pub(super) struct LayerBlob {
    /// The file that it is.
    pub(super) file: String,
    /// Its digest; nothing where only its content's is known.
    pub(super) digest: Option<Digest>,
    pub(super) size: u64,
    /// The digest of its tar.
    pub(super) diff_id: Digest,
}

/// How to unpack an image, and who watches.
#[derive(Clone, Copy, Default)]
pub struct UnpackOptions<'a> {
    /// The most bytes that the files may have together, holes and what later
    /// layers replace included; no limit but the disk where there is none.
    pub max_bytes: Option<u64>,
    /// Called with the number of bytes of layers, as they lie in the image, that
    /// went by since the last call; [`Image::layer_bytes`] in all.
    pub progress: Option<&'a dyn Fn(u64)>,
    /// Ends the work with [`ImageError::Interrupted`] once it is true.
    pub stop: Option<&'a AtomicBool>,
}

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries of all layers.
    pub entries: u64,
    /// Bytes of the files of all layers.
    pub bytes: u64,
    /// What the tree lacks of the image, since this user may not write it, sorted; of
    /// devices and of all else the first thousand.
    /// An ordinary user stands for root: files of root belong to that user, and
    /// that is not listed.
    pub unkept: Vec<Unkept>,
    /// How much it lacks in all.
    pub unkept_count: u64,
    /// How many owners of that.
    pub unkept_owners: u64,
    /// Whose the files are that the image does not give to root, where they were unpacked
    /// by an ordinary user, to whom they may belong now.
    pub owners: Option<Owners>,
}

/// User and group of files, by device and inode.
pub type Owners = HashMap<(u64, u64), (u32, u32)>;

impl Image {
    /// Unpacks all layers into the empty directory `dir`. What comes out was
    /// checked: every layer against its digest and the digest of its content.
    ///
    /// What strangers put into images may be setuid or a device, so `dir` must lie
    /// where nobody else can go. No name and no link leads out of it. Links in the
    /// middle of a path are followed as a container with this root would; a file
    /// is never written through one.
    ///
    /// # Errors
    /// Where a layer cannot be read, is not what its digest says, has an entry
    /// that is refused, or does not fit. What is in `dir` then is for the caller
    /// to remove, and can be removed by this user.
    pub fn unpack(&self, dir: &Path, options: &UnpackOptions<'_>) -> Result<Unpacked, ImageError> {
        let mut unpacker = Unpacker::new(dir, options)?;
        for layer in &self.layers {
            self.unpack_layer(layer, &mut unpacker, options)?;
        }
        unpacker.finish()
    }

    fn unpack_layer(
        &self,
        layer: &LayerBlob,
        unpacker: &mut Unpacker<'_>,
        options: &UnpackOptions<'_>,
    ) -> Result<(), ImageError> {
        let what = layer.digest.as_ref().unwrap_or(&layer.diff_id).to_string();
        let part = self.store.open(&layer.file)?;
        if part.len() != layer.size {
            let (expected, found) = (layer.size, part.len());
            return Err(ImageError::Size { what, expected, found });
        }
        let hasher = Hasher::like(&layer.diff_id)
            .ok_or_else(|| ImageError::Algorithm(layer.diff_id.to_string()))?;
        std::thread::scope(|scope| {
            let (pipe, blob_done) = match &layer.digest {
                Some(digest) => {
                    let (blob, done) = verified(part, digest)?;
                    (Pipe::start(scope, blob), done)
                }
                None => (Pipe::start(scope, part), Arc::new(AtomicBool::new(true))),
            };
            let pipe = pipe.map_err(ImageError::Thread)?;
            let watched = Watched { pipe, options };
            let done = Arc::new(AtomicBool::new(false));
            let mut content = Verified::new(watched, &layer.diff_id, hasher, Arc::clone(&done));
            unpacker.layer(&mut content, &what)?;
            let is_done = |done: &AtomicBool| done.load(Ordering::Acquire);
            match is_done(&done) && is_done(&blob_done) {
                true => Ok(()),
                false => {
                    let source = io::Error::other("it was not read to its end");
                    Err(ImageError::Read { what, source })
                }
            }
        })
    }
}

/// Tells of progress while a layer is read.
struct Watched<'a, 'scope> {
    pipe: Pipe<'scope>,
    options: &'a UnpackOptions<'a>,
}

impl Read for Watched<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.pipe.read(buf)?;
        if let Some(progress) = self.options.progress {
            match self.pipe.take_count() {
                0 => {}
                count => progress(count),
            }
        }
        Ok(read)
    }
}
