//! Which directories of a read-only container can be written to.
//!
//! A directory that the traced run wrote in becomes a tmpfs with the
//! directory's own mode and owner. Where the bundle has files in it, the tmpfs
//! begins with a copy of them: `tmpcopyup`, an option of runc and crun beyond
//! the specification. An overlay would not copy, but `config.json` would have to
//! name its layers by absolute paths of the host, and the bundle could not be
//! moved.

use std::collections::BTreeSet;

use oci_spec::runtime::Mount;

use crate::config::mount;
use crate::layer::Entry;
use crate::path::RootPath;

/// What a run can write into each directory, on top of what it begins with.
pub const ROOM: u64 = 64 << 20;
/// Memory that a file or directory takes in a tmpfs beside its content.
const PER_FILE: u64 = 4096;

/// A directory in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where it is mounted.
    pub path: RootPath,
    /// Mode of the directory.
    pub mode: u32,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// How many bytes it can hold.
    pub size: u64,
    /// Whether it begins with what the bundle has there, and how many bytes
    /// that takes.
    pub copies: Option<u64>,
}

impl Tmpfs {
    /// A directory at `path` over what `entries` have there, with room for
    /// `room` bytes more.
    pub fn over<'a>(
        path: &RootPath,
        entries: impl IntoIterator<Item = &'a Entry>,
        room: u64,
    ) -> Self {
        let mut tmpfs =
            Tmpfs { path: path.clone(), mode: 0o755, uid: 0, gid: 0, size: room, copies: None };
        for entry in entries.into_iter().filter(|entry| entry.path.starts_with(path)) {
            if entry.path == *path {
                (tmpfs.mode, tmpfs.uid, tmpfs.gid) = (entry.mode, entry.uid, entry.gid);
            } else {
                let bytes = entry.node.size().next_multiple_of(PER_FILE) + PER_FILE;
                *tmpfs.copies.get_or_insert(0) += bytes;
            }
        }
        let whole = 1 << 20;
        tmpfs.size = (room + tmpfs.copies.unwrap_or(0)).next_multiple_of(whole);
        tmpfs
    }

    pub(crate) fn mount(&self) -> Mount {
        let mode = format!("mode={:o}", self.mode);
        let size = format!("size={}k", self.size >> 10);
        let (uid, gid) = (format!("uid={}", self.uid), format!("gid={}", self.gid));
        let mut options = vec!["nosuid", "nodev", &mode, &uid, &gid, &size];
        if self.copies.is_some() {
            options.push("tmpcopyup");
        }
        mount(&self.path.to_string(), "tmpfs", "tmpfs", &options)
    }
}

/// The directories in which a run wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Directories that are to be writable; none lies in another.
    pub directories: BTreeSet<RootPath>,
    /// Whether the run also wrote into `/` itself, which no tmpfs can cover.
    pub root: bool,
}

/// Finds where a run wrote: the nearest directory above each of `changes` that
/// the run did not make itself. `created` are the changes that it made;
/// `is_runtimes` says which places are the runtime's own.
pub fn written<'a>(
    changes: impl IntoIterator<Item = &'a RootPath>,
    created: &BTreeSet<RootPath>,
    is_runtimes: impl Fn(&RootPath) -> bool,
) -> Written {
    let mut written = Written::default();
    for path in changes {
        let mut above = path.parent();
        while let Some(dir) = above.take_if(|dir| created.contains(dir)) {
            above = dir.parent();
        }
        match above {
            Some(dir) if dir.is_root() => written.root = true,
            Some(dir) if !is_runtimes(&dir) => drop(written.directories.insert(dir)),
            _ => {}
        }
    }
    written.directories = outermost(written.directories);
    written
}

/// Drops what lies in another of `directories`.
pub fn outermost(directories: BTreeSet<RootPath>) -> BTreeSet<RootPath> {
    let mut kept: BTreeSet<RootPath> = BTreeSet::new();
    // A directory sorts right before what is in it.
    for dir in directories {
        if !kept.last().is_some_and(|outer| dir.starts_with(outer)) {
            kept.insert(dir);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Node;

    fn path(text: &str) -> RootPath {
        RootPath::new(text.as_bytes()).unwrap()
    }

    fn check(changes: &[&str], created: &[&str], expected: &str) {
        let created: BTreeSet<_> = created.iter().map(|text| path(text)).collect();
        let changes: Vec<_> = changes.iter().map(|text| path(text)).collect();
        let dev = path("/dev");
        let all = changes.iter().chain(&created);
        let written = written(all, &created, |dir| dir.starts_with(&dev));
        let mut shown: Vec<_> = written.directories.iter().map(ToString::to_string).collect();
        if written.root {
            shown.push("(root)".to_owned());
        }
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn a_run_wrote_where_it_made_or_changed_something() {
        check(&["/etc/foo"], &["/run/redis.pid"], "/etc /run");
        check(&[], &["/var/lib/new", "/var/lib/new/deep", "/var/lib/new/deep/f"], "/var/lib");
        check(&["/var/log/a", "/var/log-b/c"], &["/var/log/x/y"], "/var/log /var/log-b");
    }

    #[test]
    fn the_root_and_the_runtimes_places_are_no_tmpfs() {
        check(&["/nohup.out"], &["/dev/shm/x", "/dev/y"], "(root)");
    }

    #[test]
    fn a_tmpfs_has_the_directorys_owner_and_room_for_its_files() {
        let entry = |text: &str, node| Entry {
            path: path(text),
            mode: 0o2770,
            uid: 33,
            gid: 34,
            mtime: 0,
            node,
            found: true,
        };
        let entries = [
            entry("/srv", Node::Directory),
            entry("/srv/f", Node::File(5000)),
            entry("/srv-b", Node::File(1 << 30)),
        ];
        let tmpfs = Tmpfs::over(&path("/srv"), &entries, ROOM);
        assert_eq!((tmpfs.mode, tmpfs.uid, tmpfs.gid), (0o2770, 33, 34));
        assert_eq!((tmpfs.copies, tmpfs.size), (Some(12288), 65 << 20));
        let options = tmpfs.mount().options().clone().unwrap().join(",");
        assert_eq!(options, "nosuid,nodev,mode=2770,uid=33,gid=34,size=66560k,tmpcopyup");
        assert_eq!(Tmpfs::over(&path("/tmp"), &entries, ROOM).copies, None);
    }
}
