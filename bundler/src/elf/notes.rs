//! Notes: libraries that a program may load while running, and the level of
//! x86-64 that it needs.

use serde::Deserialize;

use super::{ElfError, Fields, Image, PT_NOTE, ReadAt};

/// Most bytes of a note segment that are read.
const MAX_NOTES: u64 = 256 * 1024;
/// Type of a `.note.dlopen`, with owner `FDO` (UAPI.12, "ELF Dlopen Metadata").
const NT_DLOPEN: u32 = 0x407c_0c0a;
/// Type of a `.note.gnu.property`, with owner `GNU`.
const NT_GNU_PROPERTY: u32 = 5;
/// Its property with the x86-64 levels needed, one bit each.
const X86_ISA_1_NEEDED: u32 = 0xc000_8002;

/// One library, by any of its names, that a program may load while running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct DlopenNote {
    /// The names that are tried, in order.
    pub soname: Vec<String>,
    /// `required`, `recommended` or `suggested`; where absent, `recommended`.
    #[serde(default)]
    pub priority: Option<String>,
    /// A short name of what it is for.
    #[serde(default)]
    pub feature: Option<String>,
}

#[derive(Default)]
pub(super) struct Notes {
    pub(super) dlopen: Vec<DlopenNote>,
    pub(super) bad_dlopen: bool,
    pub(super) isa_level: Option<u8>,
}

pub(super) fn read<R: ReadAt + ?Sized>(image: &Image<'_, R>) -> Result<Notes, ElfError> {
    let mut notes = Notes::default();
    let mut budget = MAX_NOTES;
    for segment in image.segments.iter().filter(|s| s.kind == PT_NOTE) {
        let size = segment.size.min(budget);
        budget -= size;
        let what = "notes";
        let bytes = image.bytes(segment.offset, usize::try_from(size).unwrap_or(0), what)?;
        let align = if segment.align == 8 { 8 } else { 4 };
        walk(Fields { bytes: &bytes, abi: image.abi, what }, align, &mut notes);
    }
    Ok(notes)
}

/// A note that does not fit ends the walk: notes decide nothing that must be.
fn walk(segment: Fields<'_>, align: usize, notes: &mut Notes) {
    let mut at = 0usize;
    while let (Ok(owner_size), Ok(size), Ok(kind)) =
        (segment.u32(at), segment.u32(at.saturating_add(4)), segment.u32(at.saturating_add(8)))
    {
        let padded = |n: usize| n.checked_next_multiple_of(align);
        let owner_at = at.saturating_add(12);
        let place = (|| {
            let (owner_size, size) = (owner_size as usize, size as usize);
            let start = padded(owner_at.checked_add(owner_size)?)?;
            let end = start.checked_add(size)?;
            let owner = segment.bytes.get(owner_at..owner_at.checked_add(owner_size)?)?;
            Some((owner, segment.bytes.get(start..end)?, padded(end)?))
        })();
        let Some((owner, content, next)) = place else { return };
        match (owner, kind) {
            (b"FDO\0", NT_DLOPEN) => {
                let json = content.split(|&b| b == 0).next().unwrap_or_default();
                match serde_json::from_slice::<Vec<DlopenNote>>(json) {
                    Ok(found) => notes.dlopen.extend(found),
                    Err(_) => notes.bad_dlopen = true,
                }
            }
            (b"GNU\0", NT_GNU_PROPERTY) => {
                let content = Fields { bytes: content, ..segment };
                notes.isa_level = isa_level(content, align).max(notes.isa_level);
            }
            _ => {}
        }
        at = next;
    }
}

fn isa_level(properties: Fields<'_>, align: usize) -> Option<u8> {
    let mut at = 0usize;
    while let (Ok(kind), Ok(size)) = (properties.u32(at), properties.u32(at.checked_add(4)?)) {
        if kind == X86_ISA_1_NEEDED {
            let bits = properties.u32(at.checked_add(8)?).ok()?;
            return u8::try_from(32 - bits.leading_zeros()).ok().filter(|&level| level > 0);
        }
        at = at.checked_add(8)?.checked_add(size as usize)?.checked_next_multiple_of(align)?;
    }
    None
}
