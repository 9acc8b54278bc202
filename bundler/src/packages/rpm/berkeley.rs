//! A hash table of Berkeley DB (`Packages` of rpm before 4.16), as `src/dbinc/db_page.h` of
//! libdb has it: pages of pairs, where a large value is a chain of pages of its own. The
//! buckets do not matter here, since every pair is wanted.

use super::{DatabaseError, Input, MAX_BLOB};
use crate::elf::ReadAt;

/// The magic of a hash table, and where it is.
const MAGIC: u32 = 0x0006_1561;
const MAGIC_AT: usize = 12;
/// Bytes that are read of the first page, and of a page before its index.
pub(super) const META: usize = 72;
const HEAD: usize = 26;
// Types of pages and items.
const HASH: [u8; 2] = [2, 13];
const OVERFLOW: u8 = 7;
const KEY_DATA: u8 = 1;
const OFF_PAGE: u8 = 3;

struct Database<'a, R: ?Sized> {
    file: Input<'a, R>,
    page_size: usize,
    big: bool,
}

/// Whether a file that begins so is a hash table: in which order of bytes it was written.
pub(super) fn order(head: &[u8]) -> Option<bool> {
    [false, true].into_iter().find(|&big| word(head, MAGIC_AT, big) == MAGIC)
}

/// Gives each value to `each`, but for rpm's own number of the last package.
pub(super) fn read<R: ReadAt + ?Sized>(
    file: Input<'_, R>,
    big: bool,
    each: &mut dyn FnMut(&[u8]) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    let meta = file.bytes(0, META, "head")?;
    let page_size = usize::try_from(word(&meta, 20, big)).unwrap_or_default();
    if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
        return Err(DatabaseError::Damaged("page size"));
    }
    if meta.get(24) != Some(&0) {
        return Err(DatabaseError::Unsupported("encryption"));
    }
    let database = Database { file, page_size, big };
    // Values do not overlap, so together they are no longer than the file.
    let mut left = file.length;
    for number in 1..=word(&meta, 32, big) {
        let page = database.page(number)?;
        if !page.get(25).is_some_and(|kind| HASH.contains(kind)) {
            continue;
        }
        let mut end = page_size;
        for entry in 0..usize::from(short(&page, 20, big)) {
            let damaged = DatabaseError::Damaged("page");
            let at = usize::from(short(&page, HEAD + 2 * entry, big));
            // Items lie one before the other, from the end of the page.
            let Some(item) = page.get(at..end) else { return Err(damaged) };
            end = at;
            if entry % 2 == 0 {
                continue;
            }
            let value = match item.split_first() {
                Some((&KEY_DATA, value)) => value.to_vec(),
                Some((&OFF_PAGE, _)) => {
                    let length = u64::from(word(item, 8, big));
                    left = left.checked_sub(length).ok_or(damaged)?;
                    database.value(word(item, 4, big), length)?
                }
                _ => return Err(DatabaseError::Unsupported("kind of values")),
            };
            // The number of the last package is stored under the key 0.
            if value.len() > 4 {
                each(&value)?;
            }
        }
    }
    Ok(())
}

impl<R: ReadAt + ?Sized> Database<'_, R> {
    fn page(&self, number: u32) -> Result<Vec<u8>, DatabaseError> {
        self.file.bytes(u64::from(number) * self.page_size as u64, self.page_size, "page")
    }

    /// A value of `length` bytes that begins in the page `next`.
    fn value(&self, mut next: u32, length: u64) -> Result<Vec<u8>, DatabaseError> {
        if length > MAX_BLOB {
            return Err(DatabaseError::TooLarge("value"));
        }
        let length = usize::try_from(length).unwrap_or_default();
        let mut value = Vec::new();
        while value.len() < length {
            let page = self.page(next)?;
            let here = usize::from(short(&page, 22, self.big));
            let content = page.get(HEAD..HEAD + here).filter(|content| !content.is_empty());
            let (Some(content), Some(&OVERFLOW)) = (content, page.get(25)) else {
                return Err(DatabaseError::Damaged("chain of pages"));
            };
            value.extend(content.iter().take(length - value.len()));
            next = word(&page, 16, self.big);
        }
        Ok(value)
    }
}

fn word(bytes: &[u8], at: usize, big: bool) -> u32 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

fn short(bytes: &[u8], at: usize, big: bool) -> u16 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
}
