//! The command line of `vzbuild verify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ArgGroup;

use crate::cli::quantity::duration;

/// `vzbuild verify`
#[derive(ArgGroup, Debug, PartialEq)]
#[command(after_help = "Examples:
  vzbuild verify bundle --spec spec         # what smith-strace recorded, again
  vzbuild verify bundle --spec spec --run 'perl -MHTTP::Date -e 1'
  vzbuild verify bundle --spec spec --fix   # adds what is missing, until nothing is
  vzbuild verify oci:images:web             # an image, as podman would run it
  vzbuild verify oci:images:web --trust-exercise
  vzbuild verify bundle --output expected   # and it must print this
  vzbuild verify bundle --seccomp --least-caps

Each recorded run is made again inside the bundle, traced, over a throw-away view of
it: the bundle stays as it is. What the first run found and the bundle lacks, what is
refused now and was not before, other exit statuses and ports are named, each with
the way out. A trace with `smith-strace --outcomes` tells more than one without.

An image is unpacked (below TMPDIR) and run in the container that docker would make of
it. What `vzbuild image` and `vzbuild minify` write has the first run with it; an image
that went through a registry, podman or docker has not: give its --spec.

Where a command exercised the first run (--until), it runs on this machine, outside the
container. One that comes from the evidence is shown and not run, unless --trust-exercise
says so: whoever made the image or bundle has written it. --until CMD takes its place.

--seccomp and --least-caps write into config.json what the runs need and nothing else,
after the runs were made under just that, with the kernel's filter, and did the same.
evidence/seccomp.json is the profile for `podman run --security-opt seccomp=FILE`; it
tells calls made once the program was ready (--ready-port, --ready-file) from those made
to start only, and both from those that no run made and that are allowed nevertheless:
what C libraries and the kernel do in other circumstances, what runc and crun do before
the program begins.
A profile knows the paths that the runs took, and no others: an error path, a feature,
a plugin or a signal that they did not touch may need more, and then fails with ENOSYS.
So exercise it well (--run, --until), and begin with --seccomp=log: nothing fails, and
the kernel logs each call beyond the profile (`journalctl -k | grep type=1326`, `ausyscall
NUMBER`). Capabilities are left out one by one; one stays where a run differs or the
kernel refuses a call without it. What changes a result without an error, as a lack of
CAP_FSETID does, is not noticed.

Exit status: 0 it is as before; 1 it differs, or under a profile does, which is not
written then; 3 it could not be run.")]
pub struct Verify {
    /// Bundle directory, or image: oci:DIR[:REF], oci-archive:FILE, docker-archive:FILE, or what skopeo, podman or docker can fetch (containers-storage:NAME, docker-daemon:NAME, docker://NAME)
    #[arg(value_name = "BUNDLE|IMAGE")]
    pub bundle: PathBuf,
    /// Spec that it was made from, with its .json [default: what is in its evidence]
    #[arg(long, value_name = "SPEC")]
    pub spec: Vec<PathBuf>,
    /// Root file system that it was made from [default: this machine's, unless its evidence tells of another]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Run this shell command instead of what was recorded; several are run one by one
    #[arg(long, value_name = "CMD")]
    pub run: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub exercise: Exercise,
    /// Run the shell command on this machine that exercised the first run, as the evidence has it: only where you trust who made the evidence
    #[arg(long)]
    pub trust_exercise: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub narrow: Narrow,
    /// File with what a run wrote to standard output when it was traced (`smith-strace CMD > FILE`), which must be the same now; once for each run
    #[arg(long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Add what is missing to SPEC, write the bundle anew, and verify again, until it is as before
    #[arg(long, requires = "spec")]
    pub fix: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// How a command that does not end by itself is exercised and ended.
#[derive(ArgGroup, Clone, Debug, Default, PartialEq)]
pub struct Exercise {
    /// Exercise the command with this shell command on this machine, then end it with SIGTERM; fails if it fails
    #[arg(long, value_name = "CMD")]
    pub until: Option<String>,
    /// Start --until when this TCP port of 127.0.0.1 answers
    #[arg(long, value_name = "PORT")]
    pub ready_port: Option<u16>,
    /// Start --until when this file is there, as seen by the command
    #[arg(long, value_name = "FILE", requires = "until")]
    pub ready_file: Option<PathBuf>,
    /// End the command with SIGTERM after so long, and with SIGKILL 10 s later (30, 1.5s, 2m, 1h)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// What a bundle is cut down to.
#[derive(ArgGroup, Clone, Debug, Default, PartialEq)]
pub struct Narrow {
    /// Allow only the system calls that the runs make; any other fails with ENOSYS, or with `log` is done and logged
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "errno")]
    pub seccomp: Option<Beyond>,
    /// Keep only the capabilities without which the runs differ
    #[arg(long)]
    pub least_caps: bool,
}

impl Narrow {
    /// Whether there is anything to do.
    pub fn is_asked_for(&self) -> bool {
        self.seccomp.is_some() || self.least_caps
    }
}

/// What becomes of a system call that no run made.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// It fails, as if the kernel did not have it
    Errno,
    /// It is done, and the kernel's log tells of it
    Log,
}

/// `vzbuild scenario`
#[derive(ArgGroup, Debug, PartialEq)]
pub struct Scenario {
    /// Directory with the request
    pub dir: PathBuf,
}
