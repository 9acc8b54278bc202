//! What to send, decided from what the node said, before anything is sent. Pure.

use delta::{Kind, Manifest, ManifestError};

use super::protocol::Have;

/// Whether deltas are to be used.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A delta where it is smaller than the files, and not made seconds after they are sent
    Auto,
    /// A delta where it is smaller than the files, however long it takes to make
    Smaller,
    /// A delta, or it is an error
    Always,
    /// The files that the node lacks, whole
    Never,
}

/// How a revision reaches a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is there.
    Present,
    /// By a delta against this revision of the node.
    Delta(String),
    /// By the contents that the node lacks; whether it has to be asked which.
    Files {
        /// Whether the node has anything that it could keep.
        ask: bool,
    },
}

/// Why there is no way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A delta was demanded, and there is no base for it.
    #[error("no revision on the node is known here, so there is nothing to make a delta against")]
    NoBase,
}

/// Chooses the way for `target`; `known` says for which revisions this end has the files.
///
/// # Errors
/// [`PlanError::NoBase`] in mode [`Mode::Always`].
pub fn choose(
    have: &Have,
    target: &str,
    mode: Mode,
    known: impl Fn(&str) -> bool,
) -> Result<Way, PlanError> {
    if have.revisions.iter().any(|id| id == target) {
        return Ok(Way::Present);
    }
    let base = have.revisions.iter().find(|id| known(id));
    match (mode, base) {
        (Mode::Auto | Mode::Smaller | Mode::Always, Some(base)) => Ok(Way::Delta(base.clone())),
        (Mode::Always, None) => Err(PlanError::NoBase),
        (Mode::Auto | Mode::Smaller | Mode::Never, _) => Ok(Way::Files { ask: !have.empty }),
    }
}

/// Bytes of changed contents for which a delta is made in a second: about as fast as the
/// programs of benches/delta/run on two CPUs.
const ENCODED: f64 = 4e6;
/// What compression leaves of programs.
const PACKED: f64 = 0.35;
/// Seconds for which a delta may be waited, since it saves bytes.
const WORTH: f64 = 3.0;

/// Whether sending `changed` bytes of contents whole, over a line that takes `rate` bytes
/// a second, ends seconds before a delta could be made. It does not where nothing is known of
/// the line.
pub fn files_are_sooner(changed: u64, rate: Option<f64>) -> bool {
    let Some(rate) = rate.filter(|rate| *rate > 0.0) else { return false };
    let changed = changed as f64;
    changed / ENCODED > changed * PACKED / rate + WORTH
}

/// The base without the files of these numbers, and without hard links to them:
/// what both ends make a delta against when they are damaged.
///
/// # Errors
/// Where what is left is no tree; it always is.
pub fn without(base: &Manifest, numbers: &[u32]) -> Result<Manifest, ManifestError> {
    let is_out = |number: usize| u32::try_from(number).is_ok_and(|n| numbers.contains(&n));
    let gone: Vec<&[u8]> = base
        .entries()
        .iter()
        .enumerate()
        .filter(|(number, entry)| is_out(*number) && entry.file().is_some())
        .map(|(_, entry)| entry.path.as_slice())
        .collect();
    let stays = |entry: &&delta::Entry| match &entry.kind {
        Kind::HardLink(target) => !gone.contains(&target.as_slice()),
        _ => !gone.contains(&entry.path.as_slice()),
    };
    Manifest::new(base.entries().iter().filter(stays).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(revisions: &[&str], mode: Mode, known: &[&str], expected: &Result<Way, PlanError>) {
        let have = Have {
            version: 1,
            receiver: String::new(),
            arch: String::new(),
            revisions: revisions.iter().map(|r| (*r).to_owned()).collect(),
            current: None,
            partial: None,
            empty: revisions.is_empty(),
        };
        assert_eq!(choose(&have, "new", mode, |id| known.contains(&id)), *expected);
    }

    #[test]
    fn the_first_known_revision_is_the_base() {
        check(&["a", "b"], Mode::Auto, &["b"], &Ok(Way::Delta("b".into())));
        check(&["a", "b"], Mode::Always, &["a", "b"], &Ok(Way::Delta("a".into())));
    }

    #[test]
    fn without_a_base_files_are_sent_and_a_node_with_nothing_is_not_asked() {
        check(&[], Mode::Auto, &[], &Ok(Way::Files { ask: false }));
        check(&["a"], Mode::Auto, &[], &Ok(Way::Files { ask: true }));
        check(&["a"], Mode::Never, &["a"], &Ok(Way::Files { ask: true }));
        check(&["a"], Mode::Always, &[], &Err(PlanError::NoBase));
    }

    #[test]
    fn a_delta_of_a_large_program_is_for_slow_lines() {
        let (node, redis) = (125_000_000, 1_700_000);
        for (changed, rate, expected) in [
            (node, None, false),
            (node, Some(1e6), false),
            (node, Some(10e6), true),
            (redis, Some(100e6), false),
        ] {
            assert_eq!(files_are_sooner(changed, rate), expected, "{changed} {rate:?}");
        }
    }

    #[test]
    fn what_is_there_is_not_sent() {
        check(&["a", "new"], Mode::Never, &[], &Ok(Way::Present));
    }
}
