//! `vzbuild diff`: two specs, closures or bundles.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use bundler::{Kind, Meta, RootPath, Rootfs};
use serde_json::{Value, json};
use tracer::record::BytePath;

use crate::cli::build::Diff;
use crate::report::{self, Advice, Status};

use super::closure::bytes;
use super::source;

/// Bytes of two files that are compared at a time.
const PIECE: usize = 64 * 1024;

/// What one argument is.
enum Side {
    /// The paths of a spec or closure.
    List(BTreeSet<Vec<u8>>),
    /// A bundle's config.json and files.
    Bundle { config: Value, rootfs: Rootfs, files: BTreeMap<RootPath, Meta> },
}

/// What is not the same.
#[derive(Default)]
struct Differences {
    only_a: Vec<Vec<u8>>,
    only_b: Vec<Vec<u8>>,
    /// In both, with what differs.
    changed: Vec<(Vec<u8>, Vec<String>)>,
}

/// Prints what differs between the two.
///
/// # Errors
/// What cannot be read, or arguments of two kinds.
pub fn run(args: &Diff) -> anyhow::Result<ExitCode> {
    let differences = match (read(&args.a)?, read(&args.b)?) {
        (Side::List(a), Side::List(b)) => lists(&a, &b),
        (
            Side::Bundle { config: a_config, rootfs: a_rootfs, files: a_files },
            Side::Bundle { config: b_config, rootfs: b_rootfs, files: b_files },
        ) => {
            let mut differences = trees((&a_rootfs, &a_files), (&b_rootfs, &b_files))?;
            if a_config != b_config {
                let what = keys_that_differ(&a_config, &b_config);
                differences.changed.insert(0, (b"config.json".to_vec(), what));
            }
            differences
        }
        _ => {
            let (a, b) = (args.a.display(), args.b.display());
            return Err(anyhow::anyhow!("`{a}` and `{b}` are not of the same kind"))
                .hint("compare two specs, two closures or two bundles")
                .status(Status::Usage as u8);
        }
    };
    report::data(&if args.json { differences.json()? } else { differences.text() })?;
    Ok(if differences.are_none() { Status::Done } else { Status::No }.into())
}

fn read(path: &Path) -> anyhow::Result<Side> {
    if path.is_dir() {
        return read_bundle(path);
    }
    let input = match std::fs::read(path) {
        Ok(text) if text.first() == Some(&b'{') => return closure_json(path, &text),
        _ => source::read(path)?,
    };
    Ok(Side::List(input.spec.paths().map(<[u8]>::to_vec).collect()))
}

/// The entries of what `vzbuild closure --json` printed.
fn closure_json(path: &Path, text: &[u8]) -> anyhow::Result<Side> {
    #[derive(serde::Deserialize)]
    struct Entry {
        path: BytePath,
    }
    #[derive(serde::Deserialize)]
    struct Closure {
        entries: Vec<Entry>,
    }
    let closure: Closure = serde_json::from_slice(text)
        .with_context(|| format!("`{}` is no output of `vzbuild closure`", path.display()))?;
    Ok(Side::List(closure.entries.into_iter().map(|entry| entry.path.0).collect()))
}

fn read_bundle(path: &Path) -> anyhow::Result<Side> {
    let name = path.display();
    let text = std::fs::read(path.join("config.json"))
        .with_context(|| format!("cannot read `{name}/config.json`"))
        .hint("a directory is compared only if it is a bundle: config.json and rootfs/")?;
    let config: Value = serde_json::from_slice(&text)
        .with_context(|| format!("`{name}/config.json` is not JSON"))?;
    let root = config.pointer("/root/path").and_then(Value::as_str).unwrap_or("rootfs");
    let root = path.join(root);
    let rootfs = Rootfs::open(&root)
        .with_context(|| format!("cannot open the root `{}`", root.display()))?;
    let files = walk(&rootfs)?;
    Ok(Side::Bundle { config, rootfs, files })
}

fn walk(rootfs: &Rootfs) -> anyhow::Result<BTreeMap<RootPath, Meta>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![RootPath::root()];
    while let Some(directory) = directories.pop() {
        let names = rootfs
            .read_dir(&directory)
            .with_context(|| format!("cannot list {directory} in `{}`", rootfs.dir().display()))?;
        for name in names {
            let path = directory.join(&name)?;
            let meta = rootfs.lstat(&path).with_context(|| format!("cannot look at {path}"))?;
            if meta.kind == Kind::Directory {
                directories.push(path.clone());
            }
            files.insert(path, meta);
        }
    }
    Ok(files)
}

fn lists(a: &BTreeSet<Vec<u8>>, b: &BTreeSet<Vec<u8>>) -> Differences {
    Differences {
        only_a: a.difference(b).cloned().collect(),
        only_b: b.difference(a).cloned().collect(),
        changed: Vec::new(),
    }
}

type Tree<'a> = (&'a Rootfs, &'a BTreeMap<RootPath, Meta>);

fn trees(a: Tree<'_>, b: Tree<'_>) -> anyhow::Result<Differences> {
    let mut differences = Differences::default();
    for (path, meta) in a.1 {
        match b.1.get(path) {
            None => differences.only_a.push(path.as_bytes().to_vec()),
            Some(other) => {
                let what = compare((a.0, meta), (b.0, other), path)
                    .with_context(|| format!("cannot compare {path}"))?;
                if !what.is_empty() {
                    differences.changed.push((path.as_bytes().to_vec(), what));
                }
            }
        }
    }
    let only_b = b.1.keys().filter(|path| !a.1.contains_key(path));
    differences.only_b = only_b.map(|path| path.as_bytes().to_vec()).collect();
    Ok(differences)
}

fn compare(
    a: (&Rootfs, &Meta),
    b: (&Rootfs, &Meta),
    path: &RootPath,
) -> anyhow::Result<Vec<String>> {
    let ((a_rootfs, a), (b_rootfs, b)) = (a, b);
    if a.kind != b.kind {
        return Ok(vec![format!("{:?} became {:?}", a.kind, b.kind).to_lowercase()]);
    }
    let mut what = Vec::new();
    if a.mode != b.mode && a.kind != Kind::Symlink {
        what.push(format!("mode {:04o} became {:04o}", a.mode, b.mode));
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        what.push(format!("owner {}:{} became {}:{}", a.uid, a.gid, b.uid, b.gid));
    }
    match a.kind {
        Kind::Symlink => {
            let (from, to) = (a_rootfs.read_link(path)?, b_rootfs.read_link(path)?);
            if from != to {
                what.push(format!("target {} became {}", from.escape_ascii(), to.escape_ascii()));
            }
        }
        Kind::File if a.size != b.size => {
            what.push(format!("content differs: {} bytes became {}", a.size, b.size));
        }
        Kind::File => {
            let (mut from, mut to) = (a_rootfs.open_file(path)?, b_rootfs.open_file(path)?);
            if let Some(at) = first_difference(&mut from, &mut to)? {
                what.push(format!("content differs from byte {at} on"));
            } else if a.mtime != b.mtime {
                what.push(format!("mtime {} became {}", a.mtime, b.mtime));
            }
        }
        Kind::CharDevice | Kind::BlockDevice if a.device != b.device => {
            what.push(format!("device {:?} became {:?}", a.device, b.device));
        }
        _ => {}
    }
    Ok(what)
}

/// Offset of the first byte that is not the same.
fn first_difference(a: &mut impl Read, b: &mut impl Read) -> std::io::Result<Option<u64>> {
    let (mut from, mut to) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    let mut done = 0;
    loop {
        from.clear();
        to.clear();
        a.by_ref().take(PIECE as u64).read_to_end(&mut from)?;
        b.by_ref().take(PIECE as u64).read_to_end(&mut to)?;
        if from != to {
            let same = from.iter().zip(&to).take_while(|(x, y)| x == y).count();
            return Ok(Some(done + same as u64));
        }
        if from.is_empty() {
            return Ok(None);
        }
        done += from.len() as u64;
    }
}

/// The members of two config.json that differ, two levels deep.
fn keys_that_differ(a: &Value, b: &Value) -> Vec<String> {
    fn members(value: &Value) -> BTreeMap<String, &Value> {
        let object = |v| Value::as_object(v).into_iter().flatten();
        let mut members = BTreeMap::new();
        for (name, value) in object(value) {
            match value {
                Value::Object(inner) => {
                    members.extend(inner.iter().map(|(k, v)| (format!("{name}.{k}"), v)));
                }
                _ => drop(members.insert(name.clone(), value)),
            }
        }
        members
    }
    let (a, b) = (members(a), members(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differs = |name: &&String| a.get(*name) != b.get(*name);
    names.into_iter().filter(differs).map(|name| format!("{name} differs")).collect()
}

impl Differences {
    fn are_none(&self) -> bool {
        self.only_a.is_empty() && self.only_b.is_empty() && self.changed.is_empty()
    }

    fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut line = |sign: &str, path: &[u8], rest: &str| {
            text.extend_from_slice(sign.as_bytes());
            match path.iter().any(u8::is_ascii_control) {
                true => text.extend(path.escape_ascii()),
                false => text.extend_from_slice(path),
            }
            text.extend_from_slice(rest.as_bytes());
            text.push(b'\n');
        };
        self.only_a.iter().for_each(|path| line("- ", path, ""));
        self.only_b.iter().for_each(|path| line("+ ", path, ""));
        for (path, what) in &self.changed {
            line("~ ", path, &format!(": {}", what.join("; ")));
        }
        text
    }

    fn json(&self) -> anyhow::Result<Vec<u8>> {
        let all = |paths: &[Vec<u8>]| paths.iter().map(|p| bytes(p)).collect::<Vec<_>>();
        let changed =
            |(path, what): &(Vec<u8>, Vec<String>)| json!({ "path": bytes(path), "what": what });
        let value = json!({
            "onlyA": all(&self.only_a),
            "onlyB": all(&self.only_b),
            "changed": self.changed.iter().map(changed).collect::<Vec<_>>(),
        });
        Ok(report::json_text(&value)?)
    }
}
