//! End-to-end tests: the real programs on real files.
#![expect(unreachable_pub, reason = "modules of a test binary have no outside")]

mod help;
mod programs;
mod bad_specs;
mod closure;
mod corpus;
mod diff;
mod explain;
mod ldd;
mod sandbox;
mod tidy;
