//! The write-ahead log: pages that are newer than those of the database.

use std::collections::HashMap;

use super::super::{DatabaseError, Input};
use crate::elf::ReadAt;

const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
/// Either magic; of the second one sums are of big-endian words.
const MAGIC: [u32; 2] = [0x377f_0682, 0x377f_0683];

pub(super) struct Log<'a, R: ?Sized> {
    file: Input<'a, R>,
    page_size: usize,
    /// Where the newest committed content of a page is.
    pages: HashMap<u32, u64>,
}

impl<'a, R: ReadAt + ?Sized> Log<'a, R> {
    /// Reads the log up to its last commit. Nothing where it has none: what SQLite
    /// would pass over (an empty log, other salts, wrong sums) does not count here either.
    pub(super) fn open(file: Input<'a, R>) -> Result<Option<Self>, DatabaseError> {
        if file.length < HEAD as u64 {
            return Ok(None);
        }
        let head = file.bytes(0, HEAD, "log")?;
        let field = |at: usize| word(&head, at, true);
        let page_size = usize::try_from(field(8)).unwrap_or_default();
        let is_page_size = page_size.is_power_of_two() && (512..=65536).contains(&page_size);
        if !MAGIC.contains(&field(0)) || !is_page_size {
            return Ok(None);
        }
        let big = field(0) == MAGIC[1];
        let mut sum = add((0, 0), head.get(..24).unwrap_or_default(), big);
        if sum != (field(24), field(28)) {
            return Ok(None);
        }
        let mut log = Log { file, page_size, pages: HashMap::new() };
        // Pages since the last commit.
        let mut open = HashMap::new();
        let size = FRAME_HEAD + page_size;
        for number in 0.. {
            let at = HEAD as u64 + number * size as u64;
            if at + size as u64 > log.file.length {
                break;
            }
            let frame = log.file.bytes(at, size, "log")?;
            let (frame_head, page) = frame.split_at_checked(FRAME_HEAD).unwrap_or_default();
            let of_frame = |at| word(frame_head, at, true);
            sum = add(sum, frame_head.get(..8).unwrap_or_default(), big);
            sum = add(sum, page, big);
            let salts = (of_frame(8), of_frame(12));
            if salts != (field(16), field(20)) || sum != (of_frame(16), of_frame(20)) {
                break;
            }
            open.insert(of_frame(0), at + FRAME_HEAD as u64);
            // The last frame of a commit has the size of the database after it.
            if of_frame(4) != 0 {
                log.pages.extend(open.drain());
            }
        }
        Ok((!log.pages.is_empty()).then_some(log))
    }

    /// The newest content of a page; nothing where the log has none.
    pub(super) fn page(&self, number: u32) -> Option<Result<Vec<u8>, DatabaseError>> {
        let at = *self.pages.get(&number)?;
        Some(self.file.bytes(at, self.page_size, "log"))
    }

    pub(super) fn page_size(&self) -> usize {
        self.page_size
    }

    pub(super) fn length(&self) -> u64 {
        self.file.length
    }
}

fn word(bytes: &[u8], at: usize, big: bool) -> u32 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

/// Goes on with the sums of a log over more of its bytes.
fn add(sum: (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    bytes.chunks_exact(8).fold(sum, |(one, two), pair| {
        let one = one.wrapping_add(word(pair, 0, big)).wrapping_add(two);
        let two = two.wrapping_add(word(pair, 4, big)).wrapping_add(one);
        (one, two)
    })
}
