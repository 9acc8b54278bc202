//! Ctrl-C and other wishes to end, as a flag that long work looks at.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::report::Advice;

/// Exit status after SIGINT, as shells give it.
pub const INTERRUPTED: u8 = 130;

/// From now on SIGINT, SIGTERM and SIGHUP set the flag instead of ending the
/// program; a second one ends it at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal finds the flag unset.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// Fails once `stop` is set.
///
/// # Errors
/// Only that.
pub fn check(stop: &AtomicBool) -> io::Result<()> {
    match stop.load(Ordering::Relaxed) {
        true => Err(io::Error::other("interrupted")),
        false => Ok(()),
    }
}

/// What failed because `stop` was set is told as an interruption and nothing else.
///
/// # Errors
/// Those of `result`.
pub fn explain<T>(stop: &AtomicBool, result: anyhow::Result<T>) -> anyhow::Result<T> {
    match result {
        Err(_) if stop.load(Ordering::Relaxed) => {
            Err(anyhow::anyhow!("interrupted")).status(INTERRUPTED)
        }
        result => result,
    }
}

/// A writer that fails once its flag is set.
#[derive(Debug)]
pub struct Stoppable<'a, W> {
    /// Takes what is written.
    pub out: W,
    /// The flag.
    pub stop: &'a AtomicBool,
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        check(self.stop)?;
        // Not so much at a time that the flag would be looked at too late.
        self.out.write(&buf[..buf.len().min(1 << 20)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_once_the_flag_is_set() {
        let (mut out, stop) = (Vec::new(), AtomicBool::new(false));
        Stoppable { out: &mut out, stop: &stop }.write_all(b"before").unwrap();
        stop.store(true, Ordering::Relaxed);
        let failed = Stoppable { out: &mut out, stop: &stop }.write_all(b"behind");
        assert_eq!(failed.unwrap_err().to_string(), "interrupted");
        assert_eq!(out, b"before");
    }

    #[test]
    fn what_failed_without_the_flag_keeps_its_error() {
        let failed = || Err::<(), _>(anyhow::anyhow!("disk full"));
        let (stop, running) = (AtomicBool::new(true), AtomicBool::new(false));
        assert_eq!(explain(&running, failed()).unwrap_err().to_string(), "disk full");
        assert_eq!(explain(&stop, failed()).unwrap_err().to_string(), "interrupted");
        assert!(explain(&stop, Ok(())).is_ok());
    }
}
