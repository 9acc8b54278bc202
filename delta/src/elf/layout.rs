//! What of an ELF file the codec needs to know: its segments and sections.

use crate::Error;
use crate::copy::Pieces;

/// A loaded segment (PT_LOAD).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) file_size: u64,
    pub(super) memory_size: u64,
}

/// A section, with its name as far as it is short.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) name: Vec<u8>,
    pub(super) kind: u32,
    pub(super) flags: u64,
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) link: usize,
}

pub(super) const SHF_ALLOC: u64 = 2;
pub(super) const SHF_EXECINSTR: u64 = 4;
pub(super) const SHT_NOBITS: u32 = 8;

impl Section {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name.as_bytes()
    }

    pub(super) fn end(&self) -> u64 {
        self.offset + self.size
    }

    pub(super) fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.address) < self.size
    }
}

/// Segments, sections and head of a file.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) space: Space,
    pub(super) sections: Vec<Section>,
    /// Where the section headers begin.
    pub(super) section_headers: u64,
    /// Where the program headers begin, and how many there are.
    pub(super) program_headers: (u64, u64),
    /// ET_EXEC: addresses are absolute, and not relocated.
    pub(super) fixed: bool,
}

/// Files of this length or over are not understood.
const TOO_LONG: u64 = 1 << 31;
pub(super) const MOST_SEGMENTS: u64 = 64;
const MOST_SECTIONS: u16 = 4096;

impl Layout {
    /// Reads the headers; `None` where it is not an x86-64 executable or library, or
    /// has no sections.
    pub(super) fn read(file: &mut Pieces<'_>) -> Result<Option<Self>, Error> {
        let mut head = [0; 64];
        if file.len() >= TOO_LONG || !file.read(0, &mut head)? {
            return Ok(None);
        }
        let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let (kind, machine) = (short(16), short(18));
        // ELFCLASS64, ELFDATA2LSB; ET_EXEC or ET_DYN; EM_X86_64.
        let known =
            head.starts_with(b"\x7fELF\x02\x01\x01") && matches!(kind, 2 | 3) && machine == 62;
        let (segments, sections, names) = (short(56), short(60), usize::from(short(62)));
        if !known
            || short(54) != 56
            || short(58) != 64
            || u64::from(segments) > MOST_SEGMENTS
            || sections > MOST_SECTIONS
        {
            return Ok(None);
        }
        let program_headers = (long(&head, 32), u64::from(segments));
        let section_headers = long(&head, 40);
        let mut loaded = Vec::new();
        for number in 0..u64::from(segments) {
            let mut entry = [0; 56];
            if !file.read(program_headers.0.saturating_add(number * 56), &mut entry)? {
                return Ok(None);
            }
            if int(&entry, 0) == 1 {
                loaded.push(Segment {
                    address: long(&entry, 16),
                    offset: long(&entry, 8),
                    file_size: long(&entry, 32),
                    memory_size: long(&entry, 40),
                });
            }
        }
        let Some(space) = Space::new(file.len(), loaded) else { return Ok(None) };
        let mut found = Vec::new();
        let mut name_offsets = Vec::new();
        for number in 0..u64::from(sections) {
            let mut entry = [0; 64];
            if !file.read(section_headers.saturating_add(number * 64), &mut entry)? {
                return Ok(None);
            }
            let section = Section {
                name: Vec::new(),
                kind: int(&entry, 4),
                flags: long(&entry, 8),
                address: long(&entry, 16),
                offset: long(&entry, 24),
                size: long(&entry, 32),
                link: int(&entry, 40) as usize,
            };
            let end = section.offset.checked_add(section.size);
            let inside = end.is_some_and(|end| end <= file.len());
            if section.kind != SHT_NOBITS && !inside {
                return Ok(None);
            }
            name_offsets.push(int(&entry, 0));
            found.push(section);
        }
        if let Some(strings) = found.get(names).map(|s| (s.offset, s.size)) {
            for (section, at) in found.iter_mut().zip(name_offsets) {
                section.name = name(file, strings, u64::from(at))?;
            }
        }
        if !found.iter().any(|s| s.flags & SHF_EXECINSTR != 0) {
            return Ok(None);
        }
        Ok(Some(Self {
            space,
            sections: found,
            section_headers,
            program_headers,
            fixed: kind == 2,
        }))
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.is(name))
    }
}

fn name(file: &mut Pieces<'_>, (offset, size): (u64, u64), at: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = [0; 32];
    let room = usize::try_from(size.saturating_sub(at)).unwrap_or(0).min(bytes.len());
    file.read(offset.saturating_add(at), &mut bytes[..room])?;
    let len = bytes.iter().position(|b| *b == 0).unwrap_or(0);
    Ok(bytes[..len].to_vec())
}

pub(super) fn int(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

/// The two ways to name a place: by address, and by *point*, which is the offset
/// in the file for all that is in it, and goes on behind the end of the file for
/// what is in memory only (.bss).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Space {
    segments: Vec<(Segment, u64)>,
    end: u64,
}

impl Space {
    /// `None` where points would not fit 32 bits.
    pub(super) fn new(file_len: u64, segments: Vec<Segment>) -> Option<Self> {
        let mut end = file_len;
        let mut placed = Vec::new();
        for segment in segments {
            let Segment { address, offset, file_size, memory_size } = segment;
            let inside = offset.checked_add(file_size)? <= file_len && file_size <= memory_size;
            if !inside || address.checked_add(memory_size)? > i64::MAX.cast_unsigned() {
                return None;
            }
            placed.push((segment, end));
            end = end.checked_add(memory_size - file_size)?;
        }
        (end < u64::from(u32::MAX)).then_some(Self { segments: placed, end })
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().map(|(s, _)| s)
    }

    /// The point of `address`, if it is in a segment (or right behind its end).
    #[inline]
    pub(super) fn point(&self, address: u64) -> Option<u32> {
        for (s, behind) in &self.segments {
            let at = address.wrapping_sub(s.address);
            if at < s.file_size {
                return u32::try_from(s.offset + at).ok();
            }
            if at <= s.memory_size {
                return u32::try_from(behind + (at - s.file_size)).ok();
            }
        }
        None
    }

    /// As [`point`](Self::point), with some point for every address.
    pub(super) fn any_point(&self, address: u64) -> u32 {
        self.point(address).unwrap_or_else(|| {
            address.to_le_bytes()[..4].iter().rev().fold(0, |n, b| n << 8 | u32::from(*b))
        })
    }

    /// The address of `point`; some address for every point.
    #[inline]
    pub(super) fn address(&self, point: u32) -> u64 {
        let point = u64::from(point);
        let mut nearest = point;
        for (s, behind) in &self.segments {
            if point.wrapping_sub(s.offset) < s.file_size {
                return s.address + (point - s.offset);
            }
            if point.wrapping_sub(*behind) <= s.memory_size - s.file_size
                && s.memory_size > s.file_size
            {
                return s.address + s.file_size + (point - behind);
            }
            if point >= s.offset {
                nearest = s.address.wrapping_add(point - s.offset);
            }
        }
        nearest
    }
}
