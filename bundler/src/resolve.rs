//! From a path to the file that it names, as path_resolution(7) has it, inside
//! a root file system: absolute links start at that root, and `..` at the root
//! stays there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use crate::path::RootPath;
use crate::rootfs::{Kind, Meta, Rootfs};

/// Symbolic links that one path may cross (`MAXSYMLINKS` of Linux).
const MAX_LINKS: usize = 40;
/// Longest name of a file in bytes (`NAME_MAX`).
const NAME_MAX: usize = 255;
/// Longest path in bytes, without its NUL (`PATH_MAX` - 1).
const PATH_MAX: usize = 4095;
/// Directories that every container gets mounted, whatever its root has there.
const RUNTIME: [&[u8]; 3] = [b"/dev", b"/proc", b"/sys"];

/// Follows paths inside one root file system and remembers what it saw there.
#[derive(Debug)]
pub struct Resolver<'a> {
    rootfs: &'a Rootfs,
    seen: RefCell<HashMap<Box<[u8]>, Seen>>,
}

#[derive(Clone, Debug)]
enum Seen {
    File(Meta),
    Link(Meta, Rc<[u8]>),
    Error(i32),
}

/// A file that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Where it lies; no directory of this path is a link.
    pub path: RootPath,
    /// What it is.
    pub meta: Meta,
    /// Every symbolic link on the way, in the order of crossing.
    pub links: Vec<RootPath>,
}

/// How far a path led that names no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// Every symbolic link on the way, in the order of crossing.
    pub links: Vec<RootPath>,
    /// Why it ended.
    pub end: End,
}

/// Why a path names no file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Nothing has this name (ENOENT).
    Absent(RootPath),
    /// This is used as a directory and is none (ENOTDIR).
    NotDirectory(RootPath),
    /// More than 40 links, the last of them this (ELOOP).
    Loop(RootPath),
    /// A name or the whole is too long (ENAMETOOLONG).
    TooLong,
    /// It lies below /dev, /proc or /sys, which the container's runtime mounts.
    Runtime(RootPath),
    /// The kernel would not say (EACCES, EIO, …).
    Error {
        /// What was looked at.
        at: RootPath,
        /// The error's number, errno(3).
        errno: i32,
    },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Absent(at) => write!(f, "there is no {at}"),
            End::NotDirectory(at) => write!(f, "{at} is not a directory"),
            End::Loop(at) => write!(f, "too many links, {at} is in a loop of them"),
            End::TooLong => f.write_str("the path is too long"),
            End::Runtime(at) => write!(f, "{at} is given by the container's runtime"),
            End::Error { at, errno } => {
                write!(f, "cannot look at {at}: {}", std::io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl<'a> Resolver<'a> {
    /// Returns a resolver that has seen nothing yet.
    pub fn new(rootfs: &'a Rootfs) -> Self {
        Resolver { rootfs, seen: RefCell::default() }
    }

    /// The root file system that it looks at.
    pub fn rootfs(&self) -> &'a Rootfs {
        self.rootfs
    }

    /// Finds the file that `path` names, through links, `.` and `..`; a path
    /// that does not begin with a slash starts at the root too.
    ///
    /// # Errors
    /// Where it names none, how far it led.
    pub fn resolve(&self, path: &[u8]) -> Result<Resolved, Unresolved> {
        self.walk(path, true)
    }

    /// As [`Resolver::resolve`], but a link at the end is itself the file, as
    /// for lstat(2).
    ///
    /// # Errors
    /// Where it names none, how far it led.
    pub fn resolve_link(&self, path: &[u8]) -> Result<Resolved, Unresolved> {
        self.walk(path, false)
    }

    fn walk(&self, path: &[u8], follow: bool) -> Result<Resolved, Unresolved> {
        let mut links = Vec::new();
        match self.steps(path, follow, &mut links) {
            Ok((path, meta)) => Ok(Resolved { path, meta, links }),
            Err(end) => Err(Unresolved { links, end }),
        }
    }

    fn steps(
        &self,
        path: &[u8],
        follow: bool,
        links: &mut Vec<RootPath>,
    ) -> Result<(RootPath, Meta), End> {
        if path.len() > PATH_MAX {
            return Err(End::TooLong);
        }
        // What is still to walk, the next component last.
        let mut ahead: Vec<Rc<[u8]>> = components(path).collect();
        let mut at: Vec<u8> = Vec::new();
        let (mut meta, mut looked_at) = (None, true);
        let mut crossed = 0;
        while let Some(name) = ahead.pop() {
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    at.truncate(at.iter().rposition(|&b| b == b'/').unwrap_or(0));
                    looked_at = false;
                    continue;
                }
                name if name.len() > NAME_MAX => return Err(End::TooLong),
                name => {
                    at.push(b'/');
                    at.extend_from_slice(name);
                }
            }
            let in_the_middle = !ahead.is_empty();
            match self.look(&at) {
                _ if in_the_middle && RUNTIME.contains(&&*at) && names_more(&ahead) => {
                    return Err(End::Runtime(all_of(&at, &ahead)));
                }
                Seen::Link(found, target) if in_the_middle || follow => {
                    crossed += 1;
                    let link = RootPath::from_clean(at.clone());
                    if crossed > MAX_LINKS {
                        return Err(End::Loop(link));
                    }
                    links.push(link.clone());
                    if target.is_empty() {
                        return Err(End::Absent(link));
                    }
                    at.truncate(at.iter().rposition(|&b| b == b'/').unwrap_or(0));
                    if target.first() == Some(&b'/') {
                        at.clear();
                    }
                    ahead.extend(components(&target));
                    (meta, looked_at) = (Some(found), false);
                }
                Seen::Link(found, _) => (meta, looked_at) = (Some(found), true),
                Seen::File(found) if in_the_middle && found.kind != Kind::Directory => {
                    return Err(End::NotDirectory(RootPath::from_clean(at)));
                }
                Seen::File(found) => (meta, looked_at) = (Some(found), true),
                Seen::Error(errno) => return Err(end_of(RootPath::from_clean(at), errno)),
            }
        }
        let here = RootPath::from_clean(at);
        match meta {
            Some(meta) if looked_at => Ok((here, meta)),
            // The walk ended at the root, or with `..`.
            _ => match self.look(here.as_bytes()) {
                Seen::File(meta) | Seen::Link(meta, _) => Ok((here, meta)),
                Seen::Error(errno) => Err(end_of(here, errno)),
            },
        }
    }

    fn look(&self, at: &[u8]) -> Seen {
        if let Some(seen) = self.seen.borrow().get(at) {
            return seen.clone();
        }
        let path = RootPath::from_clean(at.to_vec());
        let seen = match self.rootfs.lstat(&path) {
            Ok(meta) if meta.kind == Kind::Symlink => match self.rootfs.read_link(&path) {
                Ok(target) => Seen::Link(meta, target.into()),
                Err(e) => Seen::Error(e.raw_os_error().unwrap_or(0)),
            },
            Ok(meta) => Seen::File(meta),
            Err(e) => Seen::Error(e.raw_os_error().unwrap_or(0)),
        };
        self.seen.borrow_mut().insert(at.into(), seen.clone());
        seen
    }
}

/// The components of `path` from the last to the first. A slash at the end
/// gives an empty one, which asks for a directory.
fn components(path: &[u8]) -> impl Iterator<Item = Rc<[u8]>> {
    path.rsplit(|&b| b == b'/').map(Rc::from)
}

fn names_more(ahead: &[Rc<[u8]>]) -> bool {
    ahead.iter().any(|name| !matches!(&**name, b"" | b"." | b".."))
}

/// The path that was on its way, as far as text can tell.
fn all_of(at: &[u8], ahead: &[Rc<[u8]>]) -> RootPath {
    let mut path = at.to_vec();
    for name in ahead.iter().rev().filter(|name| !matches!(&***name, b"" | b"." | b"..")) {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    RootPath::from_clean(path)
}

fn end_of(at: RootPath, errno: i32) -> End {
    match rustix::io::Errno::from_raw_os_error(errno) {
        rustix::io::Errno::NOENT => End::Absent(at),
        rustix::io::Errno::NOTDIR => End::NotDirectory(at),
        rustix::io::Errno::NAMETOOLONG => End::TooLong,
        _ => End::Error { at, errno },
    }
}

#[cfg(test)]
mod tests {
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
}
