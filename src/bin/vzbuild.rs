//! `vzbuild`: close specs over a root file system and assemble OCI bundles.
#![forbid(unsafe_code)]

use clap::Parser;

fn main() -> std::process::ExitCode {
    let args = vz::cli::build::Args::parse();
    vz::report::exit("vzbuild", vz::command::build::run(&args))
}
