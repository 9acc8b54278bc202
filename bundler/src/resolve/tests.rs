use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::*;
use crate::testing::tree;

/// In a root made of `files`, `path` leads through `links` to `expected`.
#[track_caller]
fn check(files: &str, path: &str, expected: Result<&str, &str>, links: &[&str]) {
    let dir = tree(files);
    let rootfs = Rootfs::open(dir.path()).unwrap();
    let (found, crossed) = match Resolver::new(&rootfs).resolve(path.as_bytes()) {
        Ok(found) => (Ok(found.path.to_string()), found.links),
        Err(found) => (Err(found.end.to_string()), found.links),
    };
    assert_eq!(found.as_deref().map_err(String::as_str), expected);
    assert_eq!(crossed.iter().map(ToString::to_string).collect::<Vec<_>>(), links);
}

#[test]
fn every_link_on_the_way_is_seen() {
    let files = "/bin -> usr/bin\n/usr/bin/sh -> dash\n/usr/bin/dash";
    check(files, "/bin/sh", Ok("/usr/bin/dash"), &["/bin", "/usr/bin/sh"]);
}

#[test]
fn an_absolute_link_starts_at_this_root() {
    check("/l -> /d\n/d/f", "/l/f", Ok("/d/f"), &["/l"]);
}

#[test]
fn dot_dot_after_a_link_leaves_the_link_s_target() {
    check("/d1/l -> ../d2/sub\n/d2/sub/\n/d2/f", "/d1/l/../f", Ok("/d2/f"), &["/d1/l"]);
    check("/l -> d/e\n/d/e/", "/l/..", Ok("/d"), &["/l"]);
}

#[test]
fn dot_dot_at_the_root_stays_there() {
    check("/f", "/../../f", Ok("/f"), &[]);
    check("/d/l -> ../../../f\n/f", "/d/l", Ok("/f"), &["/d/l"]);
    check("/f", "/..", Ok("/"), &[]);
}

#[test]
fn forty_links_are_followed_and_a_loop_is_not() {
    let chain: String = (0..40).map(|i| format!("/l{i} -> l{}\n", i + 1)).collect();
    let links: Vec<String> = (0..40).map(|i| format!("/l{i}")).collect();
    let links: Vec<&str> = links.iter().map(String::as_str).collect();
    check(&format!("{chain}/l40"), "/l0", Ok("/l40"), &links);
    let files = "/a -> b\n/b -> a";
    let dir = tree(files);
    let rootfs = Rootfs::open(dir.path()).unwrap();
    let found = Resolver::new(&rootfs).resolve(b"/a").unwrap_err();
    assert_eq!(found.end.to_string(), "too many links, /a is in a loop of them");
}

#[test]
fn what_is_absent_or_no_directory_is_named() {
    check("/d/", "/d/x/y", Err("there is no /d/x"), &[]);
    check("/l -> gone", "/l", Err("there is no /gone"), &["/l"]);
    check("/f", "/f/x", Err("/f is not a directory"), &[]);
    check("/f", "/f/", Err("/f is not a directory"), &[]);
    check("/d/", "/d/", Ok("/d"), &[]);
    check("/f", "/f\0", Err("the path has a NUL byte"), &[]);
    check("/f", "/f/..", Err("/f is not a directory"), &[]);
}

#[test]
fn what_the_runtime_mounts_is_not_looked_for() {
    let files = "/etc/mtab -> ../proc/self/mounts\n/proc/";
    let why = "/proc/self/mounts is given by the container's runtime";
    check(files, "/etc/mtab", Err(why), &["/etc/mtab"]);
    check(files, "/proc", Ok("/proc"), &[]);
    check(files, "/proc/", Ok("/proc"), &[]);
}

/// Where the kernel itself finds `path` in the root `dir`: openat2(2) with
/// RESOLVE_IN_ROOT takes `dir` as the root for links and `..` alike.
fn kernel(dir: &Path, path: &str) -> Result<Vec<u8>, Errno> {
    let none = Mode::empty();
    let root = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY, none)?;
    let found = rustix::fs::openat2(&root, path, OFlags::PATH, none, ResolveFlags::IN_ROOT)?;
    let name = |fd: &std::os::fd::OwnedFd| {
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd));
        std::fs::read_link(link).unwrap().as_os_str().as_bytes().to_vec()
    };
    let (root, found) = (name(&root), name(&found));
    let inside = found.strip_prefix(&*root).unwrap().to_vec();
    Ok(if inside.is_empty() { b"/".to_vec() } else { inside })
}

/// Makes directories (0) and files (1), then links to their targets, in `root`
/// and never through one of the links, so that nothing is made elsewhere.
fn build(root: &Path, files: &[(String, String, u8)]) {
    let root = root.canonicalize().unwrap();
    for (name, _, kind) in files {
        let place = root.join(&name[1..]);
        // What an earlier file is in the way of is left out, here and below.
        if std::fs::create_dir_all(place.parent().unwrap()).is_ok() {
            let _ = match kind {
                0 => std::fs::create_dir(&place),
                1 => std::fs::File::create_new(&place).map(drop),
                _ => Ok(()),
            };
        }
    }
    for (name, target, _) in files.iter().filter(|file| file.2 > 1) {
        let place = root.join(&name[1..]);
        let parent = place.parent().unwrap();
        if parent.canonicalize().is_ok_and(|found| found == parent) {
            let _ = std::os::unix::fs::symlink(target, &place);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_kernel_resolves_every_path_the_same(
        files in proptest::collection::vec(("(/[abc]){1,3}", "(/?([abc]|\\.\\.|\\.)){1,4}/?", 0..3u8), 1..14),
        path in "(/([abc]|\\.\\.|\\.)){1,6}/?",
    ) {
        let dir = tempfile::tempdir().unwrap();
        build(dir.path(), &files);
        let expected = match kernel(dir.path(), &path) {
            // A kernel before 5.6, or a sandbox, cannot be asked.
            Err(Errno::NOSYS | Errno::PERM) => return Ok(()),
            other => other,
        };
        let rootfs = Rootfs::open(dir.path()).unwrap();
        let found = match Resolver::new(&rootfs).resolve(path.as_bytes()) {
            Ok(found) => Ok(found.path.as_bytes().to_vec()),
            Err(Unresolved { end: End::Absent(_), .. }) => Err(Errno::NOENT),
            Err(Unresolved { end: End::NotDirectory(_), .. }) => Err(Errno::NOTDIR),
            Err(Unresolved { end: End::Loop(_), .. }) => Err(Errno::LOOP),
            Err(Unresolved { end, .. }) => panic!("{end}"),
        };
        prop_assert_eq!(found, expected);
    }
}
