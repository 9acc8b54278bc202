//! The tasks of the tree and what they share.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;

use crate::arch::Abi;
use crate::calls;
use crate::changes::Pending;
use crate::descriptors::{Descriptors, proc_link};
use crate::hash::NumberMap;
use crate::memory::Memory;
use crate::sys::Tid;

/// A process between two execs.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// Its process id (the thread group's); 0 where it is not known yet.
    pub(crate) pid: Tid,
    /// Path of its executable.
    pub(crate) name: Rc<[u8]>,
}

impl Process {
    /// Asks /proc whose task `tid` is and what it executes.
    pub(crate) fn of(tid: Tid) -> Self {
        Process { pid: thread_group(tid).unwrap_or(tid), ..Process::led_by(tid) }
    }

    /// Asks /proc what the process with the first thread `tid` executes.
    pub(crate) fn led_by(tid: Tid) -> Self {
        let name = std::fs::read_link(format!("/proc/{tid}/exe"));
        let name = name.map(|path| path.into_os_string().into_vec()).unwrap_or_default();
        Process { pid: tid, name: name.into() }
    }
}

fn thread_group(tid: Tid) -> Option<Tid> {
    status_field(tid, "Tgid")?.parse().ok()
}

/// The id of a process in the pid namespace that it lives in.
pub(crate) fn innermost_pid(process: Tid) -> Option<Tid> {
    status_field(process, "NSpid")?.split_whitespace().last()?.parse().ok()
}

/// Whether a task handles or ignores a signal.
pub(crate) fn minds(tid: Tid, signal: i32) -> bool {
    let has = |field| {
        let mask = status_field(tid, field).and_then(|mask| u64::from_str_radix(&mask, 16).ok());
        mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
    };
    ["SigCgt", "SigIgn", "SigBlk"].into_iter().any(has)
}

/// A field of /proc/TID/status, see proc(5).
fn status_field(tid: Tid, field: &str) -> Option<String> {
    let status = std::fs::read(format!("/proc/{tid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let rest = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(rest.trim().to_owned())
}

/// A path, and the generation of the name space in which it was read.
type Cached = RefCell<Option<(u64, Rc<[u8]>)>>;

/// Working and root directory: shared by the tasks that CLONE_FS bound together.
#[derive(Debug, Default)]
pub(crate) struct FsView {
    cwd: Cached,
    root: Cached,
    /// Tasks that are in a call which changes it.
    changing: Cell<u32>,
    /// Nothing is known of who shares it, or which mounts it sees: never cached.
    pub(crate) uncached: bool,
}

impl FsView {
    /// A view that is read anew each time.
    pub(crate) fn uncached() -> Self {
        FsView { uncached: true, ..FsView::default() }
    }

    /// The working directory of `tid`; empty where /proc does not tell.
    /// What was cached under another `generation` of the name space is stale.
    pub(crate) fn cwd(&self, tid: Tid, generation: u64) -> Rc<[u8]> {
        self.cached(&self.cwd, tid, "cwd", generation)
    }

    /// The root directory of `tid`.
    pub(crate) fn root(&self, tid: Tid, generation: u64) -> Rc<[u8]> {
        self.cached(&self.root, tid, "root", generation)
    }

    fn cached(&self, slot: &Cached, tid: Tid, name: &str, generation: u64) -> Rc<[u8]> {
        if let Some((then, path)) = &*slot.borrow()
            && *then == generation
        {
            return Rc::clone(path);
        }
        let path: Rc<[u8]> = proc_link(tid, name).unwrap_or_default().into();
        if !self.uncached && self.changing.get() == 0 && !path.is_empty() {
            *slot.borrow_mut() = Some((generation, Rc::clone(&path)));
        }
        path
    }

    /// A task enters a call that changes the view.
    pub(crate) fn begin_change(&self) {
        self.changing.set(self.changing.get() + 1);
        self.cwd.take();
        self.root.take();
    }

    /// That task was seen again, or is gone: the call is over.
    pub(crate) fn end_change(&self) {
        self.changing.set(self.changing.get().saturating_sub(1));
    }
}

/// A task of the tree.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) process: Rc<Process>,
    pub(crate) memory: Rc<Memory>,
    pub(crate) view: Rc<FsView>,
    pub(crate) descriptors: Descriptors,
    /// It is in a call that changes its view.
    pub(crate) changing_view: bool,
    /// What is to be done when its call has ended.
    pub(crate) pending: Option<Box<Pending>>,
    /// The filter may not see its calls: stop at every one.
    pub(crate) every_call: bool,
    /// With [`Task::every_call`]: the next syscall stop is an exit.
    pub(crate) in_call: bool,
    /// The call that it is in, where all calls are taken down.
    pub(crate) call: Option<calls::Key>,
    /// An argument register that gets its value back at the call's exit.
    pub(crate) restore: Option<Restore>,
}

/// Something of the tracee's that was changed for the length of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Restore {
    /// The first argument register.
    Argument(Abi, u64),
    /// A word of memory.
    Word(u64, u64),
}

/// Bits of clone(2)'s flags, <linux/sched.h>.
const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_NEWNS: u64 = 0x2_0000;

impl Task {
    /// A task of which nothing is known yet.
    pub(crate) fn unknown() -> Self {
        Task {
            process: Rc::default(),
            memory: Rc::new(Memory::new()),
            view: Rc::new(FsView::uncached()),
            descriptors: Descriptors::default(),
            changing_view: false,
            pending: None,
            every_call: false,
            in_call: false,
            call: None,
            restore: None,
        }
    }

    /// The first task, which nothing shares a view with.
    pub(crate) fn first(tid: Tid) -> Self {
        Task { view: Rc::default(), process: Rc::new(Process::led_by(tid)), ..Task::unknown() }
    }

    /// Finds out whose task it is, if its parent's event has not told yet.
    pub(crate) fn identify(&mut self, tid: Tid) {
        if self.process.pid == 0 {
            self.process = Rc::new(Process::of(tid));
        }
    }

    /// The child `tid` that this task made with these flags.
    pub(crate) fn child(&self, tid: Tid, flags: u64) -> Self {
        let process = if flags & CLONE_THREAD != 0 {
            Rc::clone(&self.process)
        } else {
            Rc::new(Process { pid: tid, name: Rc::clone(&self.process.name) })
        };
        let memory =
            if flags & CLONE_VM != 0 { Rc::clone(&self.memory) } else { Rc::new(Memory::new()) };
        let view = if flags & CLONE_FS != 0 {
            Rc::clone(&self.view)
        } else if self.view.uncached || flags & CLONE_NEWNS != 0 {
            Rc::new(FsView::uncached())
        } else {
            Rc::default()
        };
        Task {
            process,
            memory,
            view,
            descriptors: Descriptors::default(),
            changing_view: false,
            pending: None,
            every_call: self.every_call,
            in_call: false,
            call: None,
            restore: None,
        }
    }

    /// A call that changes the working or root directory begins.
    pub(crate) fn begin_view_change(&mut self) {
        if !self.changing_view {
            self.changing_view = true;
            self.view.begin_change();
        }
    }

    /// The task was seen again: its call is over.
    pub(crate) fn end_view_change(&mut self) {
        if self.changing_view {
            self.changing_view = false;
            self.view.end_change();
        }
    }

    /// The task gets a view of its own, if its call succeeds.
    pub(crate) fn unshare(&mut self) {
        self.end_view_change();
        self.view = Rc::new(FsView::uncached());
    }

    /// Takes over what the parent's event tells of a task that ran before it.
    pub(crate) fn adopt(&mut self, other: Task) {
        if self.changing_view {
            self.view.end_change();
            other.view.begin_change();
        }
        // An exec in between made memory and name of its own.
        if self.process.pid == 0 || self.process.name == other.process.name {
            self.process = other.process;
        }
        self.view = other.view;
        self.every_call |= other.every_call;
    }
}

/// All tasks of the tree, by id.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    tasks: NumberMap<Tid, Task>,
    /// Seen before their parent's event.
    early: HashSet<Tid>,
    /// Of those, gone before it too.
    gone_early: HashSet<Tid>,
    /// Some task has a listener of its own: whoever comes before its parent's
    /// event may have it too.
    pub(crate) has_listener: bool,
}

impl Tasks {
    /// The task `tid`; one that is not known yet came before its parent's event.
    pub(crate) fn get(&mut self, tid: Tid) -> &mut Task {
        let (early, every_call) = (&mut self.early, self.has_listener);
        self.tasks.entry(tid).or_insert_with(|| {
            early.insert(tid);
            Task { every_call, ..Task::unknown() }
        })
    }

    pub(crate) fn insert(&mut self, tid: Tid, task: Task) {
        self.tasks.insert(tid, task);
    }

    /// The parent's event: `tid` was made by `parent`.
    pub(crate) fn born(&mut self, tid: Tid, parent: Tid, flags: u64) {
        if self.gone_early.remove(&tid) {
            return;
        }
        let parent_task = self.get(parent);
        parent_task.identify(parent);
        let child = parent_task.child(tid, flags);
        let came_first = self.early.remove(&tid);
        match self.tasks.get_mut(&tid) {
            Some(task) if came_first => task.adopt(child),
            _ => self.insert(tid, child),
        }
    }

    /// The task `former` runs a new program, under its process's id `tid`; all
    /// other threads are gone. Returns what `tid` was, if it was another task.
    pub(crate) fn exec(&mut self, tid: Tid, former: Tid) -> Option<Task> {
        let mut replaced = None;
        if former != tid {
            self.early.remove(&former);
            if let Some(task) = self.tasks.remove(&former) {
                replaced = self.tasks.insert(tid, task);
            }
        }
        let task = self.get(tid);
        task.end_view_change();
        task.process = Rc::new(Process::led_by(tid));
        task.memory = Rc::new(Memory::new());
        task.descriptors = Descriptors::default();
        replaced
    }

    /// The task is gone.
    pub(crate) fn remove(&mut self, tid: Tid) -> Option<Task> {
        if self.early.remove(&tid) || !self.tasks.contains_key(&tid) {
            self.gone_early.insert(tid);
        }
        self.tasks.remove(&tid)
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// The process ids of all tasks.
    pub(crate) fn processes(&self) -> HashSet<Tid> {
        self.tasks.values().map(|task| task.process.pid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tasks {
        let mut tasks = Tasks::default();
        let own = std::process::id() as Tid;
        tasks.insert(own, Task::first(own));
        tasks
    }

    #[test]
    fn a_thread_shares_all_and_a_forked_child_nothing() {
        let own = std::process::id() as Tid;
        let mut tasks = tree();
        tasks.born(-2, own, CLONE_VM | CLONE_FS | CLONE_THREAD);
        tasks.born(-3, own, 0);
        let view = Rc::clone(&tasks.get(own).view);
        assert!(Rc::ptr_eq(&tasks.get(-2).view, &view));
        assert!(!Rc::ptr_eq(&tasks.get(-3).view, &view));
        assert_eq!(tasks.get(-2).process.pid, own);
        assert_eq!(tasks.get(-3).process.pid, -3);
    }

    #[test]
    fn child_and_parents_event_come_in_either_order() {
        let own = std::process::id() as Tid;
        let mut tasks = tree();
        let _ = tasks.get(-5);
        tasks.born(-5, own, CLONE_FS);
        let view = Rc::clone(&tasks.get(own).view);
        assert!(Rc::ptr_eq(&tasks.get(-5).view, &view));
    }

    #[test]
    fn a_child_gone_before_its_parents_event_leaves_nothing() {
        let own = std::process::id() as Tid;
        let mut tasks = tree();
        let _ = tasks.get(-5);
        tasks.remove(-5);
        tasks.born(-5, own, 0);
        assert_eq!(tasks.len(), 1);
        assert!(tasks.gone_early.is_empty());
    }

    #[test]
    fn a_view_in_change_is_not_cached() {
        let own = std::process::id() as Tid;
        let view = FsView::default();
        view.begin_change();
        assert!(!view.cwd(own, 0).is_empty());
        assert!(view.cwd.borrow().is_none());
        view.end_change();
        let cwd = view.cwd(own, 0);
        assert!(view.cwd.borrow().is_some());
        assert_eq!(view.cwd(own, 1), cwd);
    }
}
