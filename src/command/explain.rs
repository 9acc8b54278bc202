//! `vzbuild explain`: the chain of reasons from a file down to the spec.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use bundler::resolve::{Resolved, Resolver, Unresolved};
use bundler::{Closure, RootPath, Why};
use serde_json::{Value, json};
use tracer::record::{BytePath, FileUse};

use crate::cli::build::{Explain, Source};
use crate::report::{self, Advice, Status};

use super::closure::{bytes, kind};
use super::source::{Gathered, gather};

/// Most names of files that are shown when the one asked for is not in.
const MAX_NEAR: usize = 5;

/// Prints why `args.path` is in, or for every file its nearest reason.
///
/// # Errors
/// As [`gather`], and where the path is not absolute.
pub fn run(args: &Explain) -> anyhow::Result<ExitCode> {
    let source = Source {
        specs: vec![PathBuf::from(&args.spec)],
        root: args.root.clone(),
        allow_missing: true,
        listed: false,
    };
    let gathered = gather(&source)?;
    let Some(path) = &args.path else {
        report::data(&all(&gathered.closure, args.json)?)?;
        return Ok(Status::Done.into());
    };
    let path = path.as_bytes();
    if path.first() != Some(&b'/') {
        return Err(anyhow::anyhow!("`{}` is not absolute", path.escape_ascii()))
            .hint("PATH begins with `/`: it is a path inside the root")
            .status(Status::Usage as u8);
    }
    let resolver = Resolver::new(&gathered.rootfs);
    let place = place(&resolver, &gathered.closure, path);
    if let Some(place) = place {
        let chain = chain(&gathered.closure, &place);
        let text = if args.json {
            report::json_text(&json!(
                chain.iter().map(|link| describe(&gathered, link)).collect::<Vec<_>>()
            ))?
        } else {
            chain.iter().map(|link| tell(&gathered, &resolver, link)).collect::<String>().into()
        };
        report::data(&text)?;
        return Ok(Status::Done.into());
    }
    let text = absent(&gathered, path);
    if args.json {
        report::data(&report::json_text(
            &json!({ "path": bytes(path), "in": false, "text": text }),
        )?)?;
    } else {
        report::say("vzbuild", text);
    }
    Ok(Status::No.into())
}

/// The entry (or what the runtime gives) that `path` names: the link itself
/// where it is one, else the file where its links lead.
fn place(resolver: &Resolver<'_>, closure: &Closure, path: &[u8]) -> Option<RootPath> {
    let end = |found: Result<Resolved, Unresolved>| match found {
        Ok(found) => Some(found.path),
        Err(found) => match found.end {
            bundler::resolve::End::Runtime(path) => Some(path),
            _ => None,
        },
    };
    let known = |p: &RootPath| closure.entries.contains_key(p) || closure.runtime.contains_key(p);
    let own = end(resolver.resolve_link(path)).filter(known);
    own.or_else(|| end(resolver.resolve(path)).filter(known))
}

/// The entry with its reason, then the entry that it is in for, and so on.
fn chain<'a>(closure: &'a Closure, path: &RootPath) -> Vec<(RootPath, &'a Why)> {
    let mut chain: Vec<(RootPath, &Why)> = Vec::new();
    let mut next = Some(path.clone());
    while let Some(path) = next {
        let why = closure.entries.get(&path).or_else(|| closure.runtime.get(&path));
        // A ring of reasons would be a mistake, but must not hang us.
        let Some(why) = why.filter(|_| chain.iter().all(|(seen, _)| *seen != path)) else { break };
        next = why.reason.from().cloned();
        chain.push((path, why));
    }
    chain
}

fn tell(gathered: &Gathered, resolver: &Resolver<'_>, (path, why): &(RootPath, &Why)) -> String {
    let mut text = format!("{path}\n  {}\n", why.reason);
    if let Some(named) = &why.named {
        let found = resolver.resolve(named);
        let links = found.map_or_else(|found| found.links, |found| found.links);
        let links: Vec<String> = links
            .iter()
            .map(|link| {
                let target = gathered.rootfs.read_link(link).unwrap_or_default();
                format!("{link} -> {}", target.escape_ascii())
            })
            .collect();
        let _ = writeln!(text, "  as {}, by {}", named.escape_ascii(), links.join(", "));
    }
    if gathered.rootfs.is_original(path) {
        text.push_str("  its original content is taken, since the run changed it\n");
    }
    if let Some(file) = first_use(gathered, path) {
        let uses: Vec<String> = file.uses.iter().map(|u| format!("{u:?}").to_lowercase()).collect();
        let process = file.process.0.escape_ascii();
        let _ = writeln!(text, "  first used by {process} (pid {}): {}", file.pid, uses.join(", "));
    }
    text
}

fn describe(gathered: &Gathered, (path, why): &(RootPath, &Why)) -> Value {
    json!({
        "path": bytes(path.as_bytes()),
        "reason": kind(&why.reason),
        "named": why.named.as_deref().map(bytes),
        "text": why.reason.to_string(),
        "original": gathered.rootfs.is_original(path),
        "use": first_use(gathered, path).map(|file| json!({
            "process": file.process, "pid": file.pid, "uses": file.uses,
        })),
    })
}

fn first_use<'a>(gathered: &'a Gathered, path: &RootPath) -> Option<&'a FileUse> {
    let records = gathered.inputs.iter().filter_map(|input| input.record.as_ref());
    records.flat_map(|r| &r.files).find(|file| file.path.0 == path.as_bytes())
}

/// Every entry with its nearest reason.
fn all(closure: &Closure, as_json: bool) -> anyhow::Result<Vec<u8>> {
    if as_json {
        let entry = |(path, why): (&RootPath, &Why)| {
            let from = why.reason.from().map(|from| bytes(from.as_bytes()));
            json!({ "path": bytes(path.as_bytes()), "reason": kind(&why.reason), "from": from })
        };
        return Ok(report::json_text(&json!(
            closure.entries.iter().map(entry).collect::<Vec<_>>()
        ))?);
    }
    let line = |(path, why): (&RootPath, &Why)| format!("{path}: {}\n", why.reason);
    Ok(closure.entries.iter().map(line).collect::<String>().into())
}

/// Why a path is not in, as far as can be told, and what is near.
fn absent(gathered: &Gathered, path: &[u8]) -> String {
    let shown = path.escape_ascii();
    let missing = gathered.closure.missing.iter().find(|m| *m.name == *path);
    if let Some(missing) = missing {
        return format!("{shown} is wanted and missing: {}, {}", missing.reason, missing.cause);
    }
    let records = || gathered.inputs.iter().filter_map(|input| input.record.as_ref());
    let told = BytePath(path.to_vec());
    if records().any(|r| r.excluded.contains(&told)) {
        return format!("{shown} was used, and --exclude (or --include) left it out");
    }
    if records().any(|r| r.created.contains(&told)) {
        return format!("{shown} is not in: the run made it itself");
    }
    let near = near(&gathered.closure, path);
    let near = if near.is_empty() { String::new() } else { format!("; near: {}", near.join(", ")) };
    format!("{shown} is not in: no line of the spec and no entry needs it{near}")
}

/// Entries of the same name elsewhere, then those in the same directory.
fn near(closure: &Closure, path: &[u8]) -> Vec<String> {
    let Ok(path) = RootPath::new(path) else { return Vec::new() };
    let same_name = closure.entries.keys().filter(|p| p.file_name() == path.file_name());
    let beside = closure.entries.keys().filter(|p| {
        p.parent() == path.parent() || path.parent().as_ref() == Some(*p) || p.starts_with(&path)
    });
    let mut near: Vec<String> = same_name.chain(beside).map(ToString::to_string).collect();
    near.dedup();
    near.truncate(MAX_NEAR);
    near
}
