//! Both codecs over random, edited and hostile input.

use std::fs;

use delta::{Effort, StreamReader, Streams, elf, split};
use proptest::prelude::*;

/// A codec's delta of one pair, finished.
fn by_split(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut streams = Streams::new();
    split::encode(old, new, &mut streams, Effort::new(1));
    streams.finish(Effort::new(1)).expect("memory can be written to")
}

fn by_elf(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let mut streams = Streams::new();
    elf::encode(old, new, &mut streams, Effort::new(1))?;
    Some(streams.finish(Effort::new(1)).expect("memory can be written to"))
}

fn restore_split(old: &[u8], len: usize, block: &[u8]) -> Result<Vec<u8>, delta::Error> {
    let mut restored = Vec::new();
    let mut input = StreamReader::open(&block, 0, 1 << 24)?;
    split::decode(&old, len as u64, &mut input, &mut restored)?;
    Ok(restored)
}

fn restore_elf(old: &[u8], len: usize, block: &[u8]) -> Result<Vec<u8>, delta::Error> {
    let mut restored = Vec::new();
    let mut input = StreamReader::open(&block, 0, 1 << 24)?;
    elf::decode(&old, len as u64, &mut input, &mut restored)?;
    Ok(restored)
}

/// A small executable that every Debian and Alpine has.
fn executable() -> Vec<u8> {
    fs::read("/bin/true").expect("/bin/true can be read")
}

/// What can happen to a file between two releases.
#[derive(Clone, Debug)]
enum Edit {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Move(usize, usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = 0..1usize << 17;
    let edit = prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at.clone(), prop::collection::vec(any::<u8>(), 1..64))
            .prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (at.clone(), 1..256usize).prop_map(|(at, len)| Edit::Remove(at, len)),
        (at.clone(), at, 1..4096usize).prop_map(|(from, to, len)| Edit::Move(from, to, len)),
    ];
    prop::collection::vec(edit, 0..12)
}

fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for edit in edits {
        let len = bytes.len().max(1);
        let cut = |bytes: &mut Vec<u8>, at: usize, n: usize| {
            let at = at % len;
            let end = (at + n).min(bytes.len());
            bytes.drain(at.min(end)..end).collect::<Vec<u8>>()
        };
        match edit {
            Edit::Set(at, byte) => {
                if let Some(b) = bytes.get_mut(at % len) {
                    *b = *byte;
                }
            }
            Edit::Insert(at, new) => {
                let at = (at % len).min(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Edit::Remove(at, n) => drop(cut(&mut bytes, *at, *n)),
            Edit::Move(from, to, n) => {
                let moved = cut(&mut bytes, *from, *n);
                let at = to % (bytes.len() + 1);
                bytes.splice(at..at, moved);
            }
        }
    }
    bytes
}

/// As [`edited`], and the head still says where the section headers are, which end
/// the file.
fn edited_executable(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut new = edited(bytes, edits);
    let grown = new.len().wrapping_sub(bytes.len()) as u64;
    if let (Some(was), Some(field)) = (bytes.get(40..48), new.get_mut(40..48)) {
        let was = u64::from_le_bytes(*was.first_chunk().expect("8 bytes"));
        field.copy_from_slice(&was.wrapping_add(grown).to_le_bytes());
    }
    new
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn split_restores_what_is_random(
        old in prop::collection::vec(0..4u8, 0..2000),
        new in prop::collection::vec(0..4u8, 0..2000),
    ) {
        let block = by_split(&old, &new);
        prop_assert_eq!(restore_split(&old, new.len(), &block).expect("own delta"), new);
    }

    #[test]
    fn split_restores_what_was_edited(old in prop::collection::vec(any::<u8>(), 0..20_000), edits in edits()) {
        let new = edited(&old, &edits);
        let block = by_split(&old, &new);
        prop_assert_eq!(restore_split(&old, new.len(), &block).expect("own delta"), new);
    }

    #[test]
    fn elf_restores_an_executable_whose_code_was_edited(edits in edits()) {
        let old = executable();
        let new = edited_executable(&old, &edits);
        if let Some(block) = by_elf(&old, &new) {
            prop_assert_eq!(restore_elf(&old, new.len(), &block).expect("own delta"), new);
        }
    }

    #[test]
    fn elf_restores_against_a_damaged_old_file(damage in edits(), edits in edits()) {
        let old = edited_executable(&executable(), &damage);
        let new = edited_executable(&old, &edits);
        if let Some(block) = by_elf(&old, &new) {
            prop_assert_eq!(restore_elf(&old, new.len(), &block).expect("own delta"), new);
        }
    }

    #[test]
    fn elf_restores_whatever_its_headers_say(
        changes in prop::collection::vec((0..4096usize, any::<u8>(), any::<bool>()), 1..16),
    ) {
        let mut old = executable();
        let sections = u64::from_le_bytes(*old[40..].first_chunk().expect("a head")) as usize;
        for (at, byte, in_sections) in changes {
            let base = if in_sections { sections } else { 0 };
            if let Some(b) = old.get_mut(base + at) {
                *b = byte;
            }
        }
        let new = executable();
        for (old, new) in [(&old, &new), (&new, &old)] {
            if let Some(block) = by_elf(old, new) {
                prop_assert_eq!(&restore_elf(old, new.len(), &block).expect("own delta"), new);
            }
        }
    }

    #[test]
    fn a_damaged_delta_never_panics(at in 0..1usize << 20, bit in 0..8u8, edits in edits()) {
        let old = executable();
        let new = edited_executable(&old, &edits);
        let mut block = by_elf(&old, &new).unwrap_or_default();
        let mut other = by_split(&old, &new);
        let (len, other_len) = (block.len().max(1), other.len());
        if let Some(byte) = block.get_mut(at % len) {
            *byte ^= 1 << bit;
        }
        other[at % other_len] ^= 1 << bit;
        // What comes out may be anything, or an error.
        let _ = restore_elf(&old, new.len(), &block);
        let _ = restore_split(&old, new.len(), &other);
    }

    #[test]
    fn a_delta_of_noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..4000)) {
        let old = executable();
        let _ = restore_elf(&old, 1 << 16, &noise);
        let _ = restore_split(&old, 1 << 16, &noise);
    }

    #[test]
    fn streams_of_noise_are_refused_or_read_to_their_end(
        numbers in prop::collection::vec(any::<u64>(), 0..500),
        count in any::<u64>(),
    ) {
        use delta::Stream as S;
        let mut streams = Streams::new();
        streams.put_u64(S::Header, 1);
        streams.put_u64(S::Header, count % 70);
        for (n, stream) in numbers.iter().zip([S::Header, S::Copy, S::Insert, S::Seek, S::RefRun, S::RefValue, S::AddRun, S::AddValue, S::Extra].iter().cycle()) {
            streams.put_u64(*stream, n >> (n % 64));
        }
        let block = streams.finish(Effort::new(1)).expect("memory can be written to");
        let _ = restore_elf(&executable(), 1 << 14, &block);
        let _ = restore_split(&executable(), 1 << 14, &block);
    }
}

#[test]
fn a_delta_that_ends_early_is_refused() {
    let old = executable();
    let new = edited_executable(
        &old,
        &[Edit::Insert(5000, b"and now for something".to_vec()), Edit::Set(9000, 1)],
    );
    let (block, other) = (by_elf(&old, &new).expect("an ELF file"), by_split(&old, &new));
    for end in 0..block.len() {
        assert!(
            restore_elf(&old, new.len(), &block[..end]).is_err(),
            "{end} of {} bytes",
            block.len()
        );
    }
    for end in 0..other.len() {
        assert!(
            restore_split(&old, new.len(), &other[..end]).is_err(),
            "{end} of {} bytes",
            other.len()
        );
    }
}

#[test]
fn what_is_no_executable_is_not_understood() {
    assert_eq!(by_elf(b"text", b"text"), None);
    assert_eq!(by_elf(&executable(), b"text"), None);
    let mut other_machine = executable();
    other_machine[18] = 183;
    assert_eq!(by_elf(&other_machine, &executable()), None);
}

#[test]
fn equal_files_take_a_few_bytes() {
    let file = executable();
    let block = by_elf(&file, &file).expect("an ELF file");
    assert!(block.len() < 64, "{} bytes", block.len());
}
