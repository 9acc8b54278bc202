//! References in what the Go linker writes (Go 1.20 and later): the table of
//! functions (`runtime.pclntab`, src/runtime/symtab.go), and descriptions of types
//! (src/internal/abi/type.go), which name one another by 32-bit offsets.

use super::data::{Kind, Strip, Table};
use super::layout::{Layout, SHT_NOBITS, Section, int, long};
use super::sites::{Content, Form, GRANULE, Scan, Site, Span};
use crate::Error;
use crate::copy::Pieces;

/// Where a Go program keeps its tables, as points.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Go {
    head: u32,
    names: u32,
    units: u32,
    files: u32,
    counters: u32,
    functions: u32,
    count: u32,
    text: u32,
    /// What the functions' data are relative to.
    data: u32,
    types: u32,
    types_end: u32,
    /// Which functions are in which part of the text.
    buckets: u32,
}

const MAGIC: u32 = 0xFFFF_FFF1;
/// `pcdata`, `funcdata` and what precedes them in a function's record.
const RECORD: u32 = 44;

impl Go {
    /// Finds the tables; `None` where it is no Go program, or of another version.
    pub(super) fn find(layout: &Layout, file: &mut Pieces<'_>) -> Result<Option<Self>, Error> {
        let Some(section) =
            layout.sections.iter().find(|s| s.is(".gopclntab") || s.is(".data.rel.ro.gopclntab"))
        else {
            return Ok(None);
        };
        let mut head = [0; 72];
        file.read(section.offset, &mut head)?;
        // Little-endian magic, quantum 1, pointers of 8 bytes.
        if int(&head, 0) != MAGIC || head[6..8] != [1, 8] {
            return Ok(None);
        }
        let Some(module) = module(layout, file, section)? else { return Ok(None) };
        let point = |address: u64| layout.space.point(address);
        let table =
            |number: usize| point(section.address.wrapping_add(long(&head, 32 + 8 * number)));
        let word = |number: usize| point(long(&module, 8 * number));
        let found = (|| {
            Some(Self {
                head: u32::try_from(section.offset).ok()?,
                names: table(0)?,
                units: table(1)?,
                files: table(2)?,
                counters: table(3)?,
                functions: table(4)?,
                count: u32::try_from(long(&head, 8)).ok().filter(|n| *n < 1 << 24)?,
                text: word(22)?,
                data: word(40)?,
                types: word(37)?,
                types_end: word(38)?,
                buckets: word(19)?,
            })
        })();
        let ordered = |g: &Self| {
            let order = [g.head, g.names, g.units, g.files, g.counters, g.functions];
            order.is_sorted()
                && u64::from(g.functions) + 8 * u64::from(g.count) + 4 <= section.end()
        };
        Ok(found.filter(ordered))
    }

    /// Whether `section` is the one with the table of functions.
    pub(super) fn is_in(&self, section: &Section) -> bool {
        section.kind != SHT_NOBITS && section.offset == u64::from(self.head)
    }

    /// The regions of `.gopclntab`.
    pub(super) fn parts(
        &self,
        section: &Section,
        file: &mut Pieces<'_>,
    ) -> Result<Vec<(u64, u64, Content)>, Error> {
        let records = self.functions + 8 * self.count + 4;
        let (marks, end) = self.marks(section, file)?;
        let offsets = |base, size| Content::Table(Table::Offsets { base, size });
        let index = Table::Functions { text: self.text, functions: self.functions };
        let mut parts = vec![
            (u64::from(self.units), u64::from(self.files), offsets(self.files, 1)),
            (u64::from(self.functions), u64::from(records), Content::Table(index)),
            (u64::from(records), u64::from(end), Content::Functions(marks, *self)),
        ];
        if u64::from(self.buckets) > u64::from(end) && u64::from(self.buckets) < section.end() {
            let table = Table::FunctionBuckets { functions: self.functions };
            parts.push((u64::from(self.buckets), section.end(), Content::Table(table)));
        }
        Ok(parts)
    }

    /// The offsets between types that `.typelink` lists.
    pub(super) fn typelinks(&self) -> Content {
        Content::Table(Table::Offsets { base: self.types, size: 1 })
    }

    /// Per granule of the functions' records, the bytes before the first in it; and
    /// where the records end.
    fn marks(&self, section: &Section, file: &mut Pieces<'_>) -> Result<(Vec<u16>, u32), Error> {
        let start = self.functions + 8 * self.count + 4;
        let mut marks = Vec::new();
        let (mut granule, mut last) = (start, start);
        for number in 0..self.count {
            let mut entry = [0; 4];
            file.read(u64::from(self.functions) + 8 * u64::from(number) + 4, &mut entry)?;
            let at = self.functions.saturating_add(int(&entry, 0));
            if at < last || u64::from(at) + u64::from(RECORD) > section.end() {
                break;
            }
            while granule <= at {
                let next = (granule / GRANULE + 1) * GRANULE;
                let mark = if at < next { at - granule } else { u32::from(u16::MAX) };
                marks.push(u16::try_from(mark).unwrap_or(u16::MAX));
                granule = next;
            }
            last = at;
        }
        let end = if marks.is_empty() { start } else { last + size(file, last)? };
        Ok((marks, end.min(u32::try_from(section.end()).unwrap_or(end))))
    }

    /// Lists the references of the functions' records that begin within `span`.
    pub(super) fn list(
        &self,
        scan: &mut Scan<'_, '_>,
        span: Span,
        mark: Option<u16>,
    ) -> Result<(), Error> {
        let Some(mark) = mark else { return Ok(()) };
        let mut at = span.from.saturating_add(u32::from(mark));
        let mut fields = [0; RECORD as usize];
        while at < span.to && span.end - at >= RECORD {
            scan.file.read(u64::from(at), &mut fields)?;
            let size = size(scan.file, at)?;
            if size > span.end - at {
                break;
            }
            let entry = |base, size| Form::Entry { base, size };
            let counters = entry(self.counters, 1);
            let add = |scan: &mut Scan<'_, '_>, offset: u32, form, field: &[u8]| {
                if !matches!(int(field, 0), 0 | u32::MAX)
                    || form == entry(self.data, 1) && int(field, 0) == 0
                {
                    scan.add(Site { at: at + offset, width: 4, form }, field);
                }
            };
            add(scan, 0, Form::Based(self.text), &fields);
            add(scan, 4, entry(self.names, 1), &fields[4..]);
            add(scan, 16, counters, &fields[16..]);
            add(scan, 20, counters, &fields[20..]);
            add(scan, 24, counters, &fields[24..]);
            add(scan, 32, entry(self.units, 4), &fields[32..]);
            let tables = int(&fields, 28);
            // What is behind the first of very many is not looked at.
            for offset in (RECORD..size.min(GRANULE)).step_by(4) {
                let mut field = [0; 4];
                scan.file.read(u64::from(at + offset), &mut field)?;
                let number = (offset - RECORD) / 4;
                let form = if number < tables { counters } else { entry(self.data, 1) };
                if number < tables + u32::from(fields[43]) {
                    add(scan, offset, form, &field);
                }
            }
            at += size;
        }
        Ok(())
    }

    /// The runs of offsets in the descriptions of types within `start..end`.
    pub(super) fn type_strips(
        &self,
        layout: &Layout,
        file: &mut Pieces<'_>,
        (start, end): (u32, u32),
    ) -> Result<Vec<Strip>, Error> {
        let (from, to) = (start.max(self.types).next_multiple_of(8), end.min(self.types_end));
        let mut strips = Vec::new();
        let mut at = from;
        while at.saturating_add(48) <= to {
            let mut description = [0; 96];
            let held = (to - at).min(96) as usize;
            file.read(u64::from(at), &mut description[..held])?;
            if self.is_type(layout, &description) {
                let linked = if int(&description, 44) == 0 { 1 } else { 2 };
                strips.push(Strip { at: at + 40, count: linked, kind: Kind::Types(self.types) });
                self.methods(layout, file, (at, to), &description, &mut strips)?;
                at += 40;
            }
            at += 8;
        }
        strips.retain(|s| {
            s.at >= start && u64::from(s.at) + 4 * u64::from(s.count) <= u64::from(end)
        });
        Ok(strips)
    }

    /// Whether this looks like an `abi.Type`.
    fn is_type(&self, layout: &Layout, d: &[u8; 96]) -> bool {
        let aligned = |b: u8| matches!(b, 1 | 2 | 4 | 8);
        let place = |address: u64| address == 0 || layout.space.point(address).is_some();
        let name = int(d, 40);
        long(d, 0) < 1 << 32
            && long(d, 8) <= long(d, 0)
            && aligned(d[21])
            && aligned(d[22])
            && matches!(d[23] & 31, 1..=26)
            && d[20] < 64
            && place(long(d, 24))
            && place(long(d, 32))
            && name != 0
            && name < self.types_end - self.types
            && int(d, 44) < self.types_end - self.types
    }

    /// The offsets in the methods of the type at `at`.
    fn methods(
        &self,
        layout: &Layout,
        file: &mut Pieces<'_>,
        (at, end): (u32, u32),
        d: &[u8; 96],
        strips: &mut Vec<Strip>,
    ) -> Result<(), Error> {
        let types = Kind::Types(self.types);
        let uncommon = match d[23] & 31 {
            17 => 72,
            18 => 64,
            19 | 22 | 23 => 56,
            20 | 25 => 80,
            21 => 112,
            _ => 48,
        };
        if d[23] & 31 == 20
            && let (Some(point), 1..1024) = (layout.space.point(long(d, 56)), long(d, 64))
        {
            let count = u32::try_from(2 * long(d, 64)).unwrap_or(0);
            strips.push(Strip { at: point, count, kind: types });
        }
        if d[20] & 1 == 0 || at + uncommon + 16 > end {
            return Ok(());
        }
        let mut common = [0; 16];
        file.read(u64::from(at + uncommon), &mut common)?;
        let (count, offset) =
            (u32::from(u16::from_le_bytes([common[4], common[5]])), int(&common, 8));
        if int(&common, 0) >= self.types_end - self.types || count > 4096 || offset > 1 << 20 {
            return Ok(());
        }
        if int(&common, 0) != 0 {
            strips.push(Strip { at: at + uncommon, count: 1, kind: types });
        }
        if count > 0 && offset % 4 == 0 {
            let kind = Kind::Methods { types: self.types, text: self.text };
            strips.push(Strip { at: at + uncommon + offset, count: 4 * count, kind });
        }
        Ok(())
    }
}

/// The size of the record of a function at `at`.
fn size(file: &mut Pieces<'_>, at: u32) -> Result<u32, Error> {
    let mut fields = [0; RECORD as usize];
    file.read(u64::from(at), &mut fields)?;
    let tables = int(&fields, 28).min(1 << 16) + u32::from(fields[43]);
    Ok((RECORD + 4 * tables).next_multiple_of(8))
}

/// The first words of `runtime.moduledata`: it begins with the address of the table
/// of functions, then that of the names in it.
fn module(
    layout: &Layout,
    file: &mut Pieces<'_>,
    table: &Section,
) -> Result<Option<[u8; 336]>, Error> {
    let mut head = [0; 72];
    file.read(table.offset, &mut head)?;
    let names = table.address.wrapping_add(long(&head, 32));
    let data = layout.sections.iter().filter(|s| s.kind != SHT_NOBITS && s.flags & 5 == 1);
    for section in data {
        let mut at = section.offset.next_multiple_of(8);
        while at + 336 <= section.end() {
            let mut words = [0; 16];
            file.read(at, &mut words)?;
            if long(&words, 0) == table.address && long(&words, 8) == names {
                let mut module = [0; 336];
                file.read(at, &mut module)?;
                return Ok(Some(module));
            }
            at += 8;
        }
    }
    Ok(None)
}
