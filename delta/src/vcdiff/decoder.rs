//! Reads VCDIFF, one window at a time, from a source read by position.

use std::io::{self, BufRead, BufReader, Read, Write};

use super::code::{AddressCache, Instruction, Kind, TABLE, take_varint};
use super::{
    ADLER32, APPLICATION, CODE_TABLE, DECOMPRESS, MAGIC, MAX_ENCODING, MAX_WINDOW, SOURCE, TARGET,
    VcdiffError,
};
use crate::ReadAt;

/// What a decoder may be made to do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest target, in bytes.
    pub target: u64,
}

/// What was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of target written.
    pub target_len: u64,
    /// The application header, where there is one; at most its first 64 KiB.
    pub application: Option<Vec<u8>>,
}

/// Applies `delta` to `source` and writes the target.
///
/// Takes at most 42 MiB of memory whatever the delta says, and about twice the
/// window's size for one that says nothing odd. What was written before an
/// error is to be thrown away.
///
/// # Errors
/// Anything wrong with the delta, or with reading or writing.
pub fn decode(
    delta: &mut dyn Read,
    source: &dyn ReadAt,
    target: &mut dyn Write,
    limits: Limits,
) -> Result<Decoded, VcdiffError> {
    let mut delta = BufReader::with_capacity(64 << 10, delta);
    let (compressor, application) = read_header(&mut delta)?;
    let mut source = Source::new(source);
    let mut target_len = 0;
    let mut window = Window::default();
    let mut number = 0;
    while !delta.fill_buf().map_err(VcdiffError::ReadDelta)?.is_empty() {
        let room = limits.target - target_len;
        window.read(&mut delta, number, compressor, room, limits)?;
        window.build(&mut source, number)?;
        target.write_all(&window.target).map_err(VcdiffError::WriteTarget)?;
        target_len += window.target.len() as u64;
        number += 1;
    }
    Ok(Decoded { target_len, application })
}

fn read_header(
    delta: &mut impl BufRead,
) -> Result<(Option<&'static str>, Option<Vec<u8>>), VcdiffError> {
    let mut magic = [0; 4];
    delta.read_exact(&mut magic).map_err(|e| match truncated(e) {
        VcdiffError::Truncated => VcdiffError::Magic,
        other => other,
    })?;
    if magic != MAGIC {
        return Err(VcdiffError::Magic);
    }
    let indicator = read_byte(delta)?;
    if indicator & !(DECOMPRESS | CODE_TABLE | APPLICATION) != 0 {
        return Err(VcdiffError::Unsupported("an unknown bit of Hdr_Indicator"));
    }
    let mut compressor = None;
    if indicator & DECOMPRESS != 0 {
        compressor = Some(match read_byte(delta)? {
            1 => "secondary compression with djw",
            2 => "secondary compression with lzma",
            16 => "secondary compression with fgk",
            _ => "secondary compression",
        });
    }
    if indicator & CODE_TABLE != 0 {
        return Err(VcdiffError::Unsupported("a code table of the file's own"));
    }
    let mut application = None;
    if indicator & APPLICATION != 0 {
        let len = read_varint(delta)?;
        let mut kept = Vec::new();
        let mut header = delta.by_ref().take(len);
        (&mut header).take(64 << 10).read_to_end(&mut kept).map_err(VcdiffError::ReadDelta)?;
        let skipped = io::copy(&mut header, &mut io::sink()).map_err(VcdiffError::ReadDelta)?;
        if kept.len() as u64 + skipped != len {
            return Err(VcdiffError::Truncated);
        }
        application = Some(kept);
    }
    Ok((compressor, application))
}

/// One window; its buffers serve all windows.
#[derive(Default)]
struct Window {
    segment: (u64, u64),
    target_len: u64,
    adler32: Option<u32>,
    /// Data, instructions and addresses, one behind the other.
    sections: Vec<u8>,
    data_end: usize,
    instructions_end: usize,
    target: Vec<u8>,
}

impl Window {
    fn read(
        &mut self,
        delta: &mut impl BufRead,
        number: u64,
        compressor: Option<&'static str>,
        room: u64,
        limits: Limits,
    ) -> Result<(), VcdiffError> {
        let wrong = |what| VcdiffError::Window { window: number, what };
        let indicator = read_byte(delta)?;
        if indicator & !(SOURCE | TARGET | ADLER32) != 0 {
            return Err(VcdiffError::Unsupported("an unknown bit of Win_Indicator"));
        }
        if indicator & TARGET != 0 {
            return Err(VcdiffError::Unsupported("a segment of the target (VCD_TARGET)"));
        }
        self.segment = (0, 0);
        if indicator & SOURCE != 0 {
            let len = read_varint(delta)?;
            self.segment = (read_varint(delta)?, len);
        }
        let encoding_len = read_varint(delta)?;
        if encoding_len > MAX_ENCODING {
            return Err(wrong("its encoding is over 24 MiB"));
        }
        let mut rest = delta.take(encoding_len);
        self.target_len = read_varint(&mut rest)?;
        if self.target_len > MAX_WINDOW {
            return Err(wrong("it is over 16 MiB"));
        }
        if self.target_len > room {
            return Err(VcdiffError::TooLarge { limit: limits.target });
        }
        if self.segment.1.checked_add(self.target_len).is_none() {
            return Err(wrong("its addresses do not fit 64 bits"));
        }
        if read_byte(&mut rest)? != 0 {
            return Err(VcdiffError::Unsupported(compressor.unwrap_or("secondary compression")));
        }
        let (data, instructions) = (read_varint(&mut rest)?, read_varint(&mut rest)?);
        let addresses = read_varint(&mut rest)?;
        self.adler32 = None;
        if indicator & ADLER32 != 0 {
            let mut bytes = [0; 4];
            rest.read_exact(&mut bytes).map_err(truncated)?;
            self.adler32 = Some(u32::from_be_bytes(bytes));
        }
        let sections = data.checked_add(instructions).and_then(|n| n.checked_add(addresses));
        if sections != Some(rest.limit()) {
            return Err(wrong("its sections do not add up to its length"));
        }
        self.sections.clear();
        let expected = rest.limit();
        rest.read_to_end(&mut self.sections).map_err(VcdiffError::ReadDelta)?;
        if self.sections.len() as u64 != expected {
            return Err(VcdiffError::Truncated);
        }
        // Both are at most MAX_ENCODING.
        self.data_end = data as usize;
        self.instructions_end = (data + instructions) as usize;
        Ok(())
    }

    /// Carries out the instructions.
    fn build(&mut self, source: &mut Source, number: u64) -> Result<(), VcdiffError> {
        let wrong = |what| VcdiffError::Window { window: number, what };
        let (front, mut addresses) = self.sections.split_at(self.instructions_end);
        let (mut data, mut instructions) = front.split_at(self.data_end);
        let mut cache = AddressCache::new();
        self.target.clear();
        while let Some((&code, rest)) = instructions.split_first() {
            instructions = rest;
            for Instruction { kind, size } in TABLE[usize::from(code)] {
                if kind == Kind::Noop {
                    continue;
                }
                let size = match size {
                    0 => take_varint(&mut instructions)
                        .ok_or_else(|| wrong("its instructions end early"))?,
                    size => u64::from(size),
                };
                let here = self.target.len() as u64;
                if size > self.target_len - here {
                    return Err(wrong("its instructions give more than its length"));
                }
                let len = size as usize; // at most MAX_WINDOW
                match kind {
                    Kind::Noop => {}
                    Kind::Add => {
                        let Some((now, later)) = data.split_at_checked(len) else {
                            return Err(wrong("its data end early"));
                        };
                        self.target.extend_from_slice(now);
                        data = later;
                    }
                    Kind::Run => {
                        let Some((&byte, later)) = data.split_first() else {
                            return Err(wrong("its data end early"));
                        };
                        self.target.resize(self.target.len() + len, byte);
                        data = later;
                    }
                    Kind::Copy(mode) => {
                        let address = cache
                            .decode(mode, self.segment.1 + here, &mut addresses)
                            .ok_or_else(|| wrong("a copy has an impossible address"))?;
                        copy(&mut self.target, self.segment, source, address, len)
                            .map_err(|e| e.of(number))?;
                    }
                }
            }
        }
        if self.target.len() as u64 != self.target_len {
            return Err(wrong("its instructions give less than its length"));
        }
        if !data.is_empty() || !addresses.is_empty() {
            return Err(wrong("it has data or addresses that nothing uses"));
        }
        match self.adler32 {
            Some(sum) if sum != adler2::adler32_slice(&self.target) => {
                Err(VcdiffError::Checksum { window: number })
            }
            _ => Ok(()),
        }
    }
}

/// Appends a copy: from the segment (position, length), from the window, or from
/// where the one goes over into the other.
fn copy(
    target: &mut Vec<u8>,
    (position, segment_len): (u64, u64),
    source: &mut Source,
    address: u64,
    len: usize,
) -> Result<(), CopyError> {
    let before = segment_len.saturating_sub(address).min(len as u64) as usize;
    if before > 0 {
        let at = position.checked_add(address).ok_or(CopyError::Outside)?;
        if at.checked_add(before as u64).is_none_or(|end| end > source.len) {
            return Err(CopyError::Outside);
        }
        let start = target.len();
        target.resize(start + before, 0);
        source.read(&mut target[start..], at).map_err(CopyError::Read)?;
    }
    if len > before {
        // `address` lies before the current position, which the cache has checked.
        let mut from = (address + before as u64 - segment_len) as usize;
        let end = target.len() + len - before;
        // A copy may overlap what it makes: each round can take all that is there.
        while target.len() < end {
            let n = (target.len() - from).min(end - target.len());
            target.extend_from_within(from..from + n);
            from += n;
        }
    }
    Ok(())
}

enum CopyError {
    Outside,
    Read(io::Error),
}

impl CopyError {
    fn of(self, window: u64) -> VcdiffError {
        let what = "it copies from behind the end of the source";
        match self {
            CopyError::Outside => VcdiffError::Window { window, what },
            CopyError::Read(error) => VcdiffError::ReadSource(error),
        }
    }
}

const BLOCK: usize = 32 << 10;
const BLOCKS: usize = 32;

/// The source with a few blocks of it in memory, since most copies are short.
struct Source<'a> {
    source: &'a dyn ReadAt,
    len: u64,
    blocks: Vec<(Option<u64>, Vec<u8>)>,
}

impl<'a> Source<'a> {
    fn new(source: &'a dyn ReadAt) -> Self {
        Source { source, len: source.len(), blocks: vec![(None, Vec::new()); BLOCKS] }
    }

    /// Fills `out` from `at`; the caller has checked that it lies inside.
    fn read(&mut self, mut out: &mut [u8], mut at: u64) -> io::Result<()> {
        while !out.is_empty() {
            let (number, skip) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            if skip == 0 && out.len() >= BLOCK {
                let (now, later) = out.split_at_mut(BLOCK);
                self.source.read_exact_at(now, at)?;
                out = later;
                at += BLOCK as u64;
                continue;
            }
            let (held, block) = &mut self.blocks[(number % BLOCKS as u64) as usize];
            if *held != Some(number) {
                *held = None;
                let start = number * BLOCK as u64;
                block.resize((self.len - start).min(BLOCK as u64) as usize, 0);
                self.source.read_exact_at(block, start)?;
                *held = Some(number);
            }
            let n = out.len().min(block.len() - skip);
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&block[skip..skip + n]);
            out = later;
            at += n as u64;
        }
        Ok(())
    }
}

fn truncated(error: io::Error) -> VcdiffError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => VcdiffError::Truncated,
        _ => VcdiffError::ReadDelta(error),
    }
}

fn read_byte(input: &mut impl Read) -> Result<u8, VcdiffError> {
    let mut byte = [0];
    input.read_exact(&mut byte).map_err(truncated)?;
    Ok(byte[0])
}

fn read_varint(input: &mut impl Read) -> Result<u64, VcdiffError> {
    let mut bytes = Vec::with_capacity(10);
    loop {
        let byte = read_byte(input)?;
        bytes.push(byte);
        if byte & 0x80 == 0 {
            break;
        }
        if bytes.len() > 10 {
            return Err(VcdiffError::Unsupported("an integer of more than 64 bits"));
        }
    }
    take_varint(&mut &bytes[..]).ok_or(VcdiffError::Unsupported("an integer of more than 64 bits"))
}
