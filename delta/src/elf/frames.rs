//! References in `.eh_frame` (LSB core, "DWARF extensions"): frame descriptions name
//! their common part, their function, and its exception table.

use super::layout::int;
use super::sites::{Form, GRANULE, Scan, Site, Span};
use crate::Error;
use crate::copy::Pieces;

/// Per granule, how many bytes are before the first record that begins in it.
pub(super) fn marks(file: &mut Pieces<'_>, start: u32, end: u32) -> Result<Vec<u16>, Error> {
    let mut marks = Vec::new();
    let mut granule_start = start;
    let mut at = start;
    loop {
        while granule_start <= at && granule_start < end {
            let next = (granule_start / GRANULE + 1) * GRANULE;
            let mark = if at < next { at - granule_start } else { u32::from(u16::MAX) };
            marks.push(u16::try_from(mark).unwrap_or(u16::MAX));
            granule_start = next;
        }
        let Some(size) = size(file, at, end)? else { return Ok(marks) };
        at += size;
    }
}

/// The size of the record at `at`, its length field included; `None` behind the
/// last.
fn size(file: &mut Pieces<'_>, at: u32, end: u32) -> Result<Option<u32>, Error> {
    let mut field = [0; 4];
    if end.saturating_sub(at) < 4 {
        return Ok(None);
    }
    file.read(u64::from(at), &mut field)?;
    let len = int(&field, 0);
    // 0xFFFFFFFF would begin a 64-bit record, which no compiler writes here.
    Ok(len.checked_add(4).filter(|size| *size <= end - at))
}

/// DW_EH_PE_pcrel | DW_EH_PE_sdata4; and the same, indirect.
const RELATIVE: u8 = 0x1B;
const INDIRECT: u8 = 0x9B;

/// What the common part says of the descriptions that name it.
#[derive(Clone, Copy, Default)]
struct Common {
    function: u8,
    exceptions: u8,
    /// Where its pointer to the personality routine is, if relative.
    personality: Option<u32>,
}

/// Lists the references of the records that begin within `span`.
pub(super) fn list(
    scan: &mut Scan<'_, '_>,
    start: u32,
    span: Span,
    mark: Option<u16>,
) -> Result<(), Error> {
    let Some(mark) = mark else { return Ok(()) };
    let mut at = span.from.saturating_add(u32::from(mark));
    let mut last: Option<(u32, Common)> = None;
    while at < span.to {
        let Some(size) = size(scan.file, at, span.end)? else { break };
        let mut record = [0; 64];
        let held = size.min(64) as usize;
        scan.file.read(u64::from(at), &mut record[..held])?;
        let record = &record[..held];
        let back = int(record, 4);
        if size >= 8 && back == 0 {
            if let Some(field) = common(record).personality {
                let site = Site { at: at + field, width: 4, form: Form::Relative(0) };
                scan.add(site, record.get(field as usize..).unwrap_or(&[]));
            }
        } else if size >= 17 {
            let whose = (at + 4).checked_sub(back).filter(|whose| *whose >= start);
            if let Some(whose) = whose {
                scan.out.push(Site { at: at + 4, width: 4, form: Form::Before });
                let shared = match last {
                    Some((point, shared)) if point == whose => shared,
                    _ => {
                        let mut bytes = [0; 64];
                        let len = (span.end - whose).min(64) as usize;
                        scan.file.read(u64::from(whose), &mut bytes[..len])?;
                        common(&bytes[..len])
                    }
                };
                last = Some((whose, shared));
                if shared.function == RELATIVE {
                    let site = Site { at: at + 8, width: 4, form: Form::Relative(0) };
                    scan.add(site, &record[8..]);
                }
                // Start and length of the function, length of the augmentation (4).
                let exceptions =
                    record.get(17..21).filter(|_| shared.exceptions == RELATIVE && record[16] == 4);
                if let Some(field) = exceptions.filter(|f| **f != [0; 4]) {
                    scan.add(Site { at: at + 17, width: 4, form: Form::Relative(0) }, field);
                }
            }
        }
        at += size;
    }
    Ok(())
}

/// Reads a common part: its augmentation string, which begins with `z`, says what
/// its augmentation data hold.
fn common(record: &[u8]) -> Common {
    let mut found = Common::default();
    let text = record.get(9..).unwrap_or(&[]);
    let Some(len) = text.iter().position(|b| *b == 0) else { return found };
    let text = &text[..len];
    if text.first() != Some(&b'z') {
        return found;
    }
    let mut at = 9 + len + 1;
    let byte = |at: usize| record.get(at).copied().unwrap_or(0);
    // Code alignment, data alignment, return register, length of what follows.
    for _ in 0..4 {
        while byte(at) & 0x80 != 0 {
            at += 1;
        }
        at += 1;
    }
    for letter in &text[1..] {
        match letter {
            b'R' => {
                found.function = byte(at);
                at += 1;
            }
            b'L' => {
                found.exceptions = byte(at);
                at += 1;
            }
            b'P' if matches!(byte(at), RELATIVE | INDIRECT) => {
                found.personality = u32::try_from(at + 1).ok().filter(|at| *at <= 60);
                at += 5;
            }
            b'P' => return found,
            _ => {}
        }
    }
    found
}
