//! What the matcher sees of a file: each reference replaced by a hash of what is at
//! its target, so that moved code and data look the same.

use super::layout::{Layout, int, long};
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
    let named = imported(file, sites.layout());
    let mut blank = file.to_vec();
    for (site, _) in &references {
        blank[site.at as usize..site.end() as usize].fill(kind(*site));
    }
    for (point, name) in &named {
        if let Some(slot) = blank.get_mut(*point as usize..*point as usize + 8) {
            slot.copy_from_slice(&name.to_le_bytes());
        }
    }
    // Once more, so that what differs only in what it refers to differs too: stubs
    // of imported functions, above all.
    let first = replaced(&blank, &references, &blank);
    Ok(replaced(&blank, &references, &first))
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
fn replaced(blank: &[u8], references: &[(Site, u32)], seen: &[u8]) -> Vec<u8> {
    let mut image = blank.to_vec();
    for (site, target) in references {
        let hash = content(seen, *target as usize);
        let bytes = hash.to_le_bytes();
        let field = &mut image[site.at as usize..site.end() as usize];
        let width = field.len().min(4);
        field[..width].copy_from_slice(&bytes[..width]);
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

/// The words that relocations with a symbol fill: their points, and a hash of the
/// symbol's name.
fn imported(file: &[u8], layout: &Layout) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    let bytes = |offset: u64, len: u64| {
        let from = usize::try_from(offset).ok()?;
        file.get(from..from.checked_add(usize::try_from(len).ok()?)?)
    };
    for section in layout.sections.iter().filter(|s| s.kind == 4 && s.flags & 2 != 0) {
        let symbols = layout.sections.get(section.link);
        let names = symbols.and_then(|s| layout.sections.get(s.link));
        let (Some(symbols), Some(names)) = (symbols, names) else { continue };
        for entry in bytes(section.offset, section.size).unwrap_or(&[]).chunks_exact(24) {
            let number = u64::from(int(entry, 12));
            if number == 0 || number >= symbols.size / 24 {
                continue;
            }
            let symbol = bytes(symbols.offset.saturating_add(number * 24), 4).unwrap_or(&[]);
            let name = bytes(names.offset.saturating_add(u64::from(int(symbol, 0))), 1)
                .and_then(|_| {
                    file.get(usize::try_from(names.offset).ok()? + int(symbol, 0) as usize..)
                })
                .unwrap_or(&[]);
            let len = name.iter().take(256).position(|b| *b == 0).unwrap_or(0);
            let hash = name[..len].iter().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| {
                (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3)
            });
            if let Some(point) = layout.space.point(long(entry, 0)) {
                found.push((point, hash));
            }
        }
    }
    found
}
