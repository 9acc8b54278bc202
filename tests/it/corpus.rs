//! Every file of the fuzzers' corpora, replayed.

use std::path::Path;

#[path = "../../fuzz/src/databases.rs"]
mod databases;
#[path = "../../fuzz/src/entries.rs"]
mod entries;
#[path = "../../fuzz/src/images.rs"]
mod images;

/// Runs `entry` on each file of `fuzz/corpus/TARGET`.
#[track_caller]
fn check(target: &str, entry: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files = 0;
    for file in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = file.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        let result = std::panic::catch_unwind(|| entry(&data));
        assert!(result.is_ok(), "{} breaks a promise", path.display());
        files += 1;
    }
    assert!(files > 0, "{} is empty", dir.display());
}

#[test]
fn specs() {
    check("spec", entries::spec);
}

#[test]
fn elf_files() {
    check("elf", entries::elf);
}

#[test]
fn roots_with_loaders() {
    check("loader", entries::loader);
}

#[test]
fn shebang_lines() {
    check("shebang", entries::shebang);
}

#[test]
fn ld_so_caches() {
    check("ld_cache", entries::ld_cache);
}

#[test]
fn tars() {
    check("tar", images::tar);
}

#[test]
fn layers() {
    check("layer", images::layer);
}

#[test]
fn databases_of_rpm_s() {
    check("rpm", databases::rpm);
}
