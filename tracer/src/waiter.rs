//! Waits for the next event, in a way that stays cheap with many tasks.
//!
//! wait4(-1) walks the list of all tasks: 10 µs a stop at 1,000 of them, 242 µs
//! at 10,000. SIGCHLD says whose event it is, and wait4 of one task stays at
//! 4 µs. Of two events close together only one signal may come, so a look at
//! all follows whenever no signal is left.

use std::io;
use std::time::Duration;

use crate::sys::{self, Tid};

/// From so many tasks on SIGCHLD is asked, and below so many no more.
const MANY: usize = 200;
const FEW: usize = 100;

/// Chooses how to wait.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    by_signal: bool,
}

impl Waiter {
    /// Returns the next event of a tree of so many tasks: its task and raw status.
    ///
    /// # Errors
    /// `ECHILD` where no task is left, `EINTR` after a signal.
    pub(crate) fn next(&mut self, tasks: usize) -> io::Result<(Tid, i32)> {
        if self.by_signal != (tasks > if self.by_signal { FEW } else { MANY }) {
            self.by_signal = !self.by_signal;
            sys::block_child_signal(self.by_signal);
        }
        if !self.by_signal {
            return sys::wait(-1, 0);
        }
        loop {
            let mut told = sys::child_signal(Duration::ZERO)?;
            if told.is_none() {
                match sys::wait(-1, libc::WNOHANG)? {
                    (0, _) => told = sys::child_signal(Duration::from_millis(100))?,
                    event => return Ok(event),
                }
            }
            if let Some(task) = told {
                match sys::wait(task, libc::WNOHANG) {
                    // Somebody else's child, or an event that was seen already.
                    Ok((0, _)) | Err(_) => {}
                    event => return event,
                }
            }
        }
    }
}
