//! The crate `xdelta3`, which wraps the C library, as a second engine and as an
//! oracle in tests.
//!
//! It holds source, target and delta in memory, counts them in 32 bits and guesses
//! how large its result will be; so what it encodes is proved by our own decoder
//! before it is returned, and what it cannot do is a `None`.

use super::{Limits, decode as decode_own};

/// Encodes `target` against `source`, where the crate can.
pub fn encode(source: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let delta = xdelta3::encode(target, source)?;
    let mut proof = Vec::new();
    let limits = Limits { target: target.len() as u64, window: super::MAX_WINDOW };
    decode_own(&mut &delta[..], &source, &mut proof, limits).ok()?;
    (proof == target).then_some(delta)
}

/// Applies `delta` to `source`, where the crate can.
pub fn decode(delta: &[u8], source: &[u8]) -> Option<Vec<u8>> {
    xdelta3::decode(delta, source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Effort;

    fn lines(count: u32) -> Vec<u8> {
        (0..count)
            .map(|n| format!("{n} {:x}\n", n.wrapping_mul(2_654_435_761)))
            .collect::<String>()
            .into()
    }

    #[test]
    fn the_crate_decodes_ours_and_we_decode_the_crates() {
        let source = lines(2000);
        let mut target = source.clone();
        target.splice(9000..9010, *b"another text in the middle");
        let ours = super::super::encode(&source, &target, Effort::default(), b"");
        assert_eq!(decode(&ours, &source).as_deref(), Some(&target[..]));
        assert!(encode(&source, &target).is_some());
    }

    /// What the crate cannot do, measured; a newer one may pass, and then its
    /// description in ARCHITECTURE.md wants a change.
    #[test]
    fn what_the_crate_cannot_do_we_can() {
        let check = |what: &str, source: &[u8], target: &[u8]| {
            let ours = super::super::encode(source, target, Effort::default(), b"");
            let mut back = Vec::new();
            let limits = Limits { target: target.len() as u64, window: super::super::MAX_WINDOW };
            decode_own(&mut &ours[..], &source, &mut back, limits).unwrap();
            assert!(back == target, "{what}");
            let encoded = xdelta3::encode(target, source);
            let own = encoded.as_ref().and_then(|delta| xdelta3::decode(delta, source));
            assert!(own.as_deref() != Some(target), "the crate can do {what}: {encoded:?}");
            let theirs = decode(&ours, source);
            assert!(theirs.as_deref() != Some(target), "the crate can apply {what}");
        };
        check("a target over twice patch and source", b"x", &vec![0; 3 << 20]);
    }
}
