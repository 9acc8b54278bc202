//! Tables with a fast hash. They hold what the traced program names, so a
//! program that seeks collisions slows down only its own trace.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A map by number.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<PathHasher>>;
/// A map by path.
pub(crate) type PathMap<V> = HashMap<Vec<u8>, V, BuildHasherDefault<PathHasher>>;
/// A set of paths.
pub(crate) type PathSet = HashSet<Vec<u8>, BuildHasherDefault<PathHasher>>;

/// A map by path for very many: the keys lie in one block, since an allocation
/// each would cost more than all else, and their hashes are kept, since to grow
/// would mean to fetch every key again.
#[derive(Debug)]
pub(crate) struct TextMap<V> {
    texts: Vec<u8>,
    entries: Vec<Text<V>>,
    /// Places among the entries.
    places: HashTable<usize>,
}

#[derive(Debug)]
struct Text<V> {
    hash: u64,
    start: usize,
    end: usize,
    value: V,
}

impl<V> Default for TextMap<V> {
    fn default() -> Self {
        TextMap { texts: Vec::new(), entries: Vec::new(), places: HashTable::new() }
    }
}

impl<V> TextMap<V> {
    fn place(&self, text: &[u8]) -> Option<usize> {
        let same = |&place: &usize| self.text(&self.entries[place]) == text;
        self.places.find(hash(text), same).copied()
    }

    fn text(&self, entry: &Text<V>) -> &[u8] {
        &self.texts[entry.start..entry.end]
    }

    pub(crate) fn contains(&self, text: &[u8]) -> bool {
        self.place(text).is_some()
    }

    pub(crate) fn get_mut(&mut self, text: &[u8]) -> Option<&mut V> {
        let place = self.place(text)?;
        self.entries.get_mut(place).map(|entry| &mut entry.value)
    }

    /// The value of `text`, which is `new` where there was none before.
    pub(crate) fn get_or_insert(&mut self, text: &[u8], new: impl FnOnce() -> V) -> &mut V {
        let (texts, entries, hash) = (&mut self.texts, &mut self.entries, hash(text));
        let same = |&place: &usize| texts[entries[place].start..entries[place].end] == *text;
        let place = match self.places.entry(hash, same, |&place| entries[place].hash) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(vacant) => {
                let start = texts.len();
                texts.extend_from_slice(text);
                vacant.insert(entries.len());
                entries.push(Text { hash, start, end: texts.len(), value: new() });
                entries.len() - 1
            }
        };
        &mut entries[place].value
    }

    /// Every path with its value, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.entries.iter().map(|entry| (self.text(entry), &entry.value))
    }

    /// Every path with its value, sorted by path.
    pub(crate) fn into_sorted(self) -> impl Iterator<Item = (Vec<u8>, V)> {
        let TextMap { texts, mut entries, .. } = self;
        entries.sort_unstable_by(|a, b| texts[a.start..a.end].cmp(&texts[b.start..b.end]));
        entries.into_iter().map(move |entry| (texts[entry.start..entry.end].to_vec(), entry.value))
    }

    pub(crate) fn clear(&mut self) {
        self.texts.clear();
        self.entries.clear();
        self.places.clear();
    }
}

fn hash(text: &[u8]) -> u64 {
    let mut hasher = PathHasher::default();
    hasher.write(text);
    hasher.finish()
}

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

    fn write_i32(&mut self, number: i32) {
        self.mix(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
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
    fn a_path_has_one_value_and_all_come_sorted() {
        let mut map = TextMap::default();
        for i in (0..1000).rev() {
            *map.get_or_insert(format!("/d/{i:03}").as_bytes(), || 0) += 1;
        }
        *map.get_or_insert(b"/d/007", || 0) += 1;
        assert_eq!(map.get_mut(b"/d/007"), Some(&mut 2));
        assert!(map.contains(b"/d/999") && !map.contains(b"/d/") && !map.contains(b""));
        let all: Vec<(Vec<u8>, i32)> = map.into_sorted().collect();
        assert!(all.len() == 1000 && all.is_sorted());
        assert_eq!(all[7], (b"/d/007".to_vec(), 2));
        map = TextMap::default();
        map.get_or_insert(b"/", || 1);
        map.clear();
        assert_eq!(*map.get_or_insert(b"/", || 3), 3);
    }

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
