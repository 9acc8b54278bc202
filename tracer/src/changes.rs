//! Calls that make, change, move or delete names: what was there before is
//! decided at their entry, and taken back where they fail.

use rustix::fs::{FileType, Stat};

use crate::mounts::join;
use crate::observer::{Given, Observer, Who};
use crate::originals::Kept;
use crate::record::{Port, Use};
use crate::resolve::{Resolved, Target};

/// What is to be done when a call has ended.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Noted as made at the entry; not so if the call fails.
    pub(crate) made: Vec<Vec<u8>>,
    /// Gone if the call succeeds.
    pub(crate) gone: Vec<Vec<u8>>,
    /// Changed if the call succeeds.
    pub(crate) changed: Vec<Vec<u8>>,
    /// Names may lead elsewhere now.
    pub(crate) settle: bool,
    /// The mounts may be others now.
    pub(crate) mounts: bool,
    /// The result is a descriptor of a file that no path told of.
    pub(crate) opened: bool,
    /// Listened on if the call succeeds.
    pub(crate) bound: Option<Port>,
    /// With outcomes: what the call was about, and whose it is.
    pub(crate) asked: Vec<(Vec<u8>, Who)>,
}

impl Pending {
    /// Whether there is nothing to wait for.
    pub(crate) fn is_empty(&self) -> bool {
        self.made.is_empty()
            && self.gone.is_empty()
            && self.changed.is_empty()
            && self.asked.is_empty()
            && self.bound.is_none()
            && !self.settle
            && !self.mounts
            && !self.opened
    }
}

impl Observer {
    /// Something that was there is about to be changed: keeps its original.
    pub(crate) fn guard(&mut self, path: &[u8], stat: &Stat, who: &Who) {
        if self.is_pseudo(path, stat) {
            return;
        }
        if let Some(first_name) = self.uses.aliases.get(path).cloned() {
            // A new name of an old file: what changes is the old file.
            if let Ok(stat) = self.resolver.lstat(&first_name) {
                self.guard(&first_name, &stat, who);
                self.uses.changed.insert(first_name);
            }
        }
        if self.uses.is_created(path) {
            return;
        }
        self.note(path, stat, Use::Write, who);
        match self.originals.keep(&self.resolver, path, stat) {
            Kept::Now => self.uses.keep_original(path),
            Kept::Before | Kept::Unwanted => {}
            Kept::TooBig => self.uses.unseen(
                "original-limit",
                format!(
                    "the original of `{}` ({} bytes) was not kept: it is over --originals-limit",
                    path.escape_ascii(),
                    stat.st_size
                ),
            ),
            Kept::Failed(error) => self.uses.unseen(
                "original-unreadable",
                format!("the original of `{}` was not kept: {error}", path.escape_ascii()),
            ),
        }
    }

    /// A call changes the content or metadata of what the path names.
    pub(crate) fn change(&mut self, given: &Given<'_>, who: &Who, pending: &mut Pending) {
        if self.is_seen(given, Use::Write, who) {
            return;
        }
        let resolved = self.resolve(given, who);
        self.note_links(&resolved, who);
        if let Target::There(stat) = &resolved.target {
            self.guard(&resolved.path, stat, who);
            self.changed(&resolved.path, pending);
        }
    }

    /// Notes a change for the case that the call succeeds.
    pub(crate) fn changed(&mut self, path: &[u8], pending: &mut Pending) {
        let ours = self.uses.is_used(path) && !self.uses.is_created(path);
        if ours && !self.uses.changed.contains(path) {
            pending.changed.push(path.to_vec());
        }
    }

    /// A call makes the name. Returns what it names now.
    pub(crate) fn make(
        &mut self,
        given: &Given<'_>,
        who: &Who,
        tree: bool,
        pending: &mut Pending,
    ) -> Resolved {
        let resolved = self.resolve(given, who);
        self.note_links(&resolved, who);
        match &resolved.target {
            Target::There(stat) => self.note(&resolved.path, stat, Use::Inspect, who),
            Target::Absent => self.made(&resolved.path, who, tree, pending),
            Target::NoWay => {}
        }
        resolved
    }

    /// Notes a name that was absent and is about to be made.
    pub(crate) fn made(&mut self, path: &[u8], who: &Who, tree: bool, pending: &mut Pending) {
        self.note_parent(path, who);
        if self.uses.create(path) {
            if tree {
                self.uses.create_tree(path);
            }
            pending.made.push(path.to_vec());
        } else if self.uses.is_used(path) {
            // It was there, the run deleted it, and now makes it anew.
            pending.changed.push(path.to_vec());
        }
    }

    /// A call takes the name away.
    pub(crate) fn remove(&mut self, given: &Given<'_>, who: &Who, pending: &mut Pending) {
        let resolved = self.resolve(given, who);
        self.note_links(&resolved, who);
        let Target::There(stat) = &resolved.target else { return };
        // Another file or directory may get the name.
        pending.settle |= FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        self.note_parent(&resolved.path, who);
        if self.uses.is_created(&resolved.path) {
            return;
        }
        self.guard(&resolved.path, stat, who);
        pending.gone.push(resolved.path);
    }

    /// A call gives a file one more name.
    pub(crate) fn link(&mut self, from: &Given<'_>, to: &Given<'_>, who: &Who, p: &mut Pending) {
        let source = self.resolve(from, who);
        self.note_links(&source, who);
        let mut leads = false;
        if let Target::There(stat) = &source.target {
            self.note(&source.path, stat, Use::Inspect, who);
            leads = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        }
        // Even where nothing is found: a file without a name (O_TMPFILE) gets
        // one through /proc/self/fd.
        let target = self.make(to, who, false, p);
        if p.made.contains(&target.path) && matches!(source.target, Target::There(_)) {
            p.settle |= leads;
            if !self.uses.is_created(&source.path) {
                self.uses.aliases.insert(target.path, source.path);
            } else if let Some(first) = self.uses.aliases.get(&source.path).cloned() {
                self.uses.aliases.insert(target.path, first);
            }
        }
    }

    /// A call moves a name; with `exchange` the two change places.
    pub(crate) fn rename(
        &mut self,
        from: &Given<'_>,
        to: &Given<'_>,
        exchange: bool,
        who: &Who,
        pending: &mut Pending,
    ) {
        let (source, target) = (self.resolve(from, who), self.resolve(to, who));
        self.note_links(&source, who);
        self.note_links(&target, who);
        let Target::There(stat) = &source.target else { return };
        let mut moved = vec![(&source, &target, stat)];
        match &target.target {
            Target::NoWay => return,
            Target::Absent if exchange => return,
            Target::There(other) if exchange => moved.push((&target, &source, other)),
            Target::There(_) | Target::Absent => {}
        }
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        let leads = |stat: &Stat| matches!(kind(stat), FileType::Symlink | FileType::Directory);
        for (source, _, stat) in &moved {
            pending.settle |= leads(stat);
            self.move_away(source, stat, exchange, who, pending);
        }
        if let Target::There(other) = &target.target {
            pending.settle |= leads(other);
            if !exchange {
                self.guard(&target.path, other, who);
                self.changed(&target.path, pending);
            }
        }
        for (_, target, stat) in moved {
            self.note_parent(&target.path, who);
            if self.uses.create(&target.path) {
                pending.made.push(target.path.clone());
            }
            if kind(stat) == FileType::Directory {
                self.uses.create_tree(&target.path);
            }
        }
    }

    /// The name `source` leads nowhere, or elsewhere, after this call.
    fn move_away(
        &mut self,
        source: &Resolved,
        stat: &Stat,
        exchange: bool,
        who: &Who,
        pending: &mut Pending,
    ) {
        self.note_parent(&source.path, who);
        if self.uses.is_created(&source.path) {
            return;
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.guard_tree(&source.path, stat, who);
        } else {
            self.guard(&source.path, stat, who);
        }
        let list = if exchange { &mut pending.changed } else { &mut pending.gone };
        list.push(source.path.clone());
    }

    /// A whole directory moves: what lies in it can only be found under the new
    /// name later, so all of it is kept now.
    fn guard_tree(&mut self, dir: &[u8], stat: &Stat, who: &Who) {
        let mut dirs = vec![(dir.to_vec(), *stat)];
        while let Some((dir, stat)) = dirs.pop() {
            self.guard(&dir, &stat, who);
            for name in self.names_in(&dir) {
                let path = join(&dir, &name);
                let Ok(found) = self.resolver.lstat(&path) else { continue };
                if found.st_dev != stat.st_dev {
                    continue;
                }
                match FileType::from_raw_mode(found.st_mode) {
                    FileType::Directory => dirs.push((path, found)),
                    _ => self.guard(&path, &found, who),
                }
            }
        }
    }

    fn names_in(&self, dir: &[u8]) -> Vec<Vec<u8>> {
        use rustix::fs::{Dir, Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |(parent, name): (std::os::fd::OwnedFd, &[u8])| {
            rustix::fs::openat(&parent, name, flags, Mode::empty())
        };
        let Ok(fd) = self.resolver.open_parent(dir).and_then(open) else { return Vec::new() };
        let Ok(entries) = Dir::new(fd) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_bytes().to_vec());
        names.filter(|name| name != b"." && name != b"..").collect()
    }

    /// A call that something waited for has ended, with this result (negative:
    /// an error number); nothing is known where its task is gone.
    pub(crate) fn finish(&mut self, pending: Pending, result: Option<i64>) {
        let failed = result.is_some_and(|result| result < 0);
        if failed {
            for path in &pending.made {
                self.uses.uncreate(path);
                self.uses.aliases.remove(path);
            }
        } else {
            for path in pending.gone {
                self.uses.changed.remove(&path);
                self.uses.deleted.insert(path);
            }
            for path in pending.changed {
                self.uses.deleted.remove(&path);
                self.uses.changed.insert(path);
            }
        }
        if result == Some(0) {
            self.uses.ports.extend(pending.bound);
        }
        if let (true, Some(result)) = (failed, result) {
            let name = nix::errno::Errno::from_raw(i32::try_from(-result).unwrap_or(0));
            for (path, who) in pending.asked {
                let name = format!("{name:?}");
                if let Some(log) = &mut self.log {
                    log.fail(&path, &name, &who);
                }
                self.uses.fail(&path, &name, &who.process);
            }
        }
        if pending.mounts {
            self.mounts_changed();
        }
        if pending.settle {
            self.settle();
        }
    }
}
