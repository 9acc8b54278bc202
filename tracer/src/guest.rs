//! Calls of programs that trace, filter, or bypass system calls themselves.

use crate::access::Asked;
use crate::arch;
use crate::observer::Observer;
use crate::syscall::Shape;

/// `PTRACE_TRACEME`, `PTRACE_ATTACH`, `PTRACE_SEIZE` of <linux/ptrace.h>.
const PTRACE_STARTS: [u64; 3] = [0, 16, 0x4206];
/// `SECCOMP_SET_MODE_STRICT`, `SECCOMP_SET_MODE_FILTER` of <linux/seccomp.h>.
const SET_MODE_STRICT: u64 = 0;
const SET_MODE_FILTER: u64 = 1;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` of <linux/seccomp.h>.
const NEW_LISTENER: u64 = 1 << 3;
/// `PR_SET_SECCOMP` and `SECCOMP_MODE_STRICT`.
const PR_SET_SECCOMP: u64 = 22;
const MODE_STRICT: u64 = 1;

impl Observer {
    /// io_uring opens files without a system call for each.
    pub(crate) fn io_uring(&mut self, asked: &Asked<'_>) {
        let process = asked.task.process.name.escape_ascii();
        if self.allow_io_uring {
            self.uses.unseen(
                "io-uring",
                format!("`{process}` uses io_uring: files that it opens that way are not seen"),
            );
        } else if arch::refuse(asked.tid, libc::ENOSYS).is_ok() {
            self.uses.unseen(
                "io-uring-refused",
                format!(
                    "`{process}` was told that there is no io_uring, whose file accesses no \
                     tracer sees; --allow-io-uring lets it have it"
                ),
            );
        }
    }

    /// A task has one tracer only, and that is this one.
    pub(crate) fn ptrace(&mut self, asked: &Asked<'_>) {
        if PTRACE_STARTS.contains(&asked.call.arg(0)) {
            self.uses.unseen(
                "ptrace",
                format!(
                    "`{}` wants to trace a program that is traced already: the kernel refuses \
                     it; trace what it traces without it",
                    asked.task.process.name.escape_ascii()
                ),
            );
        }
    }

    /// The program's own filter may answer calls before this tracer's stop.
    pub(crate) fn seccomp(&mut self, asked: &mut Asked<'_>) {
        let (mode, flags) = match asked.row.shape {
            Shape::Prctl if asked.call.arg(0) != PR_SET_SECCOMP => return,
            Shape::Prctl if asked.call.arg(1) == MODE_STRICT => (SET_MODE_STRICT, 0),
            Shape::Prctl => (SET_MODE_FILTER, 0),
            _ => (asked.call.arg(0), asked.call.arg(1)),
        };
        match mode {
            SET_MODE_STRICT => self.uses.unseen(
                "seccomp-strict",
                format!(
                    "`{}` asks for the strict seccomp mode, which the kernel refuses beside a \
                     filter; it runs without it here",
                    asked.task.process.name.escape_ascii()
                ),
            ),
            // A listener answers calls in place of a stop by filter: from now
            // on every call of this tree is stopped at, filter or not.
            SET_MODE_FILTER if flags & NEW_LISTENER != 0 => {
                asked.task.every_call = true;
                asked.task.in_call = true;
            }
            _ => {}
        }
    }
}
