//! `vzbuild`: from a verb to its pipeline.

use std::process::ExitCode;

use super::{
    bundle, closure, delta, diff, explain, image, init, manual, minify, patch, report, run,
    scenario, verify,
};
use crate::cli::build::{Args, Verb};

/// Runs the verb that the command line asks for.
///
/// # Errors
/// As the verb's own pipeline.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Bundle(args) => bundle::run(args),
        Verb::Image(args) => image::run(args),
        Verb::Closure(args) => closure::run(args),
        Verb::Delta(args) => delta::run(args),
        Verb::Patch(args) => patch::run(args),
        Verb::Explain(args) => explain::run(args),
        Verb::Diff(args) => diff::run(args),
        Verb::Report(args) => report::run(args),
        Verb::Run(args) => run::run(args),
        Verb::Minify(args) => minify::run(args),
        Verb::Verify(args) => verify::run(args),
        Verb::Init(args) => init::run(args),
        Verb::Scenario(args) => scenario::run(args),
        Verb::Manual(args) => manual::run(args),
    }
}
