//! Many nodes at once, and what each delta costs only once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::anyhow;
use delta::{Effort, Encoded};

use super::bundle::Bundle;
use super::cache::Cache;
use super::contents;
use super::outcome::Step;
use super::plan;

/// Does `work` for each of `items`, `parallel` at a time; results come in the order
/// of the items.
pub fn each<T: Sync, R: Send>(
    items: &[T],
    parallel: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = Mutex::new(items.iter().enumerate());
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let worker = || {
        loop {
            let taken = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, item)) = taken else { return };
            let result = work(item);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, items.len().max(1)) {
            scope.spawn(worker);
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A finished delta.
#[derive(Debug)]
pub struct Delta {
    /// The container.
    pub bytes: Vec<u8>,
    /// Bytes of the files that are not in the base as they are in the target.
    pub writes: u64,
    /// How many entries are not, those that are no files included.
    pub entries: u64,
    /// Whether it would be no better than sending files.
    pub full: bool,
    /// How each file travels that is not kept.
    pub steps: Vec<Step>,
}

type Key = (String, Vec<u32>);
type Slot = Arc<Mutex<Option<Arc<Delta>>>>;

/// The deltas of one run to one bundle: the first that needs one makes it, the others wait.
pub struct Deltas<'a> {
    bundle: &'a Bundle,
    cache: &'a Cache,
    slots: Mutex<HashMap<Key, Slot>>,
}

impl<'a> Deltas<'a> {
    /// Deltas to `bundle`.
    pub fn new(bundle: &'a Bundle, cache: &'a Cache) -> Self {
        Deltas { bundle, cache, slots: Mutex::default() }
    }

    /// Whether the files of the revision `id` are here.
    pub fn knows(&self, id: &str) -> bool {
        id == self.bundle.id || self.cache.tree(id).is_some()
    }

    /// Whether the delta against the revision `base` is there, or is being made.
    pub fn is_begun(&self, base: &str) -> bool {
        let key = (base.to_owned(), Vec::new());
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.contains_key(&key) || self.cache.has_delta(base, &self.bundle.id)
    }

    /// Bytes of contents that the bundle has and the revision `base` has not.
    pub fn changed(&self, base: &str) -> u64 {
        let Some(tree) = self.cache.tree(base) else { return 0 };
        let old: HashSet<_> = contents::of(&tree.manifest).iter().map(|c| c.digest).collect();
        let new = contents::of(&self.bundle.manifest);
        new.iter().filter(|content| !old.contains(&content.digest)).map(|c| c.size).sum()
    }

    /// The delta against the revision `base` without the files of these numbers.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn get(&self, base: &str, without: &[u32]) -> anyhow::Result<Arc<Delta>> {
        let key = (base.to_owned(), without.to_vec());
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(key).or_default())
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(delta) = &*slot {
            return Ok(Arc::clone(delta));
        }
        let delta = Arc::new(self.make(base, without)?);
        *slot = Some(Arc::clone(&delta));
        Ok(delta)
    }

    fn make(&self, base: &str, without: &[u32]) -> anyhow::Result<Delta> {
        let tree = match base == self.bundle.id {
            true => None,
            false => Some(self.cache.tree(base).ok_or_else(|| anyhow!("the base is not here"))?),
        };
        let (manifest, files): (_, &dyn delta::Files) = match &tree {
            Some(tree) => (&tree.manifest, tree),
            None => (&self.bundle.manifest, self.bundle),
        };
        let manifest = plan::without(manifest, without)?;
        if without.is_empty()
            && let Some(delta) = self.cache.delta(base, &self.bundle.id)
            && let Some(delta) = self.read(delta, &manifest)
        {
            return Ok(delta);
        }
        let encoded = self.encode(&manifest, files)?;
        if without.is_empty() {
            // Where it cannot be kept, it serves now, and is made again another time.
            let _ = self.cache.keep_delta(base, &self.bundle.id, &encoded.delta);
        }
        let read = self.read(encoded.delta, &manifest);
        read.ok_or_else(|| anyhow!("the delta cannot be read"))
    }

    fn encode(&self, base: &delta::Manifest, files: &dyn delta::Files) -> anyhow::Result<Encoded> {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let options = delta::Options { effort: Effort::new(6), jobs, progress: &|_| () };
        Ok(delta::encode((base, files), (&self.bundle.manifest, self.bundle), &options)?)
    }

    /// What a delta does, from its own records; nothing where it is none of this target.
    fn read(&self, bytes: Vec<u8>, base: &delta::Manifest) -> Option<Delta> {
        use delta::record::{NewKind, Record};
        let (header, records) = delta::inspect(&bytes, delta::Limits::default()).ok()?;
        if header.target != self.bundle.manifest.digest() {
            return None;
        }
        let mut steps = Vec::new();
        for record in records {
            let (path, content) = match record {
                Record::Change(change) => (change.path, change.content),
                Record::New(new) => match new.kind {
                    NewKind::File(_, content) => (new.path, Some(content)),
                    _ => continue,
                },
                Record::Keep(_) | Record::Drop(_) | Record::Touch(_) => continue,
            };
            if let Some(content) = content {
                let size = self.bundle.manifest.get(&path).and_then(delta::Entry::file);
                steps.push(Step {
                    path: String::from_utf8_lossy(&path).into_owned(),
                    how: content.codec.name(),
                    size: size.map_or(content.size, |info| info.size),
                    bytes: Some(content.cost),
                });
            }
        }
        let (mut writes, mut entries) = (0_u64, 0);
        for entry in self.bundle.manifest.entries() {
            match entry.file() {
                // A hard link.
                Some(_) if base.get(&entry.path) == Some(entry) => {}
                info => {
                    entries += 1;
                    writes = writes.saturating_add(info.map_or(0, |info| info.size));
                }
            }
        }
        let full = header.base == delta::Manifest::default().digest();
        Some(Delta { bytes, writes, entries, full, steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whatever_takes_longest() {
        let results = each(&[30_u64, 0, 10], 3, |ms| {
            thread::sleep(std::time::Duration::from_millis(*ms));
            *ms
        });
        assert_eq!(results, [30, 0, 10]);
        assert!(each(&[0_u8; 0], 4, |n| *n).is_empty());
    }

    #[test]
    fn nodes_at_once_share_one_delta_and_later_pushes_take_it_from_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = |name: &str, text: &[u8]| {
            let bundle = dir.path().join(name);
            std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
            std::fs::write(bundle.join("config.json"), r#"{"root":{"path":"rootfs"}}"#).unwrap();
            std::fs::write(bundle.join("rootfs/text"), text).unwrap();
            Bundle::open(&bundle).unwrap()
        };
        let text = (0..5000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
        let (old, new) = (bundle("old", &text), bundle("new", &[&text[..], b"more"].concat()));
        let cache = Cache::new(dir.path().join("cache"));
        cache.keep(&old.manifest, &old).unwrap();
        let deltas = Deltas::new(&new, &cache);
        let shared = each(&[1, 2, 3], 3, |_| deltas.get(&old.id, &[]).unwrap());
        assert!(shared.iter().all(|delta| Arc::ptr_eq(delta, &shared[0])));
        // Without the old contents, it can only be the one that was kept.
        for folder in std::fs::read_dir(dir.path().join("cache/objects")).unwrap() {
            for object in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                let object = object.unwrap();
                let size = object.metadata().unwrap().len() as usize;
                std::fs::write(object.path(), vec![0; size]).unwrap();
            }
        }
        let again = Deltas::new(&new, &cache).get(&old.id, &[]).unwrap();
        assert_eq!(again.bytes, shared[0].bytes);
    }
}
