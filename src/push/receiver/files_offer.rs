//! A revision that comes as a listing and the contents that the node lacks.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use delta::{Digest, Entry, Kind, Manifest, Sink};
use sha2::{Digest as _, Sha256};

use super::listing::receive_listing;
use super::{Push, Taken};
use crate::push::contents::{self, Content};
use crate::push::frame::Type;
use crate::push::link::{Link, LinkError};
use crate::push::pieces::Joiner;
use crate::push::protocol::{Commit, Receipt, Reply};
use crate::push::staging::{Builder, Donor, is_bundle};
use crate::push::store::Contents;
use crate::push::{space, sweep, verify};
use crate::report::Advice;
use crate::tree::FileAt;

/// Runs in a page of [`Reply::Need`], so that a page fits into a frame.
const PAGE: usize = 4096;

/// Contents by their digest, in a folder: whole under their digest, a piece of one
/// with `.part` behind it.
pub(crate) struct Objects {
    dir: PathBuf,
}

impl Objects {
    pub(crate) fn open(dir: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        Ok(Objects { dir })
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    fn part(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.part"))
    }

    /// Whether the whole content is here; it is hashed again, and removed where it
    /// is not what it should be.
    fn has(&self, content: &Content) -> bool {
        let path = self.path(&content.digest);
        let Ok(file) = File::open(&path).and_then(FileAt::whole) else { return false };
        let whole = verify::hash(&file).is_ok_and(|found| found == content.digest);
        if !whole {
            let _ = fs::remove_file(path);
        }
        whole
    }

    /// How many bytes of a content's beginning are here.
    fn begun(&self, content: &Content) -> u64 {
        fs::metadata(self.part(&content.digest)).map_or(0, |meta| meta.len().min(content.size))
    }
}

/// Receives what `push` needs, and builds its target.
pub(super) fn take(
    push: &Push<'_>,
    link: &mut Link,
    incoming: &Path,
    lengths: (u64, u64),
    ask: bool,
) -> anyhow::Result<Taken> {
    let manifest = receive_listing(link, lengths, &push.target)?;
    if !is_bundle(&manifest) {
        bail!("{} is not the listing of a bundle", push.target);
    }
    let wanted = contents::of(&manifest);
    let objects = Objects::open(incoming.join("objects"))?;
    let donor = if ask { donor(push)? } else { None };
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
        wanted.get(*number as usize).map_or(0, |content| content.size - offset)
    };
    let copies: u64 = if ask { manifest.size() / 50 } else { 0 };
    let bytes = needed.iter().map(bytes).fold(copies, u64::saturating_add);
    if let Some(lack) = space::check(incoming, bytes, manifest.entries().len() as u64)? {
        sweep::delete(incoming)?;
        return Err(lack).hint("make room on the node, or `vzpush gc` it");
    }
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

/// Another revision, and where in it which content is.
pub(crate) struct Other {
    donor: Donor,
    paths: HashMap<Digest, Entry>,
    damaged: u32,
}

/// The revision that most is kept from: the current one, else any.
fn donor(push: &Push<'_>) -> anyhow::Result<Option<Other>> {
    let current = push.store.link(&push.name, "current");
    let mut ids: Vec<String> = current.into_iter().collect();
    ids.extend(push.store.ids(&push.name)?);
    for id in ids {
        let Ok(manifest) = push.store.listing(&push.name, &id) else { continue };
        let contents = Contents::open(&push.store.revision(&push.name, &id))?;
        let (donor, damaged) = Donor::examine(contents, &manifest);
        let mut paths = HashMap::new();
        for (number, entry) in (0_u32..).zip(manifest.entries()) {
            if let Some(info) = entry.file()
                && damaged.binary_search(&number).is_err()
            {
                paths.entry(info.digest).or_insert_with(|| entry.clone());
            }
        }
        let damaged = u32::try_from(damaged.len()).unwrap_or(u32::MAX);
        return Ok(Some(Other { donor, paths, damaged }));
    }
    Ok(None)
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

/// Receives contents, each from its offset on, into `objects`. What was received of
/// them before is hashed too: a content is kept only whole and proved.
pub(crate) fn receive_contents(
    link: &mut Link,
    objects: &Objects,
    wanted: &[(Content, u64)],
) -> anyhow::Result<()> {
    let counters = Arc::clone(&link.counters);
    let mut joiner = Joiner::new()?;
    let mut pending: &[u8] = &[];
    let mut piece;
    for (content, offset) in wanted {
        let mut part = Part::begin(objects, content, *offset)?;
        while part.left > 0 {
            if pending.is_empty() {
                let frame = link.receive()?;
                if frame.kind != Type::Piece {
                    return Err(LinkError::Unexpected(frame.kind).into());
                }
                piece = joiner.open(&frame.payload)?.to_vec();
                pending = &piece;
            }
            let now = pending.len().min(usize::try_from(part.left).unwrap_or(usize::MAX));
            let (bytes, rest) = pending.split_at(now);
            part.write(bytes).with_context(|| format!("cannot keep content {}", content.digest))?;
            pending = rest;
            counters.verified.fetch_add(now as u64, Ordering::Relaxed);
        }
        part.end()?;
    }
    match pending {
        [] => Ok(()),
        _ => bail!("more content came than was asked for"),
    }
}

/// A content on its way to the disk.
struct Part<'a> {
    objects: &'a Objects,
    content: Content,
    file: File,
    hasher: Sha256,
    left: u64,
    unsynced: u64,
}

impl<'a> Part<'a> {
    fn begin(objects: &'a Objects, content: &Content, offset: u64) -> anyhow::Result<Self> {
        let path = objects.part(&content.digest);
        let cannot = || format!("cannot write `{}`", path.display());
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(cannot)?;
        file.set_len(offset).with_context(cannot)?;
        let mut hasher = Sha256::new();
        std::io::copy(&mut file, &mut Hashing(&mut hasher)).with_context(cannot)?;
        let left = content.size.checked_sub(offset).context("an offset is past its content")?;
        Ok(Part { objects, content: *content, file, hasher, left, unsynced: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.left -= bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= 8 << 20 {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn end(self) -> anyhow::Result<()> {
        let part = self.objects.part(&self.content.digest);
        let found = Digest(self.hasher.finalize().into());
        if found != self.content.digest {
            fs::remove_file(&part)?;
            bail!("a content came out as {found}, not as {}", self.content.digest);
        }
        let path = self.objects.path(&self.content.digest);
        fs::rename(part, &path).with_context(|| format!("cannot write `{}`", path.display()))
    }
}

struct Hashing<'a>(&'a mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
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
