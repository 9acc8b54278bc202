//! `vzpush`: put bundles onto nodes over ssh, by delta.
#![forbid(unsafe_code)]

use clap::Parser;

fn main() -> std::process::ExitCode {
    let args = vz::cli::push::Args::parse();
    vz::report::exit("vzpush", vz::command::push::run(&args))
}
