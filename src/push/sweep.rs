//! Removes revisions and broken-off pushes that nothing needs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;

use super::protocol::valid_name;
use super::space::{self, Lack};
use super::store::Store;

/// A broken-off push is kept this long for another try.
pub const INCOMING_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A receiver that is put in place is there sooner.
const UPLOAD_AGE: Duration = Duration::from_secs(24 * 3600);
/// What a push that met a full disk leaves free, so that logins and logs go on: bytes.
const LEAST: u64 = 512 << 10;
/// The same in inodes.
const LEAST_INODES: u64 = 16;
/// What the names of removed revisions begin with.
const GONE: &str = ".gone.";
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
    let linked = [store.current(name), store.previous(name)];
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

/// Removes broken-off pushes that are at least as old as `age` or done since, and that no other
/// process holds, and what is left of removed revisions; returns how many. A caller
/// that pushes says as what, since it holds the lock of that name; its own is kept.
///
/// # Errors
/// When they cannot be read or removed.
pub fn incoming(store: &Store, own: Option<(&str, &str)>, age: Duration) -> anyhow::Result<u64> {
    let mut removed = gone(store)?;
    let dir = store.root().join("incoming");
    let own_dir = own.map(|(name, id)| store.incoming(name, id));
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list `{}`", dir.display()))? {
        let path = entry?.path();
        let text = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if text.starts_with(GONE) {
            continue;
        }
        let modified = fs::symlink_metadata(&path).and_then(|meta| meta.modified());
        let old = modified.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        let (name, id) = text.rsplit_once('.').unwrap_or_default();
        // A power cut may bring back what was removed when the push was done.
        let is_done = valid_name(name) && store.revision(name, id).is_dir();
        if (old < age && !is_done) || own_dir.as_ref() == Some(&path) {
            continue;
        }
        let is_other = valid_name(name) && own.is_none_or(|(own, _)| own != name);
        let _held = match is_other {
            true => match store.lock(name, Duration::ZERO) {
                Ok(lock) => Some(lock),
                Err(_) => continue,
            },
            false => None,
        };
        delete(&path)?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes what is left of removed revisions that nothing works in any more; returns
/// how many.
///
/// # Errors
/// When they cannot be read or removed.
pub fn gone(store: &Store) -> anyhow::Result<u64> {
    let dir = store.root().join("incoming");
    let mut removed = 0;
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list `{}`", dir.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(GONE) && !in_use(&entry.path()) {
            delete(&entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Gives back what the broken-off push in `incoming` holds, the newest first, until
/// the disk has a little room: the rest stays for the next try. What is half built goes in any case; it is made of
/// what stays.
///
/// # Errors
/// When something cannot be read or removed.
pub fn give_back(incoming: &Path) -> anyhow::Result<()> {
    delete(&incoming.join("tree"))?;
    let give = || -> io::Result<()> {
        let mut pieces = Vec::new();
        for entry in fs::read_dir(incoming.join("objects")).into_iter().flatten() {
            let entry = entry?;
            pieces.push((entry.metadata()?.modified()?, entry.path()));
        }
        pieces.sort();
        // Where the disk was full before anything came, there is nothing.
        while incoming.is_dir()
            && let Some(lack) = space::lack(incoming, LEAST, LEAST_INODES)?
        {
            if let Some((_, path)) = pieces.pop() {
                fs::remove_file(path)?;
                continue;
            }
            let Ok(delta) = fs::File::options().write(true).open(incoming.join("delta")) else {
                return Ok(());
            };
            let len = delta.metadata()?.len();
            match lack {
                Lack::Bytes { needed, free } if len > 0 => {
                    delta.set_len(len.saturating_sub((needed - free).max(64 << 10)))?;
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    };
    give().with_context(|| format!("cannot give back what `{}` holds", incoming.display()))
}

/// Removes all receivers but the newest, and uploads of them that came to nothing.
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
    let mut old = Vec::new();
    for entry in entries {
        let entry = entry?;
        // Another upload may end meanwhile.
        let Ok(modified) = entry.metadata().and_then(|meta| meta.modified()) else { continue };
        if entry.file_name().to_string_lossy().starts_with("vzpush-") {
            found.push((modified, entry.path()));
        } else if modified.elapsed().is_ok_and(|age| age > UPLOAD_AGE) {
            old.push(entry.path());
        }
    }
    found.sort();
    found.reverse();
    old.extend(found.into_iter().skip(RECEIVERS).map(|(_, path)| path));
    for path in &old {
        match fs::remove_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other.with_context(|| format!("cannot remove `{}`", path.display()))?,
        }
    }
    Ok(old.len() as u64)
}

/// Removes a revision: it loses its name first, so that it is there or not. What a
/// process still works in stays aside until it does not.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(store: &Store, dir: &Path) -> anyhow::Result<()> {
    match set_aside(store, dir)? {
        Some(aside) if !in_use(&aside) => delete(&aside),
        _ => Ok(()),
    }
}

/// Takes a revision's name away; returns where it lies then, if it was there.
///
/// # Errors
/// When it cannot be renamed.
pub fn set_aside(store: &Store, dir: &Path) -> anyhow::Result<Option<PathBuf>> {
    for number in 0.. {
        let aside = store.root().join("incoming");
        let aside = aside.join(format!("{GONE}{}.{number}", std::process::id()));
        if fs::symlink_metadata(&aside).is_ok() {
            continue;
        }
        match fs::rename(dir, &aside) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("cannot remove `{}`", dir.display()))?,
        }
        return Ok(Some(aside));
    }
    Ok(None)
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
    use std::fs::File;

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
    fn what_nothing_came_of_has_nothing_to_give_back() {
        let dir = tempfile::tempdir().unwrap();
        give_back(&dir.path().join("incoming")).unwrap();
    }

    fn aged(path: &Path, age: Duration) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::create_dir(path);
        File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn old_broken_off_pushes_go_also_those_of_the_name_that_is_pushed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        store.make().unwrap();
        let _lock = store.lock("web", Duration::ZERO).unwrap();
        let [old, new, own] = ["a", "b", "c"].map(|digit| digit.repeat(64));
        let month = Duration::from_secs(30 * 24 * 3600);
        for (name, id, age) in [
            ("web", &old, month),
            ("web", &new, Duration::ZERO),
            ("web", &own, month),
            ("db", &old, month),
        ] {
            aged(&store.incoming(name, id), age);
        }
        fs::create_dir(store.root().join("incoming/.gone.1.0")).unwrap();
        let done = "d".repeat(64);
        fs::create_dir_all(store.revision("web", &done)).unwrap();
        fs::create_dir(store.incoming("web", &done)).unwrap();
        assert_eq!(incoming(&store, Some(("web", &own)), INCOMING_AGE).unwrap(), 4);
        assert!(store.incoming("web", &new).exists() && store.incoming("web", &own).exists());
        assert_eq!(fs::read_dir(store.root().join("incoming")).unwrap().count(), 2);
        // Another process would find the lock taken.
        assert_eq!(incoming(&store, None, Duration::ZERO).unwrap(), 0);
    }

    #[test]
    fn an_upload_that_came_to_nothing_counts_as_no_receiver() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        for name in [".new.1", ".new.2", ".new.3", "vzpush-a", "vzpush-b"] {
            aged(&store.root().join("bin"), Duration::ZERO);
            fs::write(store.root().join("bin").join(name), "").unwrap();
        }
        let old = File::options().write(true).open(store.root().join("bin/.new.1")).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_secs(100 * 3600)).unwrap();
        assert_eq!(receivers(&store).unwrap(), 1);
        assert!(!store.root().join("bin/.new.1").exists());
        assert!(store.root().join("bin/vzpush-a").exists());
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
