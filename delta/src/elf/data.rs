//! References in data: tables of fixed shape, absolute words, jump tables.

use super::layout::{Layout, int};
use super::regions::Bits;
use super::sites::{Form, Scan, Site, Span};
use crate::Error;
use crate::copy::Pieces;

/// Entries of a fixed size, and what they refer to. Points are those of the tables
/// that they count in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Table {
    /// The file's own head, from `e_entry` on.
    Head,
    ProgramHeaders,
    SectionHeaders,
    Symbols {
        names: u32,
    },
    Relocations {
        symbols: u32,
    },
    Dynamic {
        names: u32,
    },
    /// Buckets of `.gnu.hash`.
    Buckets {
        symbols: u32,
    },
    /// `.eh_frame_hdr`, entries from its 12th byte on.
    FrameIndex {
        base: u32,
    },
}

impl Table {
    /// Bytes before the first entry, and of an entry.
    fn shape(self) -> (u32, u32) {
        match self {
            Self::Head => (0, 40),
            Self::ProgramHeaders => (0, 56),
            Self::SectionHeaders => (0, 64),
            Self::Symbols { .. } | Self::Relocations { .. } => (0, 24),
            Self::Dynamic { .. } => (0, 16),
            Self::Buckets { .. } => (0, 4),
            Self::FrameIndex { .. } => (4, 8),
        }
    }

    /// The fields of an entry: where, how wide, of what form.
    fn fields(self, entry: &[u8]) -> [Option<(u32, u8, Form)>; 3] {
        const OFFSET: Form = Form::Entry { base: 0, size: 1 };
        let name = |base, at| {
            Some((at, 4, Form::Entry { base, size: 1 })).filter(|_| int(entry, at as usize) != 0)
        };
        match self {
            Self::Head => {
                [Some((0, 8, Form::Absolute)), Some((8, 8, OFFSET)), Some((16, 8, OFFSET))]
            }
            Self::ProgramHeaders => {
                [Some((8, 8, OFFSET)), Some((16, 8, Form::Absolute)), Some((24, 8, Form::Absolute))]
            }
            Self::SectionHeaders => [Some((16, 8, Form::Absolute)), Some((24, 8, OFFSET)), None],
            Self::Symbols { names } => {
                let section = u16::from_le_bytes([entry[6], entry[7]]);
                // Neither SHN_UNDEF nor SHN_ABS; not STT_TLS.
                let placed = !matches!(section, 0 | 0xFFF1) && entry[4] & 0xF != 6;
                [name(names, 0), placed.then_some((8, 8, Form::Absolute)), None]
            }
            Self::Relocations { symbols } => {
                // R_X86_64_RELATIVE and R_X86_64_IRELATIVE.
                let relative = matches!(int(entry, 8), 8 | 37);
                let symbol = (int(entry, 12) != 0).then_some((
                    12,
                    4,
                    Form::Entry { base: symbols, size: 24 },
                ));
                [Some((0, 8, Form::Absolute)), symbol, relative.then_some((16, 8, Form::Absolute))]
            }
            Self::Dynamic { names } => match int(entry, 0) {
                // NEEDED, SONAME, RPATH, RUNPATH.
                1 | 14 | 15 | 29 => {
                    [Some((8, 8, Form::Entry { base: names, size: 1 })), None, None]
                }
                // Those of type d_ptr: PLTGOT HASH STRTAB SYMTAB RELA INIT FINI REL JMPREL
                // INIT_ARRAY FINI_ARRAY PREINIT_ARRAY RELR GNU_HASH VERSYM VERDEF VERNEED.
                3..=7
                | 12
                | 13
                | 17
                | 23
                | 25
                | 26
                | 32
                | 36
                | 0x6FFF_FEF5
                | 0x6FFF_FFF0
                | 0x6FFF_FFFC
                | 0x6FFF_FFFE => [Some((8, 8, Form::Absolute)), None, None],
                _ => [None; 3],
            },
            Self::Buckets { symbols } => {
                let bucket = (0, 4, Form::Entry { base: symbols, size: 24 });
                [(int(entry, 0) != 0).then_some(bucket), None, None]
            }
            Self::FrameIndex { base } => {
                [Some((0, 4, Form::Based(base))), Some((4, 4, Form::Based(base))), None]
            }
        }
    }
}

/// Lists the fields of the entries that begin within `span`.
pub(super) fn table(
    scan: &mut Scan<'_, '_>,
    start: u32,
    span: Span,
    table: Table,
) -> Result<(), Error> {
    let (head, size) = table.shape();
    if let (Table::FrameIndex { .. }, true) = (table, span.from == start) {
        let mut field = [0; 4];
        scan.file.read(u64::from(start + 4), &mut field)?;
        scan.add(Site { at: start + 4, width: 4, form: Form::Relative(0) }, &field);
    }
    // The entry of a frame index that holds its own count is none.
    let first = if head > 0 { start + head + size } else { start };
    let skip = span.from.saturating_sub(first).div_ceil(size);
    let mut at = first.saturating_add(skip.saturating_mul(size));
    let mut entry = [0; 64];
    while at < span.to && span.end.saturating_sub(at) >= size {
        scan.file.read(u64::from(at), &mut entry[..size as usize])?;
        for (field, width, form) in table.fields(&entry).into_iter().flatten() {
            scan.add(Site { at: at + field, width, form }, &entry[field as usize..]);
        }
        at += size;
    }
    Ok(())
}

/// Lists jump tables and, where `words`, absolute addresses in aligned words.
pub(super) fn list(
    scan: &mut Scan<'_, '_>,
    span: Span,
    tables: &[(u32, u32)],
    words: bool,
) -> Result<(), Error> {
    let mut bytes = [0; super::sites::GRANULE as usize + 8];
    let len = (span.end - span.from).min(bytes.len() as u32);
    scan.file.read(u64::from(span.from), &mut bytes[..len as usize])?;
    let first = tables.partition_point(|(at, count)| at + 4 * count <= span.from);
    let mut at = span.from;
    for (start, count) in tables[first..].iter().copied().take_while(|(at, _)| *at < span.to) {
        if words {
            absolute(scan, (at, start.min(span.to)), (span.from, &bytes));
        }
        at = at.max(start);
        while at < span.to.min(start + 4 * count) {
            scan.out.push(Site { at, width: 4, form: Form::Beside(start) });
            at += 4;
        }
    }
    if words {
        absolute(scan, (at, span.to), (span.from, &bytes[..len as usize]));
    }
    Ok(())
}

fn absolute(scan: &mut Scan<'_, '_>, (from, to): (u32, u32), (base, bytes): (u32, &[u8])) {
    for at in (from.next_multiple_of(8)..to).step_by(8) {
        if let Some(field) = bytes.get((at - base) as usize..(at - base) as usize + 8) {
            scan.add(Site { at, width: 8, form: Form::Absolute }, field);
        }
    }
}

/// Lists the words that packed relocations name.
pub(super) fn packed(
    scan: &mut Scan<'_, '_>,
    start: u32,
    span: Span,
    bits: &[u64],
) -> Result<(), Error> {
    let first = (span.from - start).div_ceil(8);
    for number in first..(span.to - start).div_ceil(8) {
        let set = bits.get(number as usize / 64).is_some_and(|w| w >> (number % 64) & 1 == 1);
        let at = start + 8 * number;
        if set && span.end - at >= 8 {
            let mut field = [0; 8];
            scan.file.read(u64::from(at), &mut field)?;
            scan.add(Site { at, width: 8, form: Form::Absolute }, &field);
        }
    }
    Ok(())
}

/// Lists 64-bit addresses of code, whatever their alignment.
pub(super) fn loose(scan: &mut Scan<'_, '_>, span: Span) -> Result<(), Error> {
    let mut bytes = [0; super::sites::GRANULE as usize + 8];
    let len = (span.end - span.from).min(bytes.len() as u32) as usize;
    scan.file.read(u64::from(span.from), &mut bytes[..len])?;
    let mut at = 0;
    while at < (span.to - span.from) as usize {
        let Some(field) = bytes[..len].get(at..at + 8) else { break };
        let value = super::layout::long(field, 0);
        if scan.in_code(value) {
            let site = Site { at: span.from + at as u32, width: 8, form: Form::Absolute };
            scan.add(site, field);
            at += 8;
        } else {
            at += 1;
        }
    }
    Ok(())
}

/// Tables of 32-bit distances from their own start to code: they start where a
/// `lea` points, and end before the first entry that is not in code, or where the
/// next begins.
pub(super) fn jump_tables(
    layout: &Layout,
    file: &mut Pieces<'_>,
    (start, end): (u32, u32),
    leas: &Bits,
    code: (u64, u64),
) -> Result<Vec<(u32, u32)>, Error> {
    let mut found = Vec::new();
    for number in leas.within(u64::from(start.div_ceil(4)), u64::from(end / 4)) {
        let table = number * 4;
        let Ok(point) = u32::try_from(table) else { break };
        let base = layout.space.address(point);
        let mut count = 0;
        loop {
            let at = table + 4 * u64::from(count);
            let mut entry = [0; 4];
            if at + 4 > u64::from(end) || (count > 0 && leas.has(at / 4)) {
                break;
            }
            file.read(at, &mut entry)?;
            let to = base.wrapping_add_signed(i64::from(i32::from_le_bytes(entry)));
            if !(code.0..code.1).contains(&to) {
                break;
            }
            count += 1;
        }
        if count >= 2 {
            found.push((point, count));
        }
    }
    Ok(found)
}
