//! What the matcher sees of a file: each reference replaced by a hash of what is at
//! its target, so that moved code and data look the same.

use super::data::R_RELATIVE;
use super::layout::{Layout, SHF_ALLOC, SHT_RELA, int, long};
use super::sites::{Form, Site, Sites};
use crate::Error;

/// How many bytes at a target its hash is made of.
const SEEN: usize = 24;

/// The bytes of `file` as the matcher shall see them.
pub(super) fn image(file: &[u8], sites: &mut Sites<'_>) -> Result<Vec<u8>, Error> {
    let len = u32::try_from(file.len()).unwrap_or(u32::MAX);
    let mut references = Vec::new();
    let mut piece = Vec::new();
    let mut at = 0;
    while at < len {
        let stop = len.min(at + (64 << 10));
        sites.list(at, stop, len, &mut piece)?;
        let space = sites.space();
        for site in &piece {
            let value = site.read(&file[site.at as usize..]);
            let target =
                site.target(value, site.at, site.base().unwrap_or(0), space).any_point(space);
            references.push((*site, target));
        }
        at = stop.max(piece.last().map_or(0, |s| s.end()));
    }
    let filled = filled(file, sites.layout());
    let mut blank = file.to_vec();
    for (site, _) in &references {
        blank[site.at as usize..site.end() as usize].fill(kind(*site));
    }
    for Filled { point, with } in &filled {
        let hash = match with {
            Filling::Symbol(hash) => *hash,
            Filling::Place(_) => 0,
        };
        if let Some(slot) = blank.get_mut(*point as usize..*point as usize + 8) {
            slot.copy_from_slice(&hash.to_le_bytes());
        }
    }
    // Once more, so that what differs only in what it refers to differs too: stubs
    // of imported functions, above all.
    let first = replaced(&blank, &references, &filled, &blank);
    Ok(replaced(&blank, &references, &filled, &first))
}

fn kind(site: Site) -> u8 {
    match site.form {
        Form::Relative(_) => 1,
        Form::Absolute => 2,
        Form::Beside(_) => 3,
        Form::Based(_) => 4,
        Form::Entry { .. } => 5,
        Form::Before => 6,
    }
}

/// `blank` with each reference replaced by the hash of what `seen` has at its target.
fn replaced(blank: &[u8], references: &[(Site, u32)], filled: &[Filled], seen: &[u8]) -> Vec<u8> {
    let mut image = blank.to_vec();
    for (site, target) in references {
        let hash = content(seen, *target as usize);
        let bytes = hash.to_le_bytes();
        let field = &mut image[site.at as usize..site.end() as usize];
        let width = field.len().min(4);
        field[..width].copy_from_slice(&bytes[..width]);
    }
    for Filled { point, with } in filled {
        let Filling::Place(to) = with else { continue };
        if let Some(word) = image.get_mut(*point as usize..*point as usize + 4) {
            word.copy_from_slice(&content(seen, *to as usize).to_le_bytes());
        }
    }
    image
}

fn content(seen: &[u8], at: usize) -> u32 {
    let rest = seen.get(at..).unwrap_or(&[]);
    let mut hash = 0u64;
    for word in rest[..rest.len().min(SEEN)].chunks(8) {
        hash = (hash ^ long(word, 0) ^ word.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash ^= hash >> 29;
    }
    u32::from_le_bytes(
        *hash.wrapping_mul(0xBF58_476D_1CE4_E5B9).to_be_bytes().first_chunk().unwrap_or(&[0; 4]),
    )
}

/// A word that a relocation fills.
struct Filled {
    point: u32,
    with: Filling,
}

enum Filling {
    /// A symbol, by the hash of its name.
    Symbol(u64),
    /// The address of this point; the word in the file is zero.
    Place(u32),
}

/// The words that relocations fill.
fn filled(file: &[u8], layout: &Layout) -> Vec<Filled> {
    let mut found = Vec::new();
    for section in layout.sections.iter().filter(|s| s.kind == SHT_RELA && s.flags & SHF_ALLOC != 0)
    {
        let symbols = layout.sections.get(section.link);
        let names = symbols.and_then(|s| layout.sections.get(s.link));
        for entry in part(file, section.offset, section.size).chunks_exact(24) {
            let (kind, number) = (int(entry, 8), u64::from(int(entry, 12)));
            let Some(point) = layout.space.point(long(entry, 0)) else { continue };
            if kind == R_RELATIVE {
                let zero = file.get(point as usize..point as usize + 8) == Some(&[0; 8]);
                if let (true, Some(to)) = (zero, layout.space.point(long(entry, 16))) {
                    found.push(Filled { point, with: Filling::Place(to) });
                }
            } else if let (Some(symbols), Some(names), 1..) = (symbols, names, number) {
                let symbol =
                    part(file, symbols.offset.saturating_add(number.saturating_mul(24)), 4);
                let at = u64::from(int(symbol, 0));
                let name = part(
                    file,
                    names.offset.saturating_add(at),
                    names.size.saturating_sub(at).min(256),
                );
                let name = name.split(|b| *b == 0).next().unwrap_or(&[]);
                found.push(Filled { point, with: Filling::Symbol(fnv(name)) });
            }
        }
    }
    found
}

fn part(file: &[u8], offset: u64, len: u64) -> &[u8] {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let to = from.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
    file.get(from..to).unwrap_or(&[])
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3))
}
