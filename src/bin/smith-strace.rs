//! `smith-strace`: run a command and write down every file that the run uses.
#![forbid(unsafe_code)]

use clap::Parser;

fn main() -> std::process::ExitCode {
    let args = vz::cli::strace::Args::parse();
    vz::report::exit("smith-strace", vz::command::strace::run(&args))
}
