//! `vzmaster`: one file a verb.

mod directory;
mod preflight;
mod validate;

use std::process::ExitCode;

use crate::cli::master::{Args, Verb};

/// Does what the command line asks for.
///
/// # Errors
/// As the verb's own pipeline.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Validate => validate::run(args),
        Verb::Preflight(preflight) => preflight::run(args, preflight),
    }
}
