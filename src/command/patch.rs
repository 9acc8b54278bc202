//! `vzbuild patch`: apply a delta of either format.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use delta::{Digest, Entry, Limits, ReadAt, Sink, container, vcdiff};
use sha2::{Digest as _, Sha256};

use crate::cli::build::Patch;
use crate::interrupt::{self, Stoppable};
use crate::progress;
use crate::report::{self, Advice, Status};
use crate::tree::{self, Archive, ArchiveSink, DirectorySink, FileAt, FileSink, Tree};

use super::delta::open;

/// Builds what the delta makes of OLD.
///
/// # Errors
/// What cannot be read or written; a delta that is damaged or made for another OLD.
pub fn run(args: &Patch) -> anyhow::Result<ExitCode> {
    let delta = open(&args.delta)?;
    let mut magic = [0; 8];
    let len = usize::try_from(delta.len()).unwrap_or(usize::MAX).min(8);
    let name = args.delta.display();
    delta.read_exact_at(&mut magic[..len], 0).with_context(|| format!("cannot read {name}"))?;
    let applied = if magic[..4] == vcdiff::MAGIC {
        apply_vcdiff(args, &delta)
    } else if magic[..7] == container::MAGIC[..7] {
        apply_container(args, &delta)
    } else {
        Err(anyhow::anyhow!("`{name}` is neither a delta of vzbuild nor VCDIFF"))
            .hint("FILE is what `vzbuild delta` or `xdelta3 -e -S none` wrote")
    };
    applied.with_context(|| format!("cannot apply `{name}` to `{}`", args.old.display()))?;
    Ok(Status::Done.into())
}

fn apply_container(args: &Patch, delta: &FileAt) -> anyhow::Result<()> {
    let base = Tree::open(&args.old)?;
    // Nothing is on the disk yet: until here a signal just ends the program.
    let stop = interrupt::flag()?;
    interrupt::explain(&stop, build(args, delta, &base, &stop))
}

fn build(args: &Patch, delta: &FileAt, base: &Tree, stop: &AtomicBool) -> anyhow::Result<()> {
    let bar = progress::bytes("patching", base.manifest().size());
    let limits = Limits { target: room(&args.output)?, ..Limits::default() };
    let apply = |sink: &mut dyn Sink| {
        let mut sink = Watched { sink, bar: &bar, stop };
        delta::apply(delta, base.manifest(), base.files(), &mut sink, limits)
    };
    match (base, wants_tar(&args.output)) {
        (Tree::File(_), _) => drop(apply(&mut FileSink::create(&args.output)?)?),
        (Tree::Archive(_), _) | (_, true) => drop(apply(&mut ArchiveSink::create(&args.output)?)?),
        (Tree::Directory(_), false) => {
            let mut sink = DirectorySink::create(&args.output)?;
            apply(&mut sink)?;
            warn_unkept(&sink);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn apply_vcdiff(args: &Patch, delta: &FileAt) -> anyhow::Result<()> {
    let base = args.old.is_dir().then(|| Tree::open(&args.old)).transpose()?;
    let stop = interrupt::flag()?;
    interrupt::explain(&stop, restore(args, delta, base, &stop))
}

/// Restores a target from VCDIFF, where OLD is a directory by way of its tar.
fn restore(
    args: &Patch,
    delta: &FileAt,
    base: Option<Tree>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let is_directory = base.is_some();
    let spool;
    let source = if let Some(base) = base {
        let Tree::Directory(directory) = base else { bail!("it changed meanwhile") };
        let mut tar = FileSink::create(&args.output.with_extension("old-tar"))?;
        directory.write_tar(&mut Stoppable { out: &mut tar, stop })?;
        spool = tar;
        spool.content()?
    } else {
        open(&args.old)?
    };
    let bar = progress::bytes("patching", source.len());
    let out = Hashed { file: FileSink::create(&args.output)?, hasher: Sha256::new(), bar: &bar };
    let mut out = Stoppable { out, stop };
    let limits = vcdiff::Limits { target: room(&args.output)?, window: vcdiff::MAX_WINDOW };
    let mut input = Sequential { content: delta, at: 0 };
    let decoded = vcdiff::decode(&mut input, &source, &mut out, limits)?;
    let digest = Digest(out.out.hasher.finalize().into());
    let mut file = out.out.file;
    bar.finish_and_clear();
    if let Some(promise) = decoded.application.as_deref().and_then(|a| a.strip_prefix(b"vz1 "))
        && promise != format!("{} {digest}", decoded.target_len).as_bytes()
    {
        bail!("the result is not what the delta promises: it is damaged or incomplete");
    }
    if !is_directory || wants_tar(&args.output) {
        return Ok(file.finish()?);
    }
    let archive = Archive::open(file.file()?).context("the result is no tar of a tree")?;
    drop(file);
    let mut sink = DirectorySink::create(&args.output)?;
    let hidden = indicatif::ProgressBar::hidden();
    tree::copy(&Tree::Archive(archive), &mut Watched { sink: &mut sink, bar: &hidden, stop })?;
    warn_unkept(&sink);
    Ok(())
}

fn wants_tar(output: &Path) -> bool {
    output.extension().is_some_and(|extension| extension == "tar")
}

/// Bytes that the file system of `output` has room for.
fn room(output: &Path) -> anyhow::Result<u64> {
    let above = output.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(above)
        .with_context(|| format!("cannot look at {}", above.display()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn warn_unkept(sink: &DirectorySink) {
    for unkept in sink.unkept.iter().take(10) {
        report::warn(
            "vzbuild",
            format!("`{}` lacks {:?}, which this user may not set", unkept.path, unkept.what),
        );
    }
    if let Some(more) = sink.unkept.len().checked_sub(10).filter(|n| *n > 0) {
        report::warn("vzbuild", format!("and {more} more"));
    }
}

/// Reads a delta from start to end.
struct Sequential<'a> {
    content: &'a FileAt,
    at: u64,
}

impl io::Read for Sequential<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Digests what goes into a file.
struct Hashed<'a> {
    file: FileSink,
    hasher: Sha256,
    bar: &'a indicatif::ProgressBar,
}

impl Write for Hashed<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = Write::write(&mut self.file, buf)?;
        self.hasher.update(&buf[..n]);
        self.bar.inc(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink whose bytes are counted, and that fails once it is to stop.
struct Watched<'a> {
    sink: &'a mut dyn Sink,
    bar: &'a indicatif::ProgressBar,
    stop: &'a AtomicBool,
}

impl Sink for Watched<'_> {
    fn special(&mut self, entry: &Entry) -> io::Result<()> {
        self.sink.special(entry)
    }

    fn again(&mut self, entry: &Entry, from: &Entry) -> io::Result<()> {
        self.bar.inc(entry.file().map_or(0, |info| info.size));
        self.sink.again(entry, from)
    }

    fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        interrupt::check(self.stop)?;
        self.sink.begin(entry)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        interrupt::check(self.stop)?;
        self.bar.inc(bytes.len() as u64);
        self.sink.write(bytes)
    }

    fn end(&mut self, entry: &Entry) -> io::Result<()> {
        self.sink.end(entry)
    }

    fn commit(&mut self) -> io::Result<()> {
        self.sink.commit()
    }
}
