//! Which directories of the container can be written to, and what comes from
//! the host.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use anyhow::Context;
use bundler::layer::{Entry, Node};
use bundler::resolve::Resolver;
use bundler::writable::{self, ROOM, Tmpfs};
use bundler::{Bind, Container, Layer, RootPath};
use oci_spec::runtime::Spec;
use tracer::record::BytePath;

use crate::cli::build::Bundle;
use crate::cli::quantity;
use crate::command::source::Gathered;
use crate::command::strace::foreign::OF_THE_MACHINE;
use crate::report::{self, Advice, Status};

use super::program::text;

/// What the runtime mounts at its own places.
const RUNTIMES: [&[u8]; 3] = [b"/dev", b"/proc", b"/sys"];
/// What every runtime puts into /dev (config-linux.md, "Default Devices").
const DEVICES: [&str; 15] = [
    "console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
    "stdout", "tty", "urandom", "zero",
];
/// Directories in memory of a bundle whose spec no run was traced for.
const UNTRACED: [&str; 2] = ["/run", "/tmp"];

/// Decides the mounts of `container`; their sizes are known only when the layer
/// is: see [`fit`]. Returns the directories whose content ends with the program, and
/// whether the run wrote into the root directory itself, which none of them is.
///
/// # Errors
/// A volume or tmpfs that is not of its form.
pub(super) fn decide(
    args: &Bundle,
    gathered: &Gathered,
    container: &mut Container,
) -> anyhow::Result<(Vec<RootPath>, bool)> {
    let resolver = Resolver::new(&gathered.rootfs);
    container.binds = args.volume.iter().map(|v| volume(v)).collect::<anyhow::Result<_>>()?;
    let asked: Vec<(RootPath, u64)> =
        args.tmpfs.iter().map(|t| tmpfs(t)).collect::<anyhow::Result<_>>()?;
    let mut wrote_root = false;
    if !args.writable {
        let mut directories;
        (directories, wrote_root) = written(gathered, &resolver);
        directories.retain(|dir| !asked.iter().any(|(path, _)| dir.starts_with(path)));
        let on_host = |dir: &RootPath| {
            container.binds.iter().any(|bind| {
                RootPath::new(bind.destination.as_bytes()).is_ok_and(|path| dir.starts_with(&path))
            })
        };
        directories.retain(|dir| !on_host(dir));
        container.tmpfs = directories.iter().map(|dir| Tmpfs::over(dir, [], ROOM)).collect();
    }
    container.tmpfs.extend(asked.iter().map(|(path, size)| Tmpfs::over(path, [], *size)));
    container.tmpfs.sort_by(|a, b| a.path.cmp(&b.path));

    let runtime = |dir: &str| {
        let dir = RootPath::new(dir.as_bytes());
        dir.is_ok_and(|dir| gathered.closure.runtime.keys().any(|path| path.starts_with(&dir)))
    };
    let untraced = gathered.inputs.iter().any(|input| input.record.is_none());
    container.sysfs = untraced || runtime("/sys") || pseudo(gathered, b"/sys");
    container.mqueue = runtime("/dev/mqueue") || pseudo(gathered, b"/dev/mqueue");
    of_the_machine(gathered, container);
    warn_of_devices(gathered);
    Ok((container.tmpfs.iter().map(|tmpfs| tmpfs.path.clone()).collect(), wrote_root))
}

/// Gives each directory in memory the owner, mode and size that `layer` asks
/// for, and writes them into `spec`.
pub(super) fn fit(container: &mut Container, spec: &mut Spec, layer: &Layer) {
    for tmpfs in &mut container.tmpfs {
        *tmpfs = Tmpfs::over(&tmpfs.path, &layer.entries, tmpfs.size);
        if let Some(bytes) = tmpfs.copies.filter(|&bytes| bytes > ROOM) {
            report::warn(
                "vzbuild",
                format_args!(
                    "{} is copied into memory at each start, {} MB: --volume or --writable avoids it",
                    tmpfs.path,
                    bytes >> 20
                ),
            );
        }
    }
    warn_of_special_modes(container, layer);
    let ours = container.spec();
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in ours.mounts().iter().flatten() {
        match mounts.iter_mut().find(|old| old.destination() == mount.destination()) {
            // A config.json of the user's keeps its own; ours is renewed.
            Some(old) if old.typ() == mount.typ() && old.source() == mount.source() => {
                *old = mount.clone();
            }
            Some(_) => {}
            None => mounts.push(mount.clone()),
        }
    }
    spec.set_mounts(Some(mounts));
}

/// The copy that runc (1.1) makes of a bundle's files into memory has no setuid,
/// setgid and sticky bits; crun and the embedded runner keep them.
fn warn_of_special_modes(container: &Container, layer: &Layer) {
    let copied = |path: &RootPath| {
        let mut tmpfs = container.tmpfs.iter().filter(|tmpfs| tmpfs.copies.is_some());
        tmpfs.any(|tmpfs| path.starts_with(&tmpfs.path) && *path != tmpfs.path)
    };
    let is_special = |entry: &&Entry| {
        entry.mode & 0o7000 != 0 && !matches!(entry.node, Node::Symlink(_)) && copied(&entry.path)
    };
    let special: Vec<String> =
        layer.entries.iter().filter(is_special).map(|entry| entry.path.to_string()).collect();
    if !special.is_empty() {
        report::warn(
            "vzbuild",
            format_args!(
                "under runc these lose their setuid, setgid or sticky bits when they are copied into \
                 memory: {} (--volume or --writable avoids it)",
                special.join(", ")
            ),
        );
    }
}

/// The directories that the traced runs wrote in, by their places, and whether the
/// root is one that cannot be among them.
fn written(gathered: &Gathered, resolver: &Resolver<'_>) -> (BTreeSet<RootPath>, bool) {
    let records: Vec<_> = gathered.inputs.iter().filter_map(|i| i.record.as_ref()).collect();
    let place = |path: &BytePath| {
        let path = RootPath::new(&path.0).ok()?;
        let parent = resolver.resolve(path.parent()?.as_bytes());
        // A directory that the run made may be gone again.
        parent.map_or(Some(path.clone()), |found| found.path.join(path.file_name()).ok())
    };
    let created: BTreeSet<RootPath> =
        records.iter().flat_map(|record| record.created.iter().filter_map(place)).collect();
    let changed: BTreeSet<RootPath> = records
        .iter()
        .flat_map(|record| record.changed.iter().chain(&record.deleted).filter_map(place))
        .collect();
    let is_runtimes = |dir: &RootPath| {
        RUNTIMES.iter().any(|own| RootPath::new(own).is_ok_and(|own| dir.starts_with(&own)))
    };
    let written = writable::written(created.iter().chain(&changed), &created, is_runtimes);
    let mut directories = written.directories;
    if records.is_empty() {
        let places = UNTRACED.iter().filter_map(|dir| RootPath::new(dir.as_bytes()).ok());
        directories.extend(places);
    }
    (directories, written.root)
}

fn pseudo(gathered: &Gathered, place: &[u8]) -> bool {
    let Ok(place) = RootPath::new(place) else { return false };
    let records = gathered.inputs.iter().filter_map(|input| input.record.as_ref());
    records
        .flat_map(|record| &record.pseudo)
        .any(|path| RootPath::new(&path.0).is_ok_and(|path| path.starts_with(&place)))
}

/// Name servers are the machine's, not the bundle's; so is whatever else the
/// run had from its machine.
fn of_the_machine(gathered: &Gathered, container: &mut Container) {
    const NAME_SERVERS: &str = "/etc/resolv.conf";
    for path in OF_THE_MACHINE {
        let is_shipped = path == NAME_SERVERS
            && RootPath::new(path.as_bytes())
                .is_ok_and(|path| gathered.closure.entries.contains_key(&path));
        let is_used = is_shipped || pseudo(gathered, path.as_bytes());
        let is_free = !container.binds.iter().any(|bind| bind.destination == path);
        if is_used && is_free && !container.own_network {
            let path = path.to_owned();
            container.binds.push(Bind { source: path.clone(), destination: path, readonly: true });
        }
    }
}

fn warn_of_devices(gathered: &Gathered) {
    let of_records = gathered
        .inputs
        .iter()
        .filter_map(|input| input.record.as_ref())
        .flat_map(|record| &record.pseudo)
        .map(|path| path.0.as_slice());
    let used = gathered.closure.runtime.keys().map(RootPath::as_bytes).chain(of_records);
    let names = used.filter_map(|path| path.strip_prefix(b"/dev/"));
    let first = names.filter_map(|name| name.split(|&b| b == b'/').next());
    let unknown: BTreeSet<String> = first
        .filter(|name| !name.is_empty() && !DEVICES.iter().any(|known| known.as_bytes() == *name))
        .map(|name| format!("/dev/{}", name.escape_ascii()))
        .collect();
    if !unknown.is_empty() {
        let list = unknown.into_iter().collect::<Vec<_>>().join(", ");
        report::warn(
            "vzbuild",
            format_args!(
                "the run used {list}, which a container does not have: --volume DEVICE:DEVICE"
            ),
        );
    }
}

pub(in crate::command) fn volume(word: &OsStr) -> anyhow::Result<Bind> {
    let word = text(word.as_encoded_bytes(), "volume")?;
    let form =
        || anyhow::anyhow!("--volume `{word}` is not HOST:PATH or HOST:PATH:ro, both absolute");
    let (rest, readonly) = match word.strip_suffix(":ro") {
        Some(rest) => (rest, true),
        None => (word.strip_suffix(":rw").unwrap_or(&word), false),
    };
    let parts = rest.split_once(':').filter(|(host, path)| {
        host.starts_with('/') && path.starts_with('/') && !path.contains(':')
    });
    let (source, path) = parts.ok_or_else(form).status(Status::Usage as u8)?;
    let destination = RootPath::new(path.as_bytes())
        .map_err(anyhow::Error::from)
        .with_context(|| format!("--volume `{word}`"))?;
    Ok(Bind { source: source.to_owned(), destination: destination.to_string(), readonly })
}

/// Reads `PATH` or `PATH:SIZE`, where SIZE may end in k, m or g.
fn tmpfs(word: &OsStr) -> anyhow::Result<(RootPath, u64)> {
    let word = text(word.as_encoded_bytes(), "tmpfs")?;
    let (path, size) = match word.split_once(':') {
        Some((path, size)) => (path, quantity::size(size).ok().filter(|&bytes| bytes > 0)),
        None => (word.as_str(), Some(ROOM)),
    };
    let size = size
        .with_context(|| format!("--tmpfs `{word}` is not PATH or PATH:SIZE, such as /tmp:200m"))
        .status(Status::Usage as u8)?;
    let path = RootPath::new(path.as_bytes())
        .with_context(|| format!("--tmpfs `{word}`"))
        .status(Status::Usage as u8)?;
    Ok((path, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_two_absolute_paths() {
        let bind = volume(OsStr::new("/srv/db:/var/lib/db:ro")).unwrap();
        assert_eq!((bind.source.as_str(), bind.destination.as_str()), ("/srv/db", "/var/lib/db"));
        assert!(bind.readonly && !volume(OsStr::new("/a:/b")).unwrap().readonly);
        for bad in ["/a", "a:/b", "/a:b", "/a:/b:xy", "/a:/b/../c"] {
            assert!(volume(OsStr::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tmpfs_may_have_a_size() {
        assert_eq!(tmpfs(OsStr::new("/tmp")).unwrap().1, ROOM);
        assert_eq!(tmpfs(OsStr::new("/tmp:2G")).unwrap().1, 2 << 30);
        assert!(tmpfs(OsStr::new("/tmp:")).is_err());
        assert!(tmpfs(OsStr::new("/tmp:0")).is_err());
    }
}
