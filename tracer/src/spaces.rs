//! Name spaces other than the traced root's at the start: tasks in a mount
//! namespace of their own, and mounts that the run made. What is found there
//! is mapped back to where the same file lies in the traced root.

use std::collections::HashMap;

use crate::mounts::{FsKind, Mounts};
use crate::observer::{Observer, Who};
use crate::resolve::{Query, Resolved, Resolver, Target};
use crate::sys::Tid;
use rustix::io::Errno;

/// A mount namespace and the directory at its top, by their inodes.
type Key = (u64, u64, u64);

/// What is known of other name spaces.
#[derive(Debug)]
pub(crate) struct Spaces {
    /// The mount namespace of the traced root.
    first: Option<u64>,
    others: HashMap<Key, Resolver>,
    /// The last top directory seen of each namespace.
    tops: HashMap<u64, Key>,
    /// The mounts at the start, once the run has changed them.
    first_mounts: Option<Mounts>,
}

impl Spaces {
    /// The space of `main`, before it runs.
    pub(crate) fn new(main: Tid) -> Self {
        Spaces {
            first: namespace(main),
            others: HashMap::new(),
            tops: HashMap::new(),
            first_mounts: None,
        }
    }

    /// The space of a task, where it is another one than the traced root's.
    fn other(&mut self, who: &Who, generation: u64) -> Option<Key> {
        // Only a view that was made by an unsharing call can be elsewhere.
        if !who.view.uncached {
            return None;
        }
        let namespace = namespace(who.tid).filter(|found| Some(*found) != self.first)?;
        if who.view.root(who.tid, generation).as_ref() != b"/" {
            // In a changed root: its namespace is known by its top, if at all.
            return Some(self.tops.get(&namespace).copied().unwrap_or((namespace, 0, 0)));
        }
        let root = rustix::fs::stat(format!("/proc/{}/root", who.tid)).ok()?;
        let key = (namespace, root.st_dev, root.st_ino);
        self.tops.insert(namespace, key);
        Some(key)
    }
}

fn namespace(tid: Tid) -> Option<u64> {
    rustix::fs::stat(format!("/proc/{tid}/ns/mnt")).ok().map(|stat| stat.st_ino)
}

impl Observer {
    /// Resolves in the task's own name space and returns the answer in terms
    /// of the traced root.
    pub(crate) fn resolve_in_space(&mut self, query: &Query<'_>, who: &Who) -> Resolved {
        if let Some(key) = self.spaces.other(who, self.generation) {
            return self.resolve_elsewhere(query, who, key);
        }
        let resolved = self.resolver.resolve(query);
        match self.spaces.first_mounts.take() {
            None => resolved,
            Some(first) => {
                let now = self.resolver.mounts().clone();
                let mapped = self.map(resolved, &first, &now);
                self.spaces.first_mounts = Some(first);
                mapped
            }
        }
    }

    fn resolve_elsewhere(&mut self, query: &Query<'_>, who: &Who, key: Key) -> Resolved {
        let mut resolver = match self.spaces.others.remove(&key) {
            Some(resolver) => resolver,
            None => match self.top_of(who) {
                Ok(resolver) => resolver,
                Err(_) => return nowhere(),
            },
        };
        resolver.forget(false);
        resolver.forget_mounts();
        let resolved = resolver.resolve(query);
        let first = self.spaces.first_mounts.clone();
        let first = first.unwrap_or_else(|| self.resolver.mounts().clone());
        let mapped = self.map(resolved, &first, resolver.mounts());
        self.spaces.others.insert(key, resolver);
        mapped
    }

    /// A resolver below the top of a task's mount namespace: /proc tells root
    /// and working directory as paths from there.
    fn top_of(&self, who: &Who) -> Result<Resolver, Errno> {
        let root = who.view.root(who.tid, self.generation);
        let mut resolver = Resolver::of_task(who.tid)?;
        let depth = root.split(|&b| b == b'/').filter(|name| !name.is_empty()).count();
        if depth > 0 {
            // Below its own root the task's mountinfo has not all; the namespace
            // began as a copy of the first.
            resolver.climb(depth)?;
            resolver.assume_mounts(self.resolver.mounts());
        }
        Ok(resolver)
    }

    /// Says where the found files lay among the `first` mounts.
    fn map(&mut self, mut resolved: Resolved, first: &Mounts, now: &Mounts) -> Resolved {
        resolved.links.retain_mut(|link| match first.map(now, link) {
            Some(mapped) => {
                *link = mapped;
                true
            }
            None => false,
        });
        if let Some(mapped) = first.map(now, &resolved.path) {
            resolved.path = mapped;
            return resolved;
        }
        let mount = now.covering(&resolved.path);
        match mount {
            Some(mount) if mount.kind != FsKind::Plain => {
                self.uses.pseudo.insert(mount.point.clone());
            }
            Some(mount) if !mount.fresh && matches!(resolved.target, Target::There(_)) => {
                self.uses.unseen(
                    "mount",
                    format!(
                        "what the run used on `{}`, which it mounted itself, lies nowhere in the \
                         traced root",
                        mount.point.escape_ascii()
                    ),
                );
            }
            Some(_) => {}
            None => self.uses.unseen(
                "namespace",
                format!(
                    "`{}` lies in a mount namespace whose mounts cannot be read",
                    resolved.path.escape_ascii()
                ),
            ),
        }
        resolved.target = Target::NoWay;
        resolved
    }

    /// The mounts are about to change: from now on paths are mapped back to
    /// those at the start.
    pub(crate) fn mounts_change(&mut self) {
        if self.spaces.first_mounts.is_none() {
            self.spaces.first_mounts = Some(self.resolver.mounts().clone());
        }
    }

    /// The mounts have changed.
    pub(crate) fn mounts_changed(&mut self) {
        self.resolver.forget_mounts();
    }
}

fn nowhere() -> Resolved {
    Resolved { links: Vec::new(), path: Vec::new(), target: Target::NoWay, personal: false }
}
