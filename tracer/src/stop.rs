//! A stopped task as a value that must be resumed once.

use std::io;

use crate::sys::{self, Tid};

/// What a task of the tree did, as wait4(2) tells it.
#[derive(Debug)]
pub(crate) enum Event {
    /// It stopped.
    Stopped(Stopped, Stop),
    /// It is gone: exit status, or signal.
    Exited(Tid, i32),
    Killed(Tid, i32),
}

/// Why a task stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the entry of a call that the filter traces.
    Seccomp,
    /// At the entry or exit of a call, after [`Stopped::resume_to_syscall`].
    Syscall,
    /// It made a new task (fork, vfork, clone).
    Child,
    /// It runs a new program.
    Exec,
    /// By a stopping signal, with all tasks of its process.
    Group(i32),
    /// At the start of a new task, or after SIGCONT.
    Start,
    /// It is about to get this signal.
    Signal(i32),
}

/// A stopped task. Only while it is stopped do its registers tell anything.
#[must_use = "a stopped task hangs until it is resumed"]
#[derive(Debug)]
pub(crate) struct Stopped {
    tid: Tid,
    signal: i32,
}

/// `PTRACE_EVENT_STOP` of <linux/ptrace.h>.
const EVENT_STOP: i32 = 128;

impl Event {
    /// Makes an event of a raw wait status.
    pub(crate) fn new(tid: Tid, status: i32) -> Event {
        if libc::WIFEXITED(status) {
            return Event::Exited(tid, libc::WEXITSTATUS(status));
        }
        if libc::WIFSIGNALED(status) {
            return Event::Killed(tid, libc::WTERMSIG(status));
        }
        let signal = (status >> 8) & 0xff;
        let stop = match status >> 16 {
            libc::PTRACE_EVENT_SECCOMP => Stop::Seccomp,
            libc::PTRACE_EVENT_EXEC => Stop::Exec,
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                Stop::Child
            }
            EVENT_STOP => match signal {
                libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => {
                    Stop::Group(signal)
                }
                _ => Stop::Start,
            },
            _ if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
            _ => Stop::Signal(signal),
        };
        let deliver = if let Stop::Signal(signal) = stop { signal } else { 0 };
        Event::Stopped(Stopped { tid, signal: deliver }, stop)
    }
}

impl Stopped {
    /// Whose stop it is.
    pub(crate) fn tid(&self) -> Tid {
        self.tid
    }

    /// Lets the task run on, with its signal.
    pub(crate) fn resume(self) -> io::Result<()> {
        sys::resume(self.tid, self.signal)
    }

    /// Lets the task run to the end (or the beginning) of a call, with its signal.
    pub(crate) fn resume_to_syscall(self) -> io::Result<()> {
        sys::resume_to_syscall(self.tid, self.signal)
    }

    /// Leaves the task in its group-stop until SIGCONT comes.
    pub(crate) fn listen(self) -> io::Result<()> {
        sys::listen(self.tid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: i32, expected: &str) {
        assert_eq!(format!("{:?}", Event::new(7, status)), expected);
    }

    #[test]
    fn a_raw_status_is_read_whole() {
        check(3 << 8, "Exited(7, 3)");
        check(9, "Killed(7, 9)");
        // Signal 64 is the last real-time signal.
        check(64 << 8 | 0x7f, "Stopped(Stopped { tid: 7, signal: 64 }, Signal(64))");
        check(7 << 16 | 5 << 8 | 0x7f, "Stopped(Stopped { tid: 7, signal: 0 }, Seccomp)");
        check(128 << 16 | 19 << 8 | 0x7f, "Stopped(Stopped { tid: 7, signal: 0 }, Group(19))");
        check(128 << 16 | 5 << 8 | 0x7f, "Stopped(Stopped { tid: 7, signal: 0 }, Start)");
        // The program's own SIGTRAP is its own; with the high bit it is ours.
        check(5 << 8 | 0x7f, "Stopped(Stopped { tid: 7, signal: 5 }, Signal(5))");
        check(0x85 << 8 | 0x7f, "Stopped(Stopped { tid: 7, signal: 0 }, Syscall)");
    }
}
