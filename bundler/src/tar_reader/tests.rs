use std::io::Write;

use tar::EntryType;

use super::*;
use crate::image::testing::Tar;

/// Reads all members: name, kind, and content with holes as dots.
fn read(tar: &[u8]) -> Result<Vec<String>, TarError> {
    let mut reader = TarReader::new(tar);
    let mut lines = Vec::new();
    while let Some(member) = reader.next_member()? {
        let mut content = vec![b'.'; member.size.min(1 << 20) as usize];
        let mut buf = [0; 7];
        while let Some((offset, count)) = reader.content(&mut buf)? {
            content[offset as usize..][..count].copy_from_slice(&buf[..count]);
        }
        let name = member.name.escape_ascii();
        lines.push(format!("{name} {:?} {}", member.kind, content.escape_ascii()));
    }
    Ok(lines)
}

#[track_caller]
fn check(tar: Tar, expected: &[&str]) {
    assert_eq!(read(&tar.end()).unwrap(), expected);
}

#[track_caller]
fn refused(tar: Tar, expected: &str) {
    assert_eq!(read(&tar.end()).unwrap_err().to_string(), expected);
}

fn tar() -> Tar {
    Tar::default()
}

#[test]
fn pax_headers_speak_of_the_next_member_only() {
    let records: &[(&str, &[u8])] = &[("path", b"long"), ("linkpath", b"to")];
    check(
        tar().pax(records).symlink("short", "x").symlink("other", "y"),
        &["long Symlink([116, 111]) ", "other Symlink([121]) "],
    );
    // An empty value takes back; unknown keys do not matter.
    check(tar().pax(&[("path", b""), ("comment", b"x")]).file("a", "1"), &["a File 1"]);
    let size = tar().pax(&[("size", b"2")]).member(EntryType::Regular, "a", "", b"");
    let mut size = size;
    size.0.extend_from_slice(&[b'x'; 512]);
    check(size, &["a File xx"]);
}

#[test]
fn global_headers_do_not_count() {
    let mut global = tar().pax(&[("path", b"evil"), ("size", b"7")]);
    global.0[156] = b'g';
    let header = tar::Header::from_byte_slice(&global.0[..512]).clone();
    let data = global.0.split_off(512);
    global.0.clear();
    let mut global = tar();
    global.push(header, &data[..20]);
    check(global.file("a", "1"), &["a File 1"]);
}

#[test]
fn gnu_s_long_names_win() {
    let long = "n".repeat(300);
    let special = |kind, text: &str| {
        tar().member(EntryType::new(kind), "././@LongLink", "", format!("{text}\0").as_bytes())
    };
    let mut name = special(b'L', &long);
    name.0.extend(special(b'K', "target").0);
    name = name.pax(&[("path", b"pax")]).symlink("short", "x");
    let target: Vec<u8> = b"target".to_vec();
    check(name, &[&format!("{long} Symlink({target:?}) ")]);
}

#[test]
fn headers_without_measure_are_refused() {
    for kind in [b'x', b'L', b'K'] {
        let mut layer = tar();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::new(kind));
        header.set_size((1 << 20) + 1);
        layer.push(header, b"");
        refused(layer, "the header at byte 0 is over 1 MiB");
    }
    refused(
        tar().pax(&[("path", b"x")]).pax(&[("SCHILY.xattr.", b"")]).file("a", ""),
        "the pax header at byte 1024 is malformed",
    );
    let odd = |text: &str| tar().member(EntryType::XHeader, "x", "", text.as_bytes()).file("a", "");
    for text in ["5 a=b\n", "6 a=bb", "99999999999999999999 a=b\n", "x", "3 =", "-1 a=b\n"] {
        refused(odd(text), "the pax header at byte 0 is malformed");
    }
}

#[test]
fn numbers_are_octal_or_gnu_s_and_make_sense() {
    let octal = |text: &[u8]| number(text);
    assert_eq!(octal(b"0000644\0"), Some(0o644));
    assert_eq!(octal(b"  644 \0\0"), Some(0o644));
    assert_eq!(octal(b"\0\0\0\0\0\0\0\0"), Some(0));
    assert_eq!(octal(b"9999999\0"), None);
    assert_eq!(octal(b"\x80\0\0\0\0\0\x01\0"), Some(256));
    assert_eq!(octal(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
    assert_eq!(octal(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    refused(
        tar().pax(&[("uid", b"4294967295")]).file("a", ""),
        "the owner of `a` is no such number",
    );
    refused(
        tar().pax(&[("mtime", b"now")]).file("a", ""),
        "the modification time of `a` is no such number",
    );
    refused(tar().pax(&[("size", b"-1")]).file("a", ""), "the size of `a` is no such number");
}

#[test]
fn times_have_fractions_and_may_be_before_1970() {
    assert_eq!(pax::time(b"12.5"), Some((12, 500_000_000)));
    assert_eq!(pax::time(b"-1.25"), Some((-2, 750_000_000)));
    assert_eq!(pax::time(b"1.1234567899"), Some((1, 123_456_789)));
    assert_eq!([pax::time(b"-5"), pax::time(b".5")], [Some((-5, 0)), Some((0, 500_000_000))]);
    assert_eq!([pax::time(b"1.x"), pax::time(b"99999999999999999999")], [None, None]);
}

#[test]
fn sparse_files_of_all_three_pax_forms_are_read() {
    let size: (&str, &[u8]) = ("GNU.sparse.size", b"9");
    let form_0: &[(&str, &[u8])] = &[
        size,
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"1"),
        ("GNU.sparse.numbytes", b"2"),
        ("GNU.sparse.offset", b"5"),
        ("GNU.sparse.numbytes", b"1"),
    ];
    check(tar().pax(form_0).file("a", "abc"), &["a File .ab..c..."]);
    let form_1: &[(&str, &[u8])] =
        &[size, ("GNU.sparse.map", b"1,2,5,1"), ("GNU.sparse.name", b"real")];
    check(tar().pax(form_1).file("a", "abc").file("b", "1"), &["real File .ab..c...", "b File 1"]);
    let form_2: &[(&str, &[u8])] =
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")];
    let mut content = b"2\n1\n2\n5\n1\n".to_vec();
    content.resize(512, 0);
    content.extend_from_slice(b"abc");
    let with_map = tar().pax(form_2).member(EntryType::Regular, "a", "", &content);
    check(with_map.file("b", "1"), &["a File .ab..c...", "b File 1"]);
}

#[test]
fn wrong_maps_are_refused() {
    for map in ["5,1,1,2", "1,2,2,1", "1,2,9,1", "1,2", "1,2,5", "18446744073709551615,3"] {
        let records: &[(&str, &[u8])] =
            &[("GNU.sparse.size", b"9"), ("GNU.sparse.map", map.as_bytes())];
        let said = read(&tar().pax(records).file("a", "abc").end()).unwrap_err().to_string();
        assert!(
            said == "`a` has a wrong map of its holes" || said.contains("malformed"),
            "{map}: {said}"
        );
    }
    let version_1: &[(&str, &[u8])] = &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")];
    for text in ["", "x\n", "99999999\n", "2\n1\n"] {
        let mut content = text.as_bytes().to_vec();
        content.resize(512, 0);
        let layer = tar().pax(version_1).member(EntryType::Regular, "a", "", &content);
        refused(layer, "`a` has a wrong map of its holes");
    }
}

#[test]
fn gnu_s_own_sparse_files_are_read_as_tar_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s");
    let mut sparse = std::fs::File::create(&file).unwrap();
    for part in 0..30 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", part * (1 << 20)).unwrap();
    }
    sparse.flush().unwrap();
    let original = std::fs::read(&file).unwrap();
    for format in ["gnu", "posix"] {
        #[expect(clippy::disallowed_methods, reason = "the tar command is the oracle")]
        let mut command = std::process::Command::new("tar");
        command.args(["--sparse", "--format", format, "-cf", "-", "-C"]).arg(dir.path()).arg("s");
        let archive = command.output().unwrap().stdout;
        assert!(archive.len() < 1 << 20, "{format}: {} bytes are not sparse", archive.len());
        let mut reader = TarReader::new(archive.as_slice());
        let member = reader.next_member().unwrap().unwrap();
        assert_eq!((member.name.as_slice(), member.size), (&b"s"[..], original.len() as u64));
        let mut content = vec![0; original.len()];
        let mut buf = vec![0; 1 << 16];
        while let Some((offset, count)) = reader.content(&mut buf).unwrap() {
            content[offset as usize..][..count].copy_from_slice(&buf[..count]);
        }
        assert!(content == original, "{format}");
        assert_eq!(reader.next_member().unwrap(), None);
    }
}

#[test]
fn what_is_broken_off_or_no_tar_is_refused() {
    let whole = tar().file("a", &"x".repeat(600)).end();
    for cut in [1, 511, 513, 1000, 1500] {
        assert!(matches!(read(&whole[..cut]), Err(TarError::Truncated)), "{cut}");
    }
    let mut wrong = whole.clone();
    wrong[0] = b'b';
    assert!(matches!(read(&wrong), Err(TarError::Header(0))));
    // Only the padding of the last member and the end may be missing.
    assert!(read(&[]).unwrap().is_empty());
}
