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
