//! What is said after a run, on standard error.

use indicatif::HumanBytes;
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

/// What is said; made before the record is given away, printed once it is written.
pub(super) struct Lines {
    first: String,
    warnings: Vec<String>,
    details: Vec<String>,
}

/// One line, warnings, and more with `--verbose`; JSON with `--json`.
pub(super) fn of(args: &Args, record: &Record, bytes: u64) -> Lines {
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
        let first = serde_json::to_string(&summary).unwrap_or_default();
        return Lines { first, warnings: Vec::new(), details: Vec::new() };
    }
    let mut details = Vec::new();
    if args.verbose {
        let mut list = |what: &str, paths: &mut dyn Iterator<Item = &BytePath>| {
            details.extend(paths.map(|path| format!("{what}: {}", path.0.escape_ascii())));
        };
        list("excluded", &mut record.excluded.iter());
        list("made by the run", &mut record.created.iter());
        list("pseudo file system", &mut record.pseudo.iter());
        let mut originals = record.files.iter().filter(|f| f.original).map(|f| &f.path);
        list("original kept", &mut originals);
    }
    let warnings = record.unseen.iter().map(|unseen| unseen.message.clone()).collect();
    Lines { first: line(args, record, bytes), warnings, details }
}

impl Lines {
    /// Prints them, unless `--quiet` asks for errors only.
    pub(super) fn print(&self, args: &Args) {
        if args.quiet {
            return;
        }
        if args.json {
            return report::line(&self.first);
        }
        report::say(TOOL, &self.first);
        for warning in &self.warnings {
            report::warn(TOOL, warning);
        }
        for detail in &self.details {
            report::say(TOOL, detail);
        }
    }
}

fn line(args: &Args, record: &Record, bytes: u64) -> String {
    let files = report::count(record.files.len(), "file");
    let mut parts = vec![format!("{files}, {} in `{}`", HumanBytes(bytes), args.output.display())];
    let originals = record.files.iter().filter(|file| file.original).count();
    let more = [
        (record.created.len(), format!("{} made by the run left out", record.created.len())),
        (record.excluded.len(), format!("{} excluded", record.excluded.len())),
        (originals, format!("{} kept", report::count(originals, "original"))),
        (record.unseen.len(), report::count(record.unseen.len(), "warning")),
    ];
    parts.extend(more.into_iter().filter(|(number, _)| *number > 0).map(|(_, what)| what));
    parts.join("; ")
}
