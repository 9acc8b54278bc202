//! The distinct contents of a tree: what has to be on a node before it can be built.

use std::collections::{BTreeMap, HashMap};

use delta::{Digest, Entry, Manifest};

/// One content: files of the same digest have it in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of it.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Number of the first entry that has it, in the order of the manifest.
    pub first: usize,
}

/// The contents of `manifest`, each once, in the order of their first files. Empty
/// files need none.
pub fn of(manifest: &Manifest) -> Vec<Content> {
    let mut seen = HashMap::new();
    let mut found = Vec::new();
    for (first, entry) in manifest.entries().iter().enumerate() {
        let Some(info) = entry.file().filter(|info| info.size > 0) else { continue };
        if seen.insert(info.digest, ()).is_none() {
            found.push(Content { digest: info.digest, size: info.size, first });
        }
    }
    found
}

/// How many entries still have each content to come.
pub fn uses(manifest: &Manifest) -> BTreeMap<Digest, usize> {
    let mut uses = BTreeMap::new();
    for info in manifest.entries().iter().filter_map(Entry::file) {
        *uses.entry(info.digest).or_default() += 1;
    }
    uses
}

/// Writes numbers in ascending order, each with an offset, as runs. A run whose
/// first has an offset is the only kind with one.
pub fn runs(needed: impl IntoIterator<Item = (u32, u64)>) -> Vec<(u32, u32, u64)> {
    let mut runs: Vec<(u32, u32, u64)> = Vec::new();
    for (number, offset) in needed {
        match runs.last_mut() {
            Some((first, count, _)) if offset == 0 && *first + *count == number => *count += 1,
            _ => runs.push((number, 1, offset)),
        }
    }
    runs
}

/// Reads runs; nothing where they are not ascending or lead past `len`.
pub fn from_runs(runs: &[(u32, u32, u64)], len: usize) -> Option<Vec<(u32, u64)>> {
    let mut next = 0;
    let mut needed = Vec::new();
    for (first, count, offset) in runs {
        let end = first.checked_add(*count)?;
        if *first < next || end as usize > len || *count == 0 {
            return None;
        }
        needed.push((*first, *offset));
        needed.extend((first + 1..end).map(|number| (number, 0)));
        next = end;
    }
    Some(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back() {
        let needed = vec![(0, 0), (1, 0), (4, 77), (5, 0), (9, 0)];
        let runs = runs(needed.clone());
        assert_eq!(runs, [(0, 2, 0), (4, 2, 77), (9, 1, 0)]);
        assert_eq!(from_runs(&runs, 10), Some(needed));
    }

    #[test]
    fn runs_that_lead_out_are_refused() {
        assert_eq!(from_runs(&[(0, 11, 0)], 10), None);
        assert_eq!(from_runs(&[(4, 2, 0), (5, 1, 0)], 10), None);
        assert_eq!(from_runs(&[(u32::MAX, 2, 0)], 10), None);
    }
}
