//! A bundle directory as it is to be on every node.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use delta::{Entry, Files, Manifest, ReadAt};
use serde_json::Value;

use super::staging::is_bundle;
use crate::report::Advice;
use crate::tree::Directory;

/// A bundle that was read and hashed.
#[derive(Debug)]
pub struct Bundle {
    dir: PathBuf,
    files: Directory,
    /// What is in it: `config.json` and `rootfs`, and nothing else.
    pub manifest: Manifest,
    /// Digest of its tree, in hexadecimal: the revision's name.
    pub id: String,
}

impl Bundle {
    /// Reads the bundle at `dir`.
    ///
    /// `config.json` belongs to root and has no time of its own, so that the same
    /// bundle has one digest wherever it was built. What lies beside it and `rootfs`
    /// is no part of it. An ordinary user cannot build what belongs to root, so what
    /// belongs to this user here belongs to root there.
    ///
    /// # Errors
    /// When there is no bundle, or a file cannot be read.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        check_shape(dir)?;
        let files = Directory::open(dir)
            .with_context(|| format!("cannot read the bundle `{}`", dir.display()))?;
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let own = (!uid.is_root()).then_some((uid.as_raw(), gid.as_raw()));
        let entries = files.manifest().entries().iter().filter_map(|entry| admit(entry, own));
        let manifest = Manifest::new(entries.collect())
            .with_context(|| format!("`{}` holds no tree", dir.display()))?;
        if !is_bundle(&manifest) {
            bail!("`{}` is no bundle: sockets cannot be pushed", dir.display());
        }
        let id = manifest.digest().to_string();
        Ok(Bundle { dir: dir.to_owned(), files, manifest, id })
    }

    /// The name that it gets on nodes unless another is asked for: its directory's.
    pub fn name(&self) -> Option<String> {
        let dir = self.dir.canonicalize().ok()?;
        dir.file_name()?.to_str().map(str::to_owned)
    }

    /// Its root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }
}

impl Files for Bundle {
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn ReadAt + '_>> {
        self.files.open(path)
    }
}

fn admit(entry: &Entry, own: Option<(u32, u32)>) -> Option<Entry> {
    let mut entry = entry.clone();
    let part = entry.path.split(|c| *c == b'/').next().unwrap_or_default();
    if part != b"rootfs" && part != b"config.json" {
        return None;
    }
    if let Some((uid, gid)) = own {
        entry.uid = if entry.uid == uid { 0 } else { entry.uid };
        entry.gid = if entry.gid == gid { 0 } else { entry.gid };
    }
    if entry.path == b"config.json" {
        (entry.mode, entry.uid, entry.gid) = (0o644, 0, 0);
        entry.xattrs.clear();
        if let delta::Kind::File(info) = &mut entry.kind {
            info.mtime = 0;
        }
    }
    Some(entry)
}

/// Bytes of a `config.json` that are read.
const MAX_CONFIG: u64 = 4 << 20;

/// Whether what runs the bundle of this `config.json` cannot write into its root; as the
/// specification has it, it can unless it is said ([config.md, Root]).
///
/// [config.md, Root]: https://github.com/opencontainers/runtime-spec/blob/main/config.md#root
pub(super) fn is_read_only(config: impl Read) -> bool {
    let value: Option<Value> = serde_json::from_reader(config.take(MAX_CONFIG)).ok();
    value.and_then(|value| value.pointer("/root/readonly")?.as_bool()).unwrap_or(false)
}

/// Looks whether there is a bundle before all of it is hashed.
fn check_shape(dir: &Path) -> anyhow::Result<()> {
    const HINT: &str =
        "a bundle is a directory with config.json and rootfs/; `vzbuild bundle` makes one";
    let shown = dir.display();
    let meta = std::fs::metadata(dir);
    let meta = meta.with_context(|| format!("cannot read the bundle `{shown}`")).hint(HINT)?;
    if !meta.is_dir() {
        return Err(anyhow::anyhow!("the bundle `{shown}` is no directory")).hint(HINT);
    }
    let config = dir.join("config.json");
    let kind = std::fs::symlink_metadata(&config);
    let kind = kind.with_context(|| format!("`{shown}` has no config.json")).hint(HINT)?;
    if !kind.is_file() {
        return Err(anyhow::anyhow!("`{}` is no regular file", config.display())).hint(HINT);
    }
    let rootfs = std::fs::symlink_metadata(dir.join("rootfs"));
    match rootfs {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(anyhow::anyhow!("`{shown}/rootfs` is no directory, or a link to one"))
                .hint("what a link leads to is not pushed: put the files there");
        }
        Err(_) => return Err(anyhow::anyhow!("`{shown}` has no directory rootfs")).hint(HINT),
    }
    let text =
        std::fs::read(&config).with_context(|| format!("cannot read `{}`", config.display()))?;
    let value: Value = serde_json::from_slice(&text)
        .with_context(|| format!("`{}` is no JSON", config.display()))
        .hint(HINT)?;
    let path = value.pointer("/root/path").and_then(Value::as_str);
    if !matches!(path, Some("rootfs" | "./rootfs" | "rootfs/")) {
        let path = path.unwrap_or("nothing");
        return Err(anyhow::anyhow!(
            "`root.path` in `{}` is `{}`",
            config.display(),
            path.escape_debug()
        ))
        .hint("only the bundle's own `rootfs` is pushed: set `root.path` to it");
    }
    Ok(())
}
