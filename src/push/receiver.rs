//! The node's end: takes what a sender offers, and puts it in place when it is
//! whole and proved.

mod base;
mod delta_offer;
mod files_offer;
mod listing;
mod objects;
mod pull;
mod tasks;

pub use pull::pull;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use self::base::Base;
use super::link::{Link, LinkError};
use super::protocol::{Have, Hello, MAX_DAMAGED, Offer, Receipt, Reply, Task, VERSION, valid_name};
use super::store::{Contents, Store, parse_id};
use super::{space, staging, sweep, verify};
use crate::report::{Advice, hint_of};

/// What a receiver says of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// SHA-256 of its executable, in hexadecimal.
    pub receiver: String,
    /// The node's architecture.
    pub arch: String,
}

/// How long a push waits for another one of the same name: longer than a receiver
/// whose link is dead lives.
const PATIENCE: Duration = Duration::from_secs(35);

/// Revisions that a sender is told of: more serve no delta.
const MAX_REVISIONS: usize = 100;

/// Serves one session. What goes wrong is told to the sender as well.
///
/// # Errors
/// When the task was not done.
pub fn serve(link: &mut Link, store: &Store, identity: &Identity) -> anyhow::Result<()> {
    let served = dispatch(link, store, identity);
    if let Err(error) = &served
        && error.downcast_ref::<LinkError>().is_none()
    {
        let why = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
        // A sender that is gone cannot be told.
        let _ = link.say(&Reply::Refused { why, hint: hint_of(error).map(str::to_owned) });
    }
    served
}

fn dispatch(link: &mut Link, store: &Store, identity: &Identity) -> anyhow::Result<()> {
    let hello: Hello = link.hear()?;
    if hello.version != VERSION {
        bail!("this receiver speaks version {VERSION}, not {}", hello.version);
    }
    let name = match &hello.task {
        Task::Push { name, .. } | Task::Rollback { name } | Task::Pull { name } => Some(name),
        Task::Verify { name } => name.as_ref(),
        Task::Ls | Task::Gc => None,
    };
    if let Some(bad) = name.filter(|name| !valid_name(name)) {
        bail!("`{}` cannot be the name of a bundle", bad.escape_debug());
    }
    match hello.task {
        Task::Push { name, target, keep, plan } => {
            parse_id(&target).context("the target is no digest")?;
            let push = Push { store, name, target, keep };
            if plan {
                let have = push.have(identity)?;
                return Ok(link.say(&Reply::Have(have))?);
            }
            store.make()?;
            let lock = store.lock(&push.name, PATIENCE)?;
            let done = push.run(link, identity);
            let done = push.clear_up(done);
            drop(lock);
            done
        }
        Task::Ls => tasks::ls(link, store),
        Task::Verify { name } => tasks::verify(link, store, name.as_deref()),
        Task::Gc => tasks::gc(link, store),
        Task::Rollback { name } => tasks::roll_back(link, store, &name),
        Task::Pull { name } => tasks::pull(link, store, &name),
    }
}

/// A push as the node sees it; the name's lock is held.
struct Push<'a> {
    store: &'a Store,
    name: String,
    target: String,
    keep: u32,
}

/// What became of an offer.
enum Taken {
    /// A revision lies in its place; the links are still as before.
    Installed(Receipt),
    /// Something else has to be offered: these files are damaged, so many of them new.
    Damaged(Vec<u32>, u64),
}

impl Push<'_> {
    fn have(&self, identity: &Identity) -> anyhow::Result<Have> {
        let current = self.store.current(&self.name);
        let previous = self.store.previous(&self.name);
        let mut revisions: Vec<String> = current.iter().chain(&previous).cloned().collect();
        for id in self.store.ids(&self.name)? {
            if !revisions.contains(&id) {
                revisions.push(id);
            }
        }
        revisions.dedup();
        revisions.truncate(MAX_REVISIONS);
        revisions.retain(|id| self.store.listing(&self.name, id).is_ok());
        let incoming = self.store.incoming(&self.name, &self.target);
        let staged =
            std::fs::read_dir(incoming.join("objects")).is_ok_and(|mut d| d.next().is_some());
        Ok(Have {
            version: VERSION,
            receiver: identity.receiver.clone(),
            arch: identity.arch.clone(),
            empty: revisions.is_empty() && !staged,
            revisions,
            current,
            partial: delta_offer::partial(&incoming)?,
        })
    }

    fn run(&self, link: &mut Link, identity: &Identity) -> anyhow::Result<()> {
        sweep::incoming(self.store, Some((&self.name, &self.target)), sweep::INCOMING_AGE)?;
        let have = self.have(identity)?;
        // Hashed while the offer is on its way: nearly all are made from this one.
        let base = have.revisions.first().filter(|_| !have.revisions.contains(&self.target));
        let mut likely = base.and_then(|id| Base::begin(self, id, &[]).ok());
        link.say(&Reply::Have(have))?;
        let incoming = self.store.incoming(&self.name, &self.target);
        loop {
            let offer: Offer = link.hear()?;
            if !matches!(offer, Offer::Present) {
                std::fs::create_dir_all(&incoming)
                    .with_context(|| format!("cannot make `{}`", incoming.display()))?;
            }
            let taken = match offer {
                Offer::Present => self.present()?,
                Offer::Delta { .. } => {
                    delta_offer::take(self, link, &incoming, offer, likely.take())?
                }
                Offer::Files { bytes, listing, ask } => {
                    let lengths = (bytes, listing);
                    files_offer::take(self, link, &incoming, lengths, ask, likely.take())?
                }
            };
            match taken {
                Taken::Damaged(mut files, found) => {
                    let all = files.len() <= MAX_DAMAGED;
                    files.truncate(MAX_DAMAGED);
                    link.say(&Reply::Damaged { files, found, all })?;
                }
                Taken::Installed(mut receipt) => {
                    receipt.previous = self.store.switch(&self.name, &self.target)?;
                    // It is done: what cannot be swept now does not undo it.
                    let swept = self.sweep(&incoming);
                    match swept {
                        Ok(swept) => receipt.swept = swept,
                        Err(error) => receipt.unswept = Some(format!("{error:#}")),
                    }
                    return Ok(link.say(&Reply::Receipt(receipt))?);
                }
            }
        }
    }

    fn sweep(&self, incoming: &Path) -> anyhow::Result<Vec<String>> {
        sweep::delete(incoming)?;
        sweep::gone(self.store)?;
        sweep::receivers(self.store)?;
        sweep::revisions(self.store, &self.name, self.keep)
    }

    /// Sees to it that there is room for so many bytes in so many inodes beside what
    /// is there; other broken-off pushes make way for this one.
    fn make_room(&self, incoming: &Path, bytes: u64, inodes: u64) -> anyhow::Result<()> {
        if space::check(incoming, bytes, inodes)?.is_some() {
            sweep::incoming(self.store, Some((&self.name, &self.target)), Duration::ZERO)?;
        }
        match space::check(incoming, bytes, inodes)? {
            None => Ok(()),
            Some(lack) => Err(lack).hint("make room on the node, or `vzpush gc` it"),
        }
    }

    /// After a push that was not done: pieces stay for the next try, but not to the
    /// last block of the disk.
    fn clear_up(&self, done: anyhow::Result<()>) -> anyhow::Result<()> {
        let Err(error) = done else { return Ok(()) };
        let incoming = self.store.incoming(&self.name, &self.target);
        let full = space::is_full(&error);
        if full && let Err(left) = sweep::give_back(&incoming) {
            return Err(error.context(format!("cannot make room again: {left:#}")));
        }
        for empty in [&incoming.join("objects"), &incoming] {
            let _ = std::fs::remove_dir(empty);
        }
        match full && hint_of(&error).is_none() {
            true => Err(error).hint("make room on the node, and push again: what came of it stays"),
            false => Err(error),
        }
    }

    /// The revision is said to be here: hash it again.
    fn present(&self) -> anyhow::Result<Taken> {
        let manifest = self.store.listing(&self.name, &self.target)?;
        let contents = Contents::open(&self.store.revision(&self.name, &self.target))?;
        let differences = verify::compare(&contents, &manifest)?;
        if differences.is_empty() {
            let target = manifest.digest().to_string();
            return Ok(Taken::Installed(Receipt { target, ..Receipt::default() }));
        }
        let is_file =
            |n: &u32| manifest.entries().get(*n as usize).is_some_and(|e| e.file().is_some());
        let files = differences.iter().filter(|d| {
            matches!(d.what, verify::What::Missing | verify::What::Kind | verify::What::Content)
        });
        let files: Vec<u32> = files.filter_map(|d| d.number).filter(is_file).collect();
        let found = files.len() as u64;
        Ok(Taken::Damaged(files, found))
    }

    /// Puts the sealed tree in its place.
    fn install(&self, incoming: &Path, receipt: Receipt) -> anyhow::Result<Taken> {
        staging::install(self.store, incoming, &self.name, &self.target)?;
        Ok(Taken::Installed(receipt))
    }
}
