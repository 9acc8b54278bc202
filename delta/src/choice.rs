//! The ways in which one file can travel, and what each costs.

use crate::manifest::{Digest, Entry};
use crate::record::Codec;
use crate::tree::{Files, TreeError};
use crate::{Effort, Stream, Streams, elf, split, vcdiff};

/// One way.
pub(crate) struct Choice {
    pub(crate) codec: Codec,
    pub(crate) streams: Streams,
    /// The streams, compressed quickly and for themselves.
    pub(crate) block: Vec<u8>,
    /// Bytes of that block.
    pub(crate) cost: u64,
}

impl Choice {
    fn new(codec: Codec, streams: Streams) -> Option<Self> {
        let block = streams.finish(Effort::new(3)).ok()?;
        Some(Choice { codec, streams, cost: block.len() as u64, block })
    }
}

/// Suffix arrays count in 31 bits; what is larger goes as VCDIFF.
const LARGEST_FOR_SPLIT: usize = 1 << 30;
/// The whole file is not tried where a patch is that many times smaller than it.
const CLEARLY_SMALLER: u64 = 20;
/// To guess how a file compresses, one of so many parts is.
const TRIED: usize = 16;
/// Bytes of such a part.
const PART: usize = 64 << 10;

/// Every way worth trying.
pub(crate) fn candidates(old: Option<&[u8]>, new: &[u8], effort: Effort) -> Vec<Choice> {
    let mut found = Vec::new();
    if let Some(old) = old.filter(|old| !old.is_empty() && !new.is_empty()) {
        let matched = old.len().max(new.len()) <= LARGEST_FOR_SPLIT;
        if matched {
            let mut streams = Streams::new();
            if elf::encode(old, new, &mut streams, effort).is_some() {
                found.extend(Choice::new(Codec::Elf, streams));
            }
        }
        if matched && found.is_empty() {
            let mut streams = Streams::new();
            split::encode(old, new, &mut streams, effort);
            found.extend(Choice::new(Codec::Split, streams));
        }
        if !matched {
            let mut streams = Streams::new();
            let patch = vcdiff::encode(old, new, effort, b"");
            streams.put_u64(Stream::Literal, patch.len() as u64);
            streams.put(Stream::Literal, &patch);
            found.extend(Choice::new(Codec::Vcdiff, streams));
        }
    }
    let best = found.iter().map(|choice| choice.cost).min();
    if best.is_none_or(|cost| may_be_smaller(new, cost)) {
        found.push(full(new));
    }
    found
}

/// Whether `new` might compress to less than `cost` bytes: the parts of it that are
/// tried would, though a whole mostly compresses better than its parts.
fn may_be_smaller(new: &[u8], cost: u64) -> bool {
    if cost.saturating_mul(CLEARLY_SMALLER) <= new.len() as u64 {
        return false;
    }
    // No part is quicker to try than all of it.
    if new.len() <= PART {
        return true;
    }
    let parts: Vec<&[u8]> = new.chunks(PART).step_by(TRIED).collect();
    let mut streams = Streams::new();
    for part in &parts {
        streams.put(Stream::Extra, part);
    }
    let tried: usize = parts.iter().map(|part| part.len()).sum();
    streams.cost().saturating_mul(new.len() as u64) < cost.saturating_mul(2 * tried as u64)
}

/// The file as it is.
pub(crate) fn full(new: &[u8]) -> Choice {
    let mut streams = Streams::new();
    streams.put(Stream::Extra, new);
    let cost = streams.cost();
    Choice { codec: Codec::Full, streams, block: Vec::new(), cost }
}

/// Reads the whole content of a regular file, which has to be what its entry says.
pub(crate) fn read(files: &dyn Files, entry: &Entry) -> Result<Vec<u8>, TreeError> {
    let failed = |source| TreeError::Read { path: entry.path.clone(), source };
    let changed = || TreeError::Changed { path: entry.path.clone() };
    let info = entry.file().ok_or_else(changed)?;
    let file = files.open(&entry.path).map_err(failed)?;
    let size = usize::try_from(info.size).map_err(|_| changed())?;
    if file.len() != info.size {
        return Err(changed());
    }
    let mut content = vec![0; size];
    file.read_exact_at(&mut content, 0).map_err(failed)?;
    if Digest::of(&content) != info.digest {
        return Err(changed());
    }
    Ok(content)
}
