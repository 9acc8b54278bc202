//! A revision that comes as a listing and the contents that the node lacks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use delta::{Digest, Entry, Kind, Manifest, Sink};
use sha2::{Digest as _, Sha256};

use super::base::{Base, Examined};
use super::listing::receive_listing;
use super::objects::{Objects, receive_contents};
use super::{Push, Taken};
use crate::push::contents::{self, Content};
use crate::push::link::{Link, LinkError};
use crate::push::protocol::{Commit, Receipt, Reply};
use crate::push::staging::{Builder, Donor, is_bundle};
use crate::tree::FileAt;

/// Runs in a page of [`Reply::Need`], so that a page fits into a frame.
const PAGE: usize = 4096;

/// Receives what `push` needs, and builds its target.
pub(super) fn take(
    push: &Push<'_>,
    link: &mut Link,
    incoming: &Path,
    lengths: (u64, u64),
    ask: bool,
    likely: Option<Base>,
) -> anyhow::Result<Taken> {
    let manifest = receive_listing(link, lengths, &push.target)?;
    if !is_bundle(&manifest) {
        bail!("{} is not the listing of a bundle", push.target);
    }
    let wanted = contents::of(&manifest);
    let objects = Objects::open(incoming.join("objects"))?;
    let donor = if ask { donor(push, likely)? } else { None };
    let mut needed = Vec::new();
    for (number, content) in (0_u32..).zip(&wanted) {
        let here = ask
            && (donor.as_ref().is_some_and(|d| d.paths.contains_key(&content.digest))
                || objects.has(content));
        if !here {
            needed.push((number, if ask { objects.begun(content) } else { 0 }));
        }
    }
    let bytes = |(number, offset): &(u32, u64)| {
        wanted.get(*number as usize).map_or(0, |content| content.size.saturating_sub(*offset))
    };
    let (copies, inodes) = to_write(&manifest, donor.as_ref());
    let bytes = needed.iter().map(bytes).fold(copies, u64::saturating_add);
    push.make_room(incoming, bytes, inodes)?;
    if ask {
        let damaged = donor.as_ref().map_or(0, |donor| donor.damaged);
        say_needed(link, &needed, damaged)?;
    }
    let wanted: Vec<(Content, u64)> = needed
        .iter()
        .filter_map(|(number, offset)| Some((*wanted.get(*number as usize)?, *offset)))
        .collect();
    receive_contents(link, &objects, &wanted)?;
    let _: Commit = link.hear()?;
    build(push, link, incoming, &manifest, &objects, donor.as_ref())
}

/// What building `manifest` takes beside the contents that are staged: bytes of
/// copies, and inodes.
fn to_write(manifest: &Manifest, other: Option<&Other>) -> (u64, u64) {
    let mut staged = HashSet::new();
    let (mut copies, mut inodes) = (0_u64, 0);
    for entry in manifest.entries() {
        let Some(info) = entry.file() else {
            inodes += 1;
            continue;
        };
        let copied = match other.and_then(|o| Some((o, o.paths.get(&info.digest)?))) {
            Some((other, source)) if other.donor.stands_for(entry, &source.path) => continue,
            Some(_) => true,
            // The content becomes the last file that has it.
            None => !staged.insert(info.digest),
        };
        inodes += 1;
        copies = copies.saturating_add(if copied { info.size } else { 0 });
    }
    (copies, inodes)
}

/// Another revision, and where in it which content is.
pub(crate) struct Other {
    donor: Donor,
    paths: HashMap<Digest, Entry>,
    damaged: u32,
}

/// The revision that most is kept from: the likely one, the current one, else any.
fn donor(push: &Push<'_>, likely: Option<Base>) -> anyhow::Result<Option<Other>> {
    let others = push.store.current(&push.name).into_iter().chain(push.store.ids(&push.name)?);
    let mut others = others.filter_map(|id| Base::begin(push, &id, &[]).ok());
    let Some(base) = likely.or_else(|| others.next()) else { return Ok(None) };
    let Examined { listing, donor, damaged, .. } = base.finish()?;
    let mut paths = HashMap::new();
    for (number, entry) in (0_u32..).zip(listing.entries()) {
        if let Some(info) = entry.file()
            && damaged.binary_search(&number).is_err()
        {
            paths.entry(info.digest).or_insert_with(|| entry.clone());
        }
    }
    let damaged = u32::try_from(damaged.len()).unwrap_or(u32::MAX);
    Ok(Some(Other { donor, paths, damaged }))
}

fn say_needed(link: &mut Link, needed: &[(u32, u64)], damaged: u32) -> Result<(), LinkError> {
    let runs = contents::runs(needed.iter().copied());
    let mut pages = runs.chunks(PAGE).peekable();
    if pages.peek().is_none() {
        return link.say(&Reply::Need { runs: Vec::new(), more: false, damaged });
    }
    while let Some(page) = pages.next() {
        let more = pages.peek().is_some();
        link.say(&Reply::Need { runs: page.to_vec(), more, damaged })?;
    }
    Ok(())
}

fn build(
    push: &Push<'_>,
    link: &Link,
    incoming: &Path,
    manifest: &Manifest,
    objects: &Objects,
    other: Option<&Other>,
) -> anyhow::Result<Taken> {
    let counters = Arc::clone(&link.counters);
    let progress = move |bytes| {
        counters.verified.fetch_add(bytes, Ordering::Relaxed);
    };
    let mut builder = Builder::new(incoming, other.map(|other| &other.donor), &progress)?;
    assemble(&mut builder, manifest, objects, other)?;
    let unkept = builder.seal(manifest)?;
    let (linked, written) = (builder.linked, builder.written);
    let target = manifest.digest().to_string();
    push.install(incoming, Receipt { target, linked, written, unkept, ..Receipt::default() })
}

/// Makes every entry of `manifest`, of contents in `objects` and in another revision.
pub(crate) fn assemble(
    builder: &mut Builder<'_>,
    manifest: &Manifest,
    objects: &Objects,
    other: Option<&Other>,
) -> anyhow::Result<()> {
    let mut uses: BTreeMap<Digest, usize> = contents::uses(manifest);
    for entry in manifest.entries() {
        let made = match &entry.kind {
            Kind::File(info) => {
                let left = uses.entry(info.digest).or_default();
                *left = left.saturating_sub(1);
                let from = other.and_then(|other| Some((other, other.paths.get(&info.digest)?)));
                place(builder, entry, objects, *left == 0, from)
            }
            _ => builder.special(entry),
        };
        made.with_context(|| format!("cannot write `{}`", String::from_utf8_lossy(&entry.path)))?;
    }
    Ok(())
}

/// Makes one file of a content that is here.
fn place(
    builder: &mut Builder<'_>,
    entry: &Entry,
    objects: &Objects,
    last: bool,
    from: Option<(&Other, &Entry)>,
) -> std::io::Result<()> {
    let Some(info) = entry.file().copied() else { return Ok(()) };
    let staged = objects.path(&info.digest);
    if let Some((_, source)) = from
        && builder.keep(entry, source)?
    {
        return Ok(());
    }
    if from.is_none() && last && info.size > 0 {
        builder.written += info.size;
        return builder.adopt(entry, &staged);
    }
    builder.begin(entry)?;
    let mut hasher = Sha256::new();
    if info.size > 0 {
        let file = match from {
            Some((other, source)) => other.donor.contents().file(&source.path)?,
            None => File::open(&staged)?,
        };
        let file = FileAt::whole(file)?;
        let mut buffer = vec![0; 128 << 10];
        let mut at = 0;
        loop {
            let n = delta::ReadAt::read_at(&file, &mut buffer, at)?;
            let bytes = buffer.get(..n).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            builder.write(bytes)?;
            at += n as u64;
        }
    }
    if Digest(hasher.finalize().into()) != info.digest {
        return Err(std::io::Error::other("its content changed meanwhile"));
    }
    builder.end(entry)
}
