//! What else a node is asked: lists, checks, sweeps, rollbacks, a bundle back.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use delta::Files;
use serde_json::json;

use crate::push::frame::Type;
use crate::push::link::Link;
use crate::push::pieces::{self, Cutter};
use crate::push::protocol::Reply;
use crate::push::store::{Contents, Store};
use crate::push::{contents, sweep, verify};

/// A node's own tasks do not wait long for a push.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of JSON for the differences of one revision, so that they fit into a frame.
const MAX_LISTED: usize = 200 << 10;
/// Bytes of a `Data` frame.
const CHUNK: usize = 64 << 10;
/// What zstd level contents go back with: bundles are pulled rarely, and nodes are slow.
const LEVEL: i32 = 6;

pub(super) fn ls(link: &mut Link, store: &Store) -> anyhow::Result<()> {
    for name in store.names()? {
        let (current, previous) = (store.current(&name), store.previous(&name));
        for id in store.ids(&name)? {
            let manifest = store.listing(&name, &id).ok();
            let at = std::fs::metadata(store.revision(&name, &id).join("manifest"));
            let at = at.and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let value = json!({
                "name": name,
                "revision": id,
                "current": current.as_ref() == Some(&id),
                "previous": previous.as_ref() == Some(&id) && current != previous,
                "size": manifest.as_ref().map(delta::Manifest::size),
                "files": manifest.as_ref().map(|m| m.entries().len()),
                "pushed": at,
            });
            link.say(&Reply::Answer { value, more: true })?;
        }
    }
    end(link)
}

pub(super) fn verify(link: &mut Link, store: &Store, only: Option<&str>) -> anyhow::Result<()> {
    let mut names = store.names()?;
    if let Some(only) = only {
        names.retain(|name| name == only);
        anyhow::ensure!(!names.is_empty(), "there is no bundle `{only}` on this node");
    }
    for name in names {
        for id in store.ids(&name)? {
            let found = verify::revision(store, &name, &id);
            let (differences, why) = match &found {
                Ok(differences) => (differences.as_slice(), None),
                Err(error) => (&[][..], Some(format!("{error:#}"))),
            };
            let mut room = MAX_LISTED;
            let fits = |d: &&verify::Difference| {
                // Six bytes for one are the most that JSON makes of it.
                let needed = 6 * d.path.len() + 40;
                let fits = needed <= room;
                room = room.saturating_sub(needed);
                fits
            };
            let listed: Vec<_> = differences
                .iter()
                .take_while(fits)
                .map(|d| json!({ "path": String::from_utf8_lossy(&d.path), "what": d.what.name() }))
                .collect();
            let whole = differences.is_empty() && why.is_none();
            let value = json!({
                "name": name,
                "revision": id,
                "whole": whole,
                "omitted": differences.len() - listed.len(),
                "differences": listed,
                "error": why,
            });
            link.say(&Reply::Answer { value, more: true })?;
        }
    }
    end(link)
}

pub(super) fn gc(link: &mut Link, store: &Store) -> anyhow::Result<()> {
    store.make()?;
    for name in store.names()? {
        let _lock = store.lock(&name, PATIENCE)?;
        for id in sweep::revisions(store, &name, 0)? {
            let value = json!({ "removed": format!("{name}/{id}") });
            link.say(&Reply::Answer { value, more: true })?;
        }
    }
    let broken = sweep::incoming(store, None, Duration::ZERO)?;
    let receivers = sweep::receivers(store)?;
    let value = json!({ "incoming": broken, "receivers": receivers });
    link.say(&Reply::Answer { value, more: true })?;
    end(link)
}

pub(super) fn roll_back(link: &mut Link, store: &Store, name: &str) -> anyhow::Result<()> {
    anyhow::ensure!(!store.ids(name)?.is_empty(), "there is no bundle `{name}` on this node");
    let _lock = store.lock(name, PATIENCE)?;
    let (current, previous) = store.roll_back(name)?;
    let value = json!({ "name": name, "current": current, "previous": previous });
    link.say(&Reply::Answer { value, more: true })?;
    end(link)
}

fn end(link: &mut Link) -> anyhow::Result<()> {
    Ok(link.say(&Reply::Answer { value: serde_json::Value::Null, more: false })?)
}

pub(super) fn pull(link: &mut Link, store: &Store, name: &str) -> anyhow::Result<()> {
    let id =
        store.current(name).with_context(|| format!("there is no bundle `{name}` on this node"))?;
    let manifest = store.listing(name, &id)?;
    let files = Contents::open(&store.revision(name, &id))?;
    let listing = manifest.to_bytes();
    let packed = pieces::compress(&listing)?;
    let (bytes, len) = (packed.len() as u64, listing.len() as u64);
    link.say(&Reply::Listing { target: id, bytes, listing: len })?;
    for chunk in packed.chunks(CHUNK) {
        link.send(Type::Data, chunk)?;
    }
    let mut send = |frame: &[u8], _: u64| Ok(link.send(Type::Piece, frame)?);
    let mut cutter = Cutter::new(LEVEL, &mut send)?;
    for content in contents::of(&manifest) {
        let path = &manifest.entries().get(content.first).context("no such entry")?.path;
        let file = files.open(path);
        let file =
            file.with_context(|| format!("cannot read `{}`", String::from_utf8_lossy(path)))?;
        anyhow::ensure!(
            file.len() == content.size,
            "`{}` is damaged",
            String::from_utf8_lossy(path)
        );
        cutter.add(&*file, 0)?;
    }
    cutter.finish()
}
