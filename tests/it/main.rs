//! End-to-end tests: the real programs on real files.
#![expect(unreachable_pub, reason = "modules of a test binary have no outside")]

mod help;
mod ldd;
mod programs;
mod push;
mod push_faults;
mod sandbox;
mod sshd;
mod tidy;
