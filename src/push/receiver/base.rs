//! A revision of the node that the next one is made from.

use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow};
use delta::Manifest;

use super::Push;
use crate::push::plan;
use crate::push::staging::Donor;
use crate::push::store::{Contents, parse_id};

/// A revision whose files are being hashed.
pub(super) struct Base {
    /// Its digest, in hexadecimal.
    pub(super) id: String,
    listing: Manifest,
    known: Manifest,
    examined: JoinHandle<(Donor, Vec<u32>)>,
}

/// A revision whose files were hashed.
pub(super) struct Examined {
    /// All that is in it.
    pub(super) listing: Manifest,
    /// The same but for what was left out.
    pub(super) known: Manifest,
    /// What can be read of it, and linked to.
    pub(super) donor: Donor,
    /// Numbers among the known of those files that are not as listed.
    pub(super) damaged: Vec<u32>,
}

impl Base {
    /// Begins to hash the revision `id`, but for the files of these numbers.
    ///
    /// # Errors
    /// When there is no such revision, or it cannot be opened.
    pub(super) fn begin(push: &Push<'_>, id: &str, without: &[u32]) -> anyhow::Result<Self> {
        parse_id(id).context("the base is no digest")?;
        let listing = push.store.listing(&push.name, id)?;
        let known = plan::without(&listing, without)?;
        let dir = push.store.revision(&push.name, id);
        let contents =
            Contents::open(&dir).with_context(|| format!("cannot open `{}`", dir.display()))?;
        let wanted = known.clone();
        let examined = thread::spawn(move || Donor::examine(contents, &wanted));
        Ok(Base { id: id.to_owned(), listing, known, examined })
    }

    /// Waits until all is hashed.
    ///
    /// # Errors
    /// When that broke down.
    pub(super) fn finish(self) -> anyhow::Result<Examined> {
        let Base { listing, known, examined, .. } = self;
        let (donor, damaged) =
            examined.join().map_err(|_| anyhow!("the base could not be hashed"))?;
        Ok(Examined { listing, known, donor, damaged })
    }
}
