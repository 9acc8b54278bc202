//! Records every file that a process tree uses, by ptrace and a seccomp filter.
//!
//! [`trace`] runs a [`Command`] and returns a [`Trace`]; that gives the
//! [`Spec`] (the bare paths) and the [`Record`] (everything else).

mod access;
mod arch;
mod bpf;
mod calls;
mod changes;
mod descriptors;
mod error;
mod event_loop;
mod filter;
mod guest;
mod hash;
mod interpreter;
mod log;
mod memory;
mod mounts;
mod names;
mod observer;
mod open_dirs;
mod originals;
pub mod record;
mod resolve;
pub mod seccomp;
mod selection;
mod socket;
mod spaces;
pub mod spec;
mod start;
mod stop;
mod surroundings;
mod sys;
mod syscall;
mod task;
mod trace;
mod uses;
mod waiter;
mod walk;
mod world;

pub use arch::cpu_level;
pub use error::Error;
pub use names::number as syscall_number;
pub use record::Record;
pub use selection::Selection;
pub use spec::{Spec, SpecError};
pub use start::Command;
pub use surroundings::{Surroundings, User};
pub use sys::die_by;
pub use trace::{Control, Options, Trace, trace};
