//! `vzmaster playbook DIR`: the deployment as an Ansible playbook.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use bundler::staging::Staging;
use delta::{Digest, Entry, FileInfo, Kind, Sink};
use serde_json::{Value, json};

use super::directory;
use super::gather::{Opened, PARALLEL, STORE, machine, open_bundles, wished};
use super::preflight::PATIENCE;
use crate::cli::master::{Args, Playbook};
use crate::command::push::ssh;
use crate::fleet::deployment::Host;
use crate::fleet::playbook::{BUNDLES, FIXED, MARK, REVISIONS, host_vars, inventory, secrets};
use crate::fleet::preflight::SCRIPT;
use crate::fleet::render::{Built, Machine};
use crate::fleet::revision::Revision;
use crate::push::bundle::Bundle;
use crate::push::fanout;
use crate::push::target::Node;
use crate::report::{self, Advice, Status, hint_of};
use crate::tree::{self, ArchiveSink};

/// A host that answered: what it is, what is wished there, and where its secrets are.
type Known = (Machine, BTreeMap<String, Revision>, Vec<Value>);

pub(super) fn run(args: &Args, playbook: &Playbook) -> anyhow::Result<ExitCode> {
    let fleet = directory::read_right(args, &playbook.select.limit)?;
    let bundles = open_bundles(&args.directory, &fleet.deployment)?;
    let built: BTreeMap<String, Built> =
        bundles.iter().map(|(dir, (_, built))| (dir.clone(), built.clone())).collect();
    let hosts: Vec<&Host> = fleet.deployment.hosts.values().collect();
    let dir = args.directory.canonicalize();
    let dir = dir.with_context(|| format!("cannot read `{}`", args.directory.display()))?;
    let (ssh, store) = (ssh(&args.ssh), args.ssh.store.as_deref().unwrap_or(STORE));
    let known = fanout::each(&hosts, PARALLEL, |host| {
        let (machine, _) = machine(host, &ssh.run(&host.node, SCRIPT, PATIENCE)?, store)?;
        let wished = wished(host, &built, &machine)?;
        let secrets = secrets(&host.pods, &fleet.secrets, &dir, &machine);
        Ok((machine, wished, secrets))
    });
    let mut reached: Vec<(&Node, Known)> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    for (host, known) in hosts.iter().zip(known) {
        let node = &host.node;
        match known {
            Ok(known) => {
                let pods: BTreeMap<&String, &String> =
                    known.1.iter().map(|(name, revision)| (name, &revision.id)).collect();
                values.push(json!({ "node": node.label, "pods": pods }));
                reached.push((node, known));
            }
            Err(error) => {
                let known: &anyhow::Error = &error;
                report::warn("vzmaster", format_args!("{node} was left out: {error:#}"));
                values.push(json!({ "node": node.label, "error": format!("{error:#}"), "hint": hint_of(known) }));
            }
        }
    }
    if reached.is_empty() {
        return Err(anyhow!("no host can be in the playbook"))
            .hint("the inventory has none, or none could be asked: `vzmaster preflight` says why");
    }
    let written = write(&playbook.target, args, &reached, &bundles)
        .with_context(|| format!("cannot write the playbook `{}`", playbook.target.display()))?;
    if args.ssh.json {
        report::json(&values)?;
    } else {
        let line = format!("ansible-playbook -i {0}/hosts.ini {0}/deploy.yaml", written.display());
        report::say("vzmaster", format!("{}; run {line}", report::count(reached.len(), "host")));
    }
    Ok(if reached.len() == hosts.len() { Status::Done } else { Status::Partly }.into())
}

/// Whether a directory is a playbook of ours, and may be replaced.
fn is_playbook(dir: &Path) -> bool {
    fs::read_to_string(dir.join("deploy.yaml")).is_ok_and(|text| text.starts_with(MARK))
}

fn write(
    target: &Path,
    args: &Args,
    hosts: &[(&Node, Known)],
    bundles: &Opened,
) -> anyhow::Result<PathBuf> {
    let staging = Staging::begin(target, is_playbook)
        .hint("only an earlier playbook, or an empty directory, is replaced")?;
    let dir = staging.dir();
    // Environments may have what is nobody else's business.
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    let nodes: Vec<(&Node, bool)> =
        hosts.iter().map(|(node, (_, _, secrets))| (*node, !secrets.is_empty())).collect();
    put(dir, "hosts.ini", &inventory(&nodes, &ssh_words(args)?)?)?;
    for (path, text) in FIXED {
        put(dir, path, text)?;
    }
    let mut needed = BTreeSet::new();
    for (node, (machine, wished, secrets)) in hosts {
        let vars = host_vars(machine, wished, secrets)?;
        put(dir, &format!("host_vars/{}.yaml", node.label), &vars)?;
        for (name, revision) in wished {
            for (path, text) in &revision.files {
                put(dir, &format!("{REVISIONS}/{name}/{}/{path}", revision.id), text)?;
            }
        }
    }
    for (bundle, built) in bundles.values() {
        if needed.insert((&built.name, &built.id)) {
            let path = dir.join(BUNDLES).join(format!("{}-{}.tar", built.name, built.id));
            pack(bundle, &path).with_context(|| format!("cannot pack `{}`", built.name))?;
        }
    }
    Ok(staging.commit()?)
}

fn put(dir: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let path = dir.join(path);
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path.parent().unwrap_or(dir));
    made.and_then(|()| fs::write(&path, text))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// Writes a revision of the store as a tar: the bundle, and its listing.
fn pack(bundle: &Bundle, path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path.parent().context("it has no folder")?)?;
    let mut sink = ArchiveSink::create(path)?;
    tree::add(&bundle.manifest, bundle, &mut sink)?;
    let listing = bundle.manifest.to_bytes();
    let info = FileInfo { size: listing.len() as u64, mtime: 0, digest: Digest::of(&listing) };
    let entry = Entry {
        path: b"manifest".to_vec(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        kind: Kind::File(info),
        xattrs: Vec::new(),
    };
    sink.begin(&entry)?;
    sink.write(&listing)?;
    sink.end(&entry)?;
    Ok(sink.commit()?)
}

/// What ssh is told beside what an inventory has words for.
fn ssh_words(args: &Args) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    if let Some(config) = &args.ssh.config {
        let path = config.canonicalize();
        let path = path.with_context(|| format!("cannot read `{}`", config.display()))?;
        words.extend(["-F".to_owned(), path.display().to_string()]);
    }
    words.extend(args.ssh.options.iter().flat_map(|option| ["-o".to_owned(), option.clone()]));
    Ok(words)
}
