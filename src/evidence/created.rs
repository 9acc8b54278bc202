//! The time of the documents.

use bundler::time::rfc3339;

use super::Subject;

/// The time that was asked for, else that of the newest file, as RFC 3339 has it; none
/// before 1970.
pub(super) fn time(subject: &Subject<'_>) -> String {
    let newest = subject.layer.entries.iter().map(|entry| entry.mtime).max();
    rfc3339(subject.created.or(newest).unwrap_or(0).max(0))
}
