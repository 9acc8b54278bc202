//! Every file of the corpora of the deltas' fuzzers, replayed.

use std::path::Path;

#[path = "../../fuzz/src/deltas.rs"]
mod deltas;

/// Runs `entry` on each file of `fuzz/corpus/TARGET`.
#[track_caller]
fn check(target: &str, entry: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty());
    for path in files {
        let data = std::fs::read(&path).unwrap();
        let result = std::panic::catch_unwind(|| entry(&data));
        assert!(result.is_ok(), "{} breaks a promise", path.display());
    }
}

#[test]
fn vcdiff_files() {
    check("vcdiff", deltas::vcdiff);
}

#[test]
fn blocks_of_split() {
    check("delta_split", deltas::delta_split);
}

#[test]
fn blocks_of_elf() {
    check("delta_elf", deltas::delta_elf);
}

#[test]
fn containers() {
    check("delta_container", deltas::delta_container);
    let base = deltas::Base::new();
    assert_eq!(base.manifest().entries().len(), 5);
}
