//! Makes the delta of two trees.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Condvar, Mutex};

use crate::apply::{apply, decode_content};
use crate::choice::{self, Choice};
use crate::container::Header;
use crate::manifest::{Entry, Manifest};
use crate::pairing::{self, Pairing, Sketch};
use crate::record::{self, Codec, Content};
use crate::tree::{Files, Limits, Sink, TreeError};
use crate::{Effort, StreamReader, Streams, plan};

/// How to encode.
pub struct Options<'a> {
    /// How much time to spend on size.
    pub effort: Effort,
    /// How many files to work on at a time, where memory allows: what the files
    /// take together is never more than for the largest pair alone.
    pub jobs: usize,
    /// Called with the bytes of target done, as they are.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// A finished delta and what it does.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The container.
    pub delta: Vec<u8>,
    /// Every regular file of the target that is not as in the base.
    pub files: Vec<FileReport>,
    /// Regular files that are as in the base, with other metadata perhaps.
    pub kept: u64,
    /// Whether it applies to any base, because a delta against this one would not
    /// have been much smaller.
    pub full: bool,
}

/// How one file travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Its path in the target.
    pub path: Vec<u8>,
    /// Bytes of content.
    pub size: u64,
    /// How it travels.
    pub travel: Travel,
}

/// How the content of a file travels, and about how many bytes of the delta are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Travel {
    /// The codec.
    pub codec: Codec,
    /// Path of the file that it is made from: in the base, or for
    /// [`Codec::Again`] in the target.
    pub base: Option<Vec<u8>>,
    /// Bytes of the delta, by a quick compression of this file alone.
    pub bytes: u64,
}

/// One side of a delta.
#[derive(Clone, Copy)]
struct Tree<'a> {
    manifest: &'a Manifest,
    files: &'a dyn Files,
}

/// Makes the delta that turns `base` into `target`, and proves it by applying it.
///
/// The manifests have to be true of what the files have. When nearly everything
/// would travel whole anyway, the delta is one that needs no base. Takes memory of
/// up to 12 times the largest pair of files, and for what the delta itself holds.
///
/// # Errors
/// [`TreeError::Read`] and [`TreeError::Changed`]; [`TreeError::Records`] where so much
/// is new that the default [`Limits`] refuse it; others only if the proof fails.
pub fn encode(
    base: (&Manifest, &dyn Files),
    target: (&Manifest, &dyn Files),
    options: &Options<'_>,
) -> Result<Encoded, TreeError> {
    let old = Tree { manifest: base.0, files: base.1 };
    let new = Tree { manifest: target.0, files: target.1 };
    let mut encoded = encode_against(old, new, options)?;
    let nothing = Manifest::default();
    if saved(&encoded, new) * 10 < encoded.delta.len() as u64 && !base.0.entries().is_empty() {
        let options = Options { progress: &|_| (), ..*options };
        encoded = encode_against(Tree { manifest: &nothing, files: old.files }, new, &options)?;
        encoded.full = true;
    }
    let proof = &mut Discard;
    apply(&encoded.delta, base.0, base.1, proof, Limits::default())?;
    Ok(encoded)
}

/// About how many bytes the base saves against a push of all: content mostly
/// compresses to a third.
fn saved(encoded: &Encoded, target: Tree<'_>) -> u64 {
    let full = encoded.files.iter().filter(|f| f.travel.codec == Codec::Full);
    let whole = full.map(|f| f.size).sum::<u64>();
    let patched = encoded.files.iter().filter(|f| f.travel.codec != Codec::Full);
    let cost = patched.map(|f| f.travel.bytes).sum::<u64>();
    (target.manifest.size().saturating_sub(whole) / 3).saturating_sub(cost)
}

fn encode_against(
    base: Tree<'_>,
    target: Tree<'_>,
    options: &Options<'_>,
) -> Result<Encoded, TreeError> {
    let mut pairs = pairing::pair(base.manifest, target.manifest);
    pair_by_content(base, target, &mut pairs)?;
    let first = first_of_each(target.manifest, &pairs);
    let mut tasks: Vec<Task<'_>> = Vec::new();
    for (number, entry) in target.manifest.entries().iter().enumerate() {
        let Some(info) = entry.file() else { continue };
        let old = match pairs[number] {
            Some(Pairing::Version(old)) => Some(&base.manifest.entries()[old]),
            Some(Pairing::Unknown) => None,
            Some(Pairing::Same(_)) | None => {
                (options.progress)(info.size);
                continue;
            }
        };
        if first[number] != number {
            (options.progress)(info.size);
            continue;
        }
        let weight = info.size + old.and_then(Entry::file).map_or(0, |old| old.size);
        tasks.push(Task { number, entry, old, weight });
    }
    let choices = run(&tasks, base.files, target.files, options)?;
    let mut choices = tasks.iter().map(|task| task.number).zip(choices).peekable();

    let mut streams = Streams::new();
    let mut contents: Vec<Option<Content>> = vec![None; target.manifest.entries().len()];
    let mut files = Vec::new();
    let mut kept = 0;
    let path = |manifest: &Manifest, number: usize| manifest.entries()[number].path.clone();
    for (number, entry) in target.manifest.entries().iter().enumerate() {
        let Some(info) = entry.file() else { continue };
        let own = base.manifest.index(&entry.path);
        let mut check = [0; 4];
        check.copy_from_slice(&info.digest.0[..4]);
        let mut content =
            Content { codec: Codec::Copy, base: None, size: info.size, cost: 0, check };
        let mut from = match pairs[number] {
            Some(Pairing::Same(old)) if Some(old) == own => {
                kept += 1;
                continue;
            }
            Some(Pairing::Same(old) | Pairing::Version(old)) => Some(old),
            _ => None,
        };
        if first[number] != number {
            content.codec = Codec::Again;
            content.base = Some((first[number] as u64, path(target.manifest, first[number])));
        } else {
            if let Some((_, choice)) = choices.next_if(|(task, _)| *task == number) {
                (content.codec, content.cost) = (choice.codec, choice.cost);
                streams.append(&choice.streams);
                from = from.filter(|_| choice.codec != Codec::Full);
            }
            let other = from.filter(|old| Some(*old) != own);
            content.base = other.map(|old| (old as u64, path(base.manifest, old)));
        }
        let made_from = match content.codec {
            Codec::Again => content.base.as_ref().map(|(_, path)| path.clone()),
            _ => from.map(|old| path(base.manifest, old)),
        };
        let travel = Travel { codec: content.codec, base: made_from, bytes: content.cost };
        files.push(FileReport { path: entry.path.clone(), size: info.size, travel });
        contents[number] = Some(content);
    }
    let records = plan::records(base.manifest, target.manifest, |n| contents[n].clone());
    record::write(&records, &mut streams);
    let mut delta = Vec::new();
    Header::new(base.manifest, target.manifest).write(&mut delta);
    delta.extend(streams.finish(options.effort).map_err(TreeError::Compress)?);
    Ok(Encoded { delta, files, kept, full: false })
}

/// For each entry of the target the number of the first whose content travels and
/// is the same: mostly its own.
fn first_of_each(target: &Manifest, pairs: &[Option<Pairing>]) -> Vec<usize> {
    let mut seen = HashMap::new();
    let first = |(number, entry): (usize, &Entry)| match (pairs[number], entry.file()) {
        (Some(Pairing::Version(_) | Pairing::Unknown), Some(info)) if info.size > 0 => {
            *seen.entry((info.size, info.digest)).or_insert(number)
        }
        _ => number,
    };
    target.entries().iter().enumerate().map(first).collect()
}

/// Looks for a base for files that have none by name, among those of the base
/// that are gone from the target.
fn pair_by_content(
    base: Tree<'_>,
    target: Tree<'_>,
    pairs: &mut [Option<Pairing>],
) -> Result<(), TreeError> {
    let unknown: Vec<usize> =
        (0..pairs.len()).filter(|n| pairs[*n] == Some(Pairing::Unknown)).collect();
    let taken: BTreeSet<usize> = pairs
        .iter()
        .filter_map(|pairing| match pairing {
            Some(Pairing::Same(number) | Pairing::Version(number)) => Some(*number),
            _ => None,
        })
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let mut candidates = Vec::new();
    for (number, entry) in base.manifest.entries().iter().enumerate() {
        let gone = target.manifest.index(&entry.path).is_none();
        if gone && entry.file().is_some() && !taken.contains(&number) {
            candidates.push((number, Sketch::of(&choice::read(base.files, entry)?)));
        }
    }
    if candidates.is_empty() {
        return Ok(());
    }
    for number in unknown {
        let entry = &target.manifest.entries()[number];
        let sketch = Sketch::of(&choice::read(target.files, entry)?);
        if let Some(similar) = pairing::most_similar(&sketch, &candidates) {
            pairs[number] = Some(Pairing::Version(similar));
        }
    }
    Ok(())
}

/// A file to be encoded.
struct Task<'a> {
    /// Its number in the target.
    number: usize,
    entry: &'a Entry,
    old: Option<&'a Entry>,
    /// Bytes of both.
    weight: u64,
}

/// Encodes all files, largest first, as many at a time as there are jobs for and
/// as together weigh no more than the heaviest.
fn run(
    tasks: &[Task<'_>],
    base: &dyn Files,
    target: &dyn Files,
    options: &Options<'_>,
) -> Result<Vec<Choice>, TreeError> {
    let heaviest = tasks.iter().map(|task| task.weight).max().unwrap_or(0);
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    order.sort_by_key(|n| (tasks[*n].weight, std::cmp::Reverse(*n)));
    let queue = Mutex::new(Queue { order, running: 0, failed: None });
    let changed = Condvar::new();
    let results: Vec<Mutex<Option<Choice>>> = tasks.iter().map(|_| Mutex::new(None)).collect();
    let worker = || {
        while let Some(number) = next(&queue, &changed, tasks, heaviest) {
            let task = &tasks[number];
            let choice = choose(task, base, target, options.effort);
            let mut queue = lock(&queue);
            queue.running -= task.weight;
            match choice {
                Ok(choice) => *lock(&results[number]) = Some(choice),
                Err(error) => queue.failed = queue.failed.take().or(Some(error)),
            }
            changed.notify_all();
            drop(queue);
            (options.progress)(task.entry.file().map_or(0, |info| info.size));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..options.jobs.clamp(1, tasks.len().max(1)) {
            scope.spawn(worker);
        }
        worker();
    });
    let queue = queue.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(error) = queue.failed {
        return Err(error);
    }
    let taken = |result: Mutex<Option<Choice>>| {
        result.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    Ok(results.into_iter().filter_map(taken).collect())
}

struct Queue {
    /// Tasks that wait, the lightest first.
    order: Vec<usize>,
    /// Weight of those at work.
    running: u64,
    failed: Option<TreeError>,
}

/// Takes the heaviest task that there is memory for, waiting until there is; nothing at the end.
fn next(
    queue: &Mutex<Queue>,
    changed: &Condvar,
    tasks: &[Task<'_>],
    heaviest: u64,
) -> Option<usize> {
    let mut queue = lock(queue);
    loop {
        if queue.failed.is_some() || queue.order.is_empty() {
            return None;
        }
        let room = heaviest - queue.running;
        if let Some(at) = queue.order.iter().rposition(|n| tasks[*n].weight <= room) {
            let number = queue.order.remove(at);
            queue.running += tasks[number].weight;
            return Some(number);
        }
        queue = changed.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
}

/// A worker that panicked poisons nothing: its result is missing, and the scope passes the panic on.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Encodes one file in the smallest way that gives it back.
fn choose(
    task: &Task<'_>,
    base: &dyn Files,
    target: &dyn Files,
    effort: Effort,
) -> Result<Choice, TreeError> {
    let new = choice::read(target, task.entry)?;
    let old = task.old.map(|old| choice::read(base, old)).transpose()?;
    let mut candidates = choice::candidates(old.as_deref(), &new, effort);
    candidates.sort_by_key(|choice| choice.cost);
    for choice in candidates {
        if choice.codec == Codec::Full || proves(&choice, old.as_deref(), &new) {
            return Ok(choice);
        }
    }
    Ok(choice::full(&new))
}

/// Whether decoding gives the file back.
fn proves(choice: &Choice, old: Option<&[u8]>, new: &[u8]) -> bool {
    let old = old.unwrap_or_default();
    let Ok(mut input) = StreamReader::open(&choice.block, 0, u64::MAX >> 1) else { return false };
    let mut out = Comparer { rest: new };
    let size = new.len() as u64;
    decode_content(choice.codec, &old, size, &mut input, &mut out).is_ok() && out.rest.is_empty()
}

/// Takes exactly the bytes that are expected.
struct Comparer<'a> {
    rest: &'a [u8],
}

impl io::Write for Comparer<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.rest = self.rest.strip_prefix(buf).ok_or(io::ErrorKind::InvalidData)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Builds nothing: for a proof that all would be well. What is kept is not read again.
struct Discard;

impl Sink for Discard {
    fn special(&mut self, _: &Entry) -> io::Result<()> {
        Ok(())
    }

    fn keep(&mut self, _: &Entry, _: &Entry) -> io::Result<bool> {
        Ok(true)
    }

    fn again(&mut self, _: &Entry, _: &Entry) -> io::Result<()> {
        Ok(())
    }

    fn begin(&mut self, _: &Entry) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, _: &Entry) -> io::Result<()> {
        Ok(())
    }

    fn commit(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
