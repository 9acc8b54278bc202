//! The command line of `vzpush`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ArgGroup, Parser, Subcommand};

use super::quantity;
use crate::push::plan::Mode;

const EXAMPLES: &str =
    "TARGET is an alias of ssh_config, user@host[:port], or @group of an Ansible inventory.

Examples:
  vzpush --delta ./bundle user@node
  vzpush --plan ./bundle node-a           # what would be sent; changes nothing
  vzpush -i hosts.yml -P 20 --require 90% ./bundle @web
  vzpush ls node-a
  vzpush rollback node-a web
  vzpush containers-storage:localhost/web:2 node-a

A bundle whose directory is called as a verb is written ./ls.

Exit status: 0 done; 1 no (verify found differences); 2 wrong command line; 3 could not
be done; 4 done on some nodes only.";

const JSON: &str = "\
With --json a push prints one object: `name` of the bundle, `revision` (digest of its
tree), `plan` (whether nothing was done), and `nodes`. Each of these has `node`, `done`,
and either `error` and `hint` or `outcome`:
  way       present, delta or files
  base      revision that the delta is against, or null
  full      bytes of content of the whole bundle
  payload   bytes of delta, listing and contents that were sent
  sent      all bytes sent inside ssh's channel: the command, frames and heartbeats too
  received  all bytes that came back
  receiver  bytes of the receiver, where it had to be put on the node first
  damaged   files on the node that were not as they should be, and were sent anew
  seconds   from the start of ssh to the receipt
  receipt   what the node did: target (digest that it found), previous (revision that was
            current), linked (files shared with it), written (bytes), unkept (files whose
            owner or device an ordinary user cannot give), swept (revisions removed),
            unswept (why others could not be); null for a plan
  files     for a plan, of each file: path, how, size, bytes (null: only the node can tell)
The verbs print a list. ls: name, revision, current, previous, size, files, pushed
(seconds since 1970). verify: name, revision, whole, differences (path, what), error.
gc: removed (NAME/REVISION each), then incoming and receivers (how many). rollback: name,
current, previous. pull: name, revision, size, path.";

/// Put bundles onto nodes over ssh, sending only what they lack
#[derive(Parser, Debug, PartialEq)]
#[command(
    name = "vzpush",
    version,
    arg_required_else_help = true,
    subcommand_negates_reqs = true,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{JSON}")
)]
pub struct Args {
    /// What else to do with a node
    #[command(subcommand)]
    pub verb: Option<Verb>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub push: Push,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub ssh: SshArgs,
}

/// A push.
#[derive(ArgGroup, Debug, PartialEq)]
pub struct Push {
    /// Bundle directory: config.json and rootfs/; or an image, unpacked into TMPDIR first:
    /// oci:DIR[:REF], oci-archive:FILE, docker-archive:FILE, or a name of skopeo's such as
    /// containers-storage:NAME
    #[arg(value_name = "BUNDLE", required = true)]
    pub bundle: Option<PathBuf>,
    /// Where to: ssh alias, user@host[:port], or @group
    #[arg(value_name = "TARGET", required = true)]
    pub targets: Vec<String>,
    /// Use a delta against what the node has
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true,
          default_value = "auto", default_missing_value = "smaller")]
    pub delta: Mode,
    /// Print per file what would be sent, and change nothing
    #[arg(long)]
    pub plan: bool,
    /// Ansible inventory with the groups: INI, YAML, or what `ansible-inventory` reads
    #[arg(short, long, value_name = "INVENTORY")]
    pub inventory: Option<PathBuf>,
    /// How many nodes at a time
    #[arg(short = 'P', long, value_name = "N", default_value_t = 10,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub parallel: usize,
    /// Most bytes a second to each node; K, M and G are powers of 1000
    #[arg(long, value_name = "RATE", value_parser = quantity::rate)]
    pub bwlimit: Option<u64>,
    /// How many revisions a node keeps; the current, the previous and any in use always stay
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub keep: u32,
    /// How many nodes must succeed for exit status 0: all, a number, or a percentage
    #[arg(long, value_name = "all|N|N%", default_value = "all", value_parser = parse_require)]
    pub require: Require,
    /// Name of the bundle on the node; the directory's own unless given
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// How nodes are reached.
#[derive(ArgGroup, Debug, Clone, PartialEq)]
pub struct SshArgs {
    /// Configuration file for ssh
    #[arg(short = 'F', value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Option for ssh, as in ssh_config(5)
    #[arg(short = 'o', value_name = "OPTION", global = true)]
    pub options: Vec<String>,
    /// How long to wait for a node that does not answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = quantity::patience, global = true)]
    pub connect_timeout: Duration,
    /// After how long a silence either end gives up
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = quantity::patience, global = true)]
    pub silence: Duration,
    /// Folder of the store on the node [default: /var/lib/vz, or ~/.local/share/vz where not root]
    #[arg(long, value_name = "DIR", global = true)]
    pub store: Option<String>,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// The verbs of `vzpush`.
#[derive(Subcommand, Debug, PartialEq)]
pub enum Verb {
    /// List the bundles and revisions of a node
    Ls(OneNode),
    /// Hash a node's revisions again and name what differs
    Verify {
        /// The node
        #[arg(value_name = "NODE")]
        node: String,
        /// Only this bundle
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Remove revisions that are neither current nor previous nor in use, and what broken-off pushes left
    Gc(OneNode),
    /// Make the previous revision the current one; links only, nothing is started or stopped
    Rollback(NodeAndName),
    /// Bring a node's current revision back as a bundle
    Pull {
        /// The node
        #[arg(value_name = "NODE")]
        node: String,
        /// The bundle
        #[arg(value_name = "NAME")]
        name: String,
        /// Where to write it [default: ./NAME]
        #[arg(short = 'O', long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// The end of a push that runs on the node
    #[command(hide = true)]
    Receive {
        /// What the sender says first
        #[arg(long, value_name = "MESSAGE")]
        hello: String,
    },
}

/// A node.
#[derive(ArgGroup, Debug, PartialEq)]
pub struct OneNode {
    /// The node
    #[arg(value_name = "NODE")]
    pub node: String,
}

/// A node and a bundle on it.
#[derive(ArgGroup, Debug, PartialEq)]
pub struct NodeAndName {
    /// The node
    #[arg(value_name = "NODE")]
    pub node: String,
    /// The bundle
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// How many nodes must succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Require {
    /// Every one.
    All,
    /// So many.
    Count(usize),
    /// So many of a hundred, rounded up.
    Percent(u8),
}

impl Require {
    /// How many of `all` that is.
    pub fn of(self, all: usize) -> usize {
        match self {
            Require::All => all,
            Require::Count(count) => count.min(all),
            Require::Percent(percent) => (all * usize::from(percent)).div_ceil(100),
        }
    }
}

fn parse_require(text: &str) -> Result<Require, String> {
    let wrong = || format!("`{text}` is not `all`, a number from 1 on, or a percentage up to 100%");
    if text == "all" {
        return Ok(Require::All);
    }
    match text.strip_suffix('%') {
        Some(percent) => match percent.parse() {
            Ok(percent @ 1..=100) => Ok(Require::Percent(percent)),
            _ => Err(wrong()),
        },
        None => match text.parse() {
            Ok(count @ 1..) => Ok(Require::Count(count)),
            _ => Err(wrong()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &[&str]) -> Args {
        Args::parse_from(std::iter::once(&"vzpush").chain(words))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_delta_takes_a_value_only_after_an_equals_sign() {
        let args = parse(&["--delta", "./bundle", "user@node"]);
        assert_eq!(args.push.bundle, Some("./bundle".into()));
        assert_eq!(args.push.targets, ["user@node"]);
        assert_eq!(args.push.delta, Mode::Smaller);
        assert_eq!(parse(&["b", "n"]).push.delta, Mode::Auto);
        assert_eq!(parse(&["--delta=never", "b", "n"]).push.delta, Mode::Never);
        assert!(Args::try_parse_from(["vzpush", "--delta=maybe", "b", "n"]).is_err());
    }

    #[test]
    fn verbs_need_no_bundle_and_take_options_of_ssh() {
        let args = parse(&["ls", "node", "-F", "cfg", "--json"]);
        assert_eq!(args.verb, Some(Verb::Ls(OneNode { node: "node".into() })));
        assert!(args.ssh.json);
    }

    #[test]
    fn requirements_are_rounded_up() {
        assert_eq!(parse_require("90%").unwrap().of(18), 17);
        assert_eq!(parse_require("5").unwrap().of(3), 3);
        assert_eq!(parse_require("all").unwrap().of(3), 3);
        for bad in ["0", "0%", "101%", "most", ""] {
            assert!(parse_require(bad).is_err(), "{bad}");
        }
    }
}
