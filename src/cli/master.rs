//! The command line of `vzmaster`.

use std::path::PathBuf;

use clap::{Args as ArgGroup, Parser, Subcommand};

use super::push::SshArgs;

/// Run pods on nodes, from a directory of files, over ssh
#[derive(Parser, Debug, PartialEq)]
#[command(
    name = "vzmaster",
    version,
    arg_required_else_help = true,
    after_help = "The directory has an Ansible inventory (hosts.ini, hosts.yml, inventory.ini or
inventory.yml), groups.yaml (group: {hosts, pods}), and pods/*.yaml.

Examples:
  vzmaster validate
  vzmaster preflight root@node-a
  vzmaster preflight --script > trial.sh     # for a provider's trial machine
  vzmaster plan
  vzmaster deploy -y
  vzmaster ps
  vzmaster logs -f web
  vzmaster exec node-a web -- nginx -T
  vzmaster rollback web

Exit status: 0 done; 1 no (violations, differences); 2 wrong command line; 3 could not be
done; 4 done on some nodes only."
)]
pub struct Args {
    /// Directory with the inventory, groups.yaml and pods/
    #[arg(short = 'C', long = "directory", value_name = "DIR", default_value = ".", global = true)]
    pub directory: PathBuf,
    /// Inventory, if not the one in the directory
    #[arg(short, long, value_name = "INVENTORY", global = true)]
    pub inventory: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub ssh: SshArgs,
}

/// The verbs of `vzmaster`.
#[derive(Subcommand, Debug, PartialEq)]
pub enum Verb {
    /// Read all files and name everything that is wrong with them
    Validate,
    /// Find out whether nodes can run pods, how, and what to do where they cannot
    Preflight(Preflight),
    /// Say what a deployment would do, and change nothing
    Plan(Plan),
    /// Push bundles, start what is wished, and go back where that fails
    Deploy(Deploy),
    /// Say where nodes differ from what is wished; status 1 where they do
    Diff(Select),
    /// List the containers that are on the nodes
    Ps(Select),
    /// Print what a pod logged
    Logs(Logs),
    /// Run a command in a container
    Exec(Exec),
    /// Start a pod that was stopped
    Start(OnePod),
    /// Stop a pod until it is started again or the node boots
    Stop(OnePod),
    /// Kill a pod without grace and leave it stopped
    Kill(OnePod),
    /// Stop and start a pod
    Restart(OnePod),
    /// Run an earlier revision of a pod again
    Rollback(Rollback),
    /// List what was done to a pod
    History(OnePod),
    /// The end of a push that runs on the node
    #[command(hide = true)]
    Receive(Greeted),
    /// The end of a deployment that runs on the node
    #[command(hide = true)]
    Node(Greeted),
    /// What takes back a deployment that nobody ends, on the node
    #[command(hide = true)]
    Guard(Guard),
}

/// `guard`.
#[derive(ArgGroup, Clone, Debug, PartialEq)]
pub struct Guard {
    /// Which pod
    #[arg(long, value_name = "POD")]
    pub pod: String,
}

/// What the far end of a session is started with.
#[derive(ArgGroup, Clone, Debug, PartialEq)]
pub struct Greeted {
    /// What the sender says first
    #[arg(long, value_name = "MESSAGE")]
    pub hello: String,
}

/// Which hosts.
#[derive(ArgGroup, Clone, Debug, Default, PartialEq)]
pub struct Select {
    /// Only this host or group of the inventory; can be given several times
    #[arg(short, long, value_name = "HOST")]
    pub limit: Vec<String>,
}

/// `plan`.
#[derive(ArgGroup, Clone, Debug, Default, PartialEq)]
pub struct Plan {
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub select: Select,
    /// Remove pods that are on a node and that nothing wishes there
    #[arg(long)]
    pub prune: bool,
}

/// `deploy`.
#[derive(ArgGroup, Clone, Debug, Default, PartialEq)]
pub struct Deploy {
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub plan: Plan,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// How many nodes at a time, after the first one
    #[arg(short = 'P', long, value_name = "N", default_value_t = 5,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub parallel: usize,
}

/// A pod, on all hosts or some.
#[derive(ArgGroup, Clone, Debug, PartialEq)]
pub struct OnePod {
    /// The pod
    #[arg(value_name = "POD")]
    pub pod: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub select: Select,
}

/// `logs`.
#[derive(ArgGroup, Clone, Debug, PartialEq)]
pub struct Logs {
    /// The pod, or one of its containers as POD/CONTAINER
    #[arg(value_name = "POD")]
    pub pod: String,
    /// Go on as it logs more
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub lines: u32,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub select: Select,
}

/// `exec`.
#[derive(ArgGroup, Clone, Debug, PartialEq)]
pub struct Exec {
    /// The host
    #[arg(value_name = "HOST")]
    pub host: String,
    /// The pod, or one of its containers as POD/CONTAINER
    #[arg(value_name = "POD")]
    pub pod: String,
    /// The command
    #[arg(value_name = "CMD", required = true, last = true)]
    pub command: Vec<String>,
}

/// `rollback`.
#[derive(ArgGroup, Clone, Debug, PartialEq)]
pub struct Rollback {
    /// The pod
    #[arg(value_name = "POD")]
    pub pod: String,
    /// The beginning of a revision's digest [default: the previous one of each host]
    #[arg(value_name = "REV")]
    pub revision: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub select: Select,
}

/// `preflight`.
#[derive(ArgGroup, Debug, PartialEq)]
pub struct Preflight {
    /// Nodes: ssh alias, user@host[:port], or @group of the inventory
    #[arg(value_name = "HOST", required_unless_present_any = ["script", "facts"])]
    pub hosts: Vec<String>,
    /// Print the POSIX shell script that collects the facts, and ask no node
    #[arg(long, conflicts_with = "hosts")]
    pub script: bool,
    /// Judge the facts that the script printed on another machine; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["hosts", "script"])]
    pub facts: Option<PathBuf>,
    /// Print the facts, too
    #[arg(short, long)]
    pub verbose: bool,
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
    fn preflight_asks_hosts_or_prints_its_script_or_reads_facts() {
        let parse =
            |words: &[&str]| Args::try_parse_from([&["vzmaster", "preflight"], words].concat());
        assert!(parse(&["node-a"]).is_ok());
        assert!(parse(&["--script"]).is_ok());
        assert!(parse(&["--facts", "-"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--script", "node-a"]).is_err());
    }
}
