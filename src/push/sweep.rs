//! Removes revisions and broken-off pushes that nothing needs.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use super::store::Store;

/// A broken-off push is kept this long for another try.
const INCOMING_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// So many receivers stay: build hosts of several versions may push to one node.
const RECEIVERS: usize = 3;

/// Removes the oldest revisions of `name` beyond `keep`, but never the current or
/// previous one, nor one that is pinned or whose files are in use; returns those removed.
///
/// # Errors
/// When the store cannot be read or a revision not removed.
pub fn revisions(store: &Store, name: &str, keep: u32) -> anyhow::Result<Vec<String>> {
    let mut ids = store.ids(name).with_context(|| format!("cannot list `{name}`"))?;
    let stamp = |id: &String| {
        let manifest = store.revision(name, id).join("manifest");
        fs::metadata(manifest).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    ids.sort_by_key(|id| std::cmp::Reverse(stamp(id)));
    let linked = [store.link(name, "current"), store.link(name, "previous")];
    let mut removed = Vec::new();
    let old: Vec<String> =
        ids.iter().filter(|id| !linked.contains(&Some((*id).clone()))).cloned().collect();
    let spared = (keep as usize).saturating_sub(linked.iter().flatten().count());
    for id in old.into_iter().skip(spared) {
        let dir = store.revision(name, &id);
        if store.is_pinned(name, &id) || in_use(&dir) {
            continue;
        }
        remove(store, &dir)?;
        removed.push(id);
    }
    Ok(removed)
}

/// Removes broken-off pushes that are older than a week, or all that no push holds.
///
/// # Errors
/// When they cannot be read or removed.
pub fn incoming(store: &Store, all: bool) -> anyhow::Result<u64> {
    let mut removed = 0;
    let dir = store.root().join("incoming");
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list `{}`", dir.display()))? {
        let entry = entry?;
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        if !all && age < INCOMING_AGE {
            continue;
        }
        let text = entry.file_name().to_string_lossy().into_owned();
        // `NAME.ID`, and the names of what is being removed begin with a dot.
        let name = text.rsplit_once('.').map_or("", |(name, _)| name);
        let held = match super::protocol::valid_name(name) {
            true => match store.lock(name, Duration::ZERO) {
                Ok(lock) => Some(lock),
                Err(_) => continue,
            },
            false => None,
        };
        delete(&entry.path())?;
        drop(held);
        removed += 1;
    }
    Ok(removed)
}

/// Removes all receivers but the newest.
///
/// # Errors
/// When they cannot be read or removed.
pub fn receivers(store: &Store) -> anyhow::Result<u64> {
    let dir = store.root().join("bin");
    let mut found = Vec::new();
    let entries = match fs::read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.with_context(|| format!("cannot list `{}`", dir.display()))?,
    };
    for entry in entries {
        let entry = entry?;
        found.push((entry.metadata()?.modified()?, entry.path()));
    }
    found.sort();
    found.reverse();
    let mut removed = 0;
    for (_, path) in found.into_iter().skip(RECEIVERS) {
        fs::remove_file(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes a revision: it loses its name first, so that it is there or not.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(store: &Store, dir: &Path) -> anyhow::Result<()> {
    let aside = store.root().join("incoming").join(format!(".gone.{}", std::process::id()));
    delete(&aside)?;
    match fs::rename(dir, &aside) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("cannot remove `{}`", dir.display()))?,
    }
    delete(&aside)
}

/// Removes a directory with all that is in it, closed directories included.
///
/// # Errors
/// When it cannot be removed; not when it is not there.
pub fn delete(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(dir);
            fs::remove_dir_all(dir)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
    .with_context(|| format!("cannot remove `{}`", dir.display()))
}

/// An ordinary user cannot empty a directory that is not writable to them.
fn open_up(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if !fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir()) {
        return;
    }
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        open_up(&entry.path());
    }
}

/// Whether a process has its root or working directory, or a mount, in `dir`, as
/// far as this user may see.
fn in_use(dir: &Path) -> bool {
    let Ok(dir) = dir.canonicalize() else { return false };
    let needle = format!("/{}/", last_two(&dir));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter(|p| p.file_name().to_string_lossy().bytes().all(|c| c.is_ascii_digit())).any(
        |process| {
            let process = process.path();
            let inside =
                |link: &str| fs::read_link(process.join(link)).is_ok_and(|to| to.starts_with(&dir));
            let mounted = || {
                let text = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
                text.contains(&needle)
            };
            inside("root") || inside("cwd") || inside("exe") || mounted()
        },
    )
}

/// `NAME/ID`: a bind mount shows its root from the file system's own root on, which
/// need not be this one's.
fn last_two(dir: &Path) -> String {
    let mut names = dir.iter().rev().map(|name| name.to_string_lossy());
    let (id, name) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    format!("{name}/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_and_previous_revision_are_never_swept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        store.make().unwrap();
        drop(store.lock("web", Duration::ZERO).unwrap());
        let ids: Vec<String> = (0..5).map(|n| n.to_string().repeat(64)).collect();
        for id in &ids {
            fs::create_dir_all(store.revision("web", id).join("rootfs")).unwrap();
            fs::write(store.revision("web", id).join("manifest"), "").unwrap();
        }
        store.switch("web", &ids[0]).unwrap();
        store.switch("web", &ids[1]).unwrap();
        store.pin(&[("web".to_owned(), ids[4].clone())].into()).unwrap();
        assert_eq!(revisions(&store, "web", 1).unwrap().len(), 2);
        store.pin(&std::collections::BTreeSet::new()).unwrap();
        assert_eq!(revisions(&store, "web", 1).unwrap().len(), 1);
        assert_eq!(store.ids("web").unwrap(), ids[..2]);
    }

    #[test]
    fn a_revision_in_which_a_process_works_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        store.make().unwrap();
        let id = "a".repeat(64);
        let rootfs = store.revision("web", &id).join("rootfs");
        fs::create_dir_all(&rootfs).unwrap();
        let mut child =
            crate::process::command("sleep").arg("60").current_dir(&rootfs).spawn().unwrap();
        let kept = revisions(&store, "web", 0).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(kept, [""; 0]);
        assert_eq!(revisions(&store, "web", 0).unwrap(), [id]);
    }
}
