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
        if !matched || (effort.level() >= 8 && found.iter().all(|c| c.codec != Codec::Elf)) {
            let mut streams = Streams::new();
            let patch = vcdiff::encode(old, new, effort, b"");
            streams.put_u64(Stream::Literal, patch.len() as u64);
            streams.put(Stream::Literal, &patch);
            found.extend(Choice::new(Codec::Vcdiff, streams));
        }
    }
    let best = found.iter().map(|choice| choice.cost).min();
    if best.is_none_or(|cost| cost.saturating_mul(CLEARLY_SMALLER) > new.len() as u64) {
        found.push(full(new));
    }
    found
}

/// The file as it is.
pub(crate) fn full(new: &[u8]) -> Choice {
    let mut streams = Streams::new();
    streams.put(Stream::Literal, new);
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
