//! Finding what of the new bytes is in the old ones.
//!
//! As bsdiff does it: a suffix array of the old bytes gives the longest match at
//! any position of the new ones, a stretch goes on through single differences as
//! long as half of its bytes agree, and a new stretch is begun only where it
//! agrees in clearly more bytes than the present one would. Two changes to that:
//! alignments near the recent ones are tried by themselves and need to gain less,
//! since a small seek costs little; and of equally long matches the nearest one
//! is taken, since that keeps the map of addresses regular.

mod index;

use crate::Effort;
use index::{Index, common, word};

/// A stretch of new bytes that is copied, with small differences, from the old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) old: u32,
    pub(crate) new: u32,
    pub(crate) len: u32,
}

impl Block {
    pub(crate) fn old_end(self) -> u32 {
        self.old + self.len
    }

    pub(crate) fn new_end(self) -> u32 {
        self.new + self.len
    }
}

/// The most bytes of a file that are matched; what is behind travels literally.
const LONGEST: usize = i32::MAX as usize;
/// By how many bytes a match anywhere must be better than going on, and one more for
/// every two bits of its distance from where going on would be.
const FAR_GAIN: usize = 8;
/// By how many bytes a match within [`NEAR`] of a recent alignment must be better.
const NEAR_GAIN: usize = 6;
const NEAR: i64 = 256;
/// How many bytes of a block must agree at least, and one more for every four bits of
/// its seek.
const LEAST: usize = 8;
/// How many alignments are kept as recent.
const RECENT: usize = 8;
/// Where nothing is found at so many places in a row, as in data that is compressed
/// already, places are left out: one more between two for each time. What a match
/// has before the place where it was found is found backwards.
const PATIENCE: usize = 1 << 14;
/// So many places at most are left out.
const LONGEST_STEP: usize = 15;
/// How far a match is followed when it is weighed.
const WEIGHED: usize = 1 << 16;

/// The stretches of `new` that are like some of `old`, in order of `new`, none
/// overlapping another there.
pub(crate) fn blocks(old: &[u8], new: &[u8], effort: Effort) -> Vec<Block> {
    let (old, new) = (&old[..old.len().min(LONGEST)], &new[..new.len().min(LONGEST)]);
    if old.is_empty() || new.is_empty() {
        return Vec::new();
    }
    let index = Index::new(old);
    let near = if effort.level() < 4 { NEAR / 8 } else { NEAR };
    let mut found = Matcher { old, new, index, recent: [0; RECENT], near }.run();
    drop_unworthy(old, new, &mut found);
    found
}

struct Matcher<'a> {
    old: &'a [u8],
    new: &'a [u8],
    index: Index<'a>,
    /// old − new of the last stretches, most recent first.
    recent: [i64; RECENT],
    /// How far near a recent alignment to look.
    near: i64,
}

impl Matcher<'_> {
    fn run(mut self) -> Vec<Block> {
        let mut found = Vec::new();
        // The stretch being built: new bytes from `start` on, at alignment `shift`.
        let (mut start, mut shift) = (0usize, 0i64);
        let (mut scan, mut misses) = (0usize, 0usize);
        while scan < self.new.len() {
            let agree = self.agreeing(scan, shift);
            if agree >= 32 {
                misses = 0;
                scan += agree;
                continue;
            }
            let Some(next) = self.better(scan, shift) else {
                misses += 1;
                scan += 1 + (misses / PATIENCE).min(LONGEST_STEP);
                continue;
            };
            misses = 0;
            // Leave as much to the old stretch as it is good for, take as much to
            // the left as the new one is good for, and cut where they meet best.
            let mut forward = self.forward(start, scan, shift);
            let mut backward = self.backward(start, scan, next);
            if start + forward > scan - backward {
                let from = scan - backward;
                let cut = self.cut(from, start + forward, shift, next);
                forward = from + cut - start;
                backward = scan - (from + cut);
            }
            push(&mut found, start, shift, forward);
            start = scan - backward;
            shift = next;
            self.remember(shift);
            scan += self.agreeing(scan, shift).max(1);
        }
        let forward = self.forward(start, self.new.len(), shift);
        push(&mut found, start, shift, forward);
        found
    }

    fn remember(&mut self, shift: i64) {
        let at = self.recent.iter().position(|r| *r == shift).unwrap_or(RECENT - 1);
        self.recent[..=at].rotate_right(1);
        self.recent[0] = shift;
    }

    fn old_at(&self, new: usize, shift: i64) -> Option<usize> {
        usize::try_from(new as i64 + shift).ok().filter(|o| *o < self.old.len())
    }

    /// How many bytes agree exactly from `new` on at alignment `shift`.
    fn agreeing(&self, new: usize, shift: i64) -> usize {
        self.old_at(new, shift).map_or(0, |o| common(&self.old[o..], &self.new[new..]))
    }

    /// How many of `len` bytes from `new` on agree at alignment `shift`.
    fn score(&self, new: usize, len: usize, shift: i64) -> usize {
        let from = new as i64 + shift;
        let skip = usize::try_from(-from).unwrap_or(0).min(len);
        let Some(old) = self.old_at(new + skip, shift) else { return 0 };
        let (a, b) = (&self.old[old..], &self.new[new + skip..new + len]);
        a.iter().zip(b).filter(|(a, b)| a == b).count()
    }

    /// The alignment that is worth a new stretch at `scan`, if one is.
    fn better(&self, scan: usize, shift: i64) -> Option<i64> {
        let near = self.near(scan, shift);
        let mut best: Option<(usize, i64)> = near;
        if word(self.new, scan).is_none_or(|word| !self.index.may_have(word)) {
            return best.map(|(_, shift)| shift);
        }
        let (at, len) = self.index.longest(&self.new[scan..], scan as i64 + shift);
        let far_len = len.min(WEIGHED);
        let far = at as i64 - scan as i64;
        let distance = u64::BITS - (far - shift).unsigned_abs().leading_zeros();
        let least = FAR_GAIN + distance as usize / 2;
        if far_len >= least && far != shift {
            let gain = far_len.saturating_sub(self.score(scan, far_len, shift));
            let near_gain = near.map_or(0, |(gain, _)| gain + least - NEAR_GAIN);
            if gain >= least && gain > near_gain {
                best = Some((gain, far));
            }
        }
        best.map(|(_, shift)| shift)
    }

    /// The best alignment near a recent one, and what it gains.
    fn near(&self, scan: usize, shift: i64) -> Option<(usize, i64)> {
        let want = word(self.new, scan)?;
        let mask = u64::MAX >> (64 - 8 * NEAR_GAIN);
        let mut best: Option<(usize, i64)> = None;
        let mut weigh = |other: i64| {
            let Some(old) = self.old_at(scan, other) else { return };
            if other == shift || word(self.old, old).is_none_or(|w| (w ^ want) & mask != 0) {
                return;
            }
            let len = self.agreeing(scan, other).min(WEIGHED);
            let gain = len.saturating_sub(self.score(scan, len, shift));
            if gain >= NEAR_GAIN && best.is_none_or(|(g, _)| gain > g) {
                best = Some((gain, other));
            }
        };
        for recent in self.recent {
            weigh(recent);
        }
        for distance in self.alike(scan as i64 + shift, want) {
            weigh(shift + distance);
        }
        best
    }

    /// Distances of at most `self.near` from `center`, the nearest first, where four of the
    /// old bytes are as those of `want`. They are compared for all places at once, in a
    /// shape that compilers make vectors of: nowhere else is more time spent.
    fn alike(&self, center: i64, want: u64) -> Vec<i64> {
        const PLACES: usize = 2 * NEAR as usize + 1;
        let last = self.old.len() as i64 - size_of::<u64>() as i64;
        let (from, to) = ((center - self.near).max(0), (center + self.near).min(last));
        let Some(window) = self.old.get(from as usize..(to + 4).max(0) as usize) else {
            return Vec::new();
        };
        let mut alike = [0u8; PLACES.next_multiple_of(8)];
        let [a, b, c, d, ..] = want.to_le_bytes();
        let [w, x, y, z] = [0, 1, 2, 3].map(|skip| window.get(skip..).unwrap_or_default());
        let places = w.iter().zip(x).zip(y).zip(z);
        for (place, (((w, x), y), z)) in alike.iter_mut().zip(places) {
            *place = u8::from(*w == a) & u8::from(*x == b) & u8::from(*y == c) & u8::from(*z == d);
        }
        let mut found = Vec::new();
        for (number, eight) in alike.as_chunks::<8>().0.iter().enumerate() {
            if u64::from_ne_bytes(*eight) != 0 {
                let places = (0..8).filter(|place| eight[*place] != 0);
                found.extend(places.map(|place| from + (8 * number + place) as i64 - center));
            }
        }
        found.retain(|distance| *distance != 0);
        found.sort_unstable_by_key(|distance| (distance.abs(), *distance < 0));
        found
    }

    /// How far the stretch from `start` is good, before `end`: where agreeing bytes
    /// are furthest ahead of differing ones.
    fn forward(&self, start: usize, end: usize, shift: i64) -> usize {
        let (mut score, mut best, mut best_len) = (0i64, 0i64, 0usize);
        let Some(old) = self.old_at(start, shift) else { return 0 };
        let pairs = self.old[old..].iter().zip(&self.new[start..end]);
        for (i, (a, b)) in pairs.enumerate() {
            score += if a == b { 1 } else { -1 };
            if score > best {
                (best, best_len) = (score, i + 1);
            }
        }
        best_len
    }

    /// How far to the left of `scan`, not before `start`, alignment `shift` is good.
    fn backward(&self, start: usize, scan: usize, shift: i64) -> usize {
        let Some(old) = self.old_at(scan, shift) else { return 0 };
        let (mut score, mut best, mut best_len) = (0i64, 0i64, 0usize);
        let pairs = self.old[..old].iter().rev().zip(self.new[start..scan].iter().rev());
        for (i, (a, b)) in pairs.enumerate() {
            score += if a == b { 1 } else { -1 };
            if score > best {
                (best, best_len) = (score, i + 1);
            }
            if score < best - 64 {
                break;
            }
        }
        best_len
    }

    /// Where between `from` and `to` to go over from alignment `left` to `right`.
    fn cut(&self, from: usize, to: usize, left: i64, right: i64) -> usize {
        let (mut score, mut best, mut at) = (0i64, 0i64, 0usize);
        for new in from..to {
            let agrees =
                |shift| self.old_at(new, shift).is_some_and(|o| self.old[o] == self.new[new]);
            score += i64::from(agrees(left)) - i64::from(agrees(right));
            if score > best {
                (best, at) = (score, new - from + 1);
            }
        }
        at
    }
}

/// Drops the blocks that their neighbours left with fewer equal bytes than it takes
/// to name them.
fn drop_unworthy(old: &[u8], new: &[u8], found: &mut Vec<Block>) {
    let mut old_end = 0;
    found.retain(|block| {
        let range = |at: u32| at as usize..at as usize + block.len as usize;
        let seek = u64::BITS - (i64::from(block.old) - old_end).unsigned_abs().leading_zeros();
        let least = LEAST + seek as usize / 4;
        let both = old[range(block.old)].iter().zip(&new[range(block.new)]);
        let keep = both.filter(|(a, b)| a == b).take(least).count() == least;
        if keep {
            old_end = i64::from(block.old_end());
        }
        keep
    });
}

fn push(found: &mut Vec<Block>, start: usize, shift: i64, len: usize) {
    let old = u32::try_from(start as i64 + shift);
    if let (Ok(old), Ok(new), Ok(len @ 1..)) = (old, u32::try_from(start), u32::try_from(len)) {
        found.push(Block { old, new, len });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that do not repeat.
    pub(super) fn noise(seed: u32, len: usize) -> Vec<u8> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()[3]
        };
        (0..len).map(next).collect()
    }

    fn check(old: &[u8], new: &[u8], expected: &[(u32, u32, u32)]) {
        let expected: Vec<_> =
            expected.iter().map(|&(old, new, len)| Block { old, new, len }).collect();
        assert_eq!(blocks(old, new, Effort::default()), expected);
    }

    #[test]
    fn equal_bytes_are_one_block() {
        let bytes = noise(1, 500);
        check(&bytes, &bytes, &[(0, 0, 500)]);
    }

    #[test]
    fn a_match_behind_long_noise_is_found_from_its_start() {
        let old = noise(1, 500);
        let new = [noise(2, 10 * PATIENCE), old[100..400].to_vec()].concat();
        check(&old, &new, &[(100, 10 * PATIENCE as u32, 300)]);
    }

    #[test]
    fn a_single_difference_does_not_end_a_block() {
        let old = noise(1, 500);
        let mut new = old.clone();
        new[250] ^= 1;
        check(&old, &new, &[(0, 0, 500)]);
    }

    #[test]
    fn an_insertion_begins_another_block() {
        let old = noise(1, 500);
        let new = [&old[..200], &[7; 40], &old[200..]].concat();
        check(&old, &new, &[(0, 0, 200), (200, 240, 300)]);
    }

    #[test]
    fn exchanged_halves_are_two_blocks() {
        let (a, b) = (noise(1, 300), noise(2, 300));
        check(&[&a[..], &b].concat(), &[&b[..], &a].concat(), &[(300, 0, 300), (0, 300, 300)]);
    }

    #[test]
    fn nothing_in_common_is_no_block() {
        check(&noise(1, 300), &[0; 100], &[]);
        check(&[], b"new", &[]);
        check(b"old", &[], &[]);
    }
}
