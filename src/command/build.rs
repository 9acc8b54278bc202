//! `vzbuild`: from a verb to its pipeline.

use std::process::ExitCode;

use crate::cli::build::{Args, Verb};
use crate::command::manual;

/// Runs the verb that the command line asks for.
///
/// # Errors
/// As the verb's own pipeline.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Closure(args) => super::closure::run(args),
        Verb::Delta(args) => super::delta::run(args),
        Verb::Patch(args) => super::patch::run(args),
        Verb::Bundle(_) | Verb::Explain(_) | Verb::Diff(_) | Verb::Run(_) | Verb::Init(_) => {
            anyhow::bail!("work in progress")
        }
        Verb::Manual(args) => manual::run(args),
    }
}
