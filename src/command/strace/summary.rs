//! What is said after a run, on standard error.

use serde::Serialize;
use tracer::Record;
use tracer::record::{BytePath, Unseen};

use crate::cli::strace::Args;
use crate::report;

const TOOL: &str = "smith-strace";

/// The summary of `--json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    spec: String,
    files: usize,
    bytes: u64,
    created: usize,
    changed: usize,
    deleted: usize,
    excluded: usize,
    pseudo: Vec<&'a BytePath>,
    unseen: Vec<&'a Unseen>,
    end: tracer::record::End,
}

/// Prints one line, more with `--verbose`, JSON with `--json`.
pub(super) fn print(args: &Args, record: &Record, bytes: u64) {
    if args.json {
        let summary = Summary {
            spec: args.output.to_string_lossy().into_owned(),
            files: record.files.len(),
            bytes,
            created: record.created.len(),
            changed: record.changed.len(),
            deleted: record.deleted.len(),
            excluded: record.excluded.len(),
            pseudo: record.pseudo.iter().collect(),
            unseen: record.unseen.iter().collect(),
            end: record.runs.last().map(|run| run.end).unwrap_or_default(),
        };
        let text = serde_json::to_string(&summary).unwrap_or_default();
        return report::line(&text);
    }
    report::say(TOOL, line(args, record, bytes));
    for unseen in &record.unseen {
        report::warn(TOOL, &unseen.message);
    }
    if args.verbose {
        list("excluded", record.excluded.iter());
        list("made by the run", record.created.iter());
        list("pseudo file system", record.pseudo.iter());
        list("original kept", record.files.iter().filter(|f| f.original).map(|f| &f.path));
    }
}

fn line(args: &Args, record: &Record, bytes: u64) -> String {
    let files = record.files.len();
    let mut parts = vec![format!("{files} files, {} in `{}`", size(bytes), args.output.display())];
    let mut count = |number: usize, what: &str| {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    };
    count(record.created.len(), "made by the run left out");
    count(record.excluded.len(), "excluded");
    count(record.files.iter().filter(|f| f.original).count(), "originals kept");
    count(record.unseen.len(), "warnings: the spec may be incomplete");
    parts.join("; ")
}

fn list<'a>(what: &str, paths: impl Iterator<Item = &'a BytePath>) {
    for path in paths {
        report::say(TOOL, format!("{what}: {}", path.0.escape_ascii()));
    }
}

/// Bytes for people: powers of 1024, one decimal.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 || unit == "GiB" {
            return if unit == "bytes" {
                format!("{bytes} bytes")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 30), "5.0 GiB");
    }
}
