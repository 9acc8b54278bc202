//! What the bundle holds: the closure, what is made anew for it, and the
//! places that mounts need.

use std::collections::BTreeSet;

use anyhow::Context;
use bundler::accounts::{self, Met};
use bundler::layer::Node;
use bundler::resolve::Resolver;
use bundler::{Container, Layer, Planner, RootPath, Rootfs, ld_cache};
use oci_spec::runtime::Spec;

use crate::command::source::Gathered;
use crate::evidence::Inventory;
use crate::report;

use super::program::read;

/// Password hashes; they must not leave the machine.
pub(in crate::command) const SECRET: [&[u8]; 4] =
    [b"/etc/gshadow", b"/etc/gshadow-", b"/etc/shadow", b"/etc/shadow-"];
/// Why they do not.
pub(in crate::command) const SECRECY: &str = "password hashes stay where they are";
/// Endings of files that tell a server whom to become.
const CONFIGURATION: [&[u8]; 6] = [b".cfg", b".cnf", b".conf", b".ini", b".toml", b".yaml"];
/// Larger files are data.
const CONFIGURATION_MAX: u64 = 64 << 10;

/// A layer, and what of it is there for scanners alone.
pub(in crate::command) struct Plan {
    pub(in crate::command) layer: Layer,
    pub(super) for_scanners: BTreeSet<RootPath>,
}

/// Plans the layer that goes with `spec`; with an inventory it has what scanners
/// need.
///
/// # Errors
/// What cannot be looked at, or is not where a directory must be.
pub(super) fn plan(
    gathered: &Gathered,
    spec: &Spec,
    container: &Container,
    latest: Option<i64>,
    inventory: Option<&Inventory>,
) -> anyhow::Result<Plan> {
    let rootfs = &gathered.rootfs;
    let mut planner = plan_closure(gathered, latest)?;
    if let Some(cache) = ld_cache::for_closure(rootfs, &gathered.closure) {
        planner.make_file(&RootPath::new(ld_cache::PATH.as_bytes())?, cache)?;
    }
    let resolver = Resolver::new(rootfs);
    if let Some(cwd) = spec.process().as_ref().map(oci_spec::runtime::Process::cwd) {
        ensure_directory(&mut planner, &resolver, cwd.as_os_str().as_encoded_bytes())
            .context("cannot make the working directory")?;
    }
    for mount in spec.mounts().iter().flatten() {
        let place = mount.destination().as_os_str().as_encoded_bytes();
        // What lies below another mount is made in it when it starts.
        let inside =
            |dir: &[u8]| place.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"));
        let mut places = spec.mounts().iter().flatten().map(|m| m.destination().as_os_str());
        if places.any(|dir| inside(dir.as_encoded_bytes())) {
            continue;
        }
        let is_file = mount.source().as_ref().is_some_and(|source| source.is_file());
        if is_file {
            ensure_file(&mut planner, &resolver, place)
        } else {
            ensure_directory(&mut planner, &resolver, place)
        }
        .with_context(|| format!("cannot make a place to mount {}", place.escape_ascii()))?;
    }
    add_accounts(&mut planner, rootfs, container)?;
    let for_scanners = match inventory {
        Some(inventory) => add_scanner_files(&mut planner, &resolver, gathered, inventory)?,
        None => BTreeSet::new(),
    };
    let layer = planner.finish()?;
    for left in &layer.left_out {
        report::warn("vzbuild", format_args!("{} is left out: {}", left.path, left.why));
    }
    Ok(Plan { layer, for_scanners })
}

/// Adds what scanners need and the layer does not have, and returns it.
fn add_scanner_files(
    planner: &mut Planner<'_>,
    resolver: &Resolver<'_>,
    gathered: &Gathered,
    inventory: &Inventory,
) -> anyhow::Result<BTreeSet<RootPath>> {
    let files = |planner: &Planner<'_>| -> BTreeSet<RootPath> {
        let files = planner.entries().filter(|entry| entry.node != Node::Directory);
        files.map(|entry| entry.path.clone()).collect()
    };
    let before = files(planner);
    for file in inventory.scanner_files(gathered, &before) {
        let place = place(resolver, &file.path)?;
        add_links(planner, resolver, &file.path)?;
        match file.content {
            // What the program itself reads there stays as it is.
            _ if planner.get(&place).is_some() => {}
            Some(content) => planner.make_file(&place, content)?,
            None => planner.add(&place)?,
        }
    }
    Ok(files(planner).difference(&before).cloned().collect())
}

/// Plans a layer of the closure alone, in which nothing depends on what runs there.
///
/// # Errors
/// What cannot be looked at.
pub(in crate::command) fn closure(
    gathered: &Gathered,
    latest: Option<i64>,
) -> anyhow::Result<Layer> {
    Ok(plan_closure(gathered, latest)?.finish()?)
}

fn plan_closure(gathered: &Gathered, latest: Option<i64>) -> anyhow::Result<Planner<'_>> {
    let mut planner = Planner::new(&gathered.rootfs, latest);
    for path in gathered.closure.entries.keys() {
        if SECRET.contains(&path.as_bytes()) {
            planner.leave_out(path.clone(), SECRECY);
        } else {
            planner.add(path)?;
        }
    }
    Ok(planner)
}

/// A mount of the user's may go through links of the root.
fn place(resolver: &Resolver<'_>, path: &[u8]) -> anyhow::Result<RootPath> {
    let path = RootPath::new(path)?;
    let mut rest: Vec<Vec<u8>> = Vec::new();
    let mut above = path.clone();
    loop {
        if let Ok(found) = resolver.resolve(above.as_bytes()) {
            let mut place = found.path;
            for name in rest.iter().rev() {
                place = place.join(name)?;
            }
            return Ok(place);
        }
        rest.push(above.file_name().to_vec());
        // What the runtime mounts is not looked up: its place is its name.
        let Some(parent) = above.parent() else { return Ok(path) };
        above = parent;
    }
}

fn ensure_directory(
    planner: &mut Planner<'_>,
    resolver: &Resolver<'_>,
    path: &[u8],
) -> anyhow::Result<()> {
    let place = place(resolver, path)?;
    add_links(planner, resolver, path)?;
    Ok(planner.ensure_directory(&place)?)
}

fn ensure_file(
    planner: &mut Planner<'_>,
    resolver: &Resolver<'_>,
    path: &[u8],
) -> anyhow::Result<()> {
    let place = place(resolver, path)?;
    add_links(planner, resolver, path)?;
    if planner.get(&place).is_none() {
        planner.make_file(&place, Vec::new())?;
    }
    Ok(())
}

/// The links on the way to a place are part of the way.
fn add_links(
    planner: &mut Planner<'_>,
    resolver: &Resolver<'_>,
    path: &[u8],
) -> anyhow::Result<()> {
    let links = match resolver.resolve(path) {
        Ok(found) => found.links,
        Err(found) => found.links,
    };
    for link in links {
        planner.add(&link)?;
    }
    Ok(())
}

/// Cuts /etc/passwd and /etc/group down to who is met here.
fn add_accounts(
    planner: &mut Planner<'_>,
    rootfs: &Rootfs,
    container: &Container,
) -> anyhow::Result<()> {
    let [passwd, group] = ["/etc/passwd", "/etc/group"].map(|path| read(rootfs, path));
    if passwd.is_empty() {
        return Ok(());
    }
    let mut met = Met::default();
    met.uids.insert(container.uid);
    met.gids.insert(container.gid);
    met.gids.extend(&container.groups);
    for word in &container.args {
        met.read(word.as_bytes());
    }
    let etc = RootPath::new(b"/etc")?;
    for entry in planner.entries() {
        met.uids.insert(entry.uid);
        met.gids.insert(entry.gid);
        let is_configuration = entry.path.starts_with(&etc)
            || CONFIGURATION.iter().any(|end| entry.path.as_bytes().ends_with(end));
        let is_small = matches!(entry.node, Node::File(size) if size <= CONFIGURATION_MAX);
        let is_account =
            [b"/etc/passwd".as_slice(), b"/etc/group"].contains(&entry.path.as_bytes());
        if is_configuration && is_small && !is_account {
            met.read(&rootfs.read(&entry.path).unwrap_or_default());
        }
    }
    let (passwd, group) = accounts::cut(&passwd, &group, &met);
    planner.make_file(&RootPath::new(b"/etc/passwd")?, passwd)?;
    planner.make_file(&RootPath::new(b"/etc/group")?, group)?;
    Ok(())
}
