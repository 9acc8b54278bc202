//! The loop: wait for a stop, take down what it means, resume.

use std::io;
use std::time::{Duration, Instant};

use crate::access::Asked;
use crate::arch::{self, Abi, Call};
use crate::calls::{Calls, Refusals};
use crate::error::Error;
use crate::filter;
use crate::memory::TraceeAddr;
use crate::observer::Observer;
use crate::record::{End, Syscall};
use crate::stop::{Event, Stop, Stopped};
use crate::sys::{self, SyscallInfo, Tid};
use crate::syscall::{Row, TABLE};
use crate::task::{Restore, Task, Tasks};
use crate::trace::Control;
use crate::waiter::Waiter;

/// `op` of `struct ptrace_syscall_info`, <linux/ptrace.h>.
const OP_EXIT: u8 = 2;
const OP_SECCOMP: u8 = 3;

/// Time between SIGTERM and SIGKILL, where the tracer ends the run.
const GRACE: Duration = Duration::from_secs(10);

/// The table by number, for one ABI.
type Rows = Vec<Option<&'static Row>>;

fn rows(number: impl Fn(&Row) -> Option<u32>) -> Rows {
    let mut rows = Vec::new();
    for row in TABLE {
        if let Some(number) = number(row).map(|number| number as usize) {
            if rows.len() <= number {
                rows.resize(number + 1, None);
            }
            rows[number] = Some(row);
        }
    }
    rows
}

/// How the tracer ends a run that does not end by itself.
#[derive(Debug, Default)]
struct Ending {
    deadline: Option<Instant>,
    /// The kernel refused something that it must not refuse.
    refused: bool,
    /// SIGTERM was sent to the main process; SIGKILL follows then.
    kill_at: Option<Instant>,
    /// It was killed in the place of a SIGTERM that it could not get.
    killed: bool,
}

/// The tracer of one tree.
pub(crate) struct EventLoop<'a> {
    pub(crate) observer: Observer,
    tasks: Tasks,
    main: Tid,
    end: Option<End>,
    executed: bool,
    x86_64: Rows,
    i386: Rows,
    path: Vec<u8>,
    /// All calls, where they were asked for.
    calls: Option<Calls>,
    /// The kernel has PTRACE_GET_SYSCALL_INFO.
    has_info: bool,
    /// The terminal is stopping its foreground group.
    terminal_stop: bool,
    ending: Ending,
    waiter: Waiter,
    control: Option<&'a Control>,
    /// The main process is the first of its pid namespace.
    pub(crate) is_init: bool,
}

impl<'a> EventLoop<'a> {
    /// A loop for the seized tracee `main`.
    pub(crate) fn new(
        observer: Observer,
        main: Tid,
        timeout: Option<Duration>,
        control: Option<&'a Control>,
    ) -> Self {
        let mut tasks = Tasks::default();
        tasks.insert(main, Task::first(main));
        if let Some(timeout) = timeout {
            sys::wake_after(timeout);
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        EventLoop {
            observer,
            tasks,
            main,
            end: None,
            executed: false,
            x86_64: rows(|row| row.x86_64),
            i386: rows(|row| row.i386),
            path: Vec::with_capacity(4096),
            calls: None,
            has_info: true,
            terminal_stop: false,
            ending: Ending { deadline, ..Ending::default() },
            waiter: Waiter::default(),
            control,
            is_init: false,
        }
    }

    /// Stops at every call from now on, as for tasks that have a listener.
    pub(crate) fn take_down_all_calls(&mut self, refusals: Option<Refusals>) {
        self.calls = Some(Calls::new(refusals));
        self.tasks.get(self.main).every_call = true;
        self.tasks.has_listener = true;
    }

    /// All calls of the run, where they were asked for.
    pub(crate) fn syscalls(&mut self) -> Vec<Syscall> {
        let (calls, unnamed) = self.calls.as_ref().map(Calls::list).unwrap_or_default();
        for number in unnamed {
            self.observer.uses.unseen(
                "syscall",
                format!("the system call {number} has no name here, so no profile can allow it"),
            );
        }
        calls
    }

    /// Runs until the last task is gone. Returns how the main process ended;
    /// nothing where it never executed the command.
    pub(crate) fn run(&mut self) -> Result<Option<End>, Error> {
        loop {
            match self.waiter.next(self.tasks.len()) {
                Ok((tid, status)) => self.event(Event::new(tid, status)),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => self.look_at_time(),
                    Some(libc::ECHILD) => break,
                    _ => return Err(Error::Wait(error)),
                },
            }
        }
        sys::no_wake();
        self.observer.look_again();
        Ok(if self.executed { self.end } else { None })
    }

    /// Whether it was the tracer that ended the run.
    pub(crate) fn was_ended(&self) -> bool {
        self.ending.kill_at.is_some()
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Exited(tid, status) => self.gone(tid, End::Exited(status)),
            Event::Killed(tid, signal) => self.gone(tid, End::Signaled(signal)),
            Event::Stopped(stopped, stop) => {
                let tid = stopped.tid();
                self.tasks.get(tid).end_view_change();
                // A failure is ESRCH: the task was killed in its stop, and its
                // end is the next event.
                let _ = self.stopped(stopped, stop);
            }
        }
    }

    fn stopped(&mut self, stopped: Stopped, stop: Stop) -> io::Result<()> {
        let tid = stopped.tid();
        match stop {
            Stop::Seccomp => self.seccomp(tid),
            Stop::Syscall => self.syscall(tid),
            Stop::Child => self.child(tid),
            Stop::Exec => self.exec(tid),
            Stop::Group(signal) => return self.group_stop(stopped, signal),
            Stop::Signal(signal) => self.signal(tid, signal),
            Stop::Start => {}
        }
        self.proceed(stopped)
    }

    fn proceed(&mut self, stopped: Stopped) -> io::Result<()> {
        let task = self.tasks.get(stopped.tid());
        if task.every_call || task.pending.is_some() || task.restore.is_some() {
            stopped.resume_to_syscall()
        } else {
            stopped.resume()
        }
    }

    /// A filter stops a call.
    fn seccomp(&mut self, tid: Tid) {
        let (call, data) = match self.info(tid) {
            Some(info) if info.op == OP_SECCOMP => {
                let [number, args @ .., data] = info.words;
                (Call::new(info.arch, number, args), data)
            }
            _ => (arch::call_of_registers(tid).ok(), sys::event_message(tid).unwrap_or(0)),
        };
        // The data is the low half; the other is not the kernel's.
        if data as u32 != u32::from(filter::MARK) {
            // The program's own filter asks a tracer that it would not have.
            let _ = arch::refuse(tid, libc::ENOSYS);
        } else if !self.is_entered(tid)
            && let Some(call) = call
        {
            self.entry(tid, call);
        }
    }

    /// Whether the task's call was stopped at already, before any filter.
    fn is_entered(&mut self, tid: Tid) -> bool {
        let task = self.tasks.get(tid);
        task.every_call && task.in_call
    }

    /// A call begins.
    fn entry(&mut self, tid: Tid, call: Call) {
        let rows = match call.abi {
            Abi::X86_64 => &self.x86_64,
            Abi::I386 => &self.i386,
        };
        let row = rows.get(call.number as usize).copied().flatten();
        let task = self.tasks.get(tid);
        if let Some(calls) = self.calls.as_mut().filter(|_| self.executed) {
            task.identify(tid);
            self.control.inspect(|control| control.count_call());
            let is_ready = self.control.is_some_and(Control::is_ready);
            task.call = Some(calls.begun(tid, task, &call, is_ready));
        }
        if let Some(row) = row {
            task.identify(tid);
            let mut asked = Asked { tid, task, call, row, path: &mut self.path };
            let pending = self.observer.call(&mut asked);
            // A call that a signal broke off is begun anew.
            if let Some(former) = task.pending.take() {
                self.observer.finish(*former, None);
            }
            if !pending.is_empty() {
                task.pending = Some(Box::new(pending));
            }
        }
        task.in_call = task.pending.is_some() || task.restore.is_some() || task.every_call;
        let listens = task.every_call;
        self.tasks.has_listener |= listens;
    }

    fn info(&mut self, tid: Tid) -> Option<SyscallInfo> {
        if !self.has_info {
            return None;
        }
        match sys::syscall_info(tid) {
            Ok(info) => Some(info),
            Err(error) => {
                self.has_info = error.raw_os_error() == Some(libc::ESRCH);
                None
            }
        }
    }

    /// A stop at the entry or the exit of a call.
    fn syscall(&mut self, tid: Tid) {
        let in_call = self.tasks.get(tid).in_call;
        let info = self.info(tid);
        let exit = info.map_or(in_call, |info| info.op == OP_EXIT);
        if !exit {
            let call = match info {
                Some(info) => {
                    let [number, args @ .., _] = info.words;
                    Call::new(info.arch, number, args)
                }
                None => arch::call_of_registers(tid).ok(),
            };
            if let Some(call) = call {
                self.entry(tid, call);
            }
            return;
        }
        let result = match info {
            Some(info) => Some(info.words[0] as i64),
            None => arch::result_of_registers(tid).ok(),
        };
        let task = self.tasks.get(tid);
        task.in_call = false;
        if let (Some(calls), Some(call), Some(result)) = (&mut self.calls, task.call.take(), result)
        {
            self.ending.refused |= calls.ended(call, result);
        }
        match task.restore.take() {
            Some(Restore::Argument(abi, value)) => {
                let _ = arch::set_first_argument(tid, abi, value);
            }
            Some(Restore::Word(address, value)) => {
                let _ = sys::poke(tid, address, value);
            }
            None => {}
        }
        if let Some(pending) = task.pending.take() {
            if pending.opened {
                let who = crate::observer::Who::new(tid, task, "open_by_handle_at");
                self.observer.opened(result, &who);
            }
            self.observer.finish(*pending, result);
        }
        if self.ending.refused {
            self.look_at_time();
        }
    }

    /// The task made another one.
    fn child(&mut self, tid: Tid) {
        let Ok(child) = sys::event_message(tid) else { return };
        let flags = self.clone_flags(tid).unwrap_or(0);
        self.tasks.born(child as Tid, tid, flags);
    }

    /// The flags of the clone that a task is in; `None` for fork and vfork.
    fn clone_flags(&mut self, tid: Tid) -> Option<u64> {
        let call = arch::call_of_registers(tid).ok()?;
        let rows = match call.abi {
            Abi::X86_64 => &self.x86_64,
            Abi::I386 => &self.i386,
        };
        match rows.get(call.number as usize).copied().flatten()?.name {
            "clone" => Some(call.arg(0)),
            "clone3" => {
                let memory = &self.tasks.get(tid).memory;
                memory.read_word(tid, TraceeAddr(call.arg(0)), 8).ok()
            }
            _ => None,
        }
    }

    /// A new program runs.
    fn exec(&mut self, tid: Tid) {
        let former = sys::event_message(tid).map_or(tid, |former| former as Tid);
        if let Some(mut replaced) = self.tasks.exec(tid, former) {
            self.retire(&mut replaced);
        }
        if tid == self.main {
            self.executed = true;
        }
    }

    /// The terminal's stop signals go to the whole group, this process too, but
    /// it ignores them: it stops itself once the tracee has.
    fn signal(&mut self, tid: Tid, signal: i32) {
        let stops = matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU);
        if stops && tid == self.main {
            self.terminal_stop = sys::signal_code(tid).is_ok_and(|code| code == libc::SI_KERNEL);
        }
    }

    fn group_stop(&mut self, stopped: Stopped, signal: i32) -> io::Result<()> {
        let main = stopped.tid() == self.main;
        stopped.listen()?;
        if main && std::mem::take(&mut self.terminal_stop) && sys::same_group(self.main) {
            sys::stop_by(signal);
        }
        Ok(())
    }

    fn gone(&mut self, tid: Tid, end: End) {
        if tid == self.main {
            let killed = self.ending.killed && end == End::Signaled(libc::SIGKILL);
            self.end = Some(if killed { End::Signaled(libc::SIGTERM) } else { end });
            sys::pass_signals_to(0);
        }
        let ending = tid == self.main && self.ending.kill_at.is_some();
        if let Some(mut task) = self.tasks.remove(tid) {
            self.retire(&mut task);
        }
        if ending {
            self.signal_tree(libc::SIGTERM);
        }
    }

    fn retire(&mut self, task: &mut Task) {
        task.end_view_change();
        if let Some(pending) = task.pending.take() {
            self.observer.finish(*pending, None);
        }
    }

    /// A signal or a timer woke the tracer.
    fn look_at_time(&mut self) {
        let now = Instant::now();
        let asked = self.control.is_some_and(Control::take_request)
            || self.ending.deadline.is_some_and(|deadline| now >= deadline)
            || self.ending.refused
            // What was passed on to the main process is its own business.
            || (sys::asked_to_end() && self.end.is_some());
        match self.ending.kill_at {
            None if asked => {
                self.ending.kill_at = now.checked_add(GRACE);
                self.signal_tree(libc::SIGTERM);
                sys::wake_after(GRACE);
            }
            Some(kill_at) if now >= kill_at => {
                for process in self.tasks.processes() {
                    sys::kill(process, libc::SIGKILL);
                }
            }
            _ => {}
        }
    }

    /// Signals the main process; where it is gone, what is left of the tree.
    fn signal_tree(&mut self, signal: i32) {
        if self.end.is_none() {
            // The first process of a pid namespace gets no signal that it has
            // no handler for (pid_namespaces(7)); any other would end by it.
            self.ending.killed = self.is_init && !crate::task::minds(self.main, signal);
            let signal = if self.ending.killed { libc::SIGKILL } else { signal };
            return sys::kill(self.main, signal);
        }
        for process in self.tasks.processes() {
            sys::kill(process, signal);
        }
    }
}
