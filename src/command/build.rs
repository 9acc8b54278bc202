//! `vzbuild`: from a verb to its pipeline.

use std::process::ExitCode;

use crate::cli::build::{Args, Verb};

/// Runs the verb that the command line asks for.
///
/// # Errors
/// As the verb's own pipeline.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Bundle(args) => super::bundle::run(args),
        Verb::Closure(args) => super::closure::run(args),
        Verb::Delta(args) => super::delta::run(args),
        Verb::Patch(args) => super::patch::run(args),
        Verb::Explain(args) => super::explain::run(args),
        Verb::Diff(args) => super::diff::run(args),
        Verb::Run(args) => super::run::run(args),
        Verb::Init(args) => super::init::run(args),
        Verb::Manual(_) => anyhow::bail!("work in progress"),
    }
}
