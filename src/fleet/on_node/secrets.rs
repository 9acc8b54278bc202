//! The secrets of a node's pods: in memory, and encrypted on the disk where that is asked
//! for.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::pods::{gone, list};
use super::{Pods, Site};
use crate::fleet::fields::is_label;
use crate::fleet::revision::Record;
use crate::fleet::secret::{Sealed, Secrets, is_key, is_number, next};
use crate::process;
use crate::push::store::sync_dir;
use crate::push::sweep;
use crate::report::Advice;

impl Site<'_> {
    /// Where secrets of `pod` are in memory.
    fn secrets(&self, pod: &str) -> PathBuf {
        self.places.run.join("secrets").join(pod)
    }

    /// Where they are encrypted: beside the pods.
    fn kept(&self, pod: &str) -> PathBuf {
        self.places.pods.with_file_name("secrets").join(pod)
    }

    /// Which number the secrets of `pod` have here: that of the current revision where they
    /// are the same, or are not in memory any more; else one that no other secrets have.
    ///
    /// # Errors
    /// When something cannot be read; what it says has nothing of them in it.
    pub(super) fn compare_secrets(
        &self,
        pods: &Pods,
        pod: &str,
        secrets: &Secrets,
    ) -> anyhow::Result<String> {
        let current = pods.current(pod).ok().flatten().and_then(|record| record.secrets);
        let dir = self.secrets(pod);
        let mut there = list(&dir)?;
        there.sort_by_key(|number| Some(number) != current.as_ref());
        for number in &there {
            if same(&dir.join(number), secrets)? {
                return Ok(number.clone());
            }
        }
        if let Some(current) = current.as_ref().filter(|current| !there.contains(current)) {
            return Ok(current.clone());
        }
        let mut known = [there, list(&self.kept(pod))?].concat();
        known.extend(pods.ids(pod)?.iter().filter_map(|id| pods.record(pod, id).ok()?.secrets));
        Ok(next(known.iter().map(String::as_str)))
    }

    /// Has these secrets in memory for revisions of `pod`, and with `at_rest` for the next
    /// boot, too, which stays as it is where nothing is said of it; forgets those that neither
    /// its revision nor the one before has.
    ///
    /// # Errors
    /// When they cannot be written or encrypted; what it says has nothing of them in it.
    pub(super) fn put_secrets(
        &self,
        pods: &Pods,
        (pod, number): (&str, &str),
        secrets: &Secrets,
        at_rest: Option<bool>,
    ) -> anyhow::Result<()> {
        let kept_before = self.kept(pod).exists();
        if at_rest == Some(false) {
            sweep::delete(&self.kept(pod))?;
        }
        let at_rest = at_rest.unwrap_or_else(|| self.kept(pod).exists());
        if at_rest && process::find("systemd-creds").is_none() {
            return Err(anyhow::anyhow!("this node cannot encrypt: it has no systemd-creds"))
                .hint("systemd has it from 250 on; with --encrypt-at-rest=no, deploy again after each boot");
        }
        if !is_number(number) {
            bail!("`{}` cannot be the number of secrets", number.escape_debug());
        }
        let (now, kept) = (self.secrets(pod).join(number), self.kept(pod).join(number));
        make(&self.places.run.join("secrets"), 0o700)?;
        private(&self.places.run.join("secrets"))?;
        for (name, keys) in secrets {
            if !is_label(name) || !keys.keys().all(|key| is_key(key)) {
                bail!("`{}` cannot be a secret", name.escape_debug());
            }
            // Containers see the innermost folder only, whoever they run as.
            make(&now.join(name), 0o755)?;
            for (key, value) in keys {
                let differs = write(&now.join(name).join(key), &value.0, 0o444)?;
                if at_rest {
                    keep(&kept.join(name), (pod, name, key), value, differs)?;
                }
            }
            let known = |key: &String| keys.contains_key(key);
            forget(&now.join(name), &known)?;
            forget(&kept.join(name), &|key| at_rest && known(key))?;
        }
        forget(&now, &|name| secrets.contains_key(name))?;
        forget(&kept, &|name| at_rest && secrets.contains_key(name))?;
        let ids = [pods.link(pod, "current"), pods.link(pod, "previous")];
        let ids = ids.into_iter().chain([pods.pending(pod).map(|pending| pending.id)]).flatten();
        let records = ids.filter_map(|id| pods.record(pod, &id).ok());
        let mut needed: Vec<String> = records.filter_map(|record| record.secrets).collect();
        needed.push(number.to_owned());
        forget(&self.secrets(pod), &|number| needed.contains(number))?;
        forget(&self.kept(pod), &|number| at_rest && needed.contains(number))?;
        match at_rest || kept_before {
            true => self.sync_kept(&kept, secrets),
            false => Ok(()),
        }
    }

    /// Makes the names of what is kept in `kept`, or is not any more, outlive a power cut.
    fn sync_kept(&self, kept: &Path, secrets: &Secrets) -> anyhow::Result<()> {
        let names = secrets.keys().map(|name| kept.join(name));
        // The number, the pod, all secrets, and what those are in.
        let folders = names.chain(kept.ancestors().take(4).map(Path::to_owned));
        folders.filter(|folder| folder.is_dir()).try_for_each(|folder| sync_dir(&folder))
    }

    /// Whether the secrets of a revision are encrypted on the disk, for the next boot.
    pub(super) fn keeps_secrets(&self, record: &Record) -> bool {
        record.secrets.as_ref().is_some_and(|number| self.kept(&record.pod).join(number).is_dir())
    }

    /// Whether the secrets of a revision are not in memory.
    pub(super) fn lacks_secrets(&self, record: &Record) -> bool {
        let there = |number: &String| self.secrets(&record.pod).join(number).is_dir();
        record.secrets.as_ref().is_some_and(|number| !there(number))
    }

    /// Whether they cannot be had from the disk either.
    pub(super) fn lost_secrets(&self, record: &Record) -> bool {
        let kept = |number: &String| self.kept(&record.pod).join(number).is_dir();
        self.lacks_secrets(record) && !record.secrets.as_ref().is_some_and(kept)
    }

    /// Removes all secrets of `pod`.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub(super) fn forget_secrets(&self, pod: &str) -> anyhow::Result<()> {
        sweep::delete(&self.secrets(pod))?;
        sweep::delete(&self.kept(pod))
    }
}

/// Encrypts a key with the node's own, unless that was done and it is the same.
fn keep(
    dir: &Path,
    (pod, name, key): (&str, &str, &str),
    value: &Sealed,
    differs: bool,
) -> anyhow::Result<()> {
    let file = dir.join(key);
    if !differs && file.exists() {
        return Ok(());
    }
    make(dir, 0o700)?;
    let mut creds = process::command("systemd-creds");
    creds.arg("encrypt").arg(format!("--name={pod}.{name}.{key}")).args(["-", "-"]);
    let sealed = process::filter(&mut creds, &value.0).context("cannot encrypt a secret")?;
    write(&file, &sealed, 0o600).map(drop)
}

fn make(dir: &Path, mode: u32) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(dir);
    made.with_context(|| format!("cannot make `{}`", dir.display()))
}

fn private(dir: &Path) -> anyhow::Result<()> {
    let set = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    set.with_context(|| format!("cannot close `{}`", dir.display()))
}

/// Writes a file whole or not at all; returns whether it was another before.
fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<bool> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(false);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}"));
    let put = || {
        gone(fs::remove_file(&aside))?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    put().with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(true)
}

/// Whether a folder has exactly these secrets.
fn same(dir: &Path, secrets: &Secrets) -> anyhow::Result<bool> {
    let names: Vec<String> = secrets.keys().cloned().collect();
    let mut same = list(dir)? == names;
    for (name, keys) in secrets {
        let dir = dir.join(name);
        same &= list(&dir)?.iter().eq(keys.keys());
        same &= keys.iter().all(|(key, value)| fs::read(dir.join(key)).is_ok_and(|v| v == value.0));
    }
    Ok(same)
}

/// Removes what is in a folder and not wished there.
fn forget(dir: &Path, wished: &dyn Fn(&String) -> bool) -> anyhow::Result<()> {
    for name in list(dir)?.iter().filter(|name| !wished(name)) {
        let path = dir.join(name);
        match path.is_dir() {
            true => sweep::delete(&path)?,
            false => gone(fs::remove_file(&path))
                .with_context(|| format!("cannot remove `{}`", path.display()))?,
        }
    }
    Ok(())
}
