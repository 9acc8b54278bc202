//! What encoding and applying need of the world, and what can go wrong.

use std::io;

use thiserror::Error;

use crate::manifest::{Entry, ManifestError};
use crate::vcdiff::VcdiffError;
use crate::{Digest, Error, ReadAt};

/// The contents of a tree's regular files.
pub trait Files: Sync {
    /// Opens the content of the regular file at `path`.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn ReadAt + '_>>;
}

/// Where a target tree is built: somewhere aside, until `commit`.
///
/// Entries come in the order of the manifest, so a directory comes before what is
/// in it. Each regular file comes as `keep` or `again`, or as `begin`, `write`…, `end`.
pub trait Sink {
    /// Makes an entry that is no regular file.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn special(&mut self, entry: &Entry) -> io::Result<()>;

    /// Makes the file `entry` with the content of the base's `from`, unless it
    /// returns false: then the content is read, checked and written.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn keep(&mut self, entry: &Entry, from: &Entry) -> io::Result<bool> {
        let _ = (entry, from);
        Ok(false)
    }

    /// Makes the file `entry` with the content of `from`, a file of this same
    /// target that came earlier.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn again(&mut self, entry: &Entry, from: &Entry) -> io::Result<()>;

    /// Starts the file `entry`, all of which but its digest counts: that of a file
    /// whose content travels is not known before its end.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn begin(&mut self, entry: &Entry) -> io::Result<()>;

    /// Appends to the file that was begun last.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Ends that file: its content is what `entry` says, and was checked.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn end(&mut self, entry: &Entry) -> io::Result<()>;

    /// Puts the tree in its place. It is whole, and its digest is the promised one.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn commit(&mut self) -> io::Result<()>;
}

/// What a delta may make the one who applies it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of content of the whole target.
    pub target: u64,
    /// Bytes of memory for what the records bring that the base has not: names, links,
    /// attributes.
    pub records: u64,
}

impl Default for Limits {
    /// No limit on the target, and 16 MiB of records, about 70,000 new files.
    fn default() -> Self {
        Limits { target: u64::MAX, records: 16 << 20 }
    }
}

/// Why a delta of trees could not be made, read or applied.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The file is something else.
    #[error("it is no delta: it does not start with VZDELTA")]
    Magic,
    /// It is of a version that is not read here.
    #[error("it is a delta of version `{}`, and only version 1 is read here", .0.escape_ascii())]
    Version(u8),
    /// It ends within its head.
    #[error("the delta ends early")]
    Truncated,
    /// It goes on where it should end.
    #[error("the delta has bytes that nothing uses")]
    Trailing,
    /// The base is not the tree that the delta was made from.
    #[error("the base is not the one that the delta was made from: {}", differing(.paths))]
    Base {
        /// Where they differ, as far as it can be told: one path, rarely a choice of some.
        paths: Vec<Vec<u8>>,
    },
    /// The list of what the delta does is damaged or hostile.
    #[error("cannot read the delta's records")]
    Records(#[source] Error),
    /// A record does not go with the base or with those before it.
    #[error("the delta's record of {} is impossible", shown(.path))]
    Record {
        /// The path of the record, or of the entry where it would be.
        path: Vec<u8>,
    },
    /// What the records describe is no tree.
    #[error("the delta describes no tree")]
    Manifest(#[from] ManifestError),
    /// The target would be larger than the caller allows.
    #[error("the target has {size} bytes, which is over the limit of {limit}")]
    TooLarge {
        /// What the delta declares.
        size: u64,
        /// What the caller allows.
        limit: u64,
    },
    /// A file could not be read.
    #[error("cannot read {}", shown(.path))]
    Read {
        /// Its path in the tree.
        path: Vec<u8>,
        /// What the reader said.
        source: io::Error,
    },
    /// A file could not be decoded.
    #[error("cannot restore {}", shown(.path))]
    Decode {
        /// Its path in the tree.
        path: Vec<u8>,
        /// What the codec said.
        source: Error,
    },
    /// A file that travelled as VCDIFF could not be decoded.
    #[error("cannot restore {}", shown(.path))]
    Vcdiff {
        /// Its path in the tree.
        path: Vec<u8>,
        /// What the codec said.
        source: VcdiffError,
    },
    /// A file has other content than promised.
    #[error("{} came out wrong: the delta is damaged, or the base changed meanwhile", shown(.path))]
    Content {
        /// Its path in the tree.
        path: Vec<u8>,
    },
    /// The whole tree is not the promised one.
    #[error("the target came out as {actual}, not as {promised}")]
    Target {
        /// What the delta promises.
        promised: Digest,
        /// What came out.
        actual: Digest,
    },
    /// An entry could not be written.
    #[error("cannot write {}", shown(.path))]
    Write {
        /// Its path in the tree.
        path: Vec<u8>,
        /// What the writer said.
        source: io::Error,
    },
    /// The finished tree could not be put in its place.
    #[error("cannot put the target in its place")]
    Commit(#[source] io::Error),
    /// The streams of a delta could not be compressed.
    #[error("cannot write the delta")]
    Compress(#[source] Error),
    /// A file had other content when it was encoded than its manifest says.
    #[error("{} changed while it was read", shown(.path))]
    Changed {
        /// Its path in the tree.
        path: Vec<u8>,
    },
}

/// How a path is shown: `` `usr/bin/x` ``, or what an empty one stands for.
fn shown(path: &[u8]) -> String {
    match path {
        b"" => "the file".to_owned(),
        path => format!("`{}`", String::from_utf8_lossy(path).escape_debug()),
    }
}

fn differing(paths: &[Vec<u8>]) -> String {
    match paths {
        [] => "several files differ, or it is another tree".to_owned(),
        paths => {
            let names: Vec<String> = paths.iter().take(3).map(|path| shown(path)).collect();
            format!("{} differs", names.join(" or "))
        }
    }
}
