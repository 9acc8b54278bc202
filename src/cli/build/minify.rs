//! The command line of `vzbuild minify`.

use std::ffi::OsString;

use clap::Args as ArgGroup;

use super::{Exercise, Narrow};

/// `vzbuild minify`
#[derive(ArgGroup, Debug, PartialEq)]
#[command(after_help = "Examples:
  vzbuild minify oci-archive:web.tar -o web --ready-port 80 --until 'curl -fsS http://127.0.0.1/'
  vzbuild minify docker-archive:tool.tar -o oci:images:tool --run 'tool --version' --run 'tool /etc/hosts'
  vzbuild minify rootfs/ -- /usr/bin/python3 -c 'import json'

The image's own command (Entrypoint and Cmd, or CMD in the place of Cmd) is run in a
container of the whole image, traced; so is each --run, in a container of its own. What
they used becomes the bundle, in which all of it is run again: only when each run does
what it did in the image is the bundle written. The image's HEALTHCHECK must succeed
in both. The network is this machine's, so nothing else may listen on --ready-port.

An ordinary user is root in that container, and there is nobody else. What that leaves
open is said; an image whose user or kept files are not root's is not written then.

With --seccomp and --least-caps the bundle is run once more under what they leave, and
only written if it does the same then; `vzbuild verify --help` says what they know, and
what they cannot know. An image has no place for either: its profile lies in the evidence
of an oci: directory, capabilities are given by `podman run --cap-drop`.

Exit status: 0 written, and it is as before; 1 it differs, and nothing is written;
3 it could not be done.")]
pub struct Minify {
    /// oci:DIR[:REF], oci-archive:FILE, docker-archive:FILE, a root file system directory, or what skopeo, podman or docker can fetch (containers-storage:NAME, docker-daemon:NAME, docker://NAME)
    #[arg(value_name = "IMAGE")]
    pub image: OsString,
    /// Bundle directory, or an image: oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:NAME]; what is there is replaced when the new one is proven
    #[arg(short, long, value_name = "WHERE", default_value = "bundle")]
    pub output: OsString,
    /// Also run this shell command in the image; may be given several times
    #[arg(long, value_name = "CMD")]
    pub run: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub exercise: Exercise,
    /// Standard output and error must be the same, too
    #[arg(long)]
    pub same_output: bool,
    /// Variable for the command, over those of the image
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// User that runs the command, in the place of the image's
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Directory or file of the host, mounted read-write; `:ro` mounts it read-only
    #[arg(long, value_name = "HOST:PATH[:ro]")]
    pub volume: Vec<OsString>,
    /// Writable directory in memory at this path of the bundle, of at most SIZE (64m)
    #[arg(long, value_name = "PATH[:SIZE]")]
    pub tmpfs: Vec<OsString>,
    /// Make the whole root of the bundle writable
    #[arg(long)]
    pub writable: bool,
    /// Capability that the command keeps in the bundle, such as CAP_NET_RAW
    #[arg(long, value_name = "CAP")]
    pub cap: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub narrow: Narrow,
    /// Leave out what scanners such as trivy, grype and syft need to name the packages of the files
    #[arg(long)]
    pub no_scanner_files: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Command in the place of the image's Cmd
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}
