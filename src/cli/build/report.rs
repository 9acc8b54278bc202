//! The command line of `vzbuild report`.

use std::path::PathBuf;

use clap::Args;

/// `vzbuild report`
#[derive(Args, Debug, PartialEq)]
#[command(after_help = "Examples:
  vzbuild report bundle -o report.html
  vzbuild report oci:images:web:2 --against oci:images:web:1 -o changes.html
  vzbuild report bundle --json | jq '.packages[] | select(.partial).name'

The page needs no network and nothing beside it; it is made of the evidence that
`vzbuild bundle`, `image` and `minify` leave beside a bundle and in an image, and of its
configuration, so it can be made anywhere.")]
pub struct Report {
    /// Bundle directory, or image: oci:DIR[:REF], oci-archive:FILE, docker-archive:FILE
    #[arg(value_name = "BUNDLE|IMAGE")]
    pub bundle: PathBuf,
    /// Where the page goes; `-` writes standard output
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    pub output: PathBuf,
    /// An earlier bundle or image: say what has changed since
    #[arg(long, value_name = "OLD")]
    pub against: Option<PathBuf>,
    /// Print what the page says as JSON instead
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}
