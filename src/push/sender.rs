//! The pusher's end: asks what a node has, chooses the way, sends.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use delta::{Files, Manifest};

use super::bundle::Bundle;
use super::contents;
use super::fanout::{Delta, Deltas};
use super::frame::Type;
use super::link::{Link, parse};
use super::outcome::{Outcome, Step};
use super::pieces::{self, Cutter};
use super::plan::{self, Mode, Way};
use super::protocol::{Commit, Have, Hello, Offer, Reply, Task, VERSION};
use crate::report::Advice;

/// Bytes of a `Data` frame.
const CHUNK: usize = 32 << 10;
/// A session that begins sooner than this, ten round trips included, goes over a fast
/// network, where compressing hard costs more time than it saves.
const NEAR: Duration = Duration::from_millis(400);

/// So many bytes tell how fast a line is: more than TCP has under way when it begins.
const TELLING: u64 = 1 << 20;

/// What is to be pushed, and how.
pub struct Push<'a> {
    /// The bundle.
    pub bundle: &'a Bundle,
    /// Its name on the node.
    pub name: &'a str,
    /// Deltas to it.
    pub deltas: &'a Deltas<'a>,
    /// Whether to use them.
    pub mode: Mode,
    /// Bytes a second that the line to the node takes, if that is known.
    pub rate: Option<f64>,
    /// How many revisions the node keeps.
    pub keep: u32,
    /// Whether only to say what would be sent.
    pub plan: bool,
    /// SHA-256 of the receiver that should answer, in hexadecimal.
    pub receiver: &'a str,
    /// Called when another stage begins, and as bytes are sent.
    pub progress: &'a dyn Fn(Stage),
}

/// What a push is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A delta is made, or the files that are to be sent are chosen.
    Preparing,
    /// So many bytes were sent, of so many.
    Sending(u64, u64),
    /// The node has all of it, checks it and puts it in place.
    Installing,
}

/// The node answered with another receiver than it should.
#[derive(Debug, thiserror::Error)]
#[error("the node has a damaged receiver, or one of another version")]
pub struct WrongReceiver;

impl Push<'_> {
    /// The first message of the session.
    pub fn hello(&self) -> Hello {
        let (name, target) = (self.name.to_owned(), self.bundle.id.clone());
        let task = Task::Push { name, target, keep: self.keep, plan: self.plan };
        Hello { version: VERSION, task }
    }

    /// Goes through a session that took `begun` to begin; the link's counters and the
    /// time go into the outcome elsewhere.
    ///
    /// # Errors
    /// When the node refuses, or the link breaks; the node is as before then.
    pub fn run(&self, link: &mut Link, begun: Duration) -> anyhow::Result<Outcome> {
        let Reply::Have(have) = answer(link)? else { bail!("the node did not say what it has") };
        if have.version != VERSION || have.receiver != self.receiver {
            return Err(WrongReceiver.into());
        }
        let target = self.bundle.id.clone();
        let mut outcome =
            Outcome { target, full: self.bundle.manifest.size(), ..Outcome::default() };
        let mut way = plan::choose(&have, &self.bundle.id, self.mode, |id| self.deltas.knows(id))
            .hint("push without --delta=always once, or from where the last push came")?;
        if self.plan {
            return self.planned(way, outcome);
        }
        (self.progress)(Stage::Preparing);
        let mut without = Vec::new();
        let mut mended = false;
        loop {
            let reply = match &way {
                Way::Present => {
                    (outcome.way, outcome.base) = ("present", None);
                    link.say(&Offer::Present)?;
                    (self.progress)(Stage::Installing);
                    answer(link)?
                }
                Way::Delta(base) => match self.delta(base, &without) {
                    Some(Ok(delta)) => {
                        (outcome.way, outcome.base) = ("delta", Some(base.clone()));
                        self.offer_delta(link, &have, base, &without, &delta, &mut outcome)?
                    }
                    Some(Err(error)) if self.mode == Mode::Always => return Err(error),
                    _ => {
                        way = Way::Files { ask: true };
                        continue;
                    }
                },
                Way::Files { ask } => {
                    (outcome.way, outcome.base) = ("files", None);
                    let level = if begun < NEAR { 3 } else { 9 };
                    let (at, before) = (Instant::now(), outcome.payload);
                    let reply = self.offer_files(link, *ask, level, &mut outcome)?;
                    let sent = outcome.payload - before;
                    let rate = sent as f64 / at.elapsed().as_secs_f64();
                    outcome.rate = (sent >= TELLING).then_some(rate);
                    reply
                }
            };
            match (reply, &way) {
                (Reply::Receipt(receipt), _) => {
                    if receipt.target != self.bundle.id {
                        bail!("the node has {}, not {}", receipt.target, self.bundle.id);
                    }
                    outcome.receipt = Some(receipt);
                    return Ok(outcome);
                }
                // Against what is whole of it; if that fails too, by files. Each way is
                // gone at most twice, whatever the node says.
                (Reply::Damaged { files, found, all }, Way::Present | Way::Delta(_)) => {
                    outcome.damaged = outcome.damaged.max(found);
                    way = match &way {
                        Way::Present if all => Way::Delta(self.bundle.id.clone()),
                        Way::Delta(base) if all && !mended => Way::Delta(base.clone()),
                        _ => Way::Files { ask: true },
                    };
                    (without, mended) = (files, true);
                }
                _ => bail!("the node answered something else than a receipt"),
            }
        }
    }

    /// A delta, unless files do as well, or sooner.
    fn delta(&self, base: &str, without: &[u32]) -> Option<anyhow::Result<std::sync::Arc<Delta>>> {
        let sooner = || plan::files_are_sooner(self.deltas.changed(base), self.rate);
        if self.mode == Mode::Auto && !self.deltas.is_begun(base) && sooner() {
            return None;
        }
        match self.deltas.get(base, without) {
            Ok(delta) if delta.full && self.mode != Mode::Always => None,
            other => Some(other.context("cannot make a delta")),
        }
    }

    fn planned(&self, way: Way, mut outcome: Outcome) -> anyhow::Result<Outcome> {
        outcome.way = "files";
        match way {
            Way::Present => outcome.way = "present",
            Way::Delta(base) => {
                if let Some(delta) = self.delta(&base, &[]).transpose()? {
                    outcome.way = "delta";
                    outcome.base = Some(base);
                    outcome.payload = delta.bytes.len() as u64;
                    outcome.files.clone_from(&delta.steps);
                    return Ok(outcome);
                }
            }
            Way::Files { .. } => {}
        }
        if outcome.way == "files" {
            for entry in self.bundle.manifest.entries() {
                let Some(info) = entry.file() else { continue };
                let path = String::from_utf8_lossy(&entry.path).into_owned();
                outcome.files.push(Step { path, how: "full", size: info.size, bytes: None });
            }
            outcome.payload = outcome.full;
        }
        Ok(outcome)
    }

    fn offer_delta(
        &self,
        link: &mut Link,
        have: &Have,
        base: &str,
        without: &[u32],
        delta: &Delta,
        outcome: &mut Outcome,
    ) -> anyhow::Result<Reply> {
        let bytes = delta.bytes.as_slice();
        let begun = have.partial.as_ref().filter(|_| outcome.payload == 0);
        let offset = begun.and_then(|partial| {
            let len = usize::try_from(partial.bytes).ok()?;
            let same = delta::Digest::of(bytes.get(..len)?).to_string() == partial.prefix;
            same.then_some(len)
        });
        let offset = offset.unwrap_or(0);
        link.say(&Offer::Delta {
            base: base.to_owned(),
            without: without.to_vec(),
            bytes: bytes.len() as u64,
            digest: delta::Digest::of(bytes).to_string(),
            offset: offset as u64,
            writes: delta.writes,
            entries: delta.entries,
        })?;
        let mut done = offset as u64;
        for chunk in bytes.get(offset..).unwrap_or_default().chunks(CHUNK) {
            if let Some(early) = link.pending() {
                return refused_or(parse(&early?.payload)?);
            }
            self.told(link, Type::Data, chunk)?;
            done += chunk.len() as u64;
            (self.progress)(Stage::Sending(done, bytes.len() as u64));
        }
        outcome.payload += (bytes.len() - offset) as u64;
        self.commit(link)
    }

    /// Sends a frame; where that fails because the node refused and left, says why.
    fn told(&self, link: &mut Link, kind: Type, payload: &[u8]) -> anyhow::Result<()> {
        let Err(error) = link.send(kind, payload) else { return Ok(()) };
        if let Some(frame) = link.last_message() {
            refused_or(parse(&frame.payload)?)?;
        }
        Err(error.into())
    }

    /// Ends an offer; returns what the node answers.
    fn commit(&self, link: &mut Link) -> anyhow::Result<Reply> {
        self.told(link, Type::Message, &serde_json::to_vec(&Commit::Commit)?)?;
        (self.progress)(Stage::Installing);
        answer(link)
    }

    fn offer_files(
        &self,
        link: &mut Link,
        ask: bool,
        level: i32,
        outcome: &mut Outcome,
    ) -> anyhow::Result<Reply> {
        let listing = self.bundle.manifest.to_bytes();
        let packed = pieces::compress(&listing)?;
        let (bytes, len) = (packed.len() as u64, listing.len() as u64);
        link.say(&Offer::Files { bytes, listing: len, ask })?;
        for chunk in packed.chunks(CHUNK) {
            self.told(link, Type::Data, chunk)?;
        }
        outcome.payload += bytes;
        let all = contents::of(&self.bundle.manifest);
        let mut wanted: Vec<(u32, u64)> = (0..).zip(&all).map(|(number, _)| (number, 0)).collect();
        if ask {
            (wanted, outcome.damaged) = needed(link, all.len(), outcome.damaged)?;
        }
        let content = |number: u32| all.get(number as usize);
        let total: u64 = wanted
            .iter()
            .filter_map(|(n, at)| content(*n).map(|c| c.size.saturating_sub(*at)))
            .sum();
        let mut done = 0;
        let mut payload = 0;
        let mut early = None;
        let mut send = |frame: &[u8], content: u64| {
            if let Some(frame) = link.pending() {
                early = Some(frame?.payload);
                bail!("stopped by the node");
            }
            self.told(link, Type::Piece, frame)?;
            payload += frame.len() as u64;
            done += content;
            (self.progress)(Stage::Sending(done, total));
            Ok(())
        };
        let sent = send_contents(self.bundle, &self.bundle.manifest, &wanted, &mut send, level);
        if let Some(early) = early {
            return refused_or(parse(&early)?);
        }
        sent?;
        outcome.payload += payload;
        self.commit(link)
    }
}

fn send_contents(
    files: &dyn Files,
    manifest: &Manifest,
    wanted: &[(u32, u64)],
    send: &mut dyn FnMut(&[u8], u64) -> anyhow::Result<()>,
    level: i32,
) -> anyhow::Result<()> {
    let all = contents::of(manifest);
    let mut cutter = Cutter::new(level, send)?;
    for (number, offset) in wanted {
        let content = all.get(*number as usize).context("the node asked for what is not there")?;
        let path = &manifest.entries().get(content.first).context("no such entry")?.path;
        let shown = String::from_utf8_lossy(path);
        let file = files.open(path).with_context(|| format!("cannot read `{shown}`"))?;
        if file.len() != content.size {
            bail!("`{shown}` changed while it was pushed");
        }
        cutter.add(&*file, *offset).with_context(|| format!("cannot send `{shown}`"))?;
    }
    cutter.finish()
}

/// Which contents the node wants, page by page.
fn needed(link: &mut Link, len: usize, damaged: u64) -> anyhow::Result<(Vec<(u32, u64)>, u64)> {
    let mut all = Vec::new();
    let mut found = 0;
    loop {
        let Reply::Need { runs, more, damaged } = answer(link)? else {
            bail!("the node did not say what it needs");
        };
        all.extend(runs);
        found = found.max(u64::from(damaged));
        if !more {
            break;
        }
        if all.len() > len {
            bail!("the node asked for more than there is");
        }
    }
    let wanted = contents::from_runs(&all, len).context("the node asked for what is not there")?;
    Ok((wanted, damaged.max(found)))
}

/// The node's next reply; a refusal is an error.
///
/// # Errors
/// A refusal, and when none comes.
pub fn answer(link: &mut Link) -> anyhow::Result<Reply> {
    refused_or(link.hear()?)
}

fn refused_or(reply: Reply) -> anyhow::Result<Reply> {
    match reply {
        Reply::Refused { why, hint } => {
            let error = Err(anyhow!("the node refused: {why}"));
            match hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
        other => Ok(other),
    }
}

/// Fills in what a link counted.
pub fn count(outcome: &mut Outcome, link: &Link, started: Instant) {
    outcome.sent = link.counters.sent.load(Ordering::Relaxed);
    outcome.received = link.counters.received.load(Ordering::Relaxed);
    outcome.time = started.elapsed();
}
