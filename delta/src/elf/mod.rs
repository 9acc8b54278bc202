//! The codec for pairs of x86-64 executables and libraries.
//!
//! When code moves, what changes is mostly the references to it. So the references
//! of the old file are found ([`sites`]) by both ends, the stretches that are copied
//! make a map of where everything went ([`map`]), and a copied reference travels
//! only where the map does not predict it. The encoder matches images in which
//! references look the same wherever they point ([`image`]).
//!
//! Per file, in `Header`: [`VERSION`]; the number of segments, and for each of them
//! address, offset, size in the file, size in memory, each less that of the same
//! segment of the old file; then blocks and differences as [`split`](crate::split),
//! where the bytes of references are left out of the differences. References that
//! are wholly within a copied stretch make one sequence: `RefRun`, one more than the
//! number of references as predicted before one that is not, then the difference
//! (new − predicted) in `RefValue`, or 0 where the map without what was learned
//! predicts it; a `RefRun` of 0 follows the last.

mod data;
mod frames;
mod go;
mod image;
mod layout;
mod literal;
mod map;
mod regions;
mod sites;
#[cfg(test)]
mod tests;
mod x86;

use std::io::Write;

use crate::copy::{AddReader, AddWriter, Pieces, next_run};
use crate::matcher::{self, Block};
use crate::split::{self, BlockReader};
use crate::{Effort, Error, ReadAt, Stream, StreamReader, Streams};

use layout::{Segment, Space};
use literal::Code;
use map::Map;
use sites::{Site, Sites};

/// The version of all that both ends must do alike: what counts as a reference, and
/// how it is predicted.
const VERSION: u64 = 1;
/// Files that would need more copied stretches are not encoded.
const MOST_BLOCKS: u64 = 1 << 19;
/// Old bytes are taken in pieces of this size, and what a reference may be over it.
const PIECE: u32 = 32 << 10;

/// Encodes `new` against `old`; `None` where one of them is not understood, and
/// nothing is then written to `out`.
#[must_use]
pub fn encode(old: &[u8], new: &[u8], out: &mut Streams, effort: Effort) -> Option<()> {
    let mut old_sites = Sites::scan(Pieces::new(&old)).ok()??;
    let mut new_sites = Sites::scan(Pieces::new(&new)).ok()??;
    let old_image = image::image(old, &mut old_sites).ok()?;
    let new_image = image::image(new, &mut new_sites).ok()?;
    let blocks = matcher::blocks(&old_image, &new_image, effort);
    drop((old_image, new_image));
    if blocks.len() as u64 > MOST_BLOCKS {
        return None;
    }
    let new_space = new_sites.space().clone();
    let mut written = Streams::new();
    written.put_u64(Stream::Header, VERSION);
    put_segments(old_sites.space(), &new_space, &mut written);
    let code = code_points(&new_sites);
    for (new, old) in
        [(code.start, code_points(&old_sites).start), (code.end, code_points(&old_sites).end)]
    {
        written.put_i64(Stream::Header, i64::from(new) - i64::from(old));
    }
    split::put_blocks(&blocks, new.len(), &mut written, |from, to, out| {
        code.put(new, (from as u32, to as u32), &new_space, out);
    });
    let map = Map::new(blocks, u32::try_from(old.len()).ok()?, u32::try_from(new.len()).ok()?);
    let order = map.order();
    let mut adds = AddWriter::default();
    let mut references = ReferenceWriter { references: References { map, new_space }, run: 0 };
    let mut sites = Vec::new();
    for number in order {
        let block = references.references.map.block(number);
        let mut at = block.old;
        while at < block.old_end() {
            let end = piece(&mut old_sites, at, block.old_end(), &mut sites).ok()?;
            let from = |point: u32| (point - block.old + block.new) as usize;
            let mut plain = at;
            for site in &sites {
                adds.stretch(
                    &old[plain as usize..site.at as usize],
                    &new[from(plain)..from(site.at)],
                    &mut written,
                );
                let fields = (
                    &old[site.at as usize..site.end() as usize],
                    &new[from(site.at)..from(site.end())],
                );
                let new_at = site.at - block.old + block.new;
                references.put(*site, new_at, fields, old_sites.space(), &mut written);
                plain = site.end();
            }
            adds.stretch(
                &old[plain as usize..end as usize],
                &new[from(plain)..from(end)],
                &mut written,
            );
            at = end;
        }
    }
    adds.finish(&mut written);
    written.put_u64(Stream::RefRun, 0);
    out.append(&written);
    Some(())
}

/// Restores the `new_len` bytes that were encoded against `old`.
///
/// # Errors
/// Whatever of `input` is not a delta against `old`, and failed reads and writes.
pub fn decode(
    old: &dyn ReadAt,
    new_len: u64,
    input: &mut StreamReader<'_>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let found = input.u64(Stream::Header)?;
    if found != VERSION {
        return Err(Error::Version { found, expected: VERSION });
    }
    let mut old_sites = Sites::scan(Pieces::new(old))?.ok_or(Error::WrongBase)?;
    let new_space = get_segments(old_sites.space(), new_len, input)?;
    let too_long = |_| Error::Impossible(Stream::Header);
    let was = code_points(&old_sites);
    let mut bound = |old: u32| {
        u32::try_from(i64::from(old).wrapping_add(input.i64(Stream::Header)?)).map_err(too_long)
    };
    let code = Code { start: bound(was.start)?, end: bound(was.end)? };
    let mut reader = BlockReader::new(old.len(), new_len, input)?;
    if reader.left() > MOST_BLOCKS {
        return Err(Error::Impossible(Stream::Header));
    }
    let blocks = get_blocks(&mut reader, input)?;
    let (old_len, short_new_len) =
        (u32::try_from(old.len()).map_err(too_long)?, u32::try_from(new_len).map_err(too_long)?);
    let map = Map::new(blocks, old_len, short_new_len);
    let order = map.order();
    let mut adds = AddReader::new(input)?;
    let run = next_run(input, Stream::RefRun)?;
    let mut references = ReferenceReader { references: References { map, new_space }, run };
    let mut buffer = vec![0; PIECE as usize + 16];
    let (mut sites, mut new_end) = (Vec::new(), 0);
    for number in order {
        let block = references.references.map.block(number);
        code.get((new_end, block.new), &references.references.new_space, &mut buffer, input, out)?;
        new_end = block.new_end();
        let mut at = block.old;
        while at < block.old_end() {
            let end = piece(&mut old_sites, at, block.old_end(), &mut sites)?;
            let bytes = &mut buffer[..(end - at) as usize];
            old_sites.file().read(u64::from(at), bytes)?;
            let mut plain = 0;
            for site in &sites {
                let from = (site.at - at) as usize;
                let (before, rest) = bytes.split_at_mut(from);
                adds.stretch(&mut before[plain..], input)?;
                let field = &mut rest[..usize::from(site.width)];
                references.get(
                    *site,
                    site.at - block.old + block.new,
                    field,
                    old_sites.space(),
                    input,
                )?;
                plain = from + usize::from(site.width);
            }
            adds.stretch(&mut bytes[plain..], input)?;
            out.write_all(bytes).map_err(Error::WriteNew)?;
            at = end;
        }
    }
    adds.finish()?;
    if references.run != u64::MAX {
        return Err(Error::Impossible(Stream::RefRun));
    }
    code.get((new_end, short_new_len), &references.references.new_space, &mut buffer, input, out)
}

/// Where the code of a file is.
fn code_points(sites: &Sites<'_>) -> Code {
    let (low, high) = sites.code();
    let start = sites.space().any_point(low);
    Code { start, end: start.saturating_add(u32::try_from(high - low).unwrap_or(0)) }
}

/// Lists the references of the next piece of a copied stretch, and says where the
/// piece ends.
fn piece(old: &mut Sites<'_>, at: u32, end: u32, sites: &mut Vec<Site>) -> Result<u32, Error> {
    let stop = end.min(at.saturating_add(PIECE));
    old.list(at, stop, end, sites)?;
    Ok(stop.max(sites.last().map_or(0, |s| s.end())))
}

fn get_blocks(reader: &mut BlockReader, input: &mut StreamReader<'_>) -> Result<Vec<Block>, Error> {
    let too_long = |_| Error::Impossible(Stream::Copy);
    let mut blocks = Vec::with_capacity(usize::try_from(reader.left()).unwrap_or(0));
    let mut new = 0u64;
    while let Some(stretch) = reader.next(input)? {
        new += stretch.insert;
        blocks.push(Block {
            old: u32::try_from(stretch.old).map_err(too_long)?,
            new: u32::try_from(new).map_err(too_long)?,
            len: u32::try_from(stretch.len).map_err(too_long)?,
        });
        new += stretch.len;
    }
    Ok(blocks)
}

fn put_segments(old: &Space, new: &Space, out: &mut Streams) {
    out.put_u64(Stream::Header, new.segments().count() as u64);
    let fallback = std::iter::repeat(Segment::default());
    for (new, old) in new.segments().zip(old.segments().copied().chain(fallback)) {
        for (new, old) in numbers(*new).into_iter().zip(numbers(old)) {
            out.put_i64(Stream::Header, new.wrapping_sub(old).cast_signed());
        }
    }
}

fn numbers(s: Segment) -> [u64; 4] {
    [s.address, s.offset, s.file_size, s.memory_size]
}

fn get_segments(old: &Space, new_len: u64, input: &mut StreamReader<'_>) -> Result<Space, Error> {
    let impossible = || Error::Impossible(Stream::Header);
    let count = input.u64(Stream::Header)?;
    if count > layout::MOST_SEGMENTS {
        return Err(impossible());
    }
    let mut olds = old.segments().copied();
    let mut segments = Vec::new();
    for _ in 0..count {
        let mut values = numbers(olds.next().unwrap_or_default());
        for value in &mut values {
            *value = value.wrapping_add_signed(input.i64(Stream::Header)?);
        }
        let [address, offset, file_size, memory_size] = values;
        segments.push(Segment { address, offset, file_size, memory_size });
    }
    Space::new(new_len, segments).ok_or_else(impossible)
}

/// What predicts references.
struct References {
    map: Map,
    new_space: Space,
}

/// A prediction: of which old target, relative to what new point, and its value.
struct Prediction {
    target: u32,
    base: u32,
    value: i64,
}

impl References {
    /// Predicts the value of an old reference that is at `at` in the new file.
    fn predict(&self, site: Site, at: u32, field: &[u8], old: &Space) -> Prediction {
        let base = site.base();
        let target = site.target(site.read(field), site.at, base.unwrap_or(0), old).any_point(old);
        let base = base.map_or(0, |base| self.map.plain(base));
        let value = site.sum(site.value(self.map.predict(target), at, base, &self.new_space), 0);
        Prediction { target, base, value }
    }

    /// What the value would be by the copied stretches alone.
    fn unlearned(&self, site: Site, at: u32, was: &Prediction) -> i64 {
        site.sum(site.value(self.map.plain(was.target), at, was.base, &self.new_space), 0)
    }

    fn learn(&mut self, site: Site, at: u32, was: &Prediction, value: i64) {
        let new = site.target(value, at, was.base, &self.new_space).any_point(&self.new_space);
        self.map.learn(was.target, new);
    }
}

struct ReferenceWriter {
    references: References,
    run: u64,
}

impl ReferenceWriter {
    fn put(
        &mut self,
        site: Site,
        at: u32,
        (old, new): (&[u8], &[u8]),
        space: &Space,
        out: &mut Streams,
    ) {
        let was = self.references.predict(site, at, old, space);
        let value = site.read(new);
        let difference = site.difference(value, was.value);
        if difference == 0 {
            self.run += 1;
            return;
        }
        out.put_u64(Stream::RefRun, self.run + 1);
        let unlearned = self.references.unlearned(site, at, &was) == value;
        out.put_i64(Stream::RefValue, if unlearned { 0 } else { difference });
        self.run = 0;
        self.references.learn(site, at, &was, value);
    }
}

struct ReferenceReader {
    references: References,
    /// References as predicted before the next that is not.
    run: u64,
}

impl ReferenceReader {
    fn get(
        &mut self,
        site: Site,
        at: u32,
        field: &mut [u8],
        space: &Space,
        input: &mut StreamReader<'_>,
    ) -> Result<(), Error> {
        let was = self.references.predict(site, at, field, space);
        let mut value = was.value;
        if self.run == 0 {
            value = match input.i64(Stream::RefValue)? {
                0 => self.references.unlearned(site, at, &was),
                difference => site.sum(value, difference),
            };
            self.references.learn(site, at, &was, value);
            self.run = next_run(input, Stream::RefRun)?;
        } else if self.run != u64::MAX {
            self.run -= 1;
        }
        let len = field.len();
        field.copy_from_slice(&value.to_le_bytes()[..len.min(8)]);
        Ok(())
    }
}
