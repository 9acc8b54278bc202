use proptest::prelude::*;

use super::*;
use crate::Effort;

/// Encodes and decodes; returns the length of the delta.
fn check(source: &[u8], target: &[u8]) -> usize {
    let delta = encode(source, target, Effort::new(5), b"");
    assert_eq!(apply(&delta, source).unwrap(), target);
    delta.len()
}

fn apply(delta: &[u8], source: &[u8]) -> Result<Vec<u8>, VcdiffError> {
    let mut target = Vec::new();
    decode(&mut &delta[..], &source, &mut target, Limits { target: 64 << 20 })?;
    Ok(target)
}

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = std::iter::from_fn(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes()[3])
    });
    next.take(len).collect()
}

#[test]
fn equal_files_take_a_few_bytes_a_window() {
    let file = noise(20 << 20, 1);
    assert!(check(&file, &file) < 100);
}

#[test]
fn empty_files_come_back() {
    check(b"", b"");
    check(b"abc", b"");
    check(b"", b"abc");
}

#[test]
fn zeros_are_runs_or_copies_of_themselves() {
    // The crate xdelta3 0.1.5 encodes this and cannot decode it again.
    assert!(check(b"x", &vec![0; 3 << 20]) < 100);
    assert!(check(&vec![0; 1 << 20], &vec![0; 10 << 20]) < 200);
}

#[test]
fn moved_blocks_are_found_wherever_they_were() {
    let source = noise(4 << 20, 2);
    let mut target = source[3 << 20..].to_vec();
    target.extend_from_slice(&source[1 << 20..3 << 20]);
    target.extend_from_slice(b"and something new");
    assert!(check(&source, &target) < 100);
}

#[test]
fn a_repeated_pattern_overlaps_itself() {
    let target = b"abcdefg".repeat(100_000);
    assert!(check(b"", &target) < 100);
}

#[test]
fn the_application_header_comes_back() {
    let delta = encode(b"old", b"new", Effort::default(), b"who made it");
    let decoded =
        decode(&mut &delta[..], &&b"old"[..], &mut Vec::new(), Limits { target: 9 }).unwrap();
    assert_eq!(decoded, Decoded { target_len: 3, application: Some(b"who made it".to_vec()) });
}

#[test]
fn a_wrong_source_is_seen_by_the_checksum() {
    let source = noise(10_000, 3);
    let delta = encode(&source, &source, Effort::default(), b"");
    let mut other = source.clone();
    other[5000] ^= 1;
    assert!(matches!(apply(&delta, &other), Err(VcdiffError::Checksum { window: 0 })));
    let cut = &source[..5000];
    assert!(matches!(apply(&delta, cut), Err(VcdiffError::Window { .. })));
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let refused = |delta: &[u8]| apply(delta, b"source").unwrap_err().to_string();
    assert_eq!(refused(b"VZDELTA1"), "it is no VCDIFF file");
    let lzma = b"\xd6\xc3\xc4\x00\x01\x02\x04\x08\x03\x01\x00\x00\x00\x00\x00\x00\x00";
    assert_eq!(refused(lzma), "secondary compression with lzma is not supported");
    let table = b"\xd6\xc3\xc4\x00\x02\x00";
    assert_eq!(refused(table), "a code table of the file's own is not supported");
    let target = b"\xd6\xc3\xc4\x00\x00\x02\x00\x00";
    assert_eq!(refused(target), "a segment of the target (VCD_TARGET) is not supported");
}

#[test]
fn a_bomb_stops_at_the_limit() {
    // One window: a run of 16 MiB from one byte of data.
    let window = b"\x00\x0e\x88\x80\x80\x00\x00\x01\x05\x00Z\x00\x88\x80\x80\x00";
    let mut bomb = b"\xd6\xc3\xc4\x00\x00".to_vec();
    for _ in 0..8 {
        bomb.extend_from_slice(window);
    }
    assert!(matches!(apply(&bomb[..21], b""), Ok(target) if target == vec![b'Z'; 16 << 20]));
    assert!(matches!(apply(&bomb, b""), Err(VcdiffError::TooLarge { limit: 0x400_0000 })));
}

#[test]
fn every_changed_byte_is_refused_or_harmless() {
    let source = noise(600, 4);
    let mut target = source.clone();
    target.splice(100..110, *b"something longer than before");
    target.extend_from_slice(&[7; 40]);
    let delta = encode(&source, &target, Effort::default(), b"");
    for at in 0..delta.len() {
        for bit in 0..8 {
            let mut changed = delta.clone();
            changed[at] ^= 1 << bit;
            // The bit that says there is a checksum can be lost; nothing else can.
            let unchecked = at == 5 && bit == 2;
            match apply(&changed, &source) {
                Ok(result) => assert!(result == target || unchecked, "byte {at} bit {bit}"),
                Err(_) => {}
            }
        }
    }
}

#[test]
fn a_delta_cut_inside_a_window_is_refused() {
    let (source, target) = (noise(3000, 5), noise(3000, 6));
    let delta = encode(&source, &target, Effort::default(), b"");
    for len in (0..delta.len()).filter(|len| *len != 5) {
        assert!(apply(&delta[..len], &source).is_err(), "cut at {len}");
    }
}

proptest! {
    #[test]
    fn random_edits_come_back(
        source in proptest::collection::vec(0u8..4, 0..3000),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..80, proptest::collection::vec(any::<u8>(), 0..60)), 0..12),
        effort in 1u8..=9,
    ) {
        let mut target = source.clone();
        for (at, remove, insert) in edits {
            let at = at.index(target.len() + 1);
            let end = target.len().min(at + remove);
            target.splice(at..end, insert);
        }
        let delta = encode(&source, &target, Effort::new(effort), b"");
        prop_assert_eq!(apply(&delta, &source).unwrap(), target);
    }

    #[test]
    fn random_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut delta = MAGIC.to_vec();
        delta.push(0);
        delta.extend(tail);
        let _ = apply(&delta, b"a source of some bytes");
    }
}
