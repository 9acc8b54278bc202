//! `--fix`: adds what is missing, and makes the bundle anew.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::Context;
use tracer::Spec;

use super::Verdict;
use super::compare::Reason;
use crate::cli::build;
use crate::command::{bundle, source};
use crate::report;

/// How often the bundle is made anew: each round finds what the one before let
/// the program come to.
const ROUNDS: usize = 10;

/// Adds what `verdict` names to the spec and makes the bundle anew. Returns
/// whether there was anything that this helps.
pub(super) fn mend(args: &build::Verify, verdict: &Verdict, round: usize) -> anyhow::Result<bool> {
    let Some(spec_path) = args.spec.first() else { return Ok(false) };
    let mut spec = source::read(spec_path)?.spec;
    let mut added = Spec::default();
    let mut tmpfs: Vec<OsString> = Vec::new();
    let found = &verdict.comparison;
    for finding in found.findings.iter().chain(&found.courses) {
        let path = &finding.path.0;
        match finding.reason {
            Reason::Missing if finding.is_lost => {}
            Reason::Missing => added.unite([path.clone()].into_iter().collect()),
            Reason::ReadOnly => tmpfs.push(String::from_utf8_lossy(path).into_owned().into()),
            Reason::Hidden | Reason::Denied => {}
        }
    }
    if added.paths().len() == 0 && tmpfs.is_empty() || round > ROUNDS {
        return Ok(false);
    }
    for path in added.paths() {
        report::say("vzbuild", format_args!("round {round}: adds {}", path.escape_ascii()));
    }
    for path in &tmpfs {
        report::say("vzbuild", format_args!("round {round}: makes {} writable", path.display()));
    }
    spec.unite(added);
    write(spec_path, &spec)?;
    bundle::renew(args, tmpfs)?;
    Ok(true)
}

/// Writes the spec in place of the old one, whole.
fn write(path: &Path, spec: &Spec) -> anyhow::Result<()> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let cannot = || format!("cannot write `{}`", path.display());
    let part =
        tempfile::NamedTempFile::new_in(above.unwrap_or(Path::new("."))).with_context(cannot)?;
    fs::write(part.path(), spec.print()).with_context(cannot)?;
    let permissions = fs::metadata(path).with_context(cannot)?.permissions();
    fs::set_permissions(part.path(), permissions).with_context(cannot)?;
    part.persist(path).map_err(|error| error.error).with_context(cannot)?;
    Ok(())
}
