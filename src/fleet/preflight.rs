//! Whether a machine can run pods, and how: facts that a script collects, and a
//! verdict on them. Pure; [`SCRIPT`] is what acts, on the machine itself.

mod facts;
mod verdict;

pub use facts::{Facts, FactsError};
pub use verdict::{Grade, Reason, Runtime, SYSTEMD_BACK_OFF, Verdict, cannot, judge};

/// One POSIX shell script that prints the facts and leaves nothing behind.
pub const SCRIPT: &str = include_str!("preflight/facts.sh");
