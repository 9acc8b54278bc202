use super::*;
use proptest::prelude::*;

fn library(soname: &str, path: &str, flags: u32, hwcaps: Option<&str>) -> Library {
    Library {
        soname: soname.as_bytes().into(),
        path: path.as_bytes().into(),
        flags,
        hwcaps: hwcaps.map(|h| h.as_bytes().into()),
    }
}

#[test]
fn what_is_written_reads_back_in_the_loader_s_order() {
    let both = [
        library("libz.so.1", "/lib/libz.so.1", 0x303, None),
        library("liba.so.9", "/lib/liba.so.9", 0x303, None),
        library("liba.so.10", "/opt/x.so", 3, None),
        library("liba.so.10", "/lib/liba.so.10", 0x303, None),
        library("liba.so.10", "/lib/glibc-hwcaps/x86-64-v3/liba.so.10", 0x303, Some("x86-64-v3")),
    ];
    let order: Vec<String> = parse(&write(&both))
        .unwrap()
        .iter()
        .map(|l| String::from_utf8_lossy(&l.path).into_owned())
        .collect();
    let expected = [
        "/lib/libz.so.1",
        "/lib/glibc-hwcaps/x86-64-v3/liba.so.10",
        "/lib/liba.so.10",
        "/opt/x.so",
        "/lib/liba.so.9",
    ];
    assert_eq!(order, expected);
}

#[test]
fn the_order_of_the_libraries_does_not_change_the_bytes() {
    let mut libraries: Vec<Library> = (0..50)
        .map(|i| library(&format!("lib{i}.so"), &format!("/l/lib{i}.so"), 3, None))
        .collect();
    let first = write(&libraries);
    libraries.reverse();
    assert_eq!(write(&libraries), first);
}

/// Of the new format inside an old one, as ldconfig before 2.32 wrote it.
#[test]
fn both_formats_are_read_and_the_new_one_counts() {
    let new = write(&[library("new.so", "/new.so", 0x303, None)]);
    let mut old = b"ld.so-1.7.0\0".to_vec();
    old.extend_from_slice(&1u32.to_le_bytes());
    let mut both = old.clone();
    for field in [3u32, 0, 7] {
        old.extend_from_slice(&field.to_le_bytes());
        both.extend_from_slice(&field.to_le_bytes());
    }
    old.extend_from_slice(b"old.so\0/old.so\0");
    assert_eq!(parse(&old), Ok(vec![library("old.so", "/old.so", 3, None)]));
    both.resize(both.len().next_multiple_of(8), 0);
    both.extend_from_slice(&new);
    assert_eq!(parse(&both), Ok(vec![library("new.so", "/new.so", 0x303, None)]));
}

#[test]
fn corrupt_caches_are_refused() {
    let good = write(&[library("a.so", "/a.so", 3, None)]);
    assert_eq!(parse(b"ld.so"), Err(CacheError::Magic));
    for length in NEW_MAGIC.len()..good.len() {
        assert_eq!(parse(&good[..length]), Err(CacheError::Truncated), "{length}");
    }
    let mut many = good.clone();
    many[20..24].fill(0xff);
    assert_eq!(parse(&many), Err(CacheError::Truncated));
    // A thousand names that are all the same long string.
    let mut bomb = NEW_MAGIC.to_vec();
    bomb.extend_from_slice(&1000u32.to_le_bytes());
    bomb.resize(NEW_HEADER, 0);
    let string = (NEW_HEADER + 1000 * NEW_ENTRY) as u32;
    for _ in 0..1000 {
        for field in [3, string, string, 0, 0, 0] {
            bomb.extend_from_slice(&field.to_le_bytes());
        }
    }
    bomb.extend_from_slice(&[b'x'; 10_000]);
    bomb.push(0);
    assert_eq!(parse(&bomb), Err(CacheError::Overlap));
}

#[test]
fn names_compare_as_in_the_loader() {
    for (a, b, expected) in [
        ("liba.so.10", "liba.so.9", Ordering::Greater),
        ("liba.so", "liba.so.1", Ordering::Less),
        ("lib1", "liba", Ordering::Greater),
        ("lib01", "lib1", Ordering::Equal),
        ("a", "a1", Ordering::Less),
        ("a1", "a", Ordering::Greater),
    ] {
        assert_eq!(compare_names(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&[NEW_MAGIC, &tail].concat());
        let _ = parse(&[OLD_MAGIC, &tail].concat());
    }

    #[test]
    fn what_is_written_reads_back(
        names in proptest::collection::btree_set("[a-z0-9.]{1,12}", 0..30),
        level in proptest::option::of("[a-z0-9]{1,5}"),
    ) {
        let level = level.as_deref();
        let libraries: Vec<Library> =
            names.iter().map(|n| library(n, &format!("/x/{n}"), 0x303, level)).collect();
        let mut back = parse(&write(&libraries)).unwrap();
        back.sort_by(|a, b| a.soname.cmp(&b.soname));
        prop_assert_eq!(back, libraries);
    }
}
