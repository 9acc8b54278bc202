//! One table of a SQLite database (sqlite.org/fileformat2.html), read without a change to
//! any file, with one page for each level of the tree in memory; and written anew.

mod log;
mod write;

use std::cell::Cell;

use super::{DatabaseError, Input, MAX_BLOB};
use crate::elf::ReadAt;
use log::Log;

pub(super) use write::database;

/// What a database begins with.
pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";
/// Bytes of the first page before its tree.
const HEAD: usize = 100;
/// Levels of a tree (`BTCURSOR_MAX_DEPTH`).
const MAX_DEPTH: u32 = 20;
const LEAF: u8 = 0x0d;
const INTERIOR: u8 = 0x05;

struct Database<'a, R: ?Sized> {
    file: Input<'a, R>,
    log: Option<Log<'a, R>>,
    page_size: usize,
    /// Bytes of a page that are in use.
    usable: usize,
    /// Bytes of pages and of rows that may still be read: no sound database has a page
    /// twice in its trees, or rows that overlap.
    left: Cell<u64>,
}

/// Gives each value of the column `blob` of the table `Packages` to `each`. `log` is the
/// write-ahead log beside the database, of which what was committed counts.
pub(super) fn read<R: ReadAt + ?Sized>(
    file: Input<'_, R>,
    log: Option<Input<'_, R>>,
    each: &mut dyn FnMut(&[u8]) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    let database = Database::open(file, log)?;
    let mut table = None;
    database.rows(1, 0, &mut |row| {
        let text = |place| column(row, place).map(|(_, bytes)| bytes);
        if text(0) == Some(b"table") && text(1) == Some(b"Packages") {
            table = column(row, 3).map(|(_, bytes)| big_endian(bytes));
        }
        Ok(())
    })?;
    let table = table.and_then(|page| u32::try_from(page).ok());
    let table = table.ok_or(DatabaseError::Damaged("list of tables"))?;
    database.rows(table, 0, &mut |row| {
        // The column before it is the number of the row.
        let (_, blob) = column(row, 1).ok_or(DatabaseError::Damaged("row"))?;
        each(blob)
    })
}

impl<'a, R: ReadAt + ?Sized> Database<'a, R> {
    fn open(file: Input<'a, R>, log: Option<Input<'a, R>>) -> Result<Self, DatabaseError> {
        let log = log.map(Log::open).transpose()?.flatten();
        let head = match log.as_ref().and_then(|log| log.page(1)) {
            Some(page) => page?,
            None => file.bytes(0, HEAD, "head")?,
        };
        let field = |at: usize| head.get(at).copied().unwrap_or_default();
        let page_size = match u16::from_be_bytes([field(16), field(17)]) {
            1 => 65536,
            size => usize::from(size),
        };
        let usable = page_size.saturating_sub(field(20).into());
        let same_size = log.as_ref().is_none_or(|log| log.page_size() == page_size);
        if !page_size.is_power_of_two() || page_size < 512 || usable < 480 || !same_size {
            return Err(DatabaseError::Damaged("page size"));
        }
        // Later versions would say so here; 0 is that of an empty database.
        if field(19) > 2 || field(59) > 1 {
            return Err(DatabaseError::Unsupported("version of SQLite, or its encoding of text"));
        }
        let left = 2 * (file.length + log.as_ref().map_or(0, Log::length));
        Ok(Database { file, log, page_size, usable, left: Cell::new(left) })
    }

    fn spend(&self, bytes: usize) -> Result<(), DatabaseError> {
        let left = self.left.get().checked_sub(bytes as u64);
        self.left.set(left.ok_or(DatabaseError::Damaged("tree"))?);
        Ok(())
    }

    fn page(&self, number: u32) -> Result<Vec<u8>, DatabaseError> {
        let at = u64::from(number).checked_sub(1).ok_or(DatabaseError::Damaged("tree"))?;
        self.spend(self.page_size)?;
        match self.log.as_ref().and_then(|log| log.page(number)) {
            Some(page) => page,
            None => self.file.bytes(at * self.page_size as u64, self.page_size, "page"),
        }
    }

    /// Gives each row of the tree at `page` to `each`, in the order of their numbers.
    fn rows(
        &self,
        number: u32,
        depth: u32,
        each: &mut dyn FnMut(&[u8]) -> Result<(), DatabaseError>,
    ) -> Result<(), DatabaseError> {
        let damaged = || DatabaseError::Damaged("tree");
        if depth >= MAX_DEPTH {
            return Err(damaged());
        }
        let page = self.page(number)?;
        let tree = page.get(if number == 1 { HEAD } else { 0 }..).unwrap_or_default();
        let kind = tree.first().copied().unwrap_or_default();
        let (head, pointers) = match kind {
            LEAF => tree.split_at_checked(8),
            INTERIOR => tree.split_at_checked(12),
            _ => None,
        }
        .ok_or_else(damaged)?;
        let count = head.get(3..5).map_or(0, big_endian);
        for pointer in pointers.chunks_exact(2).take(usize::try_from(count).unwrap_or_default()) {
            let at = usize::try_from(big_endian(pointer)).unwrap_or(usize::MAX);
            let cell = page.get(at..self.usable).ok_or_else(damaged)?;
            if kind == LEAF {
                let (size, rest) = varint(cell).ok_or_else(damaged)?;
                let (_, rest) = varint(rest).ok_or_else(damaged)?;
                each(&self.payload(size, rest)?)?;
            } else {
                let child = cell.first_chunk().ok_or_else(damaged)?;
                self.rows(u32::from_be_bytes(*child), depth + 1, each)?;
            }
        }
        match head.get(8..12).and_then(<[u8]>::first_chunk) {
            Some(right) => self.rows(u32::from_be_bytes(*right), depth + 1, each),
            None => Ok(()),
        }
    }

    /// A row of `size` bytes that begins with `cell`, and may go on in other pages.
    fn payload(&self, size: u64, cell: &[u8]) -> Result<Vec<u8>, DatabaseError> {
        let damaged = || DatabaseError::Damaged("row");
        if size > MAX_BLOB {
            return Err(DatabaseError::TooLarge("row"));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.spend(size)?;
        let local = local(size, self.usable);
        let (start, rest) = cell.split_at_checked(local).ok_or_else(damaged)?;
        let mut payload = start.to_vec();
        let mut next = rest.first_chunk().map_or(0, |next| u32::from_be_bytes(*next));
        while payload.len() < size {
            let page = self.page(next)?;
            let page = page.get(..self.usable).unwrap_or_default();
            let (link, content) = page.split_first_chunk().ok_or_else(damaged)?;
            next = u32::from_be_bytes(*link);
            payload.extend(content.iter().take(size - payload.len()));
        }
        Ok(payload)
    }
}

/// How many of a row's bytes are in the page of the tree.
fn local(size: usize, usable: usize) -> usize {
    let most = usable - 35;
    if size <= most {
        return size;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let local = least + (size - least) % (usable - 4);
    if local <= most { local } else { least }
}

/// A column of a row: its type and its bytes.
fn column(row: &[u8], place: usize) -> Option<(u64, &[u8])> {
    let (length, rest) = varint(row)?;
    let mut types =
        rest.get(..usize::try_from(length).ok()?.checked_sub(row.len() - rest.len())?)?;
    let mut at = usize::try_from(length).ok()?;
    for number in 0.. {
        let (kind, after) = varint(types)?;
        types = after;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            _ => kind.checked_sub(12)? / 2,
        };
        let end = at.checked_add(usize::try_from(size).ok()?)?;
        if number == place {
            return Some((kind, row.get(at..end)?));
        }
        at = end;
    }
    None
}

/// A number of one to nine bytes, seven bits in each but the ninth, and what follows.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(9).enumerate() {
        if index == 8 {
            return Some((value << 8 | u64::from(byte), bytes.get(9..)?));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}
