//! End-to-end tests: the real programs on real files.
#![expect(unreachable_pub, reason = "modules of a test binary have no outside")]

mod bad_specs;
mod bundle;
mod closure;
mod corpus;
mod delta;
mod delta_corpus;
mod delta_faults;
mod delta_memory;
mod delta_sample;
mod diff;
mod explain;
mod layer;
mod ldd;
mod reproducible;
mod sandbox;
mod vcdiff_interop;
