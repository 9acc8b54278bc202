//! What a stopped call means: which paths it names, and what it does to them.

use std::rc::Rc;

use crate::arch::{self, Call};
use crate::changes::Pending;
use crate::filter::CLONE_UNTRACED;
use crate::memory::{Fault, TraceeAddr};
use crate::observer::{Given, Observer, Who};
use crate::record::Use;
use crate::resolve::Target;
use crate::socket;
use crate::sys::{self, Tid};
use crate::syscall::{At, FdRole, Follow, Role, Row, Shape};
use crate::task::{Restore, Task};

/// `AT_FDCWD`, `AT_EMPTY_PATH` of <linux/fcntl.h>.
const AT_FDCWD: i32 = -100;
/// `RESOLVE_IN_ROOT` of <linux/openat2.h>.
const RESOLVE_IN_ROOT: u64 = 0x10;
/// `CLONE_NEWNS` and `CLONE_FS` of <linux/sched.h>.
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_FS: u64 = 0x200;
/// `RENAME_EXCHANGE` of <linux/fs.h>.
const RENAME_EXCHANGE: u64 = 2;

/// The flags of open(2) as numbers: those of <asm-generic/fcntl.h>, equal in
/// both ABIs of x86.
mod open {
    pub(super) const ACCESS: u64 = 0o3;
    pub(super) const READ_WRITE: u64 = 0o2;
    pub(super) const CREATE: u64 = 0o100;
    pub(super) const EXCLUSIVE: u64 = 0o200;
    pub(super) const TRUNCATE: u64 = 0o1000;
    pub(super) const NOFOLLOW: u64 = 0o400_000;
    pub(super) const PATH: u64 = 0o10_000_000;
    pub(super) const TMPFILE: u64 = 0o20_000_000;
}

/// Where a path begins: root directory and base.
type Place = (Rc<[u8]>, Rc<[u8]>);

/// A stopped task in its call.
pub(crate) struct Asked<'a> {
    pub(crate) tid: Tid,
    pub(crate) task: &'a mut Task,
    pub(crate) call: Call,
    pub(crate) row: &'static Row,
    /// Buffer for the path.
    pub(crate) path: &'a mut Vec<u8>,
}

impl Asked<'_> {
    pub(crate) fn who(&self) -> Who {
        Who::new(self.tid, self.task, self.row.name)
    }

    /// Reads the path argument; `None` where there is none (a null pointer).
    fn read_path(&mut self, at: At) -> Result<Option<()>, Fault> {
        let address = self.call.arg(at.path);
        if address == 0 {
            return Ok(None);
        }
        self.task.memory.read_path(self.tid, TraceeAddr(address), self.path).map(Some)
    }

    /// The path of an open descriptor; `None` where it has none.
    fn fd_path(&mut self, fd: i32) -> Option<Rc<[u8]>> {
        self.task.descriptors.path(self.tid, fd)
    }

    /// Where a path begins: the task's root and the directory for a relative path.
    fn from(&mut self, at: At, generation: u64) -> Option<Place> {
        let root = self.task.view.root(self.tid, generation);
        if self.path.first() == Some(&b'/') {
            return Some((Rc::clone(&root), root));
        }
        let base = match at.dirfd.map(|dirfd| self.call.int(dirfd)) {
            None | Some(AT_FDCWD) => self.task.view.cwd(self.tid, generation),
            Some(fd) => self.fd_path(fd)?,
        };
        (!base.is_empty()).then_some((root, base))
    }
}

impl Observer {
    /// Takes down what the call is about to do. What remains to be done when
    /// it has ended is returned.
    pub(crate) fn call(&mut self, asked: &mut Asked<'_>) -> Pending {
        let mut pending = Pending::default();
        match self.shape(asked, &mut pending) {
            Ok(()) | Err(Fault::Bad) => {}
            Err(Fault::Denied) => self.uses.unseen(
                "memory",
                format!(
                    "the paths of `{}` could not be read: it is not dumpable; trace as root",
                    asked.task.process.name.escape_ascii()
                ),
            ),
        }
        if pending.settle {
            self.unsettle();
        }
        pending
    }

    fn shape(&mut self, asked: &mut Asked<'_>, pending: &mut Pending) -> Result<(), Fault> {
        match asked.row.shape {
            Shape::Path(at, follow, role) => self.path(asked, at, follow, role, pending)?,
            Shape::Fd(fd, role) => self.descriptor(asked, fd, role, pending),
            Shape::Rename { from, to, flags } => {
                let flags = flags.map_or(0, |arg| asked.call.arg(arg));
                self.two(asked, from, to, false, pending, |observer, from, to, who, pending| {
                    observer.rename(from, to, flags & RENAME_EXCHANGE != 0, who, pending);
                })?;
            }
            Shape::Link { from, to, flags } => {
                let follow = flags.is_some_and(|arg| asked.call.arg(arg) & 0x400 != 0);
                self.two(asked, from, to, follow, pending, Observer::link)?;
            }
            Shape::Mount(at) => {
                self.path(asked, at, Follow::Always, Role::Inspect, pending)?;
                self.remount(pending);
            }
            Shape::MountAt => {
                let source = At { dirfd: None, path: 0 };
                self.path(asked, source, Follow::Always, Role::Inspect, pending).ok();
                let target = At { dirfd: None, path: 1 };
                self.path(asked, target, Follow::Always, Role::Inspect, pending)?;
                self.remount(pending);
            }
            Shape::MoveMount => {
                let target = At { dirfd: Some(2), path: 3 };
                self.path(asked, target, Follow::Always, Role::Inspect, pending)?;
                self.remount(pending);
            }
            Shape::PivotRoot => {
                for path in [0, 1] {
                    let at = At { dirfd: None, path };
                    self.path(asked, at, Follow::Always, Role::Enter, pending)?;
                }
                self.remount(pending);
            }
            Shape::Chroot => {
                let at = At { dirfd: None, path: 0 };
                self.path(asked, at, Follow::Always, Role::Enter, pending)?;
            }
            Shape::Unshare => {
                if asked.call.arg(0) & (CLONE_NEWNS | CLONE_FS) != 0 {
                    asked.task.unshare();
                    pending.mounts = asked.call.arg(0) & CLONE_NEWNS != 0;
                }
            }
            Shape::Setns => {
                asked.task.unshare();
                self.remount(pending);
            }
            Shape::Bind | Shape::Connect | Shape::SendTo | Shape::SocketCall => {
                if let Some(found) = socket::of(asked)? {
                    self.socket(asked, found, pending);
                }
            }
            Shape::OpenHandle => pending.opened = true,
            Shape::Clone => {
                let flags = asked.call.arg(0);
                if flags & CLONE_UNTRACED != 0
                    && arch::set_first_argument(asked.tid, asked.call.abi, flags & !CLONE_UNTRACED)
                        .is_ok()
                {
                    asked.task.restore = Some(Restore::Argument(asked.call.abi, flags));
                }
            }
            Shape::Clone3 => {
                let address = asked.call.arg(0);
                let flags = asked.task.memory.read_word(asked.tid, TraceeAddr(address), 8)?;
                if flags & CLONE_UNTRACED != 0
                    && sys::poke(asked.tid, address, flags & !CLONE_UNTRACED).is_ok()
                {
                    asked.task.restore = Some(Restore::Word(address, flags));
                }
            }
            Shape::IoUring => self.io_uring(asked),
            Shape::Ptrace => self.ptrace(asked),
            Shape::Seccomp | Shape::Prctl => self.seccomp(asked),
        }
        Ok(())
    }

    fn path(
        &mut self,
        asked: &mut Asked<'_>,
        at: At,
        follow: Follow,
        role: Role,
        pending: &mut Pending,
    ) -> Result<(), Fault> {
        let present = asked.read_path(at)?;
        if present.is_none() || asked.path.is_empty() {
            self.empty_path(asked, at, role, pending);
            return Ok(());
        }
        let flags = match role {
            Role::Open(arg) => asked.call.arg(arg),
            Role::Creat => open::CREATE | open::TRUNCATE | 1,
            Role::OpenHow(arg) => {
                asked.task.memory.read_word(asked.tid, TraceeAddr(asked.call.arg(arg)), 8)?
            }
            _ => 0,
        };
        let Some((mut root, base)) = asked.from(at, self.generation) else { return Ok(()) };
        if let Role::OpenHow(arg) = role {
            let address = TraceeAddr(asked.call.arg(arg).wrapping_add(16));
            let resolve = asked.task.memory.read_word(asked.tid, address, 8)?;
            if resolve & RESOLVE_IN_ROOT != 0
                && let Some(dir) = at.dirfd.and_then(|fd| asked.fd_path(asked.call.int(fd)))
            {
                root = dir;
            }
        }
        let has = |arg: u8, bits: u64| asked.call.arg(arg) & bits != 0;
        let follow = match follow {
            Follow::Always => flags & open::NOFOLLOW == 0,
            Follow::Never => false,
            Follow::Unless(arg, bits) => !has(arg, bits),
            Follow::If(arg, bits) => has(arg, bits),
        };
        let given = Given { root: &root, base: &base, path: asked.path, follow };
        let who = asked.who();
        match role {
            Role::Open(_) | Role::OpenHow(_) | Role::Creat => {
                self.open(&given, flags, &who, pending);
            }
            Role::Execute => self.look(&given, Use::Execute, &who),
            Role::Inspect => self.look(&given, Use::Inspect, &who),
            Role::Enter => {
                self.look(&given, Use::Enter, &who);
                asked.task.begin_view_change();
            }
            Role::Change => self.change(&given, &who, pending),
            Role::Remove => self.remove(&given, &who, pending),
            Role::MakeDir => {
                self.make(&given, &who, true, pending);
            }
            Role::MakeNode => {
                self.make(&given, &who, false, pending);
            }
            Role::MakeLink => {
                self.make(&given, &who, false, pending);
                pending.settle |= !pending.made.is_empty();
            }
        }
        if self.outcomes {
            let resolved = self.resolve(&given, &who);
            pending.asked.push((resolved.path, who));
        }
        Ok(())
    }

    /// A call without a path is about its descriptor.
    fn empty_path(&mut self, asked: &mut Asked<'_>, at: At, role: Role, pending: &mut Pending) {
        let Some(fd) = at.dirfd else { return };
        match role {
            Role::Execute => self.of_fd(asked, fd, |observer, given, who| {
                observer.look(given, Use::Execute, who);
            }),
            Role::Change => self.descriptor(asked, fd, FdRole::Change, pending),
            // The file is known from the call that opened it.
            _ => {}
        }
    }

    fn of_fd(
        &mut self,
        asked: &mut Asked<'_>,
        fd: u8,
        then: impl FnOnce(&mut Self, &Given<'_>, &Who),
    ) {
        let fd = asked.call.int(fd);
        let path = match fd {
            AT_FDCWD => Some(asked.task.view.cwd(asked.tid, self.generation)),
            _ => asked.fd_path(fd),
        };
        // The text of such a link is seen from the traced root, whatever the task's is.
        let root: Rc<[u8]> = Rc::from(&b"/"[..]);
        if let Some(path) = path {
            let given = Given { root: &root, base: &root, path: &path, follow: false };
            then(self, &given, &asked.who());
        }
    }

    fn descriptor(&mut self, asked: &mut Asked<'_>, fd: u8, role: FdRole, pending: &mut Pending) {
        self.of_fd(asked, fd, |observer, given, who| match role {
            FdRole::List => observer.look(given, Use::List, who),
            FdRole::Enter => observer.look(given, Use::Enter, who),
            FdRole::Change => observer.change(given, who, pending),
        });
        if role == FdRole::Enter {
            asked.task.begin_view_change();
        }
    }

    fn open(&mut self, given: &Given<'_>, flags: u64, who: &Who, pending: &mut Pending) {
        if flags & open::PATH != 0 {
            return self.look(given, Use::Inspect, who);
        }
        if flags & open::TMPFILE != 0 {
            return self.look(given, Use::Parent, who);
        }
        let writes = flags & open::ACCESS != 0 || flags & open::TRUNCATE != 0;
        let creates = flags & open::CREATE != 0;
        let exclusive = creates && flags & open::EXCLUSIVE != 0;
        if !writes && !creates {
            return self.look(given, Use::Read, who);
        }
        let given = Given { follow: given.follow && !exclusive, ..*given };
        let resolved = self.resolve(&given, who);
        self.note_links(&resolved, who);
        match &resolved.target {
            Target::There(stat) if exclusive => {
                self.note(&resolved.path, stat, Use::Inspect, who);
            }
            Target::There(stat) => {
                if flags & open::ACCESS == open::READ_WRITE || !writes {
                    self.note(&resolved.path, stat, Use::Read, who);
                }
                if writes {
                    self.guard(&resolved.path, stat, who);
                    if !self.is_pseudo(&resolved.path, stat) {
                        self.changed(&resolved.path, pending);
                    }
                }
            }
            Target::Absent if creates => self.made(&resolved.path, who, false, pending),
            Target::Absent | Target::NoWay => {}
        }
    }

    /// A call with two paths, the second of which is never followed.
    fn two(
        &mut self,
        asked: &mut Asked<'_>,
        from: At,
        to: At,
        follow: bool,
        pending: &mut Pending,
        then: impl FnOnce(&mut Self, &Given<'_>, &Given<'_>, &Who, &mut Pending),
    ) -> Result<(), Fault> {
        let first = match asked.read_path(from)? {
            Some(()) if !asked.path.is_empty() => {
                let place = asked.from(from, self.generation);
                place.map(|place| (place, std::mem::take(asked.path)))
            }
            // linkat(fd, "", …, AT_EMPTY_PATH): a descriptor gets a name.
            _ => from.dirfd.and_then(|fd| asked.fd_path(asked.call.int(fd))).map(|path| {
                let root: Rc<[u8]> = Rc::from(&b"/"[..]);
                ((Rc::clone(&root), root), path.to_vec())
            }),
        };
        asked.read_path(to)?;
        let second = asked.from(to, self.generation);
        let who = asked.who();
        let Some((root, base)) = second else { return Ok(()) };
        let to = Given { root: &root, base: &base, path: asked.path, follow: false };
        match first {
            Some(((root, base), path)) => {
                let from = Given { root: &root, base: &base, path: &path, follow };
                then(self, &from, &to, &who, pending);
            }
            // A nameless file (O_TMPFILE) gets a name.
            None => {
                self.make(&to, &who, false, pending);
            }
        }
        Ok(())
    }

    fn remount(&mut self, pending: &mut Pending) {
        self.mounts_change();
        pending.mounts = true;
        pending.settle = true;
    }
}
