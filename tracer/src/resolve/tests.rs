//! Paths against a small tree.

use super::*;
use std::os::unix::fs::symlink;
use std::path::Path;

/// `d/f`, `d/sub/`, `d2/f`, `lnk -> d/sub`, `abs -> /d`, `loop -> loop`,
/// `dangling -> d/none`, `file/`.
fn tree() -> (tempfile::TempDir, Resolver) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("d/sub")).unwrap();
    std::fs::create_dir_all(at("d2")).unwrap();
    for file in ["d/f", "d2/f"] {
        std::fs::write(at(file), "").unwrap();
    }
    for (link, target) in
        [("lnk", "d/sub"), ("abs", "/d"), ("loop", "loop"), ("dangling", "d/none")]
    {
        symlink(target, at(link)).unwrap();
    }
    let root = open(dir.path());
    (dir, Resolver::new(root, std::process::id() as Tid))
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn answer(resolver: &mut Resolver, root: &str, base: &str, path: &str, follow: bool) -> String {
    let query = Query {
        root: root.as_bytes(),
        base: base.as_bytes(),
        path: path.as_bytes(),
        follow,
        process: 1,
    };
    let found = resolver.resolve(&query);
    let mut text: Vec<String> =
        found.links.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    let path = String::from_utf8_lossy(&found.path).into_owned();
    text.push(match found.target {
        Target::There(_) => path,
        Target::Absent => format!("absent {path}"),
        Target::NoWay => "no way".to_owned(),
    });
    text.join(" ")
}

fn check(path: &str, expected: &str) {
    let (_dir, mut resolver) = tree();
    for _cold_then_warm in 0..2 {
        assert_eq!(answer(&mut resolver, "/", "/d", path, true), expected, "{path}");
    }
}

#[test]
fn a_relative_path_begins_at_its_base() {
    check("f", "/d/f");
    check("../d2/./f", "/d2/f");
    check("../../../d2/f", "/d2/f");
    check(".", "/d");
    check("/", "/");
}

#[test]
fn dot_dot_after_a_link_is_the_targets_parent() {
    check("/lnk/../f", "/lnk /d/f");
}

#[test]
fn every_link_crossed_is_told() {
    check("/abs/f", "/abs /d/f");
    check("/lnk", "/lnk /d/sub");
    check("/lnk/", "/lnk /d/sub");
}

#[test]
fn a_link_that_is_not_followed_is_the_target() {
    let (_dir, mut resolver) = tree();
    assert_eq!(answer(&mut resolver, "/", "/", "/lnk", false), "/lnk");
    assert_eq!(answer(&mut resolver, "/", "/", "/lnk/", false), "/lnk /d/sub");
}

#[test]
fn what_is_not_there_says_how_far_the_way_goes() {
    check("/d/none", "absent /d/none");
    check("/dangling", "/dangling absent /d/none");
    check("/none/none", "no way");
    check("/d/f/x", "no way");
    check("/d/f/", "no way");
    check("", "no way");
    assert!({
        let (_dir, mut resolver) = tree();
        answer(&mut resolver, "/", "/", "/loop", true).ends_with("no way")
    });
}

#[test]
fn a_changed_root_holds_links_and_dot_dot() {
    let (dir, mut resolver) = tree();
    std::fs::create_dir_all(dir.path().join("d/d")).unwrap();
    symlink("/sub", dir.path().join("d/in")).unwrap();
    assert_eq!(answer(&mut resolver, "/d", "/d", "/in", true), "/d/in /d/sub");
    assert_eq!(answer(&mut resolver, "/d", "/d", "../../f", true), "/d/f");
}

#[test]
fn a_path_longer_than_the_kernel_takes_at_once_is_found() {
    let (dir, mut resolver) = tree();
    let name = "x".repeat(250);
    let mut at = open(dir.path());
    let mut path = String::new();
    for _ in 0..20 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &name, OFlags::PATH, Mode::empty()).unwrap();
        path.push('/');
        path.push_str(&name);
    }
    assert_eq!(answer(&mut resolver, "/", &path, ".", true), path);
    assert_eq!(answer(&mut resolver, "/", &path, "f", true), format!("absent {path}/f"));
}
