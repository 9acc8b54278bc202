//! What is known of each path: the values that become spec and record.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::hash::{PathMap, PathSet, TextMap};
use crate::record::{BytePath, FileUse, Port, Unseen, Use};
use crate::sys::Tid;
use crate::task::Process;
use crate::walk::parent_of;

/// All kinds of use, in the order of their bits.
const KINDS: [Use; 10] = [
    Use::Execute,
    Use::Interpret,
    Use::Read,
    Use::Write,
    Use::Inspect,
    Use::List,
    Use::Enter,
    Use::Link,
    Use::Parent,
    Use::Socket,
];

/// The bit of a kind of use.
pub(crate) fn bit(kind: Use) -> u16 {
    KINDS.iter().position(|k| *k == kind).map_or(0, |place| 1 << place)
}

/// One path.
#[derive(Debug)]
struct Entry {
    kinds: u16,
    pid: Tid,
    process: Rc<[u8]>,
    original: bool,
    errors: BTreeSet<String>,
    bytes: u64,
}

/// A path that only failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Names of the errors.
    pub(crate) errors: BTreeSet<String>,
    /// Executable of the first process that asked for it.
    pub(crate) process: Rc<[u8]>,
}

/// Everything that the run used, made, changed and could not show.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    files: TextMap<Entry>,
    /// Paths that the run made.
    created: PathSet,
    /// Directories that the run made or moved: all below them is the run's.
    created_dirs: PathSet,
    /// Other names that the run gave to files that were there.
    pub(crate) aliases: PathMap<Vec<u8>>,
    pub(crate) changed: BTreeSet<Vec<u8>>,
    pub(crate) deleted: BTreeSet<Vec<u8>>,
    pub(crate) listed: BTreeSet<Vec<u8>>,
    pub(crate) ports: BTreeSet<Port>,
    pub(crate) sockets: BTreeSet<Vec<u8>>,
    pub(crate) pseudo: BTreeSet<Vec<u8>>,
    /// Device nodes below /dev.
    pub(crate) devices: BTreeSet<Vec<u8>>,
    absent: BTreeMap<Vec<u8>, Failed>,
    unseen: BTreeMap<(&'static str, String), u64>,
}

impl Uses {
    /// Notes a use of a path that was there, with so many bytes of content.
    /// Returns whether it says anything new.
    pub(crate) fn note(&mut self, path: &[u8], kind: Use, by: &Process, bytes: u64) -> bool {
        let bit = bit(kind);
        let entry = self.files.get_or_insert(path, || Entry {
            kinds: 0,
            pid: by.pid,
            process: Rc::clone(&by.name),
            original: false,
            errors: BTreeSet::new(),
            bytes,
        });
        let new = entry.kinds & bit == 0;
        entry.kinds |= bit;
        new
    }

    /// Bytes of content of each path, as it was at its first use.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.files.iter().map(|(path, entry)| (path, entry.bytes))
    }

    /// Whether the path was there before the run, as far as is known.
    pub(crate) fn is_used(&self, path: &[u8]) -> bool {
        self.files.contains(path)
    }

    /// Says that the original of `path` was kept.
    pub(crate) fn keep_original(&mut self, path: &[u8]) {
        if let Some(entry) = self.files.get_mut(path) {
            entry.original = true;
        }
    }

    /// Notes that the run makes `path`. Returns whether that is new.
    pub(crate) fn create(&mut self, path: &[u8]) -> bool {
        !self.files.contains(path) && self.created.insert(path.to_vec())
    }

    /// Notes that everything below `path` is the run's.
    pub(crate) fn create_tree(&mut self, path: &[u8]) {
        self.created_dirs.insert(path.to_vec());
    }

    /// Takes [`Uses::create`] back: the call failed.
    pub(crate) fn uncreate(&mut self, path: &[u8]) {
        self.created.remove(path);
        self.created_dirs.remove(path);
    }

    /// Whether the run made `path`, or a directory above it.
    pub(crate) fn is_created(&self, path: &[u8]) -> bool {
        if self.created.is_empty() && self.created_dirs.is_empty() {
            return false;
        }
        if self.created.contains(path) {
            return true;
        }
        let mut above = path;
        while !self.created_dirs.is_empty() && above.len() > 1 {
            above = parent_of(above);
            if self.created_dirs.contains(above) {
                // What was there before stays what it was.
                return !self.files.contains(path);
            }
        }
        false
    }

    /// Notes that a call on `path` failed, with the error's name.
    pub(crate) fn fail(&mut self, path: &[u8], error: &str, by: &Process) {
        let errors = match self.files.get_mut(path) {
            Some(entry) => &mut entry.errors,
            None => {
                let failed = || Failed { errors: BTreeSet::new(), process: Rc::clone(&by.name) };
                &mut self.absent.entry(path.to_vec()).or_insert_with(failed).errors
            }
        };
        errors.insert(error.to_owned());
    }

    /// Notes something that could not be seen; how often is counted.
    pub(crate) fn unseen(&mut self, kind: &'static str, message: impl Into<String>) {
        *self.unseen.entry((kind, message.into())).or_insert(0) += 1;
    }

    /// Takes out every path of the spec, with what is known of it, sorted.
    pub(crate) fn take_files(&mut self) -> Vec<FileUse> {
        let file = |(path, entry): (Vec<u8>, Entry)| FileUse {
            path: BytePath(path),
            uses: kinds_of(entry.kinds),
            pid: entry.pid,
            process: BytePath(entry.process.to_vec()),
            original: entry.original,
            errors: entry.errors,
        };
        std::mem::take(&mut self.files).into_sorted().map(file).collect()
    }

    /// Paths that were only looked for, with the errors.
    pub(crate) fn absent(&self) -> &BTreeMap<Vec<u8>, Failed> {
        &self.absent
    }

    /// What the run made, sorted; not each file below a tree that was moved.
    pub(crate) fn created(&self) -> BTreeSet<BytePath> {
        self.created.iter().map(|path| BytePath(path.clone())).collect()
    }

    /// What could not be seen, with counts where it happened more than once.
    pub(crate) fn all_unseen(&self) -> BTreeSet<Unseen> {
        let line = |((kind, message), count): (&(&'static str, String), &u64)| Unseen {
            kind: (*kind).to_owned(),
            message: match count {
                1 => message.clone(),
                _ => format!("{message} ({count} times)"),
            },
        };
        self.unseen.iter().map(line).collect()
    }
}

fn kinds_of(bits: u16) -> BTreeSet<Use> {
    KINDS
        .iter()
        .enumerate()
        .filter(|(place, _)| bits & (1 << place) != 0)
        .map(|(_, k)| *k)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn perl() -> Process {
        Process { pid: 7, name: Rc::from(&b"/usr/bin/perl"[..]) }
    }

    #[test]
    fn the_first_process_and_all_kinds_are_kept() {
        let mut uses = Uses::default();
        assert!(uses.note(b"/f", Use::Inspect, &perl(), 0));
        assert!(uses.note(b"/f", Use::Read, &Process { pid: 8, name: Rc::from(&b"x"[..]) }, 0));
        assert!(!uses.note(b"/f", Use::Read, &perl(), 0));
        let file = uses.take_files().remove(0);
        assert_eq!(file.uses, [Use::Read, Use::Inspect].into());
        assert_eq!((file.pid, file.process.0.as_slice()), (7, &b"/usr/bin/perl"[..]));
    }

    #[test]
    fn all_below_a_moved_directory_is_the_runs_own() {
        let mut uses = Uses::default();
        uses.create(b"/new");
        uses.create_tree(b"/new");
        assert!(uses.is_created(b"/new/a/b"));
        assert!(!uses.is_created(b"/newer"));
        uses.uncreate(b"/new");
        assert!(!uses.is_created(b"/new/a/b"));
    }

    #[test]
    fn what_was_there_is_not_made_by_making_it_again() {
        let mut uses = Uses::default();
        uses.note(b"/f", Use::Write, &perl(), 0);
        assert!(!uses.create(b"/f"));
        assert!(!uses.is_created(b"/f"));
    }

    #[test]
    fn unseen_things_are_counted() {
        let mut uses = Uses::default();
        uses.unseen("x", "not seen");
        uses.unseen("x", "not seen");
        let all = uses.all_unseen();
        assert_eq!(all.first().map(|u| u.message.as_str()), Some("not seen (2 times)"));
    }
}
