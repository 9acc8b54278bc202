//! The command line of `smith-strace`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::quantity;

/// Run a command and write down every file that the run uses
///
/// CMD and all its descendants are traced. Every path that a call used with
/// success goes into SPEC, one a line: opened, executed, looked at, listed,
/// entered, connected to; each symbolic link on the way and its target too.
/// What the run itself made stays out; of what it changed, the original is kept
/// in SPEC.originals. SPEC.json has the kinds of use, ports, environment and
/// whatever could not be seen.
///
/// A path that is there when a call names it counts as used, even where the call
/// then fails; --outcomes tells the errors. Not seen are the paths of Unix sockets
/// that sendmsg(2) names, and what io_uring opens: it is denied, so that programs
/// fall back, unless --allow-io-uring is given.
#[derive(Parser, Debug, PartialEq)]
#[command(
    name = "smith-strace",
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  smith-strace perl -MHTTP::Date -e 'print time2str(time()).\"\\n\"'
  smith-strace -o web.spec --until 'curl -fsS http://127.0.0.1/' --ready-port 80 -- nginx -g 'daemon off;'
  smith-strace --append -o app.spec -- app --another-feature
  smith-strace --isolate -- ./installer      # changes nothing on this machine

Exit status: that of CMD (or its signal); 125 when smith-strace itself fails,
126 when CMD cannot be executed, 127 when it is not found."
)]
pub struct Args {
    /// Where the spec goes; SPEC.json and SPEC.originals lie beside it
    #[arg(short, long, value_name = "SPEC", default_value = "spec")]
    pub output: PathBuf,
    /// Write every use as a JSON line, in the order in which they happen
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Add to the spec that is there instead of replacing it
    #[arg(short, long)]
    pub append: bool,
    /// Put in only paths that match; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave out paths that match; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Run the command inside this root file system
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Start the command in this directory, as seen from its root [default: the present one; `/` with --root]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Run the command as this user: numbers, or names of the root's passwd and group
    ///
    /// Without GROUP the user's own groups are taken. Needs root. The environment
    /// stays as it is, HOME too.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Run over a throw-away overlay: whatever the run writes is gone afterwards
    ///
    /// Needs root or user namespaces. Without root, what belongs to other users
    /// cannot be changed in it. Pseudo file systems (/proc, /sys, /dev, cgroups),
    /// the network and standard streams are the real ones. With --root, this
    /// machine's /etc/resolv.conf, /etc/hosts and /etc/hostname stand in for those
    /// that the root lacks or has empty, as in a container.
    #[arg(long)]
    pub isolate: bool,
    /// Keep at most so much of the originals of what the run changes (bytes, or with K, M, G)
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = quantity::size)]
    pub originals_limit: u64,
    /// Also stop at the end of each call and record which ones failed, and how
    #[arg(long)]
    pub outcomes: bool,
    /// Be a grandchild of the command instead of its parent
    #[arg(short = 'D', long)]
    pub detach: bool,
    /// Variable whose value goes into SPEC.json; PATH, LANG, LC_*, TZ, HOME do anyway, and those that name used paths
    #[arg(long, value_name = "NAME")]
    pub env: Vec<String>,
    /// Exercise CMD with this shell command, then end CMD with SIGTERM; fails if it fails
    ///
    /// The shell command itself is not traced. It starts when --ready-port or
    /// --ready-file says so (waiting for at most 60 s), else after 1 s. What is
    /// left of CMD 10 s after SIGTERM gets SIGKILL.
    #[arg(long, value_name = "CMD")]
    pub until: Option<String>,
    /// Start --until when this TCP port of 127.0.0.1 answers
    #[arg(long, value_name = "PORT", requires = "until")]
    pub ready_port: Option<u16>,
    /// Start --until when this file is there
    #[arg(long, value_name = "FILE", requires = "until")]
    pub ready_file: Option<PathBuf>,
    /// End CMD with SIGTERM after so long, and with SIGKILL 10 s later (30, 1.5s, 2m, 1h)
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    pub timeout: Option<Duration>,
    /// Let programs use io_uring, whose file accesses no tracer sees
    #[arg(long)]
    pub allow_io_uring: bool,
    /// Print only errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print what was left out, path by path
    #[arg(short, long)]
    pub verbose: bool,
    /// Print the summary as JSON on standard error
    #[arg(long)]
    pub json: bool,
    /// Command to trace, and its arguments
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
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
    fn the_command_keeps_its_own_options() {
        let args = Args::parse_from(["smith-strace", "-o", "x", "perl", "-o", "y", "--help"]);
        assert_eq!(args.output, PathBuf::from("x"));
        assert_eq!(args.command, ["perl", "-o", "y", "--help"]);
    }
}
