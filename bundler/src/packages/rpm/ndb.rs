//! rpm's own database (SUSE's `Packages.db`), as `lib/backend/ndb/rpmpkg.c` of rpm has it:
//! a head, pages of slots, and blobs in blocks of 16 bytes, each of which a slot names.

use super::{DatabaseError, Input, MAX_BLOB};
use crate::elf::ReadAt;

/// What a database begins with.
pub(super) const MAGIC: &[u8] = b"RpmP";
const SLOT: &[u8] = b"Slot";
const BLOB: &[u8] = b"BlbS";
/// Size of a page of slots; the head takes the place of the first two of them.
const PAGE: u64 = 4096;
const SLOT_SIZE: usize = 16;
const HEAD: usize = 2 * SLOT_SIZE;
const BLOCK: u64 = 16;

/// Gives each package's blob to `each`.
pub(super) fn read<R: ReadAt + ?Sized>(
    file: Input<'_, R>,
    each: &mut dyn FnMut(&[u8]) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    let head = file.bytes(0, HEAD, "head")?;
    if word(&head, 4) != 0 {
        return Err(DatabaseError::Unsupported("version of rpm's own format"));
    }
    // Blobs do not overlap, so together they are no longer than the file.
    let mut left = file.length;
    let pages = u64::from(word(&head, 12));
    for page in 0..pages {
        let slots = file.bytes(page * PAGE, 4096, "slots")?;
        let skipped = if page == 0 { HEAD } else { 0 };
        for slot in slots.get(skipped..).unwrap_or_default().chunks_exact(SLOT_SIZE) {
            let package = word(slot, 4);
            if !slot.starts_with(SLOT) {
                return Err(DatabaseError::Damaged("list of slots"));
            }
            if package == 0 {
                continue;
            }
            let at = u64::from(word(slot, 8)) * BLOCK;
            let head = file.bytes(at, SLOT_SIZE, "blob")?;
            let length = u64::from(word(&head, 12));
            if !head.starts_with(BLOB) || word(&head, 4) != package {
                return Err(DatabaseError::Damaged("blob"));
            }
            if length > MAX_BLOB {
                return Err(DatabaseError::TooLarge("blob"));
            }
            left = left.checked_sub(length).ok_or(DatabaseError::Damaged("list of slots"))?;
            let length = usize::try_from(length).unwrap_or_default();
            each(&file.bytes(at + BLOCK, length, "blob")?)?;
        }
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    word.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
