//! A fast hash for paths. Its tables hold what the traced program names, so a
//! program that seeks collisions slows down only its own trace.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map by path.
pub(crate) type PathMap<V> = HashMap<Vec<u8>, V, BuildHasherDefault<PathHasher>>;
/// A set of paths.
pub(crate) type PathSet = HashSet<Vec<u8>, BuildHasherDefault<PathHasher>>;

/// Multiplies and folds eight bytes at a time.
#[derive(Default)]
pub(crate) struct PathHasher(u64);

impl PathHasher {
    fn mix(&mut self, word: u64) {
        // An odd constant without pattern: 2^64 divided by the golden ratio.
        const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ word ^ 0x5bd1_e995_9d1b_58c3) * FACTOR;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for PathHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(word.try_into().map_or(0, u64::from_le_bytes));
        }
        let mut last = [0; 8];
        let rest = words.remainder();
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::Hash;

    #[test]
    fn like_paths_have_unlike_hashes() {
        let hash = |path: &[u8]| {
            let mut hasher = PathHasher::default();
            path.hash(&mut hasher);
            hasher.finish()
        };
        let hashes: HashSet<u64> =
            (0..10_000).map(|i| hash(format!("/usr/lib/python3/f{i}.py").as_bytes())).collect();
        assert_eq!(hashes.len(), 10_000);
        assert_ne!(hash(b"/a"), hash(b"/a\0"));
        // The table takes its place from the low bits.
        let low: HashSet<u64> = hashes.iter().map(|hash| hash & 0xffff).collect();
        assert!(low.len() > 9_000, "{}", low.len());
    }
}
