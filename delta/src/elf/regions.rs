//! Division of a file into regions, by its sections.

use super::data::{self, Table};
use super::layout::{Layout, SHF_ALLOC, SHF_EXECINSTR, SHT_NOBITS, Section, int, long};
use super::sites::{Content, GRANULE, Region, operand_site};
use super::{frames, x86};
use crate::Error;
use crate::copy::Pieces;

const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_RELA: u32 = 4;
const SHT_DYNAMIC: u32 = 6;
const SHT_NOTE: u32 = 7;
const SHT_DYNSYM: u32 = 11;
const SHT_RELR: u32 = 19;
const SHT_GNU_HASH: u32 = 0x6fff_fff6;
/// SHT_GNU_verdef, verneed, versym.
const SHT_GNU_VERSIONS: std::ops::RangeInclusive<u32> = 0x6fff_fffd..=0x6fff_ffff;

/// Lowest and highest address of executable sections.
pub(super) fn code_addresses(layout: &Layout) -> (u64, u64) {
    let code = || layout.sections.iter().filter(|s| s.flags & SHF_EXECINSTR != 0 && s.size > 0);
    let low = code().map(|s| s.address).min().unwrap_or(0);
    let high = code().map(|s| s.address.saturating_add(s.size)).max().unwrap_or(0);
    (low, high)
}

/// The regions of the file, in order, none overlapping another.
pub(super) fn divide(
    layout: &Layout,
    file: &mut Pieces<'_>,
    code: (u64, u64),
) -> Result<Vec<Region>, Error> {
    let mut found = Vec::new();
    let mut add = |start: u64, end: u64, content| {
        if let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) {
            found.push(Region { start, end, content });
        }
    };
    add(24, 64, Content::Table(Table::Head));
    let (at, count) = layout.program_headers;
    add(at, at.saturating_add(count * 56), Content::Table(Table::ProgramHeaders));
    let at = layout.section_headers;
    add(
        at,
        at.saturating_add(layout.sections.len() as u64 * 64),
        Content::Table(Table::SectionHeaders),
    );
    let packed = packed_words(layout, file)?;
    for section in &layout.sections {
        for (start, end, content) in of_section(layout, file, section, &packed)? {
            add(start, end, content);
        }
    }
    found.retain(|r| u64::from(r.end) <= file.len());
    found.sort_by_key(|r| (r.start, r.end));
    let mut free = 0;
    found.retain(|r| {
        let keep = r.start >= free && r.end > r.start;
        if keep {
            free = r.end;
        }
        keep
    });
    let mut leas = Bits::new(file.len() / 4 + 1);
    for region in &mut found {
        match &mut region.content {
            Content::Code(marks) => {
                *marks = sweep(layout, file, (region.start, region.end), &mut leas)?
            }
            Content::Frames(marks) => *marks = frames::marks(file, region.start, region.end)?,
            _ => {}
        }
    }
    for region in &mut found {
        if let Content::Data { tables, .. } = &mut region.content {
            *tables = data::jump_tables(layout, file, (region.start, region.end), &leas, code)?;
        }
    }
    Ok(found)
}

type Parts = Vec<(u64, u64, Content)>;

fn of_section(
    layout: &Layout,
    file: &mut Pieces<'_>,
    s: &Section,
    packed: &[u64],
) -> Result<Parts, Error> {
    let whole = |content| Ok(vec![(s.offset, s.end(), content)]);
    let point = |s: &Section| u32::try_from(s.offset).unwrap_or(0);
    let linked = layout.sections.get(s.link).map_or(0, point);
    if s.kind == SHT_NOBITS || s.size == 0 {
        return Ok(Vec::new());
    }
    if s.flags & SHF_EXECINSTR != 0 {
        return whole(Content::Code(Vec::new()));
    }
    match s.kind {
        SHT_SYMTAB | SHT_DYNSYM => return whole(Content::Table(Table::Symbols { names: linked })),
        SHT_RELA if s.flags & SHF_ALLOC != 0 => {
            return whole(Content::Table(Table::Relocations { symbols: linked }));
        }
        SHT_DYNAMIC => return whole(Content::Table(Table::Dynamic { names: linked })),
        SHT_GNU_HASH => {
            let mut head = [0; 16];
            file.read(s.offset, &mut head)?;
            let (buckets, words) = (u64::from(int(&head, 0)), u64::from(int(&head, 8)));
            let from = s.offset + 16 + 8 * words;
            let to = (from + 4 * buckets).min(s.end());
            return Ok(vec![(
                from.min(to),
                to,
                Content::Table(Table::Buckets { symbols: linked }),
            )]);
        }
        SHT_STRTAB | SHT_NOTE | SHT_RELR => return Ok(Vec::new()),
        kind if SHT_GNU_VERSIONS.contains(&kind) => return Ok(Vec::new()),
        _ => {}
    }
    if s.is(".eh_frame_hdr") {
        let mut head = [0; 4];
        file.read(s.offset, &mut head)?;
        // Version 1; pcrel sdata4, udata4, datarel sdata4: LSB, "DWARF extensions".
        let known = head == [1, 0x1B, 3, 0x3B] && s.size >= 12;
        return if known {
            whole(Content::Table(Table::FrameIndex { base: point(s) }))
        } else {
            Ok(Vec::new())
        };
    }
    if s.is(".eh_frame") {
        return whole(Content::Frames(Vec::new()));
    }
    if s.flags & SHF_ALLOC == 0 {
        let debug = s.name.starts_with(b".debug_") && s.flags & SHF_COMPRESSED == 0;
        return if debug && !s.is(".debug_str") { whole(Content::Loose) } else { Ok(Vec::new()) };
    }
    if !packed.is_empty() && s.flags & SHF_WRITE != 0 {
        let bits = bits_within(layout, s, packed);
        return whole(Content::Packed(bits));
    }
    whole(Content::Data { tables: Vec::new(), words: layout.fixed || s.is(".got.plt") })
}

const SHF_WRITE: u64 = 1;
const SHF_COMPRESSED: u64 = 0x800;

/// Addresses of the words that packed relative relocations (RELR) name, sorted.
fn packed_words(layout: &Layout, file: &mut Pieces<'_>) -> Result<Vec<u64>, Error> {
    /// More than a data segment of 32 MiB can hold.
    const MOST: usize = 1 << 22;
    let mut words = Vec::new();
    for section in layout.sections.iter().filter(|s| s.kind == SHT_RELR) {
        let mut next = 0u64;
        for at in (section.offset..section.end().saturating_sub(7)).step_by(8) {
            let mut entry = [0; 8];
            file.read(at, &mut entry)?;
            let entry = long(&entry, 0);
            if words.len() > MOST {
                break;
            }
            if entry & 1 == 0 {
                words.push(entry);
                next = entry.wrapping_add(8);
            } else {
                words.extend(
                    (0..63)
                        .filter(|bit| entry >> (bit + 1) & 1 == 1)
                        .map(|bit| next.wrapping_add(8 * bit)),
                );
                next = next.wrapping_add(8 * 63);
            }
        }
    }
    words.sort_unstable();
    Ok(words)
}

/// One bit per word of the section, set for those in `words`.
fn bits_within(layout: &Layout, section: &Section, words: &[u64]) -> Vec<u64> {
    let mut bits = Bits::new(section.size / 8 + 1);
    let from = words.partition_point(|w| *w < section.address);
    for word in words[from..].iter().take_while(|w| section.contains(**w)) {
        if layout.space.point(*word).is_some() {
            bits.set((word - section.address) / 8);
        }
    }
    bits.0
}

/// A set of small numbers.
pub(super) struct Bits(Vec<u64>);

impl Bits {
    fn new(len: u64) -> Self {
        Self(vec![0; usize::try_from(len / 64 + 1).unwrap_or(0)])
    }

    fn set(&mut self, n: u64) {
        if let Some(word) = usize::try_from(n / 64).ok().and_then(|i| self.0.get_mut(i)) {
            *word |= 1 << (n % 64);
        }
    }

    pub(super) fn has(&self, n: u64) -> bool {
        usize::try_from(n / 64)
            .ok()
            .and_then(|i| self.0.get(i))
            .is_some_and(|w| w >> (n % 64) & 1 == 1)
    }

    /// The members within `from..to`, in order.
    pub(super) fn within(&self, from: u64, to: u64) -> impl Iterator<Item = u64> + '_ {
        (from / 64..to.div_ceil(64)).flat_map(move |i| {
            let mut word =
                usize::try_from(i).ok().and_then(|i| self.0.get(i)).copied().unwrap_or(0);
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| u64::from(word.trailing_zeros()))?;
                word &= word - 1;
                Some(i * 64 + bit)
            })
            .filter(move |n| (from..to).contains(n))
        })
    }
}

/// Goes through the instructions of a region: where the first of each granule
/// begins, and (in `leas`, in units of 4 bytes) which places `lea` names.
fn sweep(
    layout: &Layout,
    file: &mut Pieces<'_>,
    (start, end): (u32, u32),
    leas: &mut Bits,
) -> Result<Vec<u8>, Error> {
    const CHUNK: u32 = 32 << 10;
    let mut marks = Vec::with_capacity(((end - start) / GRANULE + 2) as usize);
    let mut bytes = vec![0; CHUNK as usize + 2 * x86::LONGEST];
    let mut at = start;
    let mut granule_start = start;
    while at < end {
        let len = (end - at).min(bytes.len() as u32);
        bytes[len as usize..].fill(0);
        file.read(u64::from(at), &mut bytes[..len as usize])?;
        let (base, stop) = (at, end.min(at + CHUNK));
        while at < stop {
            if at >= granule_start {
                marks.push(u8::try_from(at - granule_start).unwrap_or(u8::MAX));
                granule_start = (granule_start / GRANULE + 1) * GRANULE;
            }
            let from = (at - base) as usize;
            let Some(window) = bytes.get(from..).and_then(|b| b.first_chunk()) else { break };
            let instruction = x86::decode(window);
            if let (true, Some((field, operand))) = (instruction.lea, instruction.fields[0]) {
                let site = operand_site(operand, at + u32::from(field));
                let value = site.read(&window[usize::from(field)..]);
                let to = site.target(value, site.at, 0, &layout.space).point(&layout.space);
                if let Some(to) = to.filter(|to| to % 4 == 0) {
                    leas.set(u64::from(to / 4));
                }
            }
            at += u32::from(instruction.len);
        }
    }
    Ok(marks)
}
