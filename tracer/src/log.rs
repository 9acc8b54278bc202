//! The log: one JSON object a line for each use, in order.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use crate::observer::Who;
use crate::record::{BytePath, Use};
use crate::sys::Tid;

/// Where the uses are written as they happen.
pub(crate) struct Log {
    out: BufWriter<Box<dyn Write>>,
    error: Option<io::Error>,
}

/// A line of the log.
#[derive(Serialize)]
struct Line<'a> {
    pid: Tid,
    task: Tid,
    process: BytePath,
    call: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#use: Option<Use>,
    path: BytePath,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl Log {
    /// A log that goes to `out`.
    pub(crate) fn new(out: Box<dyn Write>) -> Self {
        Log { out: BufWriter::new(out), error: None }
    }

    /// Writes a use; the first failure is kept for [`Log::finish`].
    pub(crate) fn write(&mut self, path: &[u8], kind: Use, who: &Who) {
        self.line(path, Some(kind), None, who);
    }

    /// Writes that a call failed, with the name of its error.
    pub(crate) fn fail(&mut self, path: &[u8], error: &str, who: &Who) {
        self.line(path, None, Some(error), who);
    }

    fn line(&mut self, path: &[u8], kind: Option<Use>, error: Option<&str>, who: &Who) {
        if self.error.is_some() {
            return;
        }
        let line = Line {
            pid: who.process.pid,
            task: who.tid,
            process: BytePath(who.process.name.to_vec()),
            call: who.call,
            r#use: kind,
            path: BytePath(path.to_vec()),
            error,
        };
        let written = serde_json::to_writer(&mut self.out, &line).map_err(io::Error::from);
        self.error = written.and_then(|()| self.out.write_all(b"\n")).err();
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// The first error of all writes.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.error.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}
