//! The maps of sparse files: where in the file the bytes in the tar belong.

use std::io::Read;

use super::{MAX_SPECIAL, TarError, TarReader, number, pax};
use crate::tar_header::{BLOCK, padding};

/// Where bytes belong: offset in the file and length.
type Map = Vec<(u64, u64)>;

/// Longest map: more parts than 1 MiB of GNU's headers hold.
const MAX_PARTS: usize = MAX_SPECIAL as usize / 24;

/// Whether the parts of `map` lie one behind the other in a file of `real` bytes
/// and hold `stored` bytes in all.
pub(super) fn is_sound(map: &[(u64, u64)], real: u64, stored: u64) -> bool {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for (offset, length) in map {
        let Some(next) = offset.checked_add(*length).filter(|_| *offset >= end) else {
            return false;
        };
        (end, sum) = (next, sum.saturating_add(*length));
    }
    end <= real && sum == stored && i64::try_from(real).is_ok()
}

impl<R: Read> TarReader<R> {
    /// The map in GNU's header and in the blocks that go on with it; nothing
    /// where a number in it is none.
    pub(super) fn gnu_map(&mut self, gnu: &tar::GnuHeader) -> Result<Option<Map>, TarError> {
        let mut map = Map::new();
        if !add(&mut map, &gnu.sparse) {
            return Ok(None);
        }
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            block.as_mut_bytes().copy_from_slice(&self.exactly(BLOCK)?);
            if !add(&mut map, &block.sparse) || map.len() > MAX_PARTS {
                return Ok(None);
            }
            more = block.is_extended();
        }
        Ok(Some(map))
    }

    /// The map that begins the content of `size` bytes (version 1.0 of the pax
    /// form) and how many bytes it takes: numbers in lines, padded to a block.
    pub(super) fn map_in_content(&mut self, size: u64) -> Result<Option<(Map, u64)>, TarError> {
        let mut text = Vec::new();
        let mut numbers = Vec::new();
        let mut wanted = 1;
        while numbers.len() < wanted {
            if text.len() as u64 + BLOCK as u64 > size.min(MAX_SPECIAL) {
                return Ok(None);
            }
            let seen = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
            text.extend(self.exactly(BLOCK)?);
            self.left = self.left.saturating_sub(BLOCK as u64);
            let mut fresh = text.get(seen..).unwrap_or_default();
            while numbers.len() < wanted
                && let Some(end) = fresh.iter().position(|&b| b == b'\n')
            {
                let (line, rest) = fresh.split_at(end);
                let Some(value) = pax::decimal(line) else { return Ok(None) };
                if numbers.is_empty() {
                    if value > MAX_PARTS as u64 {
                        return Ok(None);
                    }
                    wanted = 1 + 2 * value as usize;
                }
                numbers.push(value);
                fresh = rest.get(1..).unwrap_or_default();
            }
        }
        debug_assert_eq!(padding(text.len() as u64), 0);
        let (pairs, _) = numbers.get(1..).unwrap_or_default().as_chunks::<2>();
        let map = pairs.iter().map(|[offset, length]| (*offset, *length)).collect();
        Ok(Some((map, text.len() as u64)))
    }
}

/// Adds the parts of a header up to its first empty one.
fn add(map: &mut Map, parts: &[tar::GnuSparseHeader]) -> bool {
    let value = |field: &[u8]| number(field).and_then(|value| u64::try_from(value).ok());
    for part in parts.iter().take_while(|part| !part.is_empty()) {
        match (value(&part.offset), value(&part.numbytes)) {
            (Some(offset), Some(length)) => map.push((offset, length)),
            _ => return false,
        }
    }
    true
}
