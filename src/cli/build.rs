//! The command line of `vzbuild`.

mod image;
mod minify;
mod report;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ArgGroup, Parser, Subcommand};

pub use image::{Compression, Image};
pub use minify::Minify;
pub use report::Report;
pub use verify::{Beyond, Exercise, Narrow, Scenario, Verify};

/// Close specs over a root file system and assemble OCI bundles
#[derive(Parser, Debug, PartialEq)]
#[command(
    name = "vzbuild",
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  smith-strace perl -MHTTP::Date -e 'print time2str(time()).\"\\n\"'
  vzbuild bundle spec                     # ./bundle, ready for runc or crun
  vzbuild run bundle                      # prints the date
  vzbuild explain spec /lib/x86_64-linux-gnu/libc.so.6
  echo /usr/bin/redis-server | vzbuild bundle - -o redis

Exit status: 0 done; 1 no (files are missing, things differ); 2 wrong command line;
3 could not be done. `vzbuild run` ends as the program did."
)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs of `vzbuild`.
#[derive(Subcommand, Debug, PartialEq)]
pub enum Verb {
    /// Write an OCI runtime bundle of all that the specs need
    Bundle(Box<Bundle>),
    /// Write a container image of all that the specs need, or of a bundle
    Image(Box<Image>),
    /// Print the closed list: the specs and all that they need
    Closure(Closure),
    /// Say why a file is in: the chain of reasons and the first process
    Explain(Explain),
    /// Compare two specs, closures or bundles
    Diff(Diff),
    /// Write a page about a bundle or image: what is in it and why, what was left out, what has changed
    Report(Report),
    /// Run a bundle with runc or crun, or without either
    Run(Run),
    /// Make a bundle of an image, and prove that it does the same
    Minify(Box<Minify>),
    /// Prove that a bundle or image does what was traced
    Verify(Box<Verify>),
    /// Write what turns one bundle, tree or file into another
    Delta(Delta),
    /// Apply what `delta` or xdelta3 wrote
    Patch(Patch),
    /// Write man pages and shell completions below a directory
    #[command(hide = true)]
    Manual(Manual),
    /// First process of the embedded runner
    #[command(hide = true)]
    Init(Init),
    /// One traced run in a container
    #[command(hide = true)]
    Scenario(Scenario),
}

/// Where the specs and the files that they name come from.
#[derive(ArgGroup, Debug, Clone, PartialEq)]
pub struct Source {
    /// Spec of `smith-strace` or written by hand, one absolute path a line; several unite; `-` reads standard input
    #[arg(value_name = "SPEC", required = true)]
    pub specs: Vec<PathBuf>,
    /// Root file system in which the paths are looked up
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Do not fail when something is missing: say it and go on
    #[arg(long)]
    pub allow_missing: bool,
    /// Also take what is in the directories that the run listed
    #[arg(long)]
    pub listed: bool,
}

/// What runs in a container; by default what was traced.
#[derive(ArgGroup, Debug, Clone, Default, PartialEq)]
pub struct Program {
    /// One word of the command; give it several times for its arguments
    #[arg(long = "arg", value_name = "WORD", allow_hyphen_values = true)]
    pub args: Vec<OsString>,
    /// Variable of the environment; NAME alone takes the value that it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// Working directory inside the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<OsString>,
    /// User that runs the command: a number or a name of the root's passwd
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
}

/// `vzbuild bundle`
#[derive(ArgGroup, Debug, PartialEq)]
#[command(after_help = "Examples:
  vzbuild bundle spec
  vzbuild bundle web.spec admin.spec -o site
  vzbuild bundle redis.spec --volume /srv/redis:/var/lib/redis
  echo /usr/bin/redis-server | vzbuild bundle - -o redis --arg redis-server
  vzbuild bundle spec --tar layer.tar     # the layer alone

The same specs and files give the same bytes, on any machine.")]
pub struct Bundle {
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub source: Source,
    /// Where to write the bundle; an old bundle there is replaced when the new one is whole
    #[arg(short, long, value_name = "DIR", default_value = "bundle", conflicts_with = "tar")]
    pub output: PathBuf,
    /// Write the layer as a tar instead of a bundle; `-` writes standard output
    #[arg(long, value_name = "FILE")]
    pub tar: Option<PathBuf>,
    /// Take this config.json as the base instead of the built-in one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub program: Program,
    /// Directory of the host that outlives the container, mounted read-write; `:ro` mounts it read-only
    #[arg(long, value_name = "HOST:PATH[:ro]")]
    pub volume: Vec<OsString>,
    /// Writable directory in memory at this path, of at most SIZE (64m); what the bundle has there is copied into it
    #[arg(long, value_name = "PATH[:SIZE]")]
    pub tmpfs: Vec<OsString>,
    /// Make the whole root writable
    #[arg(long)]
    pub writable: bool,
    /// Capability that the command keeps, such as CAP_NET_BIND_SERVICE
    #[arg(long, value_name = "CAP")]
    pub cap: Vec<String>,
    /// Network of the container: the host's, or one of its own with nothing in it
    #[arg(long, value_name = "WHICH", default_value = "host")]
    pub network: Network,
    /// Add what scanners such as trivy, grype and syft need to name the packages of the files
    #[arg(long)]
    pub scanner_files: bool,
    /// Do not wait until the bundle is on the disk
    #[arg(long)]
    pub no_sync: bool,
    /// Print a summary as JSON
    #[arg(long)]
    pub json: bool,
}

impl Bundle {
    /// What the command line `vzbuild bundle SPEC… -o OUTPUT` says.
    pub fn of(source: Source, output: &std::path::Path) -> Self {
        Bundle {
            source,
            output: output.to_owned(),
            tar: None,
            config: None,
            program: Program::default(),
            volume: Vec::new(),
            tmpfs: Vec::new(),
            writable: false,
            cap: Vec::new(),
            network: Network::Host,
            scanner_files: false,
            no_sync: false,
            json: false,
        }
    }
}

/// Which network a bundle is set up for.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The host's own
    Host,
    /// A new, empty network namespace
    None,
}

/// `vzbuild closure`
#[derive(ArgGroup, Debug, PartialEq)]
#[command(after_help = "Examples:
  vzbuild closure spec | rsync -a --files-from=- / DIR/
  vzbuild closure --json spec | jq -r '.entries[] | select(.size > 1e6).path'")]
pub struct Closure {
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub source: Source,
    /// Print entries, reasons and what is missing as JSON
    #[arg(long)]
    pub json: bool,
}

/// `vzbuild explain`
#[derive(ArgGroup, Debug, PartialEq)]
pub struct Explain {
    /// Spec of `smith-strace` or written by hand; `-` reads standard input
    #[arg(value_name = "SPEC")]
    pub spec: PathBuf,
    /// The file in question; without it, every file with its nearest reason
    #[arg(value_name = "PATH")]
    pub path: Option<OsString>,
    /// Root file system in which the paths are looked up
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `vzbuild diff`
#[derive(ArgGroup, Debug, PartialEq)]
#[command(
    after_help = "Prints `- PATH` for what only A has, `+ PATH` for what only B has, and `~ PATH`
with the reason for what differs. Exit status 1 when there is any difference."
)]
pub struct Diff {
    /// A spec, a closure (as `vzbuild closure` printed it) or a bundle
    pub a: PathBuf,
    /// Another of the same kind
    pub b: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `vzbuild run`
#[derive(ArgGroup, Debug, PartialEq)]
#[command(after_help = "Examples:
  vzbuild run bundle
  vzbuild run bundle -- perl -v           # another command in the same files
  vzbuild run --runtime embedded bundle   # neither runc nor crun is needed")]
pub struct Run {
    /// Bundle directory
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// Command to run instead of the bundle's own
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    /// What runs it; `auto` takes the first of runc, crun, embedded that works here
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    pub runtime: Runtime,
    /// Kill the program so many seconds after SIGTERM; 0 waits for ever
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub stop_timeout: u32,
}

/// What runs a bundle.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// The first that works here
    Auto,
    /// runc
    Runc,
    /// crun
    Crun,
    /// vzbuild itself
    Embedded,
}

/// `vzbuild delta`
#[derive(ArgGroup, Debug, PartialEq)]
#[command(after_help = "Examples:
  vzbuild delta redis-7.0 redis-7.2 -o update.vz
  vzbuild delta --stat update.vz
  vzbuild delta --format vcdiff old.tar new.tar -o update.vcdiff
  xdelta3 -d -s old.tar update.vcdiff new.tar

A delta of trees holds modes, owners, times and attributes too. It applies to exactly
OLD and gives exactly NEW, or fails and leaves nothing.")]
pub struct Delta {
    /// What is there already: a bundle or other directory, a layer tar, or a plain file
    #[arg(value_name = "OLD", required_unless_present = "stat")]
    pub old: Option<PathBuf>,
    /// What it is to become, of the same sort: a directory and a tar go together, a plain file only with another
    #[arg(value_name = "NEW", required_unless_present = "stat")]
    pub new: Option<PathBuf>,
    /// Where the delta goes
    #[arg(short, long, value_name = "FILE", required_unless_present = "stat")]
    pub output: Option<PathBuf>,
    /// Which format to write; for vcdiff, a directory counts as its layer tar
    #[arg(long, value_name = "WHICH", default_value = "vz")]
    pub format: DeltaFormat,
    /// How many files to work on at a time [default: as many as there are CPUs]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// How much time to spend on size, from 1 to 9
    #[arg(long, value_name = "1..9", default_value = "9", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub effort: u8,
    /// Say how each file travels in this delta, instead of writing one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["old", "new", "output", "jobs"])]
    pub stat: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// What a delta is written as.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaFormat {
    /// Our own: far smaller
    Vz,
    /// VCDIFF (RFC 3284), which `xdelta3 -d` applies
    Vcdiff,
}

/// `vzbuild patch`
#[derive(ArgGroup, Debug, PartialEq)]
#[command(after_help = "Examples:
  vzbuild patch redis-7.0 update.vz -o redis-7.2
  xdelta3 -e -S none -s old.tar new.tar update.vcdiff
  vzbuild patch old.tar update.vcdiff -o new.tar

NEW is of the kind of OLD: a directory, a tar, a file; a name that ends in .tar gives a tar.
What is at NEW is replaced when all of the new is there and its digest is the promised one.")]
pub struct Patch {
    /// What the delta was made from
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The delta, in either format
    #[arg(value_name = "FILE")]
    pub delta: PathBuf,
    /// Where the result goes
    #[arg(short, long, value_name = "NEW")]
    pub output: PathBuf,
}

/// `vzbuild manual`
#[derive(ArgGroup, Debug, PartialEq)]
pub struct Manual {
    /// Directory with the layout of /usr/share: man/, bash-completion/, zsh/, fish/
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// `vzbuild init`
#[derive(ArgGroup, Debug, PartialEq)]
pub struct Init {
    /// Directory with the adapted config.json
    pub bundle: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_run_takes_another_command_after_two_dashes() {
        let args = Args::parse_from(["vzbuild", "run", "bundle", "--", "perl", "-v"]);
        let Verb::Run(run) = args.verb else { panic!("{args:?}") };
        assert_eq!(run.command, ["perl", "-v"]);
    }
}
