//! Where in a file the references are.
//!
//! The file is divided into [`Region`]s by its sections; of each the references can
//! be listed again from any [`GRANULE`] on, so that no table of them is kept: for
//! code, one byte per granule says where its first instruction begins. Both ends
//! of a delta list the references of the old file, so every change to what is
//! found here is a new [`VERSION`](super::VERSION) of the codec.

use super::layout::{Layout, Space};
use super::{data, frames, regions, x86};
use crate::Error;
use crate::copy::Pieces;

/// A field that refers to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// Offset in the file.
    pub(super) at: u32,
    /// 4 or 8 bytes.
    pub(super) width: u8,
    pub(super) form: Form,
}

/// How a field's value names its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Address relative to this many bytes behind the field.
    Relative(u8),
    /// Address.
    Absolute,
    /// Address relative to that of a point which moves with the field.
    Beside(u32),
    /// Address relative to that of a point which is elsewhere.
    Based(u32),
    /// So many entries of `size` bytes behind point `base`.
    Entry { base: u32, size: u8 },
    /// So many bytes before the field.
    Before,
}

impl Site {
    pub(super) fn end(self) -> u32 {
        self.at + u32::from(self.width)
    }

    /// The target of `value` in a file where the field is at `at`, and a base that is
    /// elsewhere at `base`.
    #[inline]
    pub(super) fn target(self, value: i64, at: u32, base: u32, space: &Space) -> Target {
        let plus = |base: u64| Target::Address(base.wrapping_add_signed(value));
        let behind = u64::from(at) + u64::from(self.width);
        match self.form {
            Form::Relative(more) => {
                plus(space.address(at).wrapping_add(behind - u64::from(at) + u64::from(more)))
            }
            Form::Absolute => plus(0),
            Form::Beside(table) => {
                plus(space.address(at.wrapping_sub(self.at.wrapping_sub(table))))
            }
            Form::Based(_) => plus(space.address(base)),
            Form::Entry { size, .. } => {
                Target::Point(i64::from(base).wrapping_add(value.wrapping_mul(i64::from(size))))
            }
            Form::Before => Target::Point(i64::from(at).wrapping_sub(value)),
        }
    }

    /// The value that names point `target`, the inverse of [`target`](Self::target).
    #[inline]
    pub(super) fn value(self, target: u32, at: u32, base: u32, space: &Space) -> i64 {
        let from = |base: u64| space.address(target).wrapping_sub(base).cast_signed();
        match self.form {
            Form::Relative(more) => {
                from(space.address(at).wrapping_add(u64::from(self.width) + u64::from(more)))
            }
            Form::Absolute => from(0),
            Form::Beside(table) => {
                from(space.address(at.wrapping_sub(self.at.wrapping_sub(table))))
            }
            Form::Based(_) => from(space.address(base)),
            Form::Entry { size, .. } => {
                (i64::from(target) - i64::from(base)) / i64::from(size.max(1))
            }
            Form::Before => i64::from(at) - i64::from(target),
        }
    }

    /// The point that the values of this form are relative to, if it is elsewhere.
    pub(super) fn base(self) -> Option<u32> {
        match self.form {
            Form::Based(base) | Form::Entry { base, .. } => Some(base),
            _ => None,
        }
    }

    /// The value in `field`, sign-extended.
    #[inline]
    pub(super) fn read(self, field: &[u8]) -> i64 {
        match (self.width, field.first_chunk::<8>(), field.first_chunk::<4>()) {
            (8, Some(long), _) => i64::from_le_bytes(*long),
            (_, _, Some(int)) => i64::from(i32::from_le_bytes(*int)),
            _ => 0,
        }
    }

    /// What to add to `from` to get `to`, within the width of the field.
    #[inline]
    pub(super) fn difference(self, to: i64, from: i64) -> i64 {
        self.wrap(to.wrapping_sub(from))
    }

    #[inline]
    fn wrap(self, value: i64) -> i64 {
        if self.width == 8 { value } else { value << 32 >> 32 }
    }

    /// `value + difference`, within the width of the field.
    #[inline]
    pub(super) fn sum(self, value: i64, difference: i64) -> i64 {
        self.wrap(value.wrapping_add(difference))
    }
}

/// Where a field points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Address(u64),
    Point(i64),
}

impl Target {
    /// The point, if it is within the file or its memory.
    #[inline]
    pub(super) fn point(self, space: &Space) -> Option<u32> {
        match self {
            Self::Address(address) => space.point(address),
            Self::Point(point) => u32::try_from(point).ok(),
        }
    }

    /// Some point, also where it is nowhere.
    #[inline]
    pub(super) fn any_point(self, space: &Space) -> u32 {
        match self {
            Self::Address(address) => space.any_point(address),
            Self::Point(point) => {
                u32::from_le_bytes(*point.to_le_bytes().first_chunk().unwrap_or(&[0; 4]))
            }
        }
    }
}

/// References are listed from these positions on.
pub(super) const GRANULE: u32 = 1024;
/// A reference belongs to the granule in which its instruction or record begins,
/// at most this many bytes before it.
const BEFORE: u32 = 64;

/// A part of the file whose references are found in one way.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) content: Content,
}

/// How the references of a region are found.
#[derive(Debug)]
pub(super) enum Content {
    /// Instructions; per granule, the bytes before the first that begins in it.
    Code(Vec<u8>),
    /// Exception frames; per granule, the bytes before the first record in it.
    Frames(Vec<u16>),
    /// Data: jump tables (where, how many entries) and absolute words.
    Data { tables: Vec<(u32, u32)>, words: bool },
    /// Data with packed relative relocations: one bit per word that has one.
    Packed(Vec<u64>),
    /// Addresses of code at any position.
    Loose,
    /// Entries of a fixed size.
    Table(data::Table),
}

/// The references of one file.
pub(super) struct Sites<'a> {
    file: Pieces<'a>,
    layout: Layout,
    regions: Vec<Region>,
    /// Lowest and highest address of code.
    code: (u64, u64),
    /// The granules listed last, each in the slot of its number's low bits.
    cache: Vec<(u32, Vec<Site>)>,
}

const CACHED: usize = 16;

impl<'a> Sites<'a> {
    /// Reads through all code of the file; `None` where it is not understood.
    pub(super) fn scan(mut file: Pieces<'a>) -> Result<Option<Self>, Error> {
        let Some(layout) = Layout::read(&mut file)? else { return Ok(None) };
        let code = regions::code_addresses(&layout);
        let regions = regions::divide(&layout, &mut file, code)?;
        Ok(Some(Self { file, layout, regions, code, cache: vec![(u32::MAX, Vec::new()); CACHED] }))
    }

    pub(super) fn space(&self) -> &Space {
        &self.layout.space
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn file(&mut self) -> &mut Pieces<'a> {
        &mut self.file
    }

    /// Lists in `out` the references that lie wholly within `start..end`, in order
    /// and none overlapping another; stops at the first that begins at or after
    /// `stop`.
    pub(super) fn list(
        &mut self,
        start: u32,
        stop: u32,
        end: u32,
        out: &mut Vec<Site>,
    ) -> Result<(), Error> {
        out.clear();
        let mut free = start;
        for granule in start.saturating_sub(BEFORE) / GRANULE..=stop.saturating_sub(1) / GRANULE {
            self.cached(granule)?;
            for site in &self.cache[granule as usize % CACHED].1 {
                if site.at >= free && site.at < stop && site.end() <= end {
                    out.push(*site);
                    free = site.end();
                }
            }
        }
        Ok(())
    }

    fn cached(&mut self, granule: u32) -> Result<(), Error> {
        let slot = granule as usize % CACHED;
        if self.cache[slot].0 == granule {
            return Ok(());
        }
        let mut sites = std::mem::take(&mut self.cache[slot].1);
        sites.clear();
        let (from, to) = (granule * GRANULE, (granule + 1) * GRANULE);
        let first = self.regions.partition_point(|r| r.end <= from);
        for number in first..self.regions.len() {
            let region = &self.regions[number];
            if region.start >= to {
                break;
            }
            let span =
                Span { from: from.max(region.start), to: to.min(region.end), end: region.end };
            let mut scan = Scan {
                file: &mut self.file,
                layout: &self.layout,
                code: self.code,
                out: &mut sites,
            };
            let index = (from / GRANULE - region.start / GRANULE) as usize;
            match &region.content {
                Content::Code(marks) => scan.code(span, marks.get(index).copied())?,
                Content::Frames(marks) => {
                    frames::list(&mut scan, region.start, span, marks.get(index).copied())?
                }
                Content::Data { tables, words } => data::list(&mut scan, span, tables, *words)?,
                Content::Packed(bits) => data::packed(&mut scan, region.start, span, bits)?,
                Content::Loose => data::loose(&mut scan, span)?,
                Content::Table(table) => data::table(&mut scan, region.start, span, *table)?,
            }
        }
        self.cache[slot] = (granule, sites);
        Ok(())
    }
}

/// The part of a region to list: what begins in `from..to`, and ends by `end`.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) end: u32,
}

/// What listing needs.
pub(super) struct Scan<'s, 'a> {
    pub(super) file: &'s mut Pieces<'a>,
    pub(super) layout: &'s Layout,
    pub(super) code: (u64, u64),
    pub(super) out: &'s mut Vec<Site>,
}

impl Scan<'_, '_> {
    /// Adds the field where its value in `field` refers to a place.
    pub(super) fn add(&mut self, site: Site, field: &[u8]) {
        if self.refers(site, field) {
            self.out.push(site);
        }
    }

    fn refers(&self, site: Site, field: &[u8]) -> bool {
        let space = &self.layout.space;
        let target = site.target(site.read(field), site.at, site.base().unwrap_or(0), space);
        target.point(space).is_some()
    }

    pub(super) fn in_code(&self, address: u64) -> bool {
        (self.code.0..self.code.1).contains(&address)
    }

    fn code(&mut self, span: Span, mark: Option<u8>) -> Result<(), Error> {
        let Some(mark) = mark else { return Ok(()) };
        let mut bytes = [0; GRANULE as usize + 2 * x86::LONGEST + 2];
        let len = (span.end - span.from).min(GRANULE + 2 * x86::LONGEST as u32) as usize;
        self.file.read(u64::from(span.from), &mut bytes[..len])?;
        let mut at = usize::from(mark);
        while span.from as usize + at < span.to as usize {
            let Some(window) = bytes.get(at..).and_then(|b| b.first_chunk()) else { break };
            let instruction = x86::decode(window);
            for (field, operand) in instruction.fields.into_iter().flatten() {
                let from = at + usize::from(field);
                self.operand(operand, span.from + from as u32, &bytes[from..len.max(from)]);
            }
            at += usize::from(instruction.len);
        }
        Ok(())
    }

    fn operand(&mut self, operand: x86::Operand, at: u32, field: &[u8]) {
        let site = operand_site(operand, at);
        if field.len() < usize::from(site.width)
            || (site.form == Form::Absolute && !self.layout.fixed)
        {
            return;
        }
        if operand == x86::Operand::Branch {
            let Target::Address(to) = site.target(site.read(field), at, 0, &self.layout.space)
            else {
                return;
            };
            if !self.in_code(to) {
                return;
            }
        }
        self.add(site, field);
    }
}

/// The field of an instruction as a reference.
pub(super) fn operand_site(operand: x86::Operand, at: u32) -> Site {
    use x86::Operand as O;
    let (width, form) = match operand {
        O::Branch => (4, Form::Relative(0)),
        O::Rip(more) => (4, Form::Relative(more)),
        O::Absolute => (4, Form::Absolute),
        O::Absolute64 => (8, Form::Absolute),
    };
    Site { at, width, form }
}
