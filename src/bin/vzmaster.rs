//! `vzmaster`: keep pods running on a fleet of nodes, from a directory of files.
#![forbid(unsafe_code)]

use clap::Parser;

fn main() -> std::process::ExitCode {
    let args = vz::cli::master::Args::parse();
    vz::report::exit("vzmaster", vz::command::master::run(&args))
}
