//! Why images cannot be read.

use std::io;
use std::path::PathBuf;

use crate::tar_reader::TarError;

/// Why an image cannot be read or unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Something else is to make an archive of it first.
    #[error("`{0}` is not read directly")]
    Foreign(String),
    /// The file or directory is no image.
    #[error("`{}` is no image: {why}", path.display())]
    NotImage {
        /// Where it lies.
        path: PathBuf,
        /// What it lacks.
        why: String,
    },
    /// The file or directory cannot be opened.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// Where it lies.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A part of the image cannot be read, or is not what its digest says.
    #[error("cannot read {what} of the image")]
    Read {
        /// The part: a file of the archive, or what a digest names.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A part has another size than the image says.
    #[error("{what} of the image has {found} bytes, not {expected}")]
    Size {
        /// The part.
        what: String,
        /// Bytes that the image says it has.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// A description in the image is too long to be one.
    #[error("{what} of the image has {size} bytes, and {limit} are the limit")]
    Long {
        /// The part.
        what: String,
        /// Its bytes.
        size: u64,
        /// The most that are read.
        limit: u64,
    },
    /// A description in the image is not in the form that it should have.
    #[error("cannot make sense of {what} of the image")]
    Json {
        /// The part.
        what: String,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// A digest is of an unknown kind.
    #[error("`{0}` is no digest that can be checked")]
    Algorithm(String),
    /// No image in it has this name.
    #[error("there is no image `{name}` in it, but {}", names(known))]
    Name {
        /// What was asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// There are several images, and none was asked for.
    #[error("there are several images in it, so one must be named: {}", names(known))]
    Ambiguous {
        /// The names that there are.
        known: Vec<String>,
    },
    /// No image in it is for this kind of machine.
    #[error("there is no image for {wanted} in it, but {}", names(known))]
    Platform {
        /// This machine's platform.
        wanted: String,
        /// The platforms that there are.
        known: Vec<String>,
    },
    /// A part is of a kind that is not read: an artifact, or a layer that has to
    /// be fetched from elsewhere or decrypted.
    #[error("{what} of the image is of the type `{media_type}`, which is not read")]
    MediaType {
        /// The part.
        what: String,
        /// Its media type.
        media_type: String,
    },
    /// Manifest and config disagree.
    #[error("the image has {layers} layers, but digests of the contents of {diff_ids}")]
    Layers {
        /// Layers of the manifest.
        layers: usize,
        /// Entries of `rootfs.diff_ids` in the config.
        diff_ids: usize,
    },
    /// The directory to unpack into cannot be used.
    #[error("cannot unpack into `{}`", dir.display())]
    Target {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A layer is no sound tar.
    #[error("cannot read layer {number}, {digest}")]
    Layer {
        /// Which layer, counted from 1.
        number: usize,
        /// Its digest.
        digest: String,
        /// Why.
        source: TarError,
    },
    /// An entry of a layer is refused or could not be made.
    #[error("cannot unpack `{name}` of layer {number}")]
    Entry {
        /// Which layer, counted from 1.
        number: usize,
        /// The entry's name as it stands in the layer.
        name: String,
        /// Why.
        source: EntryError,
    },
    /// The image is larger than it may be.
    #[error("the image unpacks to more than {limit} {unit}")]
    TooLarge {
        /// The most that is unpacked.
        limit: u64,
        /// Of what: bytes or entries.
        unit: &'static str,
    },
    /// The disk is full but for what stays free for others.
    #[error("`{}` has no more room: {free} {unit} are free", dir.display())]
    Full {
        /// Where the image was unpacked to.
        dir: PathBuf,
        /// What is left.
        free: u64,
        /// Of what: bytes or inodes.
        unit: &'static str,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Why an entry of a layer is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Its name, or the one it links to, could lead out.
    #[error("`{}` has a `..` component", .0.escape_ascii())]
    DotDot(Vec<u8>),
    /// Its name, or the one it links to, has a NUL byte.
    #[error("`{}` has a NUL byte", .0.escape_ascii())]
    Nul(Vec<u8>),
    /// Its path has too many bytes or components once links are followed.
    #[error("its path is too long: at most 4095 bytes in 512 directories")]
    TooLong,
    /// Links lead round in a circle.
    #[error("too many links on the way")]
    Loop,
    /// Something on its way is no directory.
    #[error("`{0}` is no directory")]
    NotDirectory(String),
    /// A whiteout that would remove the root or nothing at all.
    #[error("it is a whiteout of nothing that a layer can have")]
    Whiteout,
    /// A directory on its way has the name of a whiteout.
    #[error("a directory of its path has the name of a whiteout")]
    BelowWhiteout,
    /// The root directory would become something else.
    #[error("the root must stay a directory")]
    Root,
    /// What it is a hard link to is not there.
    #[error("there is no `{}` to be linked to", .0.escape_ascii())]
    NoTarget(Vec<u8>),
    /// What it is a hard link to is a directory.
    #[error("`{}` is a directory, which cannot have a second name", .0.escape_ascii())]
    LinkToDirectory(Vec<u8>),
    /// The system did not let it be made.
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl From<rustix::io::Errno> for EntryError {
    fn from(errno: rustix::io::Errno) -> Self {
        EntryError::Write(errno.into())
    }
}

fn names(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().checked_sub(SHOWN) {
        _ if names.is_empty() => "none with a name".to_owned(),
        None | Some(0) => shown.join(", "),
        Some(more) => {
            shown.push(format!("{more} more"));
            shown.join(", ")
        }
    }
}
