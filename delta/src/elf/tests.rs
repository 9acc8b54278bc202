//! The scanner on small files made by hand.

use super::sites::{Form, Site, Sites};
use crate::copy::Pieces;

/// A section to be: name, type, flags, bytes.
type Part<'a> = (&'a str, u32, u64, &'a [u8]);

const PROGBITS: u32 = 1;
const SYMTAB: u32 = 2;
const RELA: u32 = 4;
const CODE: u64 = 6;
const READ: u64 = 2;
const WRITE: u64 = 3;
/// Where the first section is; the others follow, each aligned to 16 bytes.
const FIRST: usize = 128;

/// An ELF file with one segment, loaded at `base`, and these sections.
fn file(kind: u16, base: u64, parts: &[Part<'_>]) -> Vec<u8> {
    let mut bytes = vec![0; FIRST];
    let mut names = vec![0];
    let mut headers = vec![0u8; 64];
    let mut strings = vec![0];
    for name in parts.iter().map(|(name, ..)| *name).chain([".shstrtab"]) {
        strings.extend([name.as_bytes(), b"\0"].concat());
    }
    let all = parts.iter().copied().chain([(".shstrtab", 3, 0, strings.as_slice())]);
    for (name, kind, flags, content) in all {
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        let offset = bytes.len() as u64;
        let address = if flags & READ != 0 { base + offset } else { 0 };
        headers.extend((names.len() as u32).to_le_bytes());
        headers.extend(kind.to_le_bytes());
        for value in [flags, address, offset, content.len() as u64, 0, 16, 0] {
            headers.extend(value.to_le_bytes());
        }
        names.extend([name.as_bytes(), b"\0"].concat());
        bytes.extend(content);
    }
    let sections = bytes.len() as u64;
    bytes.extend(&headers);
    let len = bytes.len() as u64;
    bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    let count = (headers.len() / 64) as u16;
    for (at, value) in
        [(16, kind), (18, 62), (54, 56), (56, 1), (58, 64), (60, count), (62, count - 1)]
    {
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    let segment = [(64, 1), (72, 0), (80, base), (88, base), (96, len), (104, len)];
    for (at, value) in [(24, 0), (32, 64), (40, sections)].into_iter().chain(segment) {
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// The references of the file that begin before `end`, its heads aside.
fn references(file: &[u8], end: u32) -> Vec<Site> {
    let mut sites =
        Sites::scan(Pieces::new(&file)).expect("memory can be read").expect("an ELF file");
    let mut found = Vec::new();
    sites.list(FIRST as u32, end, file.len() as u32, &mut found).expect("memory can be read");
    found
}

fn check(file: &[u8], end: usize, expected: &[(usize, u8, Form)]) {
    let expected: Vec<_> =
        expected.iter().map(|&(at, width, form)| Site { at: at as u32, width, form }).collect();
    assert_eq!(references(file, end as u32), expected);
}

const PIE: u16 = 3;
const FIXED: u16 = 2;

#[test]
fn code_refers_by_calls_and_operands_that_stay_in_the_file() {
    let code = [
        0xE8, 0, 0, 0, 0, // call the next
        0x48, 0x8D, 0x05, 0xF0, 0xFF, 0xFF, 0xFF, // lea rax, [rip - 16]
        0xE8, 0, 0, 0, 0x7F, // call far outside
        0xC3,
    ];
    let expected = [(FIRST + 1, 4, Form::Relative(0)), (FIRST + 8, 4, Form::Relative(0))];
    check(&file(PIE, 0, &[(".text", PROGBITS, CODE, &code)]), FIRST + code.len(), &expected);
}

#[test]
fn immediates_are_addresses_in_fixed_executables_only() {
    let code = [0xBF, 0x84, 0, 0x40, 0, 0xC3]; // mov edi, 0x400084
    let parts: [Part<'_>; 1] = [(".text", PROGBITS, CODE, &code)];
    check(&file(FIXED, 0x40_0000, &parts), FIRST + 6, &[(FIRST + 1, 4, Form::Absolute)]);
    check(&file(PIE, 0x40_0000, &parts), FIRST + 6, &[]);
}

#[test]
fn words_of_data_are_addresses_in_fixed_executables_only() {
    let data = [0x40_0080u64, 17, 0x40_0088].map(u64::to_le_bytes).concat();
    let parts: [Part<'_>; 2] =
        [(".text", PROGBITS, CODE, &[0xC3]), (".data", PROGBITS, WRITE, &data)];
    let expected = [(FIRST + 16, 8, Form::Absolute), (FIRST + 32, 8, Form::Absolute)];
    check(&file(FIXED, 0x40_0000, &parts), FIRST + 40, &expected);
    check(&file(PIE, 0x40_0000, &parts), FIRST + 40, &[]);
}

#[test]
fn relocations_name_their_word_and_what_is_in_it() {
    let (table, data) = (FIRST + 16, FIRST + 48);
    let relocation = [data as u64, 8, FIRST as u64].map(u64::to_le_bytes).concat();
    let word = (FIRST as u64).to_le_bytes();
    let parts: [Part<'_>; 3] = [
        (".text", PROGBITS, CODE, &[0xC3]),
        (".rela.dyn", RELA, READ, &relocation),
        (".data", PROGBITS, WRITE, &word),
    ];
    let expected =
        [(table, 8, Form::Absolute), (table + 16, 8, Form::Absolute), (data, 8, Form::Absolute)];
    check(&file(PIE, 0, &parts), data + 8, &expected);
}

#[test]
fn a_jump_table_begins_where_lea_points() {
    // lea rdx, [rip + 9]: the table is 16 bytes behind the code's start.
    let code = [0x48, 0x8D, 0x15, 9, 0, 0, 0, 0xC3];
    let table = [-16i32, -9, 0x7000_0000].map(i32::to_le_bytes).concat();
    let parts: [Part<'_>; 2] =
        [(".text", PROGBITS, CODE, &code), (".rodata", PROGBITS, READ, &table)];
    let start = FIRST + 16;
    let beside = Form::Beside(start as u32);
    let expected = [(FIRST + 3, 4, Form::Relative(0)), (start, 4, beside), (start + 4, 4, beside)];
    check(&file(PIE, 0, &parts), start + 12, &expected);
}

#[test]
fn symbols_name_their_string_and_their_place() {
    let mut symbol = [0u8; 24];
    symbol[0] = 1;
    symbol[6] = 1;
    symbol[8..16].copy_from_slice(&(FIRST as u64).to_le_bytes());
    let parts: [Part<'_>; 2] =
        [(".text", PROGBITS, CODE, &[0xC3]), (".symtab", SYMTAB, 0, &symbol)];
    let at = FIRST + 16;
    let expected = [(at, 4, Form::Entry { base: 0, size: 1 }), (at + 8, 8, Form::Absolute)];
    check(&file(PIE, 0, &parts), at + 24, &expected);
}

#[test]
fn frames_name_their_common_part_and_their_function() {
    let mut frames = Vec::new();
    // Common: version 1, "zR", alignments 1 and -8, register 16, functions relative.
    frames.extend([16, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1B, 0, 0, 0]);
    // Description: length, distance to the common part, function, its size.
    frames.extend([16, 0, 0, 0, 24, 0, 0, 0]);
    frames.extend((-44i32).to_le_bytes());
    frames.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    frames.extend([0; 4]);
    let parts: [Part<'_>; 2] =
        [(".text", PROGBITS, CODE, &[0xC3]), (".eh_frame", PROGBITS, READ, &frames)];
    let description = FIRST + 16 + 20;
    let expected = [(description + 4, 4, Form::Before), (description + 8, 4, Form::Relative(0))];
    check(&file(PIE, 0, &parts), FIRST + 16 + frames.len(), &expected);
}

#[test]
fn references_are_the_same_from_wherever_they_are_listed() {
    let code: Vec<u8> = (0..4000)
        .flat_map(|n: i32| {
            [&[0xE8][..], &(-n).to_le_bytes(), &[0x90; 3][..n as usize % 4]].concat()
        })
        .collect();
    let made = file(PIE, 0, &[(".text", PROGBITS, CODE, &code)]);
    let mut sites =
        Sites::scan(Pieces::new(&made)).expect("memory can be read").expect("an ELF file");
    let end = (FIRST + code.len()) as u32;
    let (mut all, mut some) = (Vec::new(), Vec::new());
    sites.list(FIRST as u32, end, end, &mut all).expect("memory can be read");
    assert!(all.len() > 3900, "{} found", all.len());
    for start in (FIRST as u32..end).step_by(97) {
        sites.list(start, end.min(start + 3000), end, &mut some).expect("memory can be read");
        let expected: Vec<_> =
            all.iter().filter(|s| s.at >= start && s.at < start + 3000).copied().collect();
        assert_eq!(some, expected, "from {start}");
    }
}
