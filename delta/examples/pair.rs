//! Encodes pairs of files or trees, proves the result by decoding it, and prints
//! bytes per stream, seconds of processor time and peak memory.
//!
//! `cargo run --release -p delta --example pair -- [-e EFFORT] OLD NEW`

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use delta::{Effort, Stream, StreamReader, Streams, elf, split};

const STREAMS: [Stream; 10] = [
    Stream::Header,
    Stream::Copy,
    Stream::Insert,
    Stream::Seek,
    Stream::RefRun,
    Stream::RefValue,
    Stream::AddRun,
    Stream::AddValue,
    Stream::Extra,
    Stream::NewRef,
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let mut level = 9;
    if arguments.next_if(|a| a == "-e").is_some() {
        level = arguments.next().and_then(|a| a.to_str()?.parse().ok()).ok_or("-e takes 1 to 9")?;
    }
    let split_only = arguments.next_if(|a| a == "-s").is_some();
    let (Some(old), Some(new)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pair [-e EFFORT] [-s] OLD NEW".into());
    };
    run(Path::new(&old), Path::new(&new), Effort::new(level), split_only)
}

fn run(old: &Path, new: &Path, effort: Effort, split_only: bool) -> Result<(), Box<dyn Error>> {
    let pairs = pairs(old, new)?;
    let begun = cpu_seconds()?;
    let mut all = Streams::new();
    let mut codecs = Vec::new();
    for (old, new) in &pairs {
        let before = fs::read(old).unwrap_or_default();
        let after = fs::read(new)?;
        let understood = !split_only && elf::encode(&before, &after, &mut all, effort).is_some();
        if !understood {
            split::encode(&before, &after, &mut all, effort);
        }
        codecs.push((understood, after.len() as u64));
    }
    let matched = cpu_seconds()?;
    let block = all.finish(effort)?;
    let encoded = cpu_seconds()?;
    let peak = peak_kib()?;
    let mut input = StreamReader::open(&block, 0, u64::MAX)?;
    for ((old, new), (understood, len)) in pairs.iter().zip(&codecs) {
        let before = fs::read(old).unwrap_or_default();
        let mut restored = Vec::new();
        if *understood {
            elf::decode(&before, *len, &mut input, &mut restored)?;
        } else {
            split::decode(&before, *len, &mut input, &mut restored)?;
        }
        if restored != fs::read(new)? {
            return Err(format!("{} is not restored", new.display()).into());
        }
    }
    let decoded = cpu_seconds()?;
    for stream in STREAMS {
        let mut alone = Streams::new();
        alone.append_only(stream, &all);
        println!("{stream:9?} {:9} -> {:8}", all.len(stream), alone.finish(effort)?.len());
    }
    println!(
        "{} pairs, {} by elf: {} bytes; match {:.2} s, compress {:.2} s, decode {:.2} s; encoder peak {} MiB",
        pairs.len(),
        codecs.iter().filter(|c| c.0).count(),
        block.len(),
        matched - begun,
        encoded - matched,
        decoded - encoded,
        peak >> 10
    );
    Ok(())
}

/// The files of `new` that differ from those of `old`, each with its old one: of
/// the same path, else of the same name but for digits, else none.
fn pairs(old: &Path, new: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Box<dyn Error>> {
    if new.is_file() {
        return Ok(vec![(old.into(), new.into())]);
    }
    let (olds, news) = (files(old)?, files(new)?);
    let stem = |p: &Path| p.to_string_lossy().replace(|c: char| c.is_ascii_digit(), "");
    let name = |p: &Path| p.file_name().unwrap_or(OsStr::new("")).to_owned();
    let mut pairs = Vec::new();
    for path in news {
        let same = old.join(&path);
        let base = if same.is_file() {
            same
        } else {
            let like = |o: &&PathBuf| stem(o) == stem(&path) || name(o) == name(&path);
            olds.iter().find(like).map_or(same, |o| old.join(o))
        };
        if fs::read(&base).ok() != Some(fs::read(new.join(&path))?) {
            pairs.push((base, new.join(&path)));
        }
    }
    Ok(pairs)
}

fn files(root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path().strip_prefix(root)?.to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Processor time of this process so far, proc_pid_stat(5), in ticks of 1/100 s.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

fn peak_kib() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
