//! The command line of `vzbuild report`.

use std::path::PathBuf;

use clap::Args;

/// `vzbuild report`
#[derive(Args, Debug, PartialEq)]
#[command(after_help = "Examples:
  vzbuild report bundle -o report.html
  vzbuild report new --against old -o changes.html
  vzbuild report bundle --json | jq '.packages[] | select(.partial).name'

The page needs no network and nothing beside it; it is made of BUNDLE/evidence and
BUNDLE/config.json alone, so it can be made anywhere.")]
pub struct Report {
    /// Bundle that `vzbuild bundle` wrote
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// Where the page goes; `-` writes standard output
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    pub output: PathBuf,
    /// An earlier bundle: say what has changed since
    #[arg(long, value_name = "OLD")]
    pub against: Option<PathBuf>,
    /// Print what the page says as JSON instead
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}
