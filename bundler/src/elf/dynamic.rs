//! The dynamic section.

use super::{Class, ElfError, Fields, Image, PT_DYNAMIC, ReadAt, symbols};

/// Most bytes of a dynamic section: four thousand entries, real ones have
/// fewer than a hundred.
const MAX_SECTION: u64 = 64 * 1024;
/// Most bytes of all strings together.
const MAX_STRINGS: usize = 1024 * 1024;

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DT_AUXILIARY: u64 = 0x7fff_fffd;
const DT_FILTER: u64 = 0x7fff_ffff;
const DF_1_NODEFLIB: u64 = 0x800;

/// The entries that the closing needs; see [`super::Elf`].
#[derive(Default)]
pub(super) struct Dynamic {
    pub(super) present: bool,
    pub(super) needed: Vec<Box<[u8]>>,
    pub(super) filters: Vec<(Box<[u8]>, bool)>,
    pub(super) soname: Option<Box<[u8]>>,
    pub(super) rpath: Option<Box<[u8]>>,
    pub(super) runpath: Option<Box<[u8]>>,
    pub(super) no_default_dirs: bool,
    pub(super) symbols: symbols::Table,
}

pub(super) fn read<R: ReadAt + ?Sized>(image: &Image<'_, R>) -> Result<Dynamic, ElfError> {
    let what = "dynamic section";
    // The last one counts, as for the loader.
    let Some(segment) = image.segments.iter().rfind(|s| s.kind == PT_DYNAMIC && s.size > 0) else {
        return Ok(Dynamic::default());
    };
    if segment.size > MAX_SECTION {
        return Err(ElfError::TooLarge(what));
    }
    let section = image.bytes(segment.offset, usize::try_from(segment.size).unwrap_or(0), what)?;
    let size = if image.abi.class == Class::Elf64 { 16 } else { 8 };
    let mut entries = Vec::new();
    for bytes in section.chunks_exact(size) {
        let entry = Fields { bytes, abi: image.abi, what };
        match entry.word(0, 0)? {
            DT_NULL => break,
            tag => entries.push((tag, entry.word(8, 4)?)),
        }
    }
    describe(image, &entries)
}

fn describe<R: ReadAt + ?Sized>(
    image: &Image<'_, R>,
    entries: &[(u64, u64)],
) -> Result<Dynamic, ElfError> {
    // Of a tag given twice the last counts, as for the loader.
    let value = |tag| entries.iter().rfind(|e| e.0 == tag).map(|e| e.1);
    let place = |tag| value(tag).and_then(|address| image.offset_of(address));
    let mut strings = Strings { image, table: place(DT_STRTAB), total: 0 };
    let mut dynamic = Dynamic { present: true, ..Dynamic::default() };
    for &(tag, at) in entries {
        match tag {
            DT_NEEDED => dynamic.needed.push(strings.get(at)?),
            DT_AUXILIARY => dynamic.filters.push((strings.get(at)?, true)),
            DT_FILTER => dynamic.filters.push((strings.get(at)?, false)),
            DT_SONAME => dynamic.soname = Some(strings.get(at)?),
            DT_RPATH => dynamic.rpath = Some(strings.get(at)?),
            DT_RUNPATH => dynamic.runpath = Some(strings.get(at)?),
            DT_FLAGS_1 => dynamic.no_default_dirs = at & DF_1_NODEFLIB != 0,
            _ => {}
        }
    }
    if dynamic.runpath.is_some() {
        dynamic.rpath = None;
    }
    dynamic.symbols = symbols::Table {
        symbols: place(DT_SYMTAB),
        strings: strings.table.map(|(at, rest)| (at, value(DT_STRSZ).unwrap_or(rest).min(rest))),
        hash: place(DT_HASH).map(|p| p.0),
        gnu_hash: place(DT_GNU_HASH).map(|p| p.0),
    };
    Ok(dynamic)
}

struct Strings<'a, 'b, R: ?Sized> {
    image: &'a Image<'b, R>,
    table: Option<(u64, u64)>,
    total: usize,
}

impl<R: ReadAt + ?Sized> Strings<'_, '_, R> {
    fn get(&mut self, index: u64) -> Result<Box<[u8]>, ElfError> {
        let what = "dynamic string table";
        let (start, size) = self.table.ok_or(ElfError::Invalid(what))?;
        let limit = size.checked_sub(index).ok_or(ElfError::Truncated(what))?;
        let at = start.checked_add(index).ok_or(ElfError::Truncated(what))?;
        let string = self.image.string(at, limit, what)?;
        self.total += string.len();
        if self.total > MAX_STRINGS { Err(ElfError::TooLarge(what)) } else { Ok(string) }
    }
}
