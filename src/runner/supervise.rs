//! Waits for a container's first process and passes signals on to it.
//!
//! That process is the program itself, as under runc and crun: no init stands
//! between. As the first of its PID namespace it does not get signals that it
//! has no handler for (pid_namespaces(7)), so what the kernel would do to any
//! other program is done here: it is killed, and the status tells the signal.

use std::fs;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

/// Signals that are meant for the program.
const PASSED_ON: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];

/// What this program does with signals while a container runs.
#[derive(Debug)]
pub struct Supervisor {
    signals: Signals,
}

impl Supervisor {
    /// From now on signals wait to be passed on; one that the caller ignores
    /// (as nohup does with SIGHUP) stays ignored.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn new() -> anyhow::Result<Self> {
        let ignored = mask_of("self", "SigIgn").unwrap_or(0);
        let passed_on = PASSED_ON.into_iter().filter(|&signal| ignored & bit(signal) == 0);
        let signals = Signals::new(passed_on.chain([SIGCHLD])).context("cannot handle signals")?;
        Ok(Supervisor { signals })
    }

    /// Waits for `program` to end and returns its exit status, 128 and the
    /// signal's number where a signal ended it.
    ///
    /// # Errors
    /// When it is no child of this process.
    pub fn wait(&mut self, program: Pid) -> anyhow::Result<u8> {
        let mut ended_by = None;
        if let Some(status) = reap(program)? {
            return Ok(exit_status(status, ended_by));
        }
        for signal in self.signals.forever() {
            if signal == SIGCHLD {
                if let Some(status) = reap(program)? {
                    return Ok(exit_status(status, ended_by));
                }
            } else if deliver(program, signal) == Delivered::Killed {
                ended_by = ended_by.or(Some(signal));
            }
        }
        anyhow::bail!("signals ended before the program did")
    }
}

/// Takes the status of `program` if it has ended, and of whoever else was
/// left to this process.
fn reap(program: Pid) -> anyhow::Result<Option<WaitStatus>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..))) => {
                if pid == program {
                    return Ok(Some(status));
                }
            }
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("the container's process is no child of this one"),
        }
    }
}

fn exit_status(status: WaitStatus, ended_by: Option<i32>) -> u8 {
    let number = match (status, ended_by) {
        (WaitStatus::Exited(_, code), _) => code,
        (WaitStatus::Signaled(_, Signal::SIGKILL, _), Some(signal)) => 128 + signal,
        (WaitStatus::Signaled(_, signal, _), _) => 128 + signal as i32,
        _ => 255,
    };
    u8::try_from(number).unwrap_or(u8::MAX)
}

#[derive(PartialEq, Eq)]
enum Delivered {
    Sent,
    Killed,
}

fn deliver(program: Pid, number: i32) -> Delivered {
    let pid = program.to_string();
    let has = |field| mask_of(&pid, field).is_some_and(|mask| mask & bit(number) != 0);
    // A blocked signal may be waited for (sigwait(3)).
    let is_handled = has("SigCgt") || has("SigIgn") || has("SigBlk");
    // WINCH does nothing by default.
    let (signal, delivered) = if is_handled || number == SIGWINCH {
        (Signal::try_from(number).ok(), Delivered::Sent)
    } else {
        (Some(Signal::SIGKILL), Delivered::Killed)
    };
    // It may have ended by now.
    let _ = kill(program, signal);
    delivered
}

/// Reads a set of signals from /proc/PID/status (proc(5)).
fn mask_of(pid: &str, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_s_status_is_128_and_its_number() {
        let pid = Pid::from_raw(1);
        assert_eq!(exit_status(WaitStatus::Exited(pid, 7), None), 7);
        assert_eq!(exit_status(WaitStatus::Signaled(pid, Signal::SIGSEGV, false), None), 139);
        let killed = WaitStatus::Signaled(pid, Signal::SIGKILL, false);
        assert_eq!(exit_status(killed, None), 137);
        assert_eq!(exit_status(killed, Some(SIGINT)), 130);
    }
}
