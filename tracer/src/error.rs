//! What can go wrong with a whole trace.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// Why a command could not be traced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No file of that name in PATH, or at that path.
    #[error("`{}` is not found", program.display())]
    NotFound {
        /// The command as given.
        program: OsString,
        /// Why the kernel refused it.
        source: io::Error,
    },
    /// The file is there, but the `#!` or ELF interpreter that it names is not.
    #[error("`{}` is there, but not the interpreter that it names", program.display())]
    NoInterpreter {
        /// The command as given.
        program: OsString,
        /// Why the kernel refused it.
        source: io::Error,
    },
    /// The file is there and cannot be executed.
    #[error("cannot execute `{}`", program.display())]
    Execute {
        /// The command as given.
        program: OsString,
        /// Why the kernel refused it.
        source: io::Error,
    },
    /// The command has no words, or a word with a NUL byte.
    #[error("no command to trace")]
    NoCommand,
    /// The kernel or a sandbox denies ptrace(2).
    #[error("cannot trace a program of one's own: ptrace is denied")]
    Ptrace(#[source] io::Error),
    /// The kernel or a sandbox denies the seccomp filter.
    #[error("cannot install a seccomp filter")]
    Filter(#[source] io::Error),
    /// A step of starting the command failed.
    #[error("cannot start the command: {step}")]
    Start {
        /// What was to be done.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The root directory of the run cannot be entered.
    #[error("cannot run below `{}`: {step}", root.display())]
    Root {
        /// The directory.
        root: PathBuf,
        /// What was to be done.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The new process cannot be whom it is to be.
    #[error("cannot {step}")]
    User {
        /// What was to be done.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Waiting for the traced tasks failed.
    #[error("cannot wait for the traced tasks")]
    Wait(#[source] io::Error),
    /// The log could not be written.
    #[error("cannot write the log")]
    Log(#[source] io::Error),
    /// A glob of include or exclude is wrong.
    #[error("`{glob}` is no glob")]
    Glob {
        /// The glob.
        glob: String,
        /// What is wrong with it.
        source: globset::Error,
    },
}
