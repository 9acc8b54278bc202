//! `vzbuild closure`: print the closed list.

use std::process::ExitCode;

use bundler::{Closure, Kind, Missing, Reason, RootPath, Rootfs, Why};
use serde_json::{Value, json};
use tracer::Spec;
use tracer::record::BytePath;

use crate::cli::build;
use crate::report::{self, Status};

use super::source::gather;

/// Prints the specs and all that they need, in the form of a spec or as JSON.
///
/// # Errors
/// As [`gather`], and with status 1 where something is missing.
pub fn run(args: &build::Closure) -> anyhow::Result<ExitCode> {
    let gathered = gather(&args.source)?;
    let closure = &gathered.closure;
    if args.json {
        report::json(&describe(closure, &gathered.rootfs))?;
    } else {
        report::data(&list(closure, &gathered.rootfs).print())?;
        gathered.say_warnings();
    }
    gathered.refuse_missing(args.source.allow_missing)?;
    Ok(Status::Done.into())
}

/// The nodes of /dev that mean the same on every machine.
const DEVICES: [&[u8]; 6] =
    [b"/dev/full", b"/dev/null", b"/dev/random", b"/dev/tty", b"/dev/urandom", b"/dev/zero"];

/// The entries as a spec, with the devices that the runs used: a runtime makes
/// those, but whoever copies the list and calls chroot has none.
fn list(closure: &Closure, rootfs: &Rootfs) -> Spec {
    let is_device = |path: &&RootPath| {
        DEVICES.contains(&path.as_bytes())
            && rootfs.lstat(path).is_ok_and(|meta| meta.kind == Kind::CharDevice)
    };
    let paths = closure.entries.keys().chain(closure.runtime.keys().filter(is_device));
    paths.map(|path| path.as_bytes().to_vec()).collect()
}

fn describe(closure: &Closure, rootfs: &Rootfs) -> Value {
    let entry = |(path, why): (&RootPath, &Why)| {
        let meta = rootfs.lstat(path).ok();
        json!({
            "path": bytes(path.as_bytes()),
            "kind": meta.map(|m| format!("{:?}", m.kind).to_lowercase()),
            "size": meta.map(|m| m.size),
            "why": reason(why),
        })
    };
    let missing = |missing: &Missing| {
        json!({
            "name": bytes(&missing.name),
            "reason": kind(&missing.reason),
            "from": missing.reason.from().map(|path| bytes(path.as_bytes())),
            "cause": missing.cause.to_string(),
        })
    };
    let runtime = |(path, why): (&RootPath, &Why)| json!({ "path": bytes(path.as_bytes()), "why": reason(why) });
    let warning = |w: &bundler::Warning| json!({ "kind": w.kind, "message": w.message });
    json!({
        "entries": closure.entries.iter().map(entry).collect::<Vec<_>>(),
        "missing": closure.missing.iter().map(missing).collect::<Vec<_>>(),
        "runtime": closure.runtime.iter().map(runtime).collect::<Vec<_>>(),
        "warnings": closure.warnings.iter().map(warning).collect::<Vec<_>>(),
    })
}

fn reason(why: &Why) -> Value {
    json!({
        "reason": kind(&why.reason),
        "from": why.reason.from().map(|path| bytes(path.as_bytes())),
        "named": why.named.as_deref().map(bytes),
        "text": why.reason.to_string(),
    })
}

/// A stable name for scripts.
pub(crate) fn kind(reason: &Reason) -> &'static str {
    match reason {
        Reason::Spec => "spec",
        Reason::Interpreter { .. } => "interpreter",
        Reason::Needed { .. } => "needed",
        Reason::Dlopen { .. } => "dlopen",
        Reason::Baseline { .. } => "baseline",
        Reason::Shebang { .. } => "shebang",
        Reason::Env { .. } => "env",
        Reason::LoaderConfig { .. } => "loader-config",
        Reason::Rule { .. } => "rule",
        _ => "other",
    }
}

pub(super) fn bytes(bytes: &[u8]) -> BytePath {
    BytePath(bytes.to_vec())
}
