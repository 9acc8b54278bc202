//! The fleet's directory: inventory, `groups.yaml`, `pods/*.yaml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, anyhow};

use super::rollback::utc;
use crate::cli::master::Args;
use crate::command::push::targets;
use crate::fleet::deployment::{self, Deployment, Finding, Host, Source};
use crate::fleet::fields::{Violation, or_near};
use crate::fleet::groups;
use crate::fleet::pod::{self, Volume};
use crate::fleet::secret::{self, Sources};
use crate::push::inventory::{Inventory, InventoryError};
use crate::push::target::Node;
use crate::report::{self, Advice, Status};

/// Where an inventory is looked for.
const INVENTORIES: [&str; 6] =
    ["hosts.ini", "hosts.yml", "hosts.yaml", "inventory.ini", "inventory.yml", "inventory.yaml"];
/// The file of the groups.
const GROUPS: &str = "groups.yaml";
/// The file of the hosts that are no more: a host a line, and who says so.
pub(super) const RETIRED: &str = "retired";
/// The folder of the pods.
const PODS: &str = "pods";

/// What the files say, and what is wrong with them.
#[derive(Debug)]
pub(super) struct Fleet {
    /// What is to run where, as far as the files could be read.
    pub(super) deployment: Deployment,
    /// Hosts that are retired, with what was to run there.
    pub(super) retired: BTreeMap<String, Host>,
    /// Where secrets are.
    pub(super) secrets: Sources,
    /// In which lines.
    pub(super) secret_lines: BTreeMap<(String, String), usize>,
    /// The inventory.
    pub(super) inventory: Inventory,
    /// All pods, those that run nowhere included.
    pub(super) sources: Vec<Source>,
    /// Everything that is wrong, by file and line.
    pub(super) findings: Vec<Finding>,
}

/// Reads all files.
///
/// # Errors
/// When there is no such directory, or no inventory, or two; what is wrong inside of
/// the files is a finding.
pub(super) fn read(args: &Args) -> anyhow::Result<Fleet> {
    let dir = &args.directory;
    let found = inventory(args)?;
    let shown = |path: &Path| path.strip_prefix(dir).unwrap_or(path).display().to_string();
    let mut findings = Vec::new();
    let name = shown(&found);
    let inventory = match targets::load(&found) {
        Ok(inventory) => inventory,
        Err(error) => {
            findings.push(unread(&name, &error));
            Inventory::default()
        }
    };
    let mut sources = Vec::new();
    for path in pod_files(&dir.join(PODS))? {
        let name = shown(&path);
        let Some(text) = text(&path, &name, &mut findings) else { continue };
        let (pods, violations) = pod::read(&text);
        findings
            .extend(violations.into_iter().map(|v| Finding { file: name.clone(), violation: v }));
        sources.extend(pods.into_iter().map(|pod| Source { file: name.clone(), pod }));
    }
    let groups = match text(&dir.join(GROUPS), GROUPS, &mut findings) {
        Some(text) => {
            let (groups, violations) = groups::read(&text);
            let file = GROUPS.to_owned();
            findings.extend(
                violations.into_iter().map(|v| Finding { file: file.clone(), violation: v }),
            );
            groups
        }
        None => Vec::new(),
    };
    let secrets = match dir.join(secret::FILE).exists() {
        true => text(&dir.join(secret::FILE), secret::FILE, &mut findings),
        false => None,
    };
    let secret_lines = secrets.as_deref().map(secret::lines).unwrap_or_default();
    let (secrets, violations) = secret::read(secrets.as_deref().unwrap_or("{}"));
    let file = secret::FILE.to_owned();
    findings.extend(violations.into_iter().map(|v| Finding { file: file.clone(), violation: v }));
    for Source { file, pod } in &sources {
        for volume in pod.volumes.values() {
            let Volume::Secret { name, place } = volume else { continue };
            if !secrets.contains_key(name) {
                let what = format!("{} has no secret `{name}`", secret::FILE);
                let violation = Violation { line: place.line, path: place.path.clone(), what };
                findings.push(Finding { file: file.clone(), violation });
            }
        }
    }
    let broken = !findings.is_empty();
    let (mut deployment, more) =
        deployment::resolve((&name, &inventory), (GROUPS, &groups), &sources);
    // A pod that could not be read is not one that is missing.
    findings.extend(more.into_iter().filter(|finding| !broken || !follows(finding)));
    findings.sort();
    let retired = retired(dir)?;
    let retired = deployment.retire(&retired);
    Ok(Fleet { retired, secrets, secret_lines, deployment, inventory, sources, findings })
}

/// Whether a finding may only follow from another file that could not be read.
fn follows(finding: &Finding) -> bool {
    let what = &finding.violation.what;
    what.starts_with("there is no pod") || what.starts_with("the inventory has no")
}

/// Reads all files, of which nothing may be wrong, and keeps the hosts that `limit`
/// names, or all.
///
/// # Errors
/// As [`read`]; where anything is wrong with the files, or `limit` names no host.
pub(super) fn read_right(args: &Args, limit: &[String]) -> anyhow::Result<Fleet> {
    let fleet = read(args)?;
    if let Some(first) = fleet.findings.first() {
        return Err(anyhow!("{first}"))
            .context("something is wrong with the files")
            .hint("`vzmaster validate` names everything that is wrong")
            .status(Status::No as u8);
    }
    limited(fleet, limit)
}

/// Reads all files for who only looks at nodes, or stops what runs there: what is wrong
/// with the pods is warned of.
///
/// # Errors
/// As [`read`]; where `limit` names no host.
pub(super) fn read_hosts(args: &Args, limit: &[String]) -> anyhow::Result<Fleet> {
    let fleet = read(args)?;
    if let Some(first) = fleet.findings.first() {
        report::warn("vzmaster", format_args!("something is wrong with the files: {first}"));
    }
    limited(fleet, limit)
}

fn limited(mut fleet: Fleet, limit: &[String]) -> anyhow::Result<Fleet> {
    let mut kept = BTreeSet::new();
    for name in limit {
        let nodes = named(&fleet.inventory, name)?;
        kept.extend(nodes.into_iter().map(|node| node.label));
        fleet.warn_of_nothing(name);
    }
    if let Some(name) = kept.iter().find(|name| fleet.retired.contains_key(*name))
        && limit.contains(name)
    {
        return Err(anyhow!("`{name}` is retired"))
            .hint(format!("take its line out of `{RETIRED}` to have it back"))
            .status(Status::Usage as u8);
    }
    if !limit.is_empty() {
        fleet.deployment.hosts.retain(|name, _| kept.contains(name));
    }
    Ok(fleet)
}

impl Fleet {
    /// Warns where a host is to run nothing, which whoever names it may not know.
    fn warn_of_nothing(&self, host: &str) {
        let idle = self.deployment.hosts.get(host).is_some_and(|host| host.pods.is_empty());
        // What could not be read may be its pods.
        if idle && self.findings.is_empty() {
            let what = format_args!("no group of {GROUPS} gives the host `{host}` a pod");
            report::warn("vzmaster", what);
        }
    }
}

/// The nodes of a host or group of the inventory.
///
/// # Errors
/// When it has neither, with the name that may be meant.
fn named(inventory: &Inventory, name: &str) -> anyhow::Result<Vec<Node>> {
    match inventory.nodes(name) {
        Err(InventoryError::Unknown(name)) => {
            let (near, name) = (or_near(&name, inventory.names()), name.escape_debug());
            Err(anyhow!("no host or group of the inventory is called `{name}`{near}"))
                .hint("`vzmaster validate --json` lists the hosts")
        }
        other => Ok(other?),
    }
    .status(Status::Usage as u8)
}

/// The one host that is called so; `user@host[:port]` need not be in the inventory, nor need
/// there be one.
///
/// # Errors
/// When it is none of the inventory's, or several.
pub(super) fn host(args: &Args, text: &str) -> anyhow::Result<Node> {
    let found = match text.contains('@') || inventory(args).is_err() {
        true => nodes(args, &[text.to_owned()])?,
        false => {
            let fleet = read_hosts(args, &[])?;
            fleet.warn_of_nothing(text);
            named(&fleet.inventory, text)?
        }
    };
    match <[Node; 1]>::try_from(found) {
        Ok([node]) => Ok(node),
        Err(_) => Err(anyhow!("`{text}` is several hosts")).status(Status::Usage as u8),
    }
}

fn inventory(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(path) = &args.inventory {
        return Ok(path.clone());
    }
    let dir = &args.directory;
    let there: Vec<PathBuf> =
        INVENTORIES.iter().map(|name| dir.join(name)).filter(|path| path.exists()).collect();
    match there.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(anyhow!("`{}` has no inventory", dir.display())),
        [first, second, ..] => {
            Err(anyhow!("both `{}` and `{}` are there", first.display(), second.display()))
        }
    }
    .hint(format!(
        "say which with -i, or where the files are with -C; known are {}",
        INVENTORIES.join(", ")
    ))
    .status(Status::Usage as u8)
}

/// The nodes that `texts` name: a host of the inventory, `@group`, or what ssh
/// understands. Without an inventory, only the latter.
///
/// # Errors
/// What names no node.
pub(super) fn nodes(args: &Args, texts: &[String]) -> anyhow::Result<Vec<Node>> {
    let path = inventory(args).ok();
    let known = path.as_deref().map(targets::load).transpose()?.unwrap_or_default();
    let as_target = |text: &String| match known.nodes(text).is_ok() && text != "all" {
        true => format!("@{text}"),
        false => text.clone(),
    };
    let texts: Vec<String> = texts.iter().map(as_target).collect();
    targets::resolve(&texts, path.as_deref())
}

/// The YAML files of a folder, sorted; none where there is no folder.
fn pod_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list `{}`", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(cannot)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(cannot)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|x| x == "yaml" || x == "yml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// What the files of pods hold, in the order of their names.
///
/// # Errors
/// When one cannot be read.
pub(super) fn pod_texts(args: &Args) -> anyhow::Result<Vec<String>> {
    let read = |path: PathBuf| {
        fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))
    };
    pod_files(&args.directory.join(PODS))?.into_iter().map(read).collect()
}

/// The names of hosts that are retired; what follows them on a line is for readers.
fn retired(dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let path = dir.join(RETIRED);
    let text = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other.with_context(|| format!("cannot read `{}`", path.display()))?,
    };
    let name = |line: &str| line.split_whitespace().next().map(str::to_owned);
    Ok(text.lines().filter_map(name).filter(|name| !name.starts_with('#')).collect())
}

/// Adds a host to those that are retired, with the day and who says so.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn note_retired(args: &Args, host: &str, by: &str) -> anyhow::Result<()> {
    let path = args.directory.join(RETIRED);
    let cannot = || format!("cannot write `{}`", path.display());
    let mut file =
        fs::File::options().append(true).create(true).open(&path).with_context(cannot)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let (date, _) = utc(now.map_or(0, |now| now.as_secs()));
    writeln!(file, "{host}  # {date}, by {by}").with_context(cannot)
}

fn text(path: &Path, name: &str, findings: &mut Vec<Finding>) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            findings.push(unread(name, &error.into()));
            None
        }
    }
}

fn unread(name: &str, error: &anyhow::Error) -> Finding {
    let line = error.chain().find_map(|cause| {
        let text = cause.to_string();
        let number = text.strip_prefix("line ")?.split(':').next()?.parse().ok()?;
        Some((number, text))
    });
    let (line, what) = match line {
        Some((line, text)) => {
            (line, text.split_once(": ").map_or(text.clone(), |(_, rest)| rest.to_owned()))
        }
        None => (1, format!("{error:#}")),
    };
    Finding { file: name.to_owned(), violation: Violation { line, path: String::new(), what } }
}
