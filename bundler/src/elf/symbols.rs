//! Which functions an ELF file imports.

use super::{Abi, Class, Fields, ReadAt, read_full};

/// Most symbols that are looked at; the largest real tables have a tenth.
const MAX_SYMBOLS: u64 = 4_000_000;
/// Bytes of symbols that are read at a time; a multiple of both sizes.
const PIECE: u64 = 24 * 16 * 256;
/// Largest table of strings that is read as a whole.
const MAX_WHOLE: u64 = 4 * 1024 * 1024;
/// Longest name that can be asked for, with its NUL.
const NAME: usize = 64;

/// Where the dynamic symbols lie in the file, each as offset (and size).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) symbols: Option<(u64, u64)>,
    pub(super) strings: Option<(u64, u64)>,
    pub(super) hash: Option<u64>,
    pub(super) gnu_hash: Option<u64>,
}

pub(super) fn imports<R: ReadAt + ?Sized>(
    table: &Table,
    abi: Abi,
    source: &R,
    names: &[&str],
) -> Vec<bool> {
    let mut found = vec![false; names.len()];
    let (Some((start, rest)), Some((strings, size))) = (table.symbols, table.strings) else {
        return found;
    };
    let each: u64 = if abi.class == Class::Elf64 { 24 } else { 16 };
    let count = count(table, abi, source, each).min(MAX_SYMBOLS).min(rest / each);
    let whole = (size <= MAX_WHOLE).then(|| read(source, strings, size)).flatten();
    let mut done = 0;
    while done < count * each {
        let Some(piece) = read(source, start.saturating_add(done), PIECE.min(count * each - done))
        else {
            break;
        };
        for bytes in piece.chunks_exact(usize::try_from(each).unwrap_or(24)) {
            let symbol = Fields { bytes, abi, what: "symbols" };
            let section = symbol.u16(if abi.class == Class::Elf64 { 6 } else { 14 });
            let (Ok(name), Ok(0)) = (symbol.u32(0), section) else { continue };
            let mut buffer = [0; NAME];
            let name = match &whole {
                Some(whole) => whole.get(name as usize..).unwrap_or_default(),
                None => {
                    let _ = read_full(
                        source,
                        &mut buffer,
                        strings.saturating_add(u64::from(name)),
                        "symbols",
                    );
                    &buffer
                }
            };
            let name = name.get(..NAME.min(name.len())).unwrap_or_default();
            let name = name.split(|&b| b == 0).next().unwrap_or_default();
            if let Some(index) = names.iter().position(|n| n.as_bytes() == name)
                && let Some(flag) = found.get_mut(index)
            {
                *flag = true;
            }
        }
        done += PIECE;
    }
    found
}

/// How many symbols can be imports: all of them by DT_HASH; by DT_GNU_HASH
/// those before the first that is hashed, since it hashes no imports; else as
/// many as fit before the strings.
fn count<R: ReadAt + ?Sized>(table: &Table, abi: Abi, source: &R, each: u64) -> u64 {
    let number = |at: Option<u64>| {
        let bytes = read(source, at?.checked_add(4)?, 4)?;
        Fields { bytes: &bytes, abi, what: "symbols" }.u32(0).ok().map(u64::from)
    };
    // An empty GNU table gives 1 whatever is imported.
    let hashed = number(table.gnu_hash).filter(|&first| first > 1);
    let gap = || Some(table.strings?.0.checked_sub(table.symbols?.0)? / each);
    hashed.or_else(|| number(table.hash)).or_else(gap).unwrap_or(0)
}

fn read<R: ReadAt + ?Sized>(source: &R, at: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    let read = read_full(source, &mut bytes, at, "symbols").ok()?;
    bytes.truncate(read);
    (read > 0).then_some(bytes)
}
