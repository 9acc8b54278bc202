//! The cache of library names that glibc's loader reads, /etc/ld.so.cache.
//!
//! Two formats, both of `dl-cache.h` of glibc; an old one may be followed by a
//! new one at the next multiple of 8. All numbers are in the machine's order.
//!
//! | old: offset | size | field |
//! |---:|---:|---|
//! | 0 | 12 | `ld.so-1.7.0`, NUL |
//! | 12 | 4 | number of entries |
//! | 16 | 12 each | flags, offset of name, offset of path (from the strings) |
//! | | | strings, each with its NUL |
//!
//! | new: offset | size | field |
//! |---:|---:|---|
//! | 0 | 20 | `glibc-ld.so.cache1.1` |
//! | 20 | 4 | number of entries |
//! | 24 | 4 | bytes of strings |
//! | 28 | 1 | byte order: 2 little, 3 big, 0 not said |
//! | 32 | 4 | offset of the extensions; 0: none |
//! | 36 | 12 | zero |
//! | 48 | 24 each | flags, name, path (from the header's start), zero, 8 bytes hwcap |
//! | | | strings, then the extensions |
//!
//! The extensions are `0xeaa42174`, a count, and for each a tag, zero, offset
//! and size; tag 1 is the table of names of glibc-hwcaps directories, which an
//! entry with bit 62 of its hwcap set points into.

use std::cmp::Ordering;

mod generate;
#[cfg(test)]
mod tests;

pub use generate::{PATH, for_closure};

use crate::elf::{Abi, Class};

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;
const LITTLE: u8 = 2;
const BIG: u8 = 3;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const TAG_HWCAPS: u32 = 1;
/// Bit of an entry's hwcap that says that its low half is an index of a name.
const HWCAP_EXTENSION: u64 = 1 << 62;

/// A library that the cache knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// The name that it is asked for by.
    pub soname: Box<[u8]>,
    /// Where it lies.
    pub path: Box<[u8]>,
    /// Which programs can load it; see [`flags`].
    pub flags: u32,
    /// The glibc-hwcaps directory that it lies in, such as `x86-64-v3`; of a
    /// CPU-dependent directory of the older kind `legacy`.
    pub hwcaps: Option<Box<[u8]>>,
}

/// Why a cache could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// It begins as no known format does.
    #[error("not an ld.so.cache")]
    Magic,
    /// An offset or a count points past the end.
    #[error("the ld.so.cache is cut off, or an offset in it points past its end")]
    Truncated,
    /// Its strings overlap more than any tool writes them.
    #[error("the ld.so.cache is corrupt: its strings are larger than itself")]
    Overlap,
}

/// Returns the flags of libraries that programs of this ABI load (`_DL_CACHE_DEFAULT_ID`
/// and `ldconfig.h`); nothing for a processor that is not known here.
pub fn flags(abi: Abi, elf_flags: u32) -> Option<u32> {
    const ELF_LIBC6: u32 = 3;
    /// EF_ARM_ABI_FLOAT_HARD
    const HARD_FLOAT: u32 = 0x400;
    /// EF_RISCV_FLOAT_ABI
    const RISCV_FLOAT: u32 = 6;
    let kind = match (abi.machine, abi.class) {
        (3 | 20, Class::Elf32) => 0x0000,
        (62, Class::Elf64) => 0x0300,
        (62, Class::Elf32) => 0x0800,
        (22, Class::Elf64) => 0x0400,
        (21, Class::Elf64) => 0x0500,
        (183, Class::Elf64) => 0x0a00,
        (40, Class::Elf32) if elf_flags & HARD_FLOAT != 0 => 0x0900,
        (40, Class::Elf32) => 0x0b00,
        (243, Class::Elf64) if elf_flags & RISCV_FLOAT == 0 => 0x0f00,
        (243, Class::Elf64) => 0x1000,
        _ => return None,
    };
    Some(kind | ELF_LIBC6)
}

/// Reads a cache of either format; where both are there, the new one.
///
/// # Errors
/// Bytes that are no cache, or one cut off or corrupt.
pub fn parse(data: &[u8]) -> Result<Vec<Library>, CacheError> {
    if data.starts_with(NEW_MAGIC) {
        return parse_new(data);
    }
    if !data.starts_with(OLD_MAGIC) {
        return Err(CacheError::Magic);
    }
    let count = number(data, 12, false)? as usize;
    let strings = count
        .checked_mul(OLD_ENTRY)
        .and_then(|size| size.checked_add(OLD_HEADER))
        .filter(|&at| at <= data.len())
        .ok_or(CacheError::Truncated)?;
    let next = data.get(strings.next_multiple_of(8)..).unwrap_or_default();
    if next.starts_with(NEW_MAGIC) {
        return parse_new(next);
    }
    let strings = data.get(strings..).unwrap_or_default();
    let mut budget = budget(data);
    (0..count)
        .map(|index| {
            let at = OLD_HEADER + index * OLD_ENTRY;
            Ok(Library {
                flags: number(data, at, false)?,
                soname: string(strings, number(data, at + 4, false)?, &mut budget)?,
                path: string(strings, number(data, at + 8, false)?, &mut budget)?,
                hwcaps: None,
            })
        })
        .collect()
}

fn parse_new(data: &[u8]) -> Result<Vec<Library>, CacheError> {
    let big = data.get(28).is_some_and(|order| order & 3 == BIG);
    let count = number(data, 20, big)? as usize;
    let size = count.checked_mul(NEW_ENTRY).ok_or(CacheError::Truncated)?;
    if data.len().saturating_sub(NEW_HEADER) < size {
        return Err(CacheError::Truncated);
    }
    let mut budget = budget(data);
    let levels = hwcaps_names(data, big)?;
    (0..count)
        .map(|index| {
            let at = NEW_HEADER + index * NEW_ENTRY;
            let half = |at| number(data, at, big).map(u64::from);
            let (first, second) = (half(at + 16)?, half(at + 20)?);
            let hwcap = if big { first << 32 | second } else { second << 32 | first };
            let hwcaps = if hwcap & HWCAP_EXTENSION != 0 {
                let name = levels.get((hwcap & 0xffff_ffff) as usize);
                Some(string(data, *name.ok_or(CacheError::Truncated)?, &mut budget)?)
            } else {
                (hwcap != 0).then(|| Box::from(&b"legacy"[..]))
            };
            Ok(Library {
                flags: number(data, at, big)?,
                soname: string(data, number(data, at + 4, big)?, &mut budget)?,
                path: string(data, number(data, at + 8, big)?, &mut budget)?,
                hwcaps,
            })
        })
        .collect()
}

/// Offsets of the names of glibc-hwcaps directories.
fn hwcaps_names(data: &[u8], big: bool) -> Result<Vec<u32>, CacheError> {
    let start = number(data, 32, big)? as usize;
    if start == 0 || number(data, start, big) != Ok(EXTENSION_MAGIC) {
        return Ok(Vec::new());
    }
    let count = number(data, start.saturating_add(4), big)? as usize;
    for index in 0..count {
        let at = start.saturating_add(8).saturating_add(index.saturating_mul(16));
        let (offset, size) = (number(data, at + 8, big)? as usize, number(data, at + 12, big)?);
        if number(data, at, big)? == TAG_HWCAPS {
            let table = (0..size as usize / 4).map(|i| number(data, offset + i * 4, big));
            return table.collect();
        }
    }
    Ok(Vec::new())
}

fn number(data: &[u8], at: usize, big: bool) -> Result<u32, CacheError> {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk()).ok_or(CacheError::Truncated)?;
    Ok(if big { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) })
}

/// Bytes that all strings may have together: tools share the ends of strings,
/// so it can be more than the file has, but not by much.
fn budget(data: &[u8]) -> usize {
    data.len().saturating_mul(4)
}

fn string(data: &[u8], at: u32, budget: &mut usize) -> Result<Box<[u8]>, CacheError> {
    let rest = data.get(at as usize..).ok_or(CacheError::Truncated)?;
    let end = rest.iter().position(|&b| b == 0).ok_or(CacheError::Truncated)?;
    *budget = budget.checked_sub(end).ok_or(CacheError::Overlap)?;
    Ok(rest.get(..end).unwrap_or_default().into())
}

/// Returns a cache in the new format, little-endian, with these libraries in
/// the order that the loader's binary search asks for. Equal sets of libraries
/// give equal bytes; paths or names with a NUL byte are left out.
pub fn write(libraries: &[Library]) -> Vec<u8> {
    let sound = |l: &&Library| !l.soname.contains(&0) && !l.path.contains(&0);
    let mut sorted: Vec<&Library> = libraries.iter().filter(sound).collect();
    sorted.sort_by(|a, b| order(a, b));
    sorted.dedup();
    let mut levels: Vec<&[u8]> = sorted.iter().filter_map(|l| l.hwcaps.as_deref()).collect();
    levels.sort_unstable();
    levels.dedup();

    let mut strings = Strings { start: NEW_HEADER + sorted.len() * NEW_ENTRY, bytes: Vec::new() };
    let names: Vec<u32> = levels.iter().map(|name| strings.add(name)).collect();
    let mut entries = Vec::with_capacity(sorted.len() * NEW_ENTRY);
    for library in &sorted {
        let path = strings.add(&library.path);
        // A path mostly ends with the name, so one string does for both.
        let name = match library.path.strip_suffix(&*library.soname) {
            Some(directory) => path + directory.len() as u32,
            None => strings.add(&library.soname),
        };
        let level = library.hwcaps.as_deref().and_then(|name| levels.binary_search(&name).ok());
        let hwcap = level.map_or(0, |index| HWCAP_EXTENSION | index as u64);
        for field in [library.flags, name, path, 0] {
            entries.extend_from_slice(&field.to_le_bytes());
        }
        entries.extend_from_slice(&hwcap.to_le_bytes());
    }
    let end = strings.start + strings.bytes.len();
    let extensions = if levels.is_empty() { 0 } else { end.next_multiple_of(4) };

    let mut cache = NEW_MAGIC.to_vec();
    cache.extend_from_slice(&(sorted.len() as u32).to_le_bytes());
    cache.extend_from_slice(&(strings.bytes.len() as u32).to_le_bytes());
    cache.extend_from_slice(&[LITTLE, 0, 0, 0]);
    cache.extend_from_slice(&(extensions as u32).to_le_bytes());
    cache.resize(NEW_HEADER, 0);
    cache.extend_from_slice(&entries);
    cache.extend_from_slice(&strings.bytes);
    if extensions > 0 {
        cache.resize(extensions, 0);
        let table = (extensions + 8 + 16) as u32;
        let head = [EXTENSION_MAGIC, 1, TAG_HWCAPS, 0, table, names.len() as u32 * 4];
        for field in head.iter().chain(&names) {
            cache.extend_from_slice(&field.to_le_bytes());
        }
    }
    cache
}

struct Strings {
    start: usize,
    bytes: Vec<u8>,
}

impl Strings {
    fn add(&mut self, string: &[u8]) -> u32 {
        let at = self.start + self.bytes.len();
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
        at as u32
    }
}

/// The order of entries: ldconfig's `compare`, names descending.
fn order(a: &Library, b: &Library) -> Ordering {
    compare_names(&b.soname, &a.soname)
        .then_with(|| b.flags.cmp(&a.flags))
        .then_with(|| b.hwcaps.is_some().cmp(&a.hwcaps.is_some()))
        .then_with(|| a.hwcaps.cmp(&b.hwcaps))
        .then_with(|| a.path.cmp(&b.path))
}

/// Compares names as the loader does (`_dl_cache_libcmp`): a run of digits by
/// its value, and a digit after any other character.
fn compare_names(mut a: &[u8], mut b: &[u8]) -> Ordering {
    fn take_number(text: &mut &[u8]) -> i32 {
        let mut value = 0i32;
        while let Some((digit, rest)) = text.split_first().filter(|(d, _)| d.is_ascii_digit()) {
            value = value.wrapping_mul(10).wrapping_add((digit - b'0').into());
            *text = rest;
        }
        value
    }
    while let Some((&x, rest_a)) = a.split_first() {
        let y = b.first().copied().unwrap_or(0);
        let ordering = match (x.is_ascii_digit(), y.is_ascii_digit()) {
            (true, true) => take_number(&mut a).cmp(&take_number(&mut b)),
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                a = rest_a;
                b = b.get(1..).unwrap_or_default();
                x.cmp(&y)
            }
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    if b.is_empty() { Ordering::Equal } else { Ordering::Less }
}
