//! What is searched: the old bytes in order of their suffixes, and the set of their words.

use super::FAR_GAIN;

/// A suffix array, with the range of each beginning of two bytes.
pub(super) struct Index<'a> {
    text: &'a [u8],
    words: Words,
    suffixes: Vec<i32>,
    /// `ranges[b]..ranges[b + 1]` are the suffixes that begin with the big-endian
    /// word `b`.
    ranges: Vec<u32>,
}

impl<'a> Index<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let mut suffixes = vec![0; text.len()];
        divsufsort::sort_in_place(text, &mut suffixes);
        // The last suffix is one byte long and sorts before all that begin with
        // that byte; it is counted with the zero word of that byte.
        let mut ranges = vec![0u32; (1 << 16) + 1];
        for pair in text.windows(2) {
            ranges[(usize::from(pair[0]) << 8 | usize::from(pair[1])) + 1] += 1;
        }
        if let Some(last) = text.last() {
            ranges[(usize::from(*last) << 8) + 1] += 1;
        }
        for i in 1..ranges.len() {
            ranges[i] += ranges[i - 1];
        }
        Self { text, words: Words::of(text), suffixes, ranges }
    }

    /// Whether eight bytes are anywhere, which no match of [`FAR_GAIN`] can do without.
    /// Most places of changed code are asked no more than that: a search costs twenty
    /// times as much.
    pub(super) fn may_have(&self, word: u64) -> bool {
        self.words.may_have(word)
    }

    fn suffix(&self, rank: usize) -> &'a [u8] {
        &self.text[self.suffixes[rank].cast_unsigned() as usize..]
    }

    /// Where the longest match of a beginning of `wanted` is, and its length; of
    /// equally long ones that which is nearest to `expected`, as far as looked at.
    pub(super) fn longest(&self, wanted: &[u8], expected: i64) -> (usize, usize) {
        let [a, b, ..] = wanted else { return (0, 0) };
        let bucket = usize::from(*a) << 8 | usize::from(*b);
        let (first, end) = (self.ranges[bucket] as usize, self.ranges[bucket + 1] as usize);
        if first == end {
            return (0, 0);
        }
        // `low` is at or below `wanted`, `high` above, as far as in the bucket.
        let (mut low, mut high) = (first, end);
        let (mut low_common, mut high_common) = (0, 0);
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            let suffix = self.suffix(middle);
            let skip = low_common.min(high_common);
            let n = skip + common(&suffix[skip..], &wanted[skip..]);
            if n == wanted.len() || suffix.get(n).is_some_and(|s| *s > wanted[n]) {
                (high, high_common) = (middle, n);
            } else {
                (low, low_common) = (middle, n);
            }
        }
        let low_common = common(self.suffix(low), wanted);
        let high_common = if high < end { high_common } else { 0 };
        let (rank, len) =
            if high_common > low_common { (high, high_common) } else { (low, low_common) };
        (self.nearest(rank, len, wanted, expected), len)
    }

    fn nearest(&self, rank: usize, len: usize, wanted: &[u8], expected: i64) -> usize {
        const LOOKED_AT: usize = 48;
        let at = |rank: usize| i64::from(self.suffixes[rank]);
        let mut best = at(rank);
        if len <= FAR_GAIN {
            return best.unsigned_abs() as usize;
        }
        let same = |rank: usize| self.suffix(rank).get(..len) == wanted.get(..len);
        let mut weigh = |other: i64| {
            if (other - expected).abs() < (best - expected).abs() {
                best = other;
            }
        };
        for other in (rank.saturating_sub(LOOKED_AT)..rank).rev().take_while(|r| same(*r)) {
            weigh(at(other));
        }
        let end = self.suffixes.len().min(rank + LOOKED_AT);
        for other in (rank + 1..end).take_while(|r| same(*r)) {
            weigh(at(other));
        }
        best.unsigned_abs() as usize
    }
}

/// The set of all eight bytes of a text, as a Bloom filter with one hash.
struct Words {
    bits: Vec<u64>,
    shift: u32,
}

impl Words {
    fn of(text: &[u8]) -> Self {
        // Four bits a word leave about one in five of the others that seem to be there.
        let log = (4 * text.len()).next_power_of_two().ilog2().max(6);
        let mut words = Words { bits: vec![0; 1 << (log - 6)], shift: u64::BITS - log };
        for bytes in text.windows(8) {
            let (at, bit) = words.place(u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
            words.bits[at] |= bit;
        }
        words
    }

    fn may_have(&self, word: u64) -> bool {
        let (at, bit) = self.place(word);
        self.bits[at] & bit != 0
    }

    fn place(&self, word: u64) -> (usize, u64) {
        let hash = word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift;
        ((hash >> 6) as usize, 1 << (hash & 63))
    }
}

/// Eight bytes from `at` on.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// How many bytes `a` and `b` begin with in common.
pub(super) fn common(a: &[u8], b: &[u8]) -> usize {
    let mut n = 0;
    while let (Some(x), Some(y)) = (word(a, n), word(b, n)) {
        if x != y {
            return n + ((x ^ y).trailing_zeros() / 8) as usize;
        }
        n += 8;
    }
    let rest = a[n..].iter().zip(&b[n..]);
    n + rest.take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::*;

    #[test]
    fn all_words_of_a_text_are_known_and_few_others() {
        let text = noise(1, 5000);
        let words = Words::of(&text);
        let count = |bytes: &[u8]| {
            let known = (0..bytes.len() - 7).filter(|at| words.may_have(word(bytes, *at).unwrap()));
            known.count()
        };
        assert_eq!(count(&text), text.len() - 7);
        assert!(count(&noise(2, 5000)) < 1500);
    }
}
