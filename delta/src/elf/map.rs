//! Where the places of the old file are in the new one.

use std::collections::{BTreeMap, HashMap};

use crate::matcher::Block;

/// The map from old points to new ones: the copied stretches, and what was learned
/// from references that they predicted wrongly.
pub(super) struct Map {
    /// In order of the old file.
    blocks: Vec<Block>,
    /// Per page of the old file, the first block that begins in it or later.
    pages: Vec<u32>,
    old_len: u32,
    new_len: u32,
    learned: HashMap<u32, u32>,
    /// One bit per hash of a learned point, since most points are not learned.
    filter: Vec<u64>,
    /// What was learned of points that are in no block.
    between: BTreeMap<u32, u32>,
}

const PAGE: u32 = 1024;
/// How many blocks before a point are looked at for one that covers it.
const LOOKED_AT: usize = 12;
/// Behind so many learned points, none is learned any more: 10 MiB.
const MOST_LEARNED: usize = 1 << 18;
const FILTER_BITS: u32 = 20;

impl Map {
    pub(super) fn new(mut blocks: Vec<Block>, old_len: u32, new_len: u32) -> Self {
        blocks.sort_unstable_by_key(|b| (b.old, b.len, b.new));
        let mut pages = Vec::with_capacity((old_len / PAGE + 2) as usize);
        let mut first = 0;
        for page in 0..=old_len / PAGE + 1 {
            while blocks.get(first).is_some_and(|b| b.old / PAGE < page) {
                first += 1;
            }
            pages.push(u32::try_from(first).unwrap_or(u32::MAX));
        }
        Self {
            blocks,
            pages,
            old_len,
            new_len,
            learned: HashMap::new(),
            filter: vec![0; 1 << (FILTER_BITS - 6)],
            between: BTreeMap::new(),
        }
    }

    /// The numbers of the copied stretches, in order of the new file.
    pub(super) fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..).take(self.blocks.len()).collect();
        order.sort_unstable_by_key(|number| self.blocks[*number as usize].new);
        order
    }

    /// A copied stretch by its number.
    pub(super) fn block(&self, number: u32) -> Block {
        self.blocks[number as usize]
    }

    /// The new point of an old one, as far as known.
    pub(super) fn predict(&self, point: u32) -> u32 {
        if self.maybe_learned(point)
            && let Some(new) = self.learned.get(&point)
        {
            return *new;
        }
        self.place(point).unwrap_or_else(|before| self.beside(point, before))
    }

    /// The new point of an old one by the blocks alone.
    pub(super) fn plain(&self, point: u32) -> u32 {
        self.place(point).unwrap_or_else(|before| before.map_or(point, |b| moved(point, b)))
    }

    /// Remembers where a point is that was predicted wrongly.
    pub(super) fn learn(&mut self, point: u32, new: u32) {
        if self.learned.len() >= MOST_LEARNED {
            return;
        }
        self.learned.insert(point, new);
        let (word, bit) = filter_bit(point);
        self.filter[word] |= bit;
        if self.place(point).is_err() {
            self.between.insert(point, new);
        }
    }

    fn maybe_learned(&self, point: u32) -> bool {
        let (word, bit) = filter_bit(point);
        self.filter[word] & bit != 0
    }

    /// The new point by the longest block that covers it, else the block before it.
    fn place(&self, point: u32) -> Result<u32, Option<Block>> {
        let page = (point / PAGE) as usize;
        let last = *self.pages.get(page + 1).or(self.pages.last()).unwrap_or(&0) as usize;
        let first = *self.pages.get(page).or(self.pages.last()).unwrap_or(&0) as usize;
        let within = self.blocks[first..last.max(first)].partition_point(|b| b.old <= point);
        let before = &self.blocks[..first + within];
        let near = &before[before.len().saturating_sub(LOOKED_AT)..];
        let covering = near.iter().filter(|b| point - b.old < b.len).max_by_key(|b| b.len);
        covering.map(|b| moved(point, *b)).ok_or_else(|| before.last().copied())
    }

    /// The new point of one that no block covers: as far from the learned one before
    /// it as in the old file, if that is nearer than the block before it.
    fn beside(&self, point: u32, before: Option<Block>) -> u32 {
        let learned = self.between.range(..=point).next_back();
        let memory = point >= self.old_len;
        let end = if memory { self.old_len } else { before.map_or(0, Block::old_end) };
        match (learned, before) {
            (Some((old, new)), _) if *old >= end => new.wrapping_add(point - old),
            _ if memory => self.new_len.wrapping_add(point - self.old_len),
            (_, Some(block)) => moved(point, block),
            _ => point,
        }
    }
}

fn moved(point: u32, block: Block) -> u32 {
    point.wrapping_sub(block.old).wrapping_add(block.new)
}

fn filter_bit(point: u32) -> (usize, u64) {
    let hash = point.wrapping_mul(0x9E37_79B1) >> (32 - FILTER_BITS);
    ((hash / 64) as usize, 1 << (hash % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVED: Block = Block { old: 100, new: 300, len: 50 };
    const KEPT: Block = Block { old: 0, new: 0, len: 60 };

    fn check(map: &Map, point: u32, expected: u32) {
        assert_eq!(map.predict(point), expected, "point {point}");
    }

    #[test]
    fn a_point_moves_with_its_block() {
        let map = Map::new(vec![MOVED, KEPT], 1000, 1200);
        check(&map, 0, 0);
        check(&map, 59, 59);
        check(&map, 100, 300);
        check(&map, 149, 349);
    }

    #[test]
    fn a_point_of_no_block_stays_beside_the_block_before_it() {
        let map = Map::new(vec![MOVED, KEPT], 1000, 1200);
        check(&map, 70, 70);
        check(&map, 160, 360);
    }

    #[test]
    fn memory_behind_the_file_moves_with_its_end() {
        check(&Map::new(vec![KEPT], 1000, 1200), 1010, 1210);
    }

    #[test]
    fn what_is_learned_holds_for_its_point_and_for_what_follows_in_no_block() {
        let mut map = Map::new(vec![KEPT], 1000, 1200);
        map.learn(10, 500);
        check(&map, 10, 500);
        check(&map, 11, 11);
        map.learn(1010, 1300);
        check(&map, 1018, 1308);
    }

    #[test]
    fn the_longest_of_several_blocks_counts() {
        let long = Block { old: 90, new: 700, len: 200 };
        check(&Map::new(vec![MOVED, long], 1000, 1200), 120, 730);
    }
}
