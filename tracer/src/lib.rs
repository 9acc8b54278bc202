//! Records every file that a process tree uses, by ptrace and a seccomp filter.

pub mod record;
pub mod spec;

pub use record::Record;
pub use spec::{Spec, SpecError};
