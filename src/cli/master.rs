//! The command line of `vzmaster`.

use std::path::PathBuf;

use clap::{Args as ArgGroup, Parser, Subcommand};

use super::push::SshArgs;
use crate::fleet::newnode::Runtime;
use crate::fleet::newnode::provider;
use crate::fleet::newnode::user_data::Form;

/// Run pods on nodes, from a directory of files, over ssh
#[derive(Parser, Debug, PartialEq)]
#[command(
    name = "vzmaster",
    version,
    arg_required_else_help = true,
    after_help = "The directory has an Ansible inventory (hosts.ini, hosts.yml, inventory.ini or
inventory.yml), groups.yaml (group: {hosts, pods}), and pods/*.yaml: vz-fleet(5).

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
done; 4 done on some nodes only; 130 interrupted."
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
    /// Make a node of a bare machine that has nothing but root's ssh
    Newnode(Newnode),
    /// Say what a deployment would do and what stands in its way; status 1 where something does
    Plan(Plan),
    /// Push the bundles of all pods ahead of a deployment, and start nothing
    Push(Push),
    /// Push bundles, start what is wished, and go back where that fails
    Deploy(Deploy),
    /// Say where nodes differ from what is wished; status 1 where they do
    Diff(Diff),
    /// Write an Ansible playbook that does the same deployment
    Playbook(Playbook),
    /// Print the pods as plain manifests for another system
    Export(Export),
    /// Leave a host out from now on, without asking it anything
    Retire(Retire),
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
    /// Stop and start a pod, one host after another for as long as it does its work
    Restart(OnePod),
    /// Run an earlier revision of a pod again
    Rollback(Rollback),
    /// List what was done to a pod, when and by whom
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
    /// Hash the bundles of the pods again: nodes read all of their files
    #[arg(long)]
    pub verify: bool,
}

/// `diff`.
#[derive(ArgGroup, Clone, Debug, Default, PartialEq)]
pub struct Diff {
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub select: Select,
    /// Hash the bundles of the pods again: nodes read all of their files
    #[arg(long)]
    pub verify: bool,
}

impl From<&Diff> for Plan {
    fn from(diff: &Diff) -> Self {
        Plan { select: diff.select.clone(), prune: false, verify: diff.verify }
    }
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
    /// Keep secrets on nodes encrypted by systemd-creds, so that pods come back after a
    /// reboot, or no longer [default: as before]
    #[arg(long, value_name = "yes|no", num_args = 0..=1, require_equals = true,
          default_missing_value = "yes", value_parser = yes_or_no)]
    pub encrypt_at_rest: Option<bool>,
    /// How many nodes at a time, after the first one
    #[arg(short = 'P', long, value_name = "N", default_value_t = 5,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub parallel: usize,
}

/// `push`.
#[derive(ArgGroup, Clone, Debug, PartialEq)]
pub struct Push {
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub select: Select,
    /// How many nodes at a time
    #[arg(short = 'P', long, value_name = "N", default_value_t = 5,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub parallel: usize,
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("it is yes or no".to_owned()),
    }
}

/// `newnode`.
#[derive(ArgGroup, Clone, Debug, PartialEq)]
#[command(after_help = "\
Debian 12 and 13; EL 8 and 9 and Fedora CoreOS by their manuals, untried. The node gets keys,
a deploy user with sudo, daily security updates, swap where it has less than 1 GB, its host
name, a runtime, a firewall, and an sshd that takes keys only. Run again, it changes nothing.

Where root has a password only, ssh asks for it on the terminal, or takes it from
--password-file; the keys are put in place, tried, and then passwords are off. The node
takes sshd's settings and the firewall back by itself where it cannot be logged in to
afterwards.

Examples:
  vzmaster newnode root@203.0.113.7
  vzmaster newnode --password-file mail.txt --host-key SHA256:... node-a
  vzmaster newnode --user-data cloud-init --provider akamai --name node-b")]
pub struct Newnode {
    /// The machine: a host of the inventory, or root@ADDRESS[:PORT]
    #[arg(
        value_name = "TARGET",
        required_unless_present = "user_data",
        conflicts_with = "user_data"
    )]
    pub target: Option<String>,
    /// Host name [default: the inventory's name of this address; else it stays]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Deploy user [default: this user's name; none where that is root]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// File of public keys; can be given several times [default: ~/.ssh/id_*.pub]
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// File whose first line is root's password
    #[arg(long, value_name = "FILE", conflicts_with = "user_data")]
    pub password_file: Option<PathBuf>,
    /// Fingerprint that the machine's host key must have, as SHA256:...
    #[arg(long, value_name = "FINGERPRINT", conflicts_with = "user_data")]
    pub host_key: Option<String>,
    /// What runs containers
    #[arg(long, value_name = "RUNTIME", value_enum, default_value_t)]
    pub runtime: Runtime,
    /// Leave the machine's firewall as it is
    #[arg(long)]
    pub no_firewall: bool,
    /// Port that is open beside ssh's, as 80 or 53/udp; can be given several times
    #[arg(long, value_name = "PORT[/udp]")]
    pub open: Vec<String>,
    /// Print first-boot data that does the same, and log in nowhere
    #[arg(long, value_name = "FORM", value_enum)]
    pub user_data: Option<Form>,
    /// Keep to what this provider takes
    #[arg(long, value_name = "PROVIDER", requires = "user_data",
          value_parser = clap::builder::PossibleValuesParser::new(
              provider::FILES.map(|(name, _)| name)))]
    pub provider: Option<String>,
}

/// `export`.
#[derive(ArgGroup, Clone, Debug, PartialEq)]
pub struct Export {
    /// The system
    #[arg(value_name = "SYSTEM", value_enum)]
    pub system: System,
    /// Where the images of the bundles are to be pulled from
    #[arg(long, value_name = "REGISTRY", default_value = "localhost")]
    pub registry: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub select: Select,
}

/// What pods are exported to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// Kubernetes
    K8s,
}

/// `retire`.
#[derive(ArgGroup, Clone, Debug, PartialEq)]
pub struct Retire {
    /// A host of the inventory
    #[arg(value_name = "NODE")]
    pub host: String,
}

/// `playbook`.
#[derive(ArgGroup, Clone, Debug, PartialEq)]
#[command(after_help = "\
The nodes are asked what they are, and nothing is put onto them. Ansible needs python3 there.
What the playbook leaves on a node is what `vzmaster deploy` leaves there. It names where
secrets are found, as secrets.yaml does, and has none itself; what commands print has to be text.

Examples:
  vzmaster playbook site-playbook
  ansible-playbook -i site-playbook/hosts.ini site-playbook/deploy.yaml
  ansible-playbook ... -e vz_prune=true              # as deploy --prune
  ansible-playbook ... -e vz_encrypt_at_rest=true    # as deploy --encrypt-at-rest")]
pub struct Playbook {
    /// Directory to write; an earlier playbook there is replaced
    #[arg(value_name = "DIR")]
    pub target: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub select: Select,
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
    /// A host of the inventory, or user@host[:port]
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
    /// Nodes: ssh alias, user@host[:port], or @group of the inventory [default: all of it]
    #[arg(value_name = "HOST")]
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
        assert!(parse(&[]).is_ok());
        assert!(parse(&["--script", "node-a"]).is_err());
    }
}
