//! Layers as sound tools make them, and as nobody should.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tar::EntryType;

use crate::image::testing::{Tar, tree, unpack};
use crate::image::{EntryError, ImageError};
use crate::tree::{Lost, Unkept};

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Unpacks layers beside a file that nobody may touch; returns the tree, or what was
/// said.
#[track_caller]
fn unpacked(layers: Vec<Tar>) -> Result<Vec<String>, String> {
    let above = tempfile::tempdir().unwrap();
    fs::write(above.path().join("outside"), "untouched").unwrap();
    let root = above.path().join("root");
    fs::create_dir(&root).unwrap();
    let done = unpack(&root, layers);
    assert_eq!(fs::read(above.path().join("outside")).unwrap(), b"untouched");
    assert_eq!(fs::read_dir(above.path()).unwrap().count(), 2, "something was made outside");
    done.map(|_| tree(&root)).map_err(|error| match error {
        ImageError::Entry { name, source, .. } => format!("{name}: {source}"),
        error => error.to_string(),
    })
}

#[track_caller]
fn check(layers: Vec<Tar>, expected: &[&str]) {
    assert_eq!(unpacked(layers).unwrap(), expected);
}

#[track_caller]
fn refused(layer: Tar, expected: &str) {
    assert_eq!(unpacked(vec![layer]).unwrap_err(), expected);
}

fn tar() -> Tar {
    Tar::default()
}

#[test]
fn absolute_names_are_taken_from_the_root() {
    check(vec![tar().file("/etc/x", "1")], &["etc/", "etc/x = 1"]);
    check(vec![tar().file("./a//b/", "1")], &["a/", "a/b = 1"]);
    let target = tar().file("a", "1").hard_link("b", "/a");
    check(vec![target], &["a = 1", "b = 1"]);
}

#[test]
fn dot_dot_is_refused() {
    refused(tar().file("../outside", "x"), "../outside: `../outside` has a `..` component");
    refused(
        tar().file("a/../../outside", ""),
        "a/../../outside: `a/../../outside` has a `..` component",
    );
    refused(tar().hard_link("a", "../outside"), "a: `../outside` has a `..` component");
    refused(tar().file(".wh...", ""), ".wh...: it is a whiteout of nothing that a layer can have");
}

#[test]
fn a_link_then_a_file_through_it_stays_inside() {
    // A link out of the root is a link to a place in the root.
    let through = tar().symlink("l", "/../../etc").file("l/x", "1");
    check(vec![through], &["etc/", "etc/x = 1", "l -> /../../etc"]);
    let relative = tar().dir("d").symlink("d/l", "../..").file("d/l/outside", "1");
    check(vec![relative], &["d/", "d/l -> ../..", "outside = 1"]);
    // A link at the end of a name is replaced and never followed.
    let end = tar().symlink("l", "../outside").file("l", "1");
    check(vec![end], &["l = 1"]);
    let device = tar().symlink("l", "../outside").dir("l").file("l/x", "1");
    check(vec![device], &["l/", "l/x = 1"]);
}

#[test]
fn a_layer_may_write_through_the_links_of_the_one_below() {
    let base = tar().dir("usr/").dir("usr/bin/").symlink("bin", "usr/bin");
    let app = tar().file("bin/app", "1");
    let remove = tar().file("bin/.wh.app", "").file("bin/new", "2");
    check(vec![base, app, remove], &["bin -> usr/bin", "usr/", "usr/bin/", "usr/bin/new = 2"]);
}

#[test]
fn links_in_a_circle_are_refused() {
    refused(
        tar().symlink("a", "b").symlink("b", "a").file("a/x", ""),
        "a/x: too many links on the way",
    );
}

#[test]
fn a_hard_link_leads_to_what_is_inside() {
    refused(tar().hard_link("a", "/etc/passwd"), "a: there is no `/etc/passwd` to be linked to");
    let through = tar().symlink("l", "/etc").hard_link("a", "l/passwd");
    refused(through, "a: there is no `/l/passwd` to be linked to");
    refused(
        tar().dir("d").hard_link("a", "d"),
        "a: `/d` is a directory, which cannot have a second name",
    );
    refused(tar().hard_link("a", "a"), "a: there is no `/a` to be linked to");
    // A link to a link is a second name of that link.
    let link = tar().symlink("l", "../outside").hard_link("a", "l").file("a", "1");
    check(vec![link], &["a = 1", "l -> ../outside"]);
    let twice = tar().file("a", "1").hard_link("b", "a").hard_link("b", "a").hard_link("a", "a");
    check(vec![twice], &["a = 1", "b = 1"]);
}

#[test]
fn a_new_file_leaves_other_names_of_the_old_one_alone() {
    let base = tar().file("a", "1").hard_link("b", "a");
    check(vec![base, tar().file("a", "2")], &["a = 2", "b = 1"]);
}

#[test]
fn whiteouts_remove_what_lower_layers_have_and_nothing_else() {
    let base = || tar().dir("d").file("d/a", "1").file("d/b", "1").dir("d/e").file("d/e/f", "1");
    check(vec![base(), tar().file("d/.wh.a", "")], &["d/", "d/b = 1", "d/e/", "d/e/f = 1"]);
    check(vec![base(), tar().file(".wh.d", "")], &[]);
    check(vec![base(), tar().file("d/.wh..wh..opq", "").file("d/c", "2")], &["d/", "d/c = 2"]);
    // In whatever order the layer has them.
    check(vec![base(), tar().file("d/c", "2").file("d/.wh..wh..opq", "")], &["d/", "d/c = 2"]);
    check(
        vec![base(), tar().file("d/a", "2").file("d/.wh.a", "")],
        &["d/", "d/a = 2", "d/b = 1", "d/e/", "d/e/f = 1"],
    );
    check(vec![base(), tar().file("d/e/g", "2").file(".wh.d", "")], &["d/", "d/e/", "d/e/g = 2"]);
    check(vec![base(), tar().file(".wh..wh..opq", "")], &[]);
    // Of what is not there.
    check(vec![base(), tar().file("x/.wh.y", "").file(".wh.z", ""), tar().file(".wh.d", "")], &[]);
    check(vec![tar().file("a", "1").file(".wh.a", "")], &["a = 1"]);
}

#[test]
fn a_whiteout_of_the_root_is_refused() {
    for name in [".wh.", ".wh..", "d/.wh.", "/.wh.."] {
        refused(
            tar().dir("d").file(name, ""),
            &format!("{name}: it is a whiteout of nothing that a layer can have"),
        );
    }
    refused(
        tar().file(".wh.d/x", ""),
        ".wh.d/x: a directory of its path has the name of a whiteout",
    );
    refused(
        tar().file("a/.wh..wh..opq/x", ""),
        "a/.wh..wh..opq/x: a directory of its path has the name of a whiteout",
    );
    check(
        vec![tar().dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "").file(".wh..wh.aufs", "")],
        &[],
    );
}

#[test]
fn the_root_stays_a_directory() {
    for name in [".", "./", "/", ""] {
        refused(tar().file(name, "x"), &format!("{name}: the root must stay a directory"));
        refused(tar().symlink(name, "x"), &format!("{name}: the root must stay a directory"));
    }
    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path(), vec![tar().dir(".").with(|h| h.set_mode(0o1711)).file("a", "")]).unwrap();
    let meta = fs::metadata(dir.path()).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o1711, 1_000_000_000));
}

#[test]
fn the_last_of_several_entries_counts() {
    let layer = tar()
        .file("a", "1")
        .file("a", "2")
        .dir("d")
        .file("d/x", "1")
        .file("d", "3")
        .dir("e")
        .file("e/x", "1")
        .dir("e");
    check(vec![layer], &["a = 2", "d = 3", "e/", "e/x = 1"]);
    let back = tar().dir("d").file("d/x", "1").file("d", "2").dir("d").file("d/y", "3");
    check(vec![back], &["d/", "d/y = 3"]);
    refused(tar().file("a", "1").file("a/b", "2"), "a/b: `/a` is no directory");
}

#[test]
fn names_may_be_long_and_deep_but_not_without_end() {
    let long = |depth: usize| vec!["n".repeat(60); depth].join("/");
    let deep = tar().pax(&[("path", long(64).as_bytes())]).file("x", "1");
    assert_eq!(unpacked(vec![deep]).unwrap().len(), 64);
    let too_deep = vec!["d"; 513].join("/");
    let said = unpacked(vec![tar().pax(&[("path", too_deep.as_bytes())]).file("x", "1")]);
    assert!(said.unwrap_err().ends_with("at most 4095 bytes in 512 directories"));
    // Links could make longer ones than fit into a name.
    let mut layer = tar().pax(&[("path", vec!["d"; 300].join("/").as_bytes())]).dir("x");
    layer = layer.pax(&[("linkpath", vec!["d"; 300].join("/").as_bytes())]).symlink("l", "x");
    layer = layer.pax(&[("path", format!("l/{}", vec!["d"; 300].join("/")).as_bytes())]).dir("x");
    assert!(unpacked(vec![layer]).unwrap_err().contains("too long"));
    let said = unpacked(vec![tar().pax(&[("path", &[b'n'; 256][..])]).file("x", "")]);
    assert!(said.unwrap_err().contains("File name too long"));
}

#[test]
fn device_nodes_are_made_by_root_and_listed_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let device = |header: &mut tar::Header| {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    };
    let layer = tar().member(EntryType::Char, "null", "", b"").with(device).hard_link("n2", "null");
    let layer = layer.member(EntryType::Fifo, "p", "", b"");
    let done = unpack(dir.path(), vec![layer]).unwrap();
    let path = |name: &str| crate::RootPath::new(name.as_bytes()).unwrap();
    if is_root() {
        assert_eq!(tree(dir.path()), ["n2 special", "null special", "p special"]);
        assert_eq!(fs::metadata(dir.path().join("n2")).unwrap().rdev(), rustix::fs::makedev(1, 3));
    } else {
        assert_eq!(tree(dir.path()), ["p special"]);
        let lost = |name| Unkept { path: path(name), what: Lost::Device };
        assert_eq!(done.unkept, [lost("/n2"), lost("/null")]);
    }
}

#[test]
fn owners_setuid_and_attributes_are_kept_or_listed() {
    let dir = tempfile::tempdir().unwrap();
    // CAP_NET_RAW, permitted and effective: what `ping` has.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = tar()
        .member(EntryType::Regular, "su", "", b"")
        .with(|h| h.set_mode(0o4755))
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.trusted.x", b"1"),
            ("SCHILY.xattr.user.x", b"1"),
        ])
        .member(EntryType::Regular, "ping", "", b"")
        .member(EntryType::Regular, "odd", "", b"")
        .with(|h| h.set_uid(77));
    let done = unpack(dir.path(), vec![layer]).unwrap();
    let meta = |name: &str| fs::metadata(dir.path().join(name)).unwrap();
    let lost =
        |name: &str, what| Unkept { path: crate::RootPath::new(name.as_bytes()).unwrap(), what };
    let attributes = crate::xattr::read(fs::File::open(dir.path().join("ping")).unwrap()).unwrap();
    if is_root() {
        assert_eq!(done.unkept, []);
        assert_eq!((meta("su").mode() & 0o7777, meta("odd").uid()), (0o4755, 77));
        assert_eq!(attributes[0], (b"security.capability".to_vec(), capability.to_vec()));
    } else {
        let xattr = Lost::Xattr(b"security.capability".to_vec());
        assert_eq!(
            done.unkept,
            [lost("/odd", Lost::Owner), lost("/ping", xattr), lost("/su", Lost::SetIds)]
        );
        assert_eq!(meta("su").mode() & 0o7777, 0o755);
    }
    assert_eq!(attributes.last().unwrap().0, b"user.x");
}

#[test]
fn directories_keep_their_times_and_may_be_closed() {
    let dir = tempfile::tempdir().unwrap();
    let closed = |h: &mut tar::Header| h.set_mode(0o500);
    let base =
        tar().dir("d").with(closed).dir("d/e").with(closed).file("d/e/x", "1").file("y/z", "1");
    let more = tar().file("d/e/x", "2").file("d/e/new", "2").file("d/.wh.f", "").dir("y/z");
    unpack(dir.path(), vec![base, more]).unwrap();
    let look = |name: &str| {
        let meta = fs::metadata(dir.path().join(name)).unwrap();
        (meta.mode() & 0o7777, meta.mtime())
    };
    assert_eq!(
        [look("d"), look("d/e"), look("d/e/x")],
        [(0o500, 1_000_000_000), (0o500, 1_000_000_000), (0o644, 1_000_000_000)]
    );
    // What no entry speaks of is as old as time.
    assert_eq!([look("y"), look("")], [(0o755, 0), (0o755, 0)]);
    for name in ["d", "d/e"] {
        fs::set_permissions(dir.path().join(name), PermissionsExt::from_mode(0o700)).unwrap();
    }
}

#[test]
fn what_a_broken_off_work_leaves_can_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let closed = |h: &mut tar::Header| h.set_mode(0);
    let layer = tar().dir("d").with(closed).file("d/x", "1").file("../y", "");
    assert!(unpack(&root, vec![layer]).is_err());
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn a_default_acl_is_set_and_not_inherited() {
    let acl = [
        &2_u32.to_le_bytes()[..],
        // user::rwx, user:1:rwx, group::r-x, mask::rwx, other::r-x (acl(5)).
        &[1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 1, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255],
        &[16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255],
    ]
    .concat();
    let dir = tempfile::tempdir().unwrap();
    let layer = tar()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)])
        .dir("d")
        .file("d/x", "1")
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)])
        .dir("gone");
    unpack(dir.path(), vec![layer, tar().file(".wh.gone", "").dir("gone")]).unwrap();
    let attributes =
        |name: &str| crate::xattr::read(fs::File::open(dir.path().join(name)).unwrap()).unwrap();
    assert_eq!(attributes("d"), [(b"system.posix_acl_default".to_vec(), acl)]);
    assert_eq!([attributes("d/x"), attributes("gone")], [vec![], vec![]]);
}

#[test]
fn a_file_that_no_disk_holds_is_refused_before_it_is_made() {
    let huge = tar().pax(&[("size", b"4611686018427387904")]).file("a", "");
    assert!(unpacked(vec![huge]).unwrap_err().contains("has no more room"));
    let hole: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.size", b"4611686018427387904"),
        ("GNU.sparse.map", b"0,1"),
    ];
    let sparse = tar().pax(hole).file("a", "x");
    assert!(unpacked(vec![sparse]).unwrap_err().contains("has no more room"));
}

#[test]
fn entries_are_refused_by_type() {
    let dir = tempfile::tempdir().unwrap();
    let odd = tar().member(EntryType::new(b'Q'), "a", "", b"");
    let error = unpack(dir.path(), vec![odd]).unwrap_err();
    assert!(matches!(error, ImageError::Layer { number: 1, .. }), "{error}");
    let nul = tar().pax(&[("path", b"a\0b")]).file("x", "");
    let error = unpack(dir.path(), vec![nul]).unwrap_err();
    assert!(matches!(error, ImageError::Entry { source: EntryError::Nul(_), .. }), "{error}");
    assert!(unpack(Path::new("/nonexistent"), vec![]).is_err());
}

#[test]
fn attributes_that_no_file_can_have_are_refused() {
    let named = |length: usize| {
        let key = format!("SCHILY.xattr.user.{}", "n".repeat(length - 5));
        tar().pax(&[(&key, b"1")]).symlink("l", "x")
    };
    assert!(unpacked(vec![named(255)]).is_ok());
    assert_eq!(unpacked(vec![named(256)]).unwrap_err(), "cannot read layer 1, sha256:x");
    let valued = |length: usize| {
        tar().pax(&[("SCHILY.xattr.user.x", vec![0; length].as_slice())]).symlink("l", "x")
    };
    assert!(unpacked(vec![valued(64 << 10)]).is_ok());
    assert_eq!(
        unpacked(vec![valued((64 << 10) + 1)]).unwrap_err(),
        "cannot read layer 1, sha256:x"
    );
}

#[test]
fn what_is_kept_back_for_directories_is_bounded() {
    let acl = vec![0; 64 << 10];
    let mut layer = tar();
    for number in 0..1100 {
        layer = layer.pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)]);
        layer = layer.dir(&format!("d{number}"));
    }
    let said = unpacked(vec![layer]).unwrap_err();
    assert!(said.starts_with("the image unpacks to more than 67108864 bytes of default"), "{said}");
}

#[test]
fn what_is_lost_is_counted_and_the_first_thousand_are_named() {
    let mut layer = tar();
    for number in 0..1100 {
        // Links cannot have it.
        layer = layer.pax(&[("SCHILY.xattr.user.x", b"1")]).symlink(&format!("l{number}"), "x");
    }
    let dir = tempfile::tempdir().unwrap();
    let done = unpack(dir.path(), vec![layer]).unwrap();
    assert_eq!((done.unkept.len(), done.unkept_count, done.unkept_owners), (1000, 1100, 0));
}
