//! Literal code: targets of calls and of RIP-relative operands are taken out of the
//! instructions and travel as addresses, in streams of their own, so that all
//! references to one place look the same.
//!
//! An instruction's length and where its fields are do not depend on what is in
//! them ([`x86`](super::x86)), so both ends find the same fields.

use std::io::Write;

use super::layout::Space;
use super::sites::operand_site;
use super::x86::{self, LONGEST, Operand};
use crate::{Error, Stream, StreamReader, Streams, split};

/// The code of the new file, as points, and its addresses.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// A field of an instruction that travels by itself.
struct Field {
    at: usize,
    /// What its value is relative to, less its own address.
    more: u64,
    stream: Stream,
}

/// The first instruction of `window`, of which `left` bytes are of the literal
/// stretch: its length there, and its field.
fn instruction(mut window: [u8; LONGEST + 1], left: usize) -> (usize, Option<Field>) {
    if let Some(behind) = window.get_mut(left..) {
        behind.fill(0);
    }
    let found = x86::decode(&window);
    let len = usize::from(found.len).min(left);
    let field = found.fields.into_iter().flatten().find_map(|(at, operand)| {
        let stream = match operand {
            Operand::Branch if window[usize::from(at) - 1] == 0xE8 => Stream::NewCall,
            Operand::Rip(_) => Stream::NewData,
            _ => return None,
        };
        let more = match operand {
            Operand::Rip(more) => 4 + u64::from(more),
            _ => 4,
        };
        Some(Field { at: usize::from(at), more, stream })
    });
    (len, field.filter(|f| f.at + 4 <= left))
}

impl Code {
    /// The part of `from..to` that is code.
    fn within(&self, from: u32, to: u32) -> (u32, u32) {
        let start = self.start.clamp(from, to);
        (start, self.end.clamp(start, to))
    }

    /// Writes `from..to` of `new`.
    pub(super) fn put(&self, new: &[u8], (from, to): (u32, u32), space: &Space, out: &mut Streams) {
        let (start, end) = self.within(from, to);
        out.put(Stream::Extra, &new[from as usize..start as usize]);
        let mut at = start;
        while at < end {
            let left = &new[at as usize..end as usize];
            let mut window = [0; LONGEST + 1];
            let seen = left.len().min(window.len());
            window[..seen].copy_from_slice(&left[..seen]);
            let (len, field) = instruction(window, left.len());
            if let Some(Field { at: field, more, stream }) = field {
                let value = operand_site(Operand::Branch, 0).read(&left[field..]);
                let base = space.address(at + field as u32).wrapping_add(more);
                let target = base.wrapping_add_signed(value).to_le_bytes();
                out.put(Stream::Extra, &left[..field]);
                out.put(stream, &[target[3], target[2], target[1], target[0]]);
                out.put(Stream::Extra, &left[field + 4..len]);
            } else {
                out.put(Stream::Extra, &left[..len]);
            }
            at += len as u32;
        }
        out.put(Stream::Extra, &new[end as usize..to as usize]);
    }

    /// Restores `from..to`.
    pub(super) fn get(
        &self,
        (from, to): (u32, u32),
        space: &Space,
        buffer: &mut [u8],
        input: &mut StreamReader<'_>,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let (start, end) = self.within(from, to);
        split::literal(u64::from(start - from), buffer, input, out)?;
        let (mut at, mut filled) = (start, 0);
        while at < end {
            let left = (end - at) as usize;
            let (len, field) = instruction(input.peek(Stream::Extra)?, left);
            if buffer.len() - filled < len {
                out.write_all(&buffer[..filled]).map_err(Error::WriteNew)?;
                filled = 0;
            }
            let bytes = &mut buffer[filled..filled + len];
            if let Some(Field { at: field, more, stream }) = field {
                input.take(Stream::Extra, &mut bytes[..field])?;
                let mut target = [0; 4];
                input.take(stream, &mut target)?;
                let base = space.address(at + field as u32).wrapping_add(more).to_le_bytes();
                let base = u32::from_le_bytes([base[0], base[1], base[2], base[3]]);
                let value = u32::from_be_bytes(target).wrapping_sub(base);
                bytes[field..field + 4].copy_from_slice(&value.to_le_bytes());
                input.take(Stream::Extra, &mut bytes[field + 4..])?;
            } else {
                input.take(Stream::Extra, bytes)?;
            }
            filled += len;
            at += len as u32;
        }
        out.write_all(&buffer[..filled]).map_err(Error::WriteNew)?;
        split::literal(u64::from(to - end), buffer, input, out)
    }
}
