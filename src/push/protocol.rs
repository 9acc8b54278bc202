//! What sender and receiver say to each other.
//!
//! Messages are JSON objects in frames of type `Message`; bulk follows in `Data` and
//! `Piece` frames ([`super::frame`]). A session is one [`Hello`] and its answer:
//!
//! ```text
//! sender                              receiver
//!   Hello ───────────────────────────▶            with the ssh session itself
//!         ◀─────────────────────────── Have       the one round trip before data
//!   Offer, Data… / Piece… , Commit ──▶
//!         ◀─────────────────────────── Reply::Receipt | Damaged | Refused
//! ```
//!
//! After `Have` the sender offers one of three things:
//!
//! - [`Offer::Present`]: the node has the revision. It is re-hashed, made current,
//!   and the payload is nothing.
//! - [`Offer::Delta`]: `Data` frames with a `VZDELTA1` container from `offset` on,
//!   then `Commit`. What was received of it before, and where it was cut off, is in
//!   [`Have::partial`]; the digest of that prefix shows that it is the same delta.
//! - [`Offer::Files`]: `Data` frames with the listing of the target, compressed with
//!   zstd. With `ask`, the receiver answers [`Reply::Need`]: which contents it lacks
//!   (those it has from other revisions or an earlier try are re-hashed first), and
//!   the sender sends these; without, all are sent at once. Then `Commit`.
//!
//! The receiver hashes the base while a delta is on its way. Where files of it are
//! not what they should be, it answers [`Reply::Damaged`] with their numbers in the
//! base's listing, and the sender offers again, with a delta against the base
//! without them ([`super::plan::without`]), or files: each at most once.
//!
//! Limits: a listing has at most [`MAX_LISTING`] bytes, a name matches
//! [`valid_name`], and nothing that is received becomes a path but entries of a
//! listing whose digest was checked and that is a tree.
//!
//! The other tasks of [`Task`] are answered by one [`Reply`]; `Pull` by
//! [`Reply::Listing`], `Data` frames with the listing, and pieces with all contents.

use serde::{Deserialize, Serialize};

/// Version of the messages; the greeting has it too.
pub const VERSION: u32 = 1;
/// Longest listing, in bytes, before compression.
pub const MAX_LISTING: u64 = 16 << 20;
/// Most damaged files that are told one by one, so that they fit into a frame.
pub const MAX_DAMAGED: usize = 4096;
/// Longest name of a bundle, in bytes.
const MAX_NAME: usize = 64;

/// Whether `name` can be the name of a bundle on a node: letters, digits, `.`, `_`
/// and `-`, beginning with a letter or digit, at most 64, and not one of the
/// store's own folders.
pub fn valid_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
        && name.bytes().all(plain)
        && !["revs", "incoming", "bin"].contains(&name)
}

/// The sender's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// What it came for.
    pub task: Task,
}

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Put a revision in place.
    Push {
        /// Of which bundle.
        name: String,
        /// Its tree digest, in hexadecimal.
        target: String,
        /// How many revisions to keep.
        keep: u32,
        /// Only say what there is: change nothing, lock nothing.
        plan: bool,
    },
    /// List bundles and revisions.
    Ls,
    /// Hash revisions again: of this bundle, or of all.
    Verify {
        /// Of which bundle.
        name: Option<String>,
    },
    /// Remove what nothing needs.
    Gc,
    /// Exchange the links `current` and `previous`.
    Rollback {
        /// Of which bundle.
        name: String,
    },
    /// Send the current revision back.
    Pull {
        /// Of which bundle.
        name: String,
    },
}

/// The answer to [`Task::Push`]: what the node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// [`VERSION`].
    pub version: u32,
    /// Of the receiver's executable: SHA-256, in hexadecimal.
    pub receiver: String,
    /// The node's architecture, as `uname -m` calls it.
    pub arch: String,
    /// Revisions of this name whose listings are whole: current first, then
    /// previous, then the others.
    pub revisions: Vec<String>,
    /// Which of them `current` names.
    pub current: Option<String>,
    /// What came of a delta to the same target before.
    pub partial: Option<Partial>,
    /// Whether nothing at all is here that contents could be taken from.
    pub empty: bool,
}

/// The beginning of a delta that was broken off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// How many bytes there are.
    pub bytes: u64,
    /// SHA-256 of them, in hexadecimal.
    pub prefix: String,
}

/// What the sender is about to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offer {
    /// Nothing: the revision is there.
    Present,
    /// A delta.
    Delta {
        /// Revision that it is against.
        base: String,
        /// Files of it that are left out, by their number in its listing.
        without: Vec<u32>,
        /// Bytes of the whole delta.
        bytes: u64,
        /// Its SHA-256, in hexadecimal.
        digest: String,
        /// From where on it is sent.
        offset: u64,
        /// Bytes of content that will be written anew.
        writes: u64,
        /// Entries of the target that take an inode of their own.
        entries: u64,
    },
    /// A listing and contents.
    Files {
        /// Bytes of the compressed listing.
        bytes: u64,
        /// Bytes of the listing.
        listing: u64,
        /// Whether to answer with [`Reply::Need`] before contents come.
        ask: bool,
    },
}

/// Ends what was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Commit {
    /// All was sent: put it in place.
    Commit,
}

/// Which content is needed, and from where on: its number among the listing's
/// contents ([`super::contents`]), and how many bytes of it are here already.
pub type Needed = (u32, u64);

/// What the receiver answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To a push.
    Have(Have),
    /// The contents that are to be sent: runs of numbers, first and how many, and
    /// for the first of them perhaps an offset. In pages; the last one says so.
    Need {
        /// First number, how many from there, bytes of the first that are here.
        runs: Vec<(u32, u32, u64)>,
        /// Whether more pages follow.
        more: bool,
        /// How many contents of other revisions were found to be damaged.
        damaged: u32,
    },
    /// Files of the base or of the revision itself are not as they should be.
    Damaged {
        /// Their numbers in the listing of the revision, at most [`MAX_DAMAGED`].
        files: Vec<u32>,
        /// How many were found, told or not.
        found: u64,
        /// Whether `files` has all of them; where not, contents have to be offered.
        all: bool,
    },
    /// The revision is in its place, synced and linked.
    Receipt(Receipt),
    /// It could not be done, and nothing was changed.
    Refused {
        /// What went wrong, causes included.
        why: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// To [`Task::Ls`], [`Task::Verify`], [`Task::Gc`] and [`Task::Rollback`]: the
    /// next of the result's lines.
    Answer {
        /// A value that depends on the task.
        value: serde_json::Value,
        /// Whether more follow.
        more: bool,
    },
    /// The listing that follows in `Data` frames, and then its contents in pieces.
    Listing {
        /// Its digest: the revision's name.
        target: String,
        /// Bytes of the compressed listing.
        bytes: u64,
        /// Bytes of the listing.
        listing: u64,
    },
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Digest of the tree that is in place: what the receiver found, not what it was told.
    pub target: String,
    /// Revision that was current before.
    pub previous: Option<String>,
    /// Files that are hard links into another revision.
    pub linked: u64,
    /// Bytes of content that were written.
    pub written: u64,
    /// How many files lack a device node, owner other than root, setuid bit or
    /// attribute, which this user may not give them.
    pub unkept: u64,
    /// Revisions that were removed.
    pub swept: Vec<String>,
    /// Why what nothing needs could not be removed; the revision is in place all the same.
    pub unswept: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_anywhere() {
        for good in ["web", "redis-7.0", "a_b", "0"] {
            assert!(valid_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".x", "-x", "a/b", "a b", "revs", "incoming", "bin", "ä"] {
            assert!(!valid_name(bad), "{bad}");
        }
        assert!(!valid_name(&"x".repeat(65)));
    }

    #[test]
    fn messages_are_small() {
        let digest = "0".repeat(64);
        let task = Task::Push { name: "web".into(), target: digest, keep: 3, plan: false };
        let text = serde_json::to_string(&Hello { version: VERSION, task }).unwrap();
        assert!(text.len() < 160, "{text}");
    }
}
