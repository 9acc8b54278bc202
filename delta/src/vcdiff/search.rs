//! Finds what can be copied: hash chains over the source and over the window
//! being coded, and the alignments that were right a moment ago.

use crate::Effort;

/// A copy that the encoder may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) from: From,
    pub(super) len: usize,
    /// Bytes that it saves, roughly, against adding the same bytes.
    pub(super) gain: i64,
}

/// Where a copy takes its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// At this offset of the source.
    Source(usize),
    /// At this offset of the target.
    Target(usize),
}

/// Bytes that a position of the source is found by.
const SOURCE_KEY: usize = 8;
/// Bytes that a position of the target is found by.
const TARGET_KEY: usize = 4;
/// A copy of so many bytes is taken without looking for a longer one.
const LONG_ENOUGH: usize = 1024;
/// One that goes on with a recent alignment is taken sooner.
const ALIGNED_ENOUGH: usize = 32;
/// No window reaches over more of the source, since stock `xdelta3` counts
/// source segment and target window together in 32 bits.
pub(super) const MAX_SEGMENT: usize = 1 << 30;
const NONE: u32 = u32::MAX;

/// Positions by hash: the newest of each bucket and the one before each.
struct Chains {
    newest: Vec<u32>,
    before: Vec<u32>,
    shift: u32,
}

impl Chains {
    fn new(positions: usize, max_bits: u32) -> Self {
        let bits = (usize::BITS - positions.leading_zeros()).clamp(8, max_bits);
        Chains { newest: vec![NONE; 1 << bits], before: vec![NONE; positions], shift: 64 - bits }
    }

    fn bucket(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    fn insert(&mut self, key: u64, position: usize) {
        let bucket = self.bucket(key);
        self.before[position] = self.newest[bucket];
        self.newest[bucket] = position as u32;
    }

    fn of(&self, key: u64) -> impl Iterator<Item = usize> {
        let mut next = self.newest[self.bucket(key)];
        std::iter::from_fn(move || {
            let position = next;
            if position == NONE {
                return None;
            }
            next = self.before[position as usize];
            Some(position as usize)
        })
    }
}

/// The source, indexed once for all windows.
pub(super) struct Source<'a> {
    bytes: &'a [u8],
    chains: Chains,
    /// Every so many bytes are in the chains.
    step: usize,
}

impl<'a> Source<'a> {
    /// Indexes `bytes`; takes about 8 bytes of memory for each of them, less
    /// above 256 MiB.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let step = (bytes.len() >> 28) + 1;
        let mut chains = Chains::new(bytes.len() / step + 1, 28);
        let keys = bytes.windows(SOURCE_KEY + 1).step_by(step);
        for (number, key) in keys.enumerate() {
            // Of a run only the end is worth finding.
            if key[..SOURCE_KEY] != key[1..] {
                chains.insert(read_key(&key[..SOURCE_KEY]), number);
            }
        }
        Source { bytes, chains, step }
    }
}

/// Looks for copies within one window of the target.
pub(super) struct Search<'a> {
    source: &'a Source<'a>,
    target: &'a [u8],
    start: usize,
    end: usize,
    chains: Chains,
    inserted: usize,
    depth: usize,
    /// Source offset minus target offset of the last copies, newest first.
    alignments: &'a mut [i64; 4],
    /// What of the source this window uses so far.
    pub(super) used: Option<(usize, usize)>,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        source: &'a Source<'a>,
        target: &'a [u8],
        (start, end): (usize, usize),
        effort: Effort,
        alignments: &'a mut [i64; 4],
    ) -> Self {
        let depth = 2 << effort.level();
        let chains = Chains::new(end - start, 18);
        Search {
            source,
            target,
            start,
            end,
            chains,
            inserted: start,
            depth,
            alignments,
            used: None,
        }
    }

    /// The best copy of what is at `position`, if any is worth it.
    pub(super) fn best(&mut self, position: usize) -> Option<Match> {
        let mut best = self.aligned(position);
        if best.is_some_and(|m| m.len >= ALIGNED_ENOUGH) {
            return best;
        }
        let rest = &self.target[position..self.end];
        if let Some(key) = rest.get(..SOURCE_KEY) {
            for number in self.source.chains.of(read_key(key)).take(self.depth) {
                let offset = number * self.source.step;
                let len = common_prefix(&self.source.bytes[offset..], rest);
                if len >= SOURCE_KEY && self.reaches(offset, len) {
                    let gain = len as i64 - self.source_cost(offset, position);
                    better(&mut best, Match { from: From::Source(offset), len, gain });
                    if len >= LONG_ENOUGH {
                        break;
                    }
                }
            }
        }
        self.insert_up_to(position);
        if let Some(key) = rest.get(..TARGET_KEY) {
            for number in self.chains.of(read_key(key)).take(self.depth) {
                let offset = self.start + number;
                let len = common_prefix(&self.target[offset..self.end], rest);
                let gain = len as i64 - 1 - varint_len(position - offset);
                better(&mut best, Match { from: From::Target(offset), len, gain });
                if len >= LONG_ENOUGH {
                    break;
                }
            }
        }
        best.filter(|m| m.len >= 4 && m.gain > 0)
    }

    /// Notes that the encoder took `copy` for what is at `position`.
    pub(super) fn took(&mut self, copy: &Match, position: usize) {
        if let From::Source(offset) = copy.from {
            let alignment = offset as i64 - position as i64;
            let at = self.alignments.iter().position(|&a| a == alignment);
            self.alignments[..=at.unwrap_or(3)].rotate_right(1);
            self.alignments[0] = alignment;
            let (low, high) = self.used.unwrap_or((offset, offset));
            self.used = Some((low.min(offset), high.max(offset + copy.len)));
        }
    }

    /// How many bytes right before `position`, at most `limit`, `copy` would give too.
    pub(super) fn reaches_back(&self, copy: &Match, position: usize, limit: usize) -> usize {
        let (bytes, offset, floor) = match copy.from {
            From::Source(offset) => (self.source.bytes, offset, 0),
            From::Target(offset) => (self.target, offset, self.start),
        };
        let limit = limit.min(offset - floor);
        let pairs = bytes[offset - limit..offset].iter().rev();
        let pairs = pairs.zip(self.target[position - limit..position].iter().rev());
        pairs.take_while(|(a, b)| a == b).count()
    }

    fn aligned(&self, position: usize) -> Option<Match> {
        let rest = &self.target[position..self.end];
        let mut best = None;
        for &alignment in &*self.alignments {
            let offset = usize::try_from(position as i64 + alignment).ok();
            let Some(there) = offset.and_then(|o| self.source.bytes.get(o..)) else { continue };
            let len = common_prefix(there, rest);
            let offset = self.source.bytes.len() - there.len();
            if len >= 4 && self.reaches(offset, len) {
                let gain = len as i64 - 2;
                better(&mut best, Match { from: From::Source(offset), len, gain });
            }
        }
        best
    }

    fn source_cost(&self, offset: usize, position: usize) -> i64 {
        let alignment = offset as i64 - position as i64;
        if self.alignments.contains(&alignment) { 2 } else { 5 }
    }

    fn reaches(&self, offset: usize, len: usize) -> bool {
        let (low, high) = self.used.unwrap_or((offset, offset));
        high.max(offset + len) - low.min(offset) <= MAX_SEGMENT
    }

    fn insert_up_to(&mut self, position: usize) {
        while self.inserted < position {
            if let Some(key) =
                self.target[..self.end].get(self.inserted..self.inserted + TARGET_KEY)
            {
                self.chains.insert(read_key(key), self.inserted - self.start);
            }
            self.inserted += 1;
        }
    }
}

fn better(best: &mut Option<Match>, found: Match) {
    if best.is_none_or(|b| found.gain > b.gain) {
        *best = Some(found);
    }
}

fn varint_len(value: usize) -> i64 {
    i64::from((usize::BITS - value.leading_zeros()).div_ceil(7).max(1))
}

/// Up to eight bytes as a number.
fn read_key(bytes: &[u8]) -> u64 {
    match bytes.try_into() {
        Ok(eight) => u64::from_le_bytes(eight),
        Err(_) => bytes.iter().fold(0, |key, &b| key << 8 | u64::from(b)),
    }
}

/// How many bytes two slices have in common at their start.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let len = a.len().min(b.len());
    let (a, b) = (&a[..len], &b[..len]);
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let mut same = 0;
    for (x, y) in words {
        let difference = read_key(x) ^ read_key(y);
        if difference != 0 {
            return same + (difference.trailing_zeros() / 8) as usize;
        }
        same += 8;
    }
    same + a[same..].iter().zip(&b[same..]).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_prefixes_end_at_the_first_difference() {
        let text = b"abcdefghijklmnopqrstuvwxyz";
        for at in 0..text.len() {
            let mut other = text.to_vec();
            other[at] ^= 1;
            assert_eq!(common_prefix(text, &other), at);
        }
        assert_eq!(common_prefix(text, &text[..11]), 11);
    }

    #[test]
    fn a_copy_of_the_source_is_found_and_reaches_back() {
        let source = Source::new(b"0123456789 the quick brown fox");
        let target = b"xx the quick brown fox";
        let mut alignments = [0; 4];
        let search =
            &mut Search::new(&source, target, (0, target.len()), Effort::new(5), &mut alignments);
        let found = search.best(4).unwrap();
        assert_eq!((found.from, found.len), (From::Source(12), 18));
        assert_eq!(search.reaches_back(&found, 4, 4), 2);
    }
}
