//! End-to-end tests: the real programs on real files.
#![expect(unreachable_pub, reason = "modules of a test binary have no outside")]

mod ldd;
mod sandbox;
