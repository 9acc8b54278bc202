//! `vzbuild delta`: what turns one tree or file into another.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use delta::record::Codec;
use delta::{Digest, Effort, Encoded, Options, vcdiff};
use serde_json::json;

use crate::cli::build::{Delta, DeltaFormat};
use crate::interrupt::{self, Stoppable};
use crate::progress;
use crate::report::{self, Advice, Status};
use crate::tree::{FileAt, FileSink, Tree};

/// Writes a delta, or says what is in one.
///
/// # Errors
/// What cannot be read or written; a plain file beside a tree.
pub fn run(args: &Delta) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.stat {
        return super::stat::run(file, args.json);
    }
    let (Some(old), Some(new), Some(output)) = (&args.old, &args.new, &args.output) else {
        bail!("OLD, NEW and --output are needed");
    };
    let effort = Effort::new(args.effort);
    match args.format {
        DeltaFormat::Vz => {
            let jobs = args.jobs.unwrap_or_else(available);
            let (encoded, size) = encode(old, new, effort, jobs)?;
            write(output, &encoded.delta)?;
            summarize(&encoded, size, output, args.json)?;
        }
        DeltaFormat::Vcdiff => {
            let (source, target) = (bytes(old)?, bytes(new)?);
            let delta = vcdiff::encode(&source, &target, effort, &promise(&target));
            write(output, &delta)?;
            let (size, all) = (delta.len(), target.len());
            if args.json {
                report::data(&line(&json!({ "format": "vcdiff", "bytes": size, "size": all })))?;
            } else {
                report::say(
                    "vzbuild",
                    format!("{}: {} for {all}", output.display(), report::count(size, "byte")),
                );
            }
        }
    }
    Ok(Status::Done.into())
}

fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn encode(old: &Path, new: &Path, effort: Effort, jobs: usize) -> anyhow::Result<(Encoded, u64)> {
    let (base, target) = (Tree::open(old)?, Tree::open(new)?);
    if matches!(base, Tree::File(_)) != matches!(target, Tree::File(_)) {
        let (tree, file) = if matches!(base, Tree::File(_)) { (new, old) } else { (old, new) };
        let message =
            format!("`{}` is a plain file and `{}` a tree", file.display(), tree.display());
        return Err(anyhow::anyhow!(message))
            .hint("give two directories or layer tars, or two plain files")
            .status(Status::Usage as u8);
    }
    if let Tree::Archive(archive) = &target
        && !archive.is_deterministic()
    {
        let new = new.display();
        report::warn(
            "vzbuild",
            format!(
                "`{new}` is not as `vzbuild bundle --tar` writes it: `patch` will give a tar of the same tree, of other bytes"
            ),
        );
    }
    let size = target.manifest().size();
    let bar = progress::bytes("encoding", size);
    let options = Options { effort, jobs, progress: &|n| bar.inc(n) };
    let encoded = delta::encode(
        (base.manifest(), base.files()),
        (target.manifest(), target.files()),
        &options,
    );
    bar.finish_and_clear();
    Ok((encoded?, size))
}

/// The bytes that VCDIFF sees: a file's own, a directory's layer tar.
fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    if path.is_dir() {
        let Tree::Directory(directory) = Tree::open(path)? else { bail!(cannot()) };
        let mut tar = Vec::new();
        directory.write_tar(&mut tar).with_context(cannot)?;
        return Ok(tar);
    }
    std::fs::read(path).with_context(cannot)
}

/// The application header of our VCDIFF files: length and digest of the target, since
/// the format itself does not tell when windows are missing.
fn promise(target: &[u8]) -> Vec<u8> {
    format!("vz1 {} {}", target.len(), Digest::of(target)).into_bytes()
}

fn write(output: &Path, delta: &[u8]) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", output.display());
    let stop = interrupt::flag()?;
    let mut out = Stoppable { out: FileSink::create(output).with_context(cannot)?, stop: &stop };
    let written = out.write_all(delta).map_err(anyhow::Error::from);
    let written = written.and_then(|()| Ok(out.out.finish()?));
    interrupt::explain(&stop, written.with_context(cannot))
}

fn summarize(encoded: &Encoded, size: u64, output: &Path, json: bool) -> anyhow::Result<()> {
    let copied = encoded.files.iter().filter(|f| f.travel.codec == Codec::Copy).count();
    let full = encoded.files.iter().filter(|f| f.travel.codec == Codec::Full).count();
    let patched = encoded.files.len() - copied - full;
    let (bytes, kept) = (encoded.delta.len(), encoded.kept);
    if json {
        return report::data(&line(&json!({
            "format": "vz", "bytes": bytes, "size": size, "full": encoded.full,
            "files": { "kept": kept, "copied": copied, "patched": patched, "full": full },
        })));
    }
    let base = if encoded.full { "; it needs no base" } else { "" };
    let message = format!(
        "{}: {} for {size}: {} kept, {copied} copied, {patched} patched, {full} whole{base}",
        output.display(),
        report::count(bytes, "byte"),
        report::count(kept, "file")
    );
    report::say("vzbuild", message);
    Ok(())
}

fn line(value: &serde_json::Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

/// Opens `path` to be read by position.
pub(super) fn open(path: &Path) -> anyhow::Result<FileAt> {
    let cannot = || format!("cannot read {}", path.display());
    let file = FileAt::whole(File::open(path).with_context(cannot)?).with_context(cannot)?;
    Ok(file)
}
