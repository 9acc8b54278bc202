//! End-to-end tests: the real programs on real files.
#![expect(unreachable_pub, reason = "modules of a test binary have no outside")]

mod bad_bundles;
mod bad_specs;
mod bundle;
mod closure;
mod corpus;
mod diff;
mod explain;
mod help;
mod layer;
mod ldd;
mod programs;
mod reproducible;
mod rootless;
mod run;
mod sandbox;
mod tidy;
mod trace_calls;
mod trace_changes;
mod trace_check;
mod trace_interpreters;
mod trace_machine;
mod trace_many;
mod trace_options;
mod trace_paths;
mod trace_programs;
mod trace_until;
mod tracee;
mod transparency_privilege;
mod transparency_signals;
mod transparency_status;
mod transparency_tasks;
mod transparency_terminal;
mod transparency_view;
