//! A revision that comes as a delta.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, bail};
use delta::{Digest, Limits, ReadAt};

use super::base::{Base, Examined};
use super::listing::receive_data;
use super::{Push, Taken};
use crate::push::link::Link;
use crate::push::protocol::{Commit, Offer, Partial, Receipt};
use crate::push::staging::{Builder, Donor, is_bundle};
use crate::push::store::parse_id;
use crate::push::{sweep, verify};
use crate::tree::FileAt;

/// Memory for the records of a delta: with the base's listing and the codecs, all
/// stays below 64 MiB.
const RECORDS: u64 = 16 << 20;

/// What is there of a delta that was broken off.
pub(super) fn partial(incoming: &Path) -> io::Result<Option<Partial>> {
    let file = match File::open(incoming.join("delta")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => FileAt::whole(other?)?,
    };
    if file.is_empty() {
        return Ok(None);
    }
    Ok(Some(Partial { bytes: file.len(), prefix: verify::hash(&file)?.to_string() }))
}

/// Receives the delta that `offer` announces, and builds its target; `likely` is the
/// base that was expected.
pub(super) fn take(
    push: &Push<'_>,
    link: &mut Link,
    incoming: &Path,
    offer: Offer,
    likely: Option<Base>,
) -> anyhow::Result<Taken> {
    let Offer::Delta { base, without, bytes, digest, offset, writes, entries } = offer else {
        bail!("no delta was offered");
    };
    let digest = parse_id(&digest).context("the delta has no digest")?;
    push.make_room(incoming, writes.saturating_add(bytes - offset.min(bytes)), entries)?;
    // The base is hashed while the delta is on its way.
    let base = match likely.filter(|likely| likely.id == base && without.is_empty()) {
        Some(likely) => likely,
        None => Base::begin(push, &base, &without)?,
    };
    let path = incoming.join("delta");
    let whole = receive(link, &path, bytes, offset)
        .with_context(|| format!("cannot keep `{}`", path.display()))?;
    let _: Commit = link.hear()?;
    let Examined { listing, known, donor, damaged } = base.finish()?;
    let found = verify::hash(&whole)?;
    if found != digest {
        sweep::delete(incoming)?;
        bail!("the delta came out as {found}, not as {digest}");
    }
    if !damaged.is_empty() {
        sweep::delete(incoming)?;
        std::fs::create_dir_all(incoming)?;
        let in_listing = |number: &u32| {
            let path = &known.entries().get(*number as usize)?.path;
            let found = listing.entries().iter().position(|entry| entry.path == *path)?;
            u32::try_from(found).ok()
        };
        let mut all: Vec<u32> = damaged.iter().filter_map(in_listing).chain(without).collect();
        all.sort_unstable();
        return Ok(Taken::Damaged(all, damaged.len() as u64));
    }
    build(push, link, incoming, (&whole, &known, &donor))
}

fn receive(link: &mut Link, path: &Path, bytes: u64, offset: u64) -> anyhow::Result<FileAt> {
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    if offset > file.metadata()?.len() || offset > bytes {
        bail!("less of it is here than the sender leaves out");
    }
    file.set_len(offset)?;
    file.seek(SeekFrom::Start(offset))?;
    let counters = std::sync::Arc::clone(&link.counters);
    receive_data(link, bytes - offset, |data| {
        file.write_all(data)?;
        counters.verified.fetch_add(data.len() as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    })?;
    Ok(FileAt::whole(file)?)
}

fn build(
    push: &Push<'_>,
    link: &Link,
    incoming: &Path,
    (delta, base, donor): (&FileAt, &delta::Manifest, &Donor),
) -> anyhow::Result<Taken> {
    let counters = std::sync::Arc::clone(&link.counters);
    let progress = move |bytes| {
        counters.verified.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    };
    let mut builder = Builder::new(incoming, Some(donor), &progress)?;
    let limits = Limits { records: RECORDS, ..Limits::default() };
    let target = delta::apply(delta, base, donor.contents(), &mut builder, limits);
    let target = target.context("cannot apply the delta")?;
    let digest: Digest = target.digest();
    if digest.to_string() != push.target || !is_bundle(&target) {
        bail!("the delta gives {digest}, not the bundle {}", push.target);
    }
    let unkept = builder.seal(&target)?;
    let (linked, written) = (builder.linked, builder.written);
    let target = digest.to_string();
    push.install(incoming, Receipt { target, linked, written, unkept, ..Receipt::default() })
}
