//! End-to-end tests: the real programs on real files.
#![expect(unreachable_pub, reason = "modules of a test binary have no outside")]

mod delta;
mod delta_faults;
mod delta_memory;
mod ldd;
mod sandbox;
mod vcdiff_interop;
