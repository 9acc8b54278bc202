//! The section header table, which only tools read: a program runs without it.

use super::{Class, ElfError, Fields, Image, ReadAt, read_full, read_head};

/// Most sections that are looked at; files with more (`SHN_LORESERVE`) count theirs elsewhere.
const MAX_SECTIONS: u16 = 0xff00;
/// Most bytes of section names.
const MAX_NAMES: u64 = 1 << 20;

/// Returns the content of the section called `name`, of at most `limit` bytes;
/// nothing where `source` is no ELF file or has no such section.
///
/// # Errors
/// Where the file begins as ELF and does not go on so, and where the section is larger.
pub fn section<R: ReadAt + ?Sized>(
    source: &R,
    name: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, ElfError> {
    let head = read_head(source)?;
    if !head.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    let image = Image::new(source, head)?;
    let header = Fields { bytes: &image.head, abi: image.abi, what: "header" };
    let wide = image.abi.class == Class::Elf64;
    let (fields, each) = if wide { (58, 64) } else { (46, 40) };
    let table = header.word(40, 32)?;
    let (size, count, names) =
        (header.u16(fields)?, header.u16(fields + 2)?, header.u16(fields + 4)?);
    if table == 0 || size != each || count > MAX_SECTIONS || names >= count {
        return Ok(None);
    }
    let what = "section headers";
    let table = image.bytes(table, usize::from(count) * usize::from(each), what)?;
    let place = |at: u16| -> Result<(u64, u64), ElfError> {
        let bytes = table.chunks_exact(each.into()).nth(at.into()).unwrap_or_default();
        let header = Fields { bytes, abi: image.abi, what };
        Ok((header.word(24, 16)?, header.word(32, 20)?))
    };
    let what = "section names";
    let (at, length) = place(names)?;
    let strings = read(source, at, length, MAX_NAMES, what)?;
    for number in 0..count {
        let bytes = table.chunks_exact(each.into()).nth(number.into()).unwrap_or_default();
        let at = Fields { bytes, abi: image.abi, what }.u32(0)?;
        let text = usize::try_from(at).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
        if text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)) {
            let (at, length) = place(number)?;
            return read(source, at, length, limit, "section").map(Some);
        }
    }
    Ok(None)
}

fn read<R: ReadAt + ?Sized>(
    source: &R,
    at: u64,
    length: u64,
    limit: u64,
    what: &'static str,
) -> Result<Vec<u8>, ElfError> {
    let length = usize::try_from(length.min(limit + 1)).unwrap_or(usize::MAX);
    if length as u64 > limit {
        return Err(ElfError::TooLarge(what));
    }
    let mut bytes = vec![0; length];
    match read_full(source, &mut bytes, at, what)? {
        n if n == length => Ok(bytes),
        _ => Err(ElfError::Truncated(what)),
    }
}
