//! What the tracer knows so far, and how a path becomes a use.

use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use std::os::fd::AsRawFd;

use crate::hash::{PathMap, PathSet, TextMap};
use crate::interpreter;
use crate::log::Log;
use crate::mounts::FsKind;
use crate::originals::Originals;
use crate::record::Use;
use crate::resolve::{Query, Resolved, Resolver, Target};
use crate::spaces::Spaces;
use crate::sys::Tid;
use crate::task::{FsView, Process, Task};
use crate::uses::Uses;
use crate::walk::parent_of;

/// Who asks: what a resolution needs to know of a stopped task.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) tid: Tid,
    pub(crate) process: Rc<Process>,
    pub(crate) view: Rc<FsView>,
    /// Name of the call, for the log.
    pub(crate) call: &'static str,
}

impl Who {
    /// The task `tid` in the call of that name.
    pub(crate) fn new(tid: Tid, task: &Task, call: &'static str) -> Self {
        let (process, view) = (Rc::clone(&task.process), Rc::clone(&task.view));
        Who { tid, process, view, call }
    }
}

/// A use of a path that was not there; it is looked for again at the end, since
/// somebody outside of the run may have made it meanwhile.
#[derive(Debug)]
struct Absent {
    root: Rc<[u8]>,
    base: Rc<[u8]>,
    path: Vec<u8>,
    follow: bool,
    kind: Use,
    by: Rc<Process>,
}

/// Collects the uses of a whole run.
pub(crate) struct Observer {
    pub(crate) resolver: Resolver,
    pub(crate) uses: Uses,
    pub(crate) originals: Originals,
    pub(crate) log: Option<Log>,
    /// Texts, and whether they were resolved already, see [`Observer::is_seen`].
    seen: TextMap<bool>,
    key: Vec<u8>,
    absent: PathMap<Absent>,
    executed: PathSet,
    /// Rises when a name may lead elsewhere than before.
    pub(crate) generation: u64,
    /// Calls under way that may change where names lead.
    unsettled: u32,
    pub(crate) spaces: Spaces,
    privileged: bool,
    pub(crate) allow_io_uring: bool,
    pub(crate) outcomes: bool,
    /// What is the machine's and not the root's, see [`crate::Command::foreign`].
    pub(crate) foreign: Vec<Vec<u8>>,
}

/// A path as the program gave it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    pub(crate) root: &'a Rc<[u8]>,
    pub(crate) base: &'a Rc<[u8]>,
    pub(crate) path: &'a [u8],
    pub(crate) follow: bool,
}

impl Observer {
    /// An observer of the run of `main` below the resolver's root.
    pub(crate) fn new(
        main: Tid,
        resolver: Resolver,
        originals: Originals,
        log: Option<Log>,
    ) -> Self {
        Observer {
            resolver,
            uses: Uses::default(),
            originals,
            log,
            seen: TextMap::default(),
            key: Vec::new(),
            absent: PathMap::default(),
            executed: PathSet::default(),
            generation: 0,
            unsettled: 0,
            spaces: Spaces::new(main),
            privileged: nix::unistd::geteuid().is_root(),
            allow_io_uring: false,
            outcomes: false,
            foreign: Vec::new(),
        }
    }

    /// Whether this use of this text was resolved already, so that there is
    /// nothing new in it. Notes it as seen.
    pub(crate) fn is_seen(&mut self, given: &Given<'_>, kind: Use, who: &Who) -> bool {
        // In another mount namespace the same text may be another file.
        if self.unsettled > 0 || who.view.uncached || self.log.is_some() {
            return false;
        }
        let key = &mut self.key;
        key.clear();
        key.push(kind as u8 | if given.follow { 0x80 } else { 0 });
        if given.root.as_ref() != b"/" {
            key.extend_from_slice(given.root);
        }
        key.push(0);
        if given.path.first() != Some(&b'/') {
            key.extend_from_slice(given.base);
            key.push(0);
        }
        key.extend_from_slice(given.path);
        std::mem::replace(self.seen.get_or_insert(key, || false), true)
    }

    /// Finds what the path names now.
    pub(crate) fn resolve(&mut self, given: &Given<'_>, who: &Who) -> Resolved {
        let query = Query {
            root: given.root,
            base: given.base,
            path: given.path,
            follow: given.follow,
            process: who.process.pid,
        };
        let resolved = self.resolve_in_space(&query, who);
        if resolved.personal
            && let Some(seen) = self.seen.get_mut(&self.key)
        {
            // The same text is another file for the next process.
            *seen = false;
        }
        resolved
    }

    /// A use that changes nothing: notes what is there, remembers what is not.
    pub(crate) fn look(&mut self, given: &Given<'_>, kind: Use, who: &Who) {
        if self.is_seen(given, kind, who) {
            return;
        }
        let resolved = self.resolve(given, who);
        self.note_links(&resolved, who);
        match &resolved.target {
            Target::There(stat) => self.note(&resolved.path, stat, kind, who),
            Target::Absent | Target::NoWay => {
                if self.uses.is_created(&resolved.path) || self.absent.contains_key(&self.key) {
                    return;
                }
                let absent = Absent {
                    root: Rc::clone(given.root),
                    base: Rc::clone(given.base),
                    path: given.path.to_vec(),
                    follow: given.follow,
                    kind,
                    by: Rc::clone(&who.process),
                };
                self.absent.insert(self.key.clone(), absent);
            }
        }
    }

    /// Notes each link that was crossed.
    pub(crate) fn note_links(&mut self, resolved: &Resolved, who: &Who) {
        for link in &resolved.links {
            self.note_plain(link, Use::Link, who, 0);
        }
    }

    /// Notes a use of something that is there: a pseudo file system by its
    /// mount point, everything else by its path unless the run made it.
    pub(crate) fn note(&mut self, path: &[u8], stat: &Stat, kind: Use, who: &Who) {
        if self.is_pseudo(path, stat) {
            return;
        }
        self.note_plain(path, kind, who, content_size(stat));
        if kind == Use::List && !self.uses.is_created(path) {
            self.uses.listed.insert(path.to_vec());
        }
        if kind == Use::Execute {
            self.note_privilege(path, stat);
            self.note_interpreters(path, who);
        }
    }

    /// Whether the file is no file to ship; its mount point is noted then.
    pub(crate) fn is_pseudo(&mut self, path: &[u8], stat: &Stat) -> bool {
        let device = matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::CharacterDevice | FileType::BlockDevice
        );
        if device && path.starts_with(b"/dev/") {
            self.uses.pseudo.insert(b"/dev".to_vec());
            self.uses.devices.insert(path.to_vec());
            return true;
        }
        if let Some(foreign) = self.foreign.iter().find(|foreign| covers(foreign, path)) {
            self.uses.pseudo.insert(foreign.clone());
            return true;
        }
        if self.resolver.kind(path, stat.st_dev) == FsKind::Plain {
            return false;
        }
        let point = self.resolver.mounts().covering(path).map(|mount| mount.point.clone());
        self.uses.pseudo.insert(point.unwrap_or_else(|| path.to_vec()));
        true
    }

    fn note_plain(&mut self, path: &[u8], kind: Use, who: &Who, bytes: u64) {
        if self.uses.is_created(path) {
            return;
        }
        self.uses.note(path, kind, &who.process, bytes);
        if let Some(log) = &mut self.log {
            log.write(path, kind, who);
        }
    }

    /// A tracer without privilege keeps setuid programs from getting any.
    fn note_privilege(&mut self, path: &[u8], stat: &Stat) {
        if self.privileged || !gives_privilege(&self.resolver, path, stat) {
            return;
        }
        self.uses.unseen(
            "setuid",
            format!(
                "`{}` is a set-user-ID or set-group-ID program or has file capabilities, and ran \
                 without that privilege, since its tracer has none; trace as root",
                path.escape_ascii()
            ),
        );
    }

    /// The parent of a name that the run makes or takes away.
    pub(crate) fn note_parent(&mut self, path: &[u8], who: &Who) {
        let parent = parent_of(path);
        if let Ok(stat) = self.resolver.lstat(parent)
            && !self.is_pseudo(parent, &stat)
        {
            self.note_plain(parent, Use::Parent, who, 0);
        }
    }

    /// A call has opened a file that no path told of.
    pub(crate) fn opened(&mut self, result: Option<i64>, who: &Who) {
        let Some(fd) = result.filter(|fd| *fd >= 0) else { return };
        let Some(path) = crate::descriptors::proc_link(who.tid, &format!("fd/{fd}")) else {
            return;
        };
        if let Ok(stat) = self.resolver.lstat(&path) {
            self.note(&path, &stat, Use::Read, who);
        }
    }

    /// What the kernel itself opens to execute `path`; each file is read once.
    fn note_interpreters(&mut self, path: &[u8], who: &Who) {
        if !self.executed.insert(path.to_vec()) {
            return;
        }
        let root = who.view.root(who.tid, self.generation);
        let cwd = who.view.cwd(who.tid, self.generation);
        let mut file = path.to_vec();
        for _ in 0..interpreter::MAX_DEPTH {
            let Some(found) = interpreter::of(&self.resolver, &file) else { return };
            let given = Given { root: &root, base: &cwd, path: &found, follow: true };
            let resolved = self.resolve(&given, who);
            self.note_links(&resolved, who);
            let Target::There(stat) = &resolved.target else { return };
            self.note(&resolved.path, stat, Use::Interpret, who);
            file = resolved.path;
        }
    }

    /// A call begins after which names may lead elsewhere.
    pub(crate) fn unsettle(&mut self) {
        self.unsettled += 1;
        self.forget();
    }

    /// That call is over.
    pub(crate) fn settle(&mut self) {
        self.unsettled = self.unsettled.saturating_sub(1);
        self.forget();
    }

    fn forget(&mut self) {
        self.generation += 1;
        self.seen.clear();
        self.resolver.forget(self.unsettled == 0);
    }

    /// Looks again for what was absent: made from outside since then, it is a
    /// use after all. For the end of the run.
    pub(crate) fn look_again(&mut self) {
        for (_, absent) in std::mem::take(&mut self.absent) {
            let who = Who { tid: 0, process: absent.by, view: Rc::default(), call: "" };
            let given = Given {
                root: &absent.root,
                base: &absent.base,
                path: &absent.path,
                follow: absent.follow,
            };
            let resolved = self.resolve(&given, &who);
            if let Target::There(stat) = &resolved.target
                && !resolved.personal
                && !self.uses.is_created(&resolved.path)
            {
                self.note_links(&resolved, &who);
                self.note(&resolved.path, stat, absent.kind, &who);
            }
        }
    }
}

/// Whether `path` is `place` or lies below it.
fn covers(place: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
}

/// Bytes of content of a regular file; nothing else has content to ship.
fn content_size(stat: &Stat) -> u64 {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => u64::try_from(stat.st_size).unwrap_or(0),
        _ => 0,
    }
}

/// Whether executing the file changes ids or capabilities.
fn gives_privilege(resolver: &Resolver, path: &[u8], stat: &Stat) -> bool {
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.contains(Mode::SUID) || mode.contains(Mode::SGID | Mode::XGRP) {
        return true;
    }
    let capabilities = || {
        let (dir, name) = resolver.open_parent(path)?;
        let file = rustix::fs::openat(&dir, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::getxattr(path, "security.capability", &mut [0u8; 64][..])
    };
    capabilities().is_ok()
}
