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
use crate::fleet::secret::{Sealed, Secrets, is_key};
use crate::process;
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

    /// Gives `pod` these secrets, beside those that it has, and returns whether any was
    /// another before. With `at_rest`, the next boot has them, too; where nothing is said of
    /// that, it stays as it is.
    ///
    /// # Errors
    /// When they cannot be written or encrypted; what it says has nothing of them in it.
    pub(super) fn put_secrets(
        &self,
        pod: &str,
        secrets: &Secrets,
        at_rest: Option<bool>,
    ) -> anyhow::Result<bool> {
        let (now, kept) = (self.secrets(pod), self.kept(pod));
        if at_rest == Some(false) {
            sweep::delete(&kept)?;
        }
        let at_rest = at_rest.unwrap_or_else(|| kept.exists());
        if at_rest && process::find("systemd-creds").is_none() {
            return Err(anyhow::anyhow!("this node cannot encrypt: it has no systemd-creds"))
                .hint("systemd has it from 250 on; with --encrypt-at-rest=no, deploy again after each boot");
        }
        let mut changed = false;
        for (name, keys) in secrets {
            if !is_label(name) || !keys.keys().all(|key| is_key(key)) {
                bail!("`{}` cannot be a secret", name.escape_debug());
            }
            for dir in [&now, &now.join(name)] {
                // Containers see the innermost folder only, whoever they run as.
                make(dir, 0o755)?;
            }
            private(&self.places.run.join("secrets"))?;
            for (key, value) in keys {
                let differs = write(&now.join(name).join(key), &value.0, 0o444)?;
                changed |= differs;
                if at_rest {
                    keep(&kept.join(name), (pod, name, key), value, differs)?;
                }
            }
        }
        Ok(changed)
    }

    /// Whether these secrets of `pod` have other keys there, which go if they are to be
    /// `exact`ly these.
    ///
    /// # Errors
    /// When they cannot be listed or removed.
    pub(super) fn surplus_keys(
        &self,
        pod: &str,
        secrets: &Secrets,
        exact: bool,
    ) -> anyhow::Result<bool> {
        let mut surplus = false;
        for top in [self.secrets(pod), self.kept(pod)] {
            for (name, keys) in secrets {
                surplus |= forget(&top.join(name), &|key| keys.contains_key(key), exact)?;
            }
        }
        Ok(surplus)
    }

    /// Removes the secrets of `pod` that neither its current nor its previous revision
    /// names.
    ///
    /// # Errors
    /// When they cannot be listed or removed.
    pub(super) fn prune_secrets(&self, pods: &Pods, pod: &str) -> anyhow::Result<()> {
        let mut named = Vec::new();
        for id in ["current", "previous"].iter().filter_map(|which| pods.link(pod, which)) {
            named.extend(pods.record(pod, &id)?.secrets);
        }
        for top in [self.secrets(pod), self.kept(pod)] {
            forget(&top, &|name| named.contains(name), true)?;
        }
        Ok(())
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

/// Whether anything is in a folder that is not wished there; if that is what it is
/// `exact`ly to have, it goes.
fn forget(dir: &Path, wished: &dyn Fn(&String) -> bool, exact: bool) -> anyhow::Result<bool> {
    let mut others = list(dir)?;
    others.retain(|name| !wished(name));
    for name in others.iter().filter(|_| exact) {
        let path = dir.join(name);
        match path.is_dir() {
            true => sweep::delete(&path)?,
            false => gone(fs::remove_file(&path))
                .with_context(|| format!("cannot remove `{}`", path.display()))?,
        }
    }
    Ok(!others.is_empty())
}
