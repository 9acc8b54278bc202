//! `vzbuild delta --stat`: how each file travels in a delta.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use delta::container::Header;
use delta::record::{Codec, Content, NewKind, Record};
use delta::{Limits, ReadAt, vcdiff};
use serde_json::json;

use crate::report::{self, Status};

use super::delta::open;

/// One file whose content travels.
struct Row<'a> {
    path: &'a [u8],
    content: &'a Content,
    is_new: bool,
}

/// Totals over all records.
#[derive(Default)]
struct Totals {
    kept: u64,
    dropped: u64,
    /// Entries with other metadata only.
    touched: u64,
    /// New directories, links and the like.
    special: u64,
}

/// Prints a table, or JSON.
///
/// # Errors
/// A file that cannot be read or is no delta of ours.
pub fn run(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let delta = open(file)?;
    let name = file.display();
    let mut magic = [0; 4];
    if delta.len() >= 4 && delta.read_exact_at(&mut magic, 0).is_ok() && magic == vcdiff::MAGIC {
        let value = json!({ "format": "vcdiff", "bytes": delta.len() });
        let text =
            format!("VCDIFF of {} bytes: one stream, which knows of no files\n", delta.len());
        report::data(if json { format!("{value}\n") } else { text }.as_bytes())?;
        return Ok(Status::Done.into());
    }
    let (header, records) = delta::inspect(&delta, Limits::default())
        .with_context(|| format!("cannot read `{name}`"))?;
    let (rows, totals) = sort(&records);
    let text = match json {
        true => describe(&header, &rows, &totals, delta.len()),
        false => table(&header, &rows, &totals, delta.len()),
    };
    report::data(text.as_bytes())?;
    Ok(Status::Done.into())
}

fn sort(records: &[Record]) -> (Vec<Row<'_>>, Totals) {
    let (mut rows, mut totals) = (Vec::new(), Totals::default());
    for record in records {
        match record {
            Record::Keep(n) => totals.kept += n,
            Record::Drop(n) => totals.dropped += n,
            Record::Touch(n) => totals.touched += n,
            Record::Change(change) => match &change.content {
                Some(content) => rows.push(Row { path: &change.path, content, is_new: false }),
                None => totals.touched += 1,
            },
            Record::New(new) => match &new.kind {
                NewKind::File(_, content) => {
                    rows.push(Row { path: &new.path, content, is_new: true });
                }
                _ => totals.special += 1,
            },
        }
    }
    (rows, totals)
}

impl Row<'_> {
    /// The path in the base that it is made from, where there is one.
    fn base(&self) -> Option<&[u8]> {
        match &self.content.base {
            Some((_, path)) => Some(path),
            None if self.is_new || self.content.codec == Codec::Full => None,
            None => Some(self.path),
        }
    }

    fn how(&self) -> &'static str {
        match self.content.codec {
            Codec::Copy | Codec::Again => "copy",
            Codec::Full => "full",
            _ => "patch",
        }
    }
}

fn describe(header: &Header, rows: &[Row<'_>], totals: &Totals, bytes: u64) -> String {
    let row = |row: &Row<'_>| {
        json!({
            "path": String::from_utf8_lossy(row.path),
            "how": row.how(),
            "codec": row.content.codec.name(),
            "bytes": row.content.cost,
            "size": row.content.size,
            "base": row.base().map(String::from_utf8_lossy),
        })
    };
    let value = json!({
        "format": "vz",
        "version": 1,
        "bytes": bytes,
        "base": header.base.to_string(),
        "target": header.target.to_string(),
        "files": rows.iter().map(row).collect::<Vec<_>>(),
        "kept": totals.kept,
        "dropped": totals.dropped,
        "touched": totals.touched,
        "special": totals.special,
    });
    format!("{value:#}\n")
}

fn table(header: &Header, rows: &[Row<'_>], totals: &Totals, bytes: u64) -> String {
    let mut text = format!("base    {}\ntarget  {}\n\n", header.base, header.target);
    if !rows.is_empty() {
        text += &format!("{:<6} {:<7} {:>10} {:>12}  PATH\n", "HOW", "CODEC", "BYTES", "SIZE");
    }
    for row in rows {
        let path = match row.path {
            b"" => "(the file)".into(),
            path => String::from_utf8_lossy(path),
        };
        let from = match row.base() {
            Some(base) if base != row.path => format!(" from {}", String::from_utf8_lossy(base)),
            _ => String::new(),
        };
        let Content { codec, cost, size, .. } = row.content;
        let (how, codec) = (row.how(), codec.name());
        text += &format!("{how:<6} {codec:<7} {cost:>10} {size:>12}  {path}{from}\n");
    }
    let travel: u64 = rows.iter().map(|row| row.content.cost).sum();
    let size: u64 = rows.iter().map(|row| row.content.size).sum();
    if !rows.is_empty() {
        text += &format!("{:<14} {travel:>10} {size:>12}  each by itself\n\n", "");
    }
    let Totals { kept, dropped, touched, special } = totals;
    text += &format!(
        "{} in all; {} to send; entries: {kept} kept, {dropped} dropped, {touched} with other attributes, {special} new that are no files\n",
        report::count(bytes, "byte"),
        report::count(rows.len(), "file"),
    );
    text
}
