//! `--fix`: adds what is missing, and makes the bundle anew.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
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
pub(in crate::command) const ROUNDS: usize = 10;

/// What would make a bundle do as the first run did.
#[derive(Debug, Default)]
pub(in crate::command) struct Remedy {
    /// To be added to the spec.
    pub(in crate::command) paths: Vec<Vec<u8>>,
    /// Directories to be made writable.
    pub(in crate::command) writable: Vec<OsString>,
}

impl Verdict {
    /// What can be done in this round, which is said.
    pub(in crate::command) fn remedy(&self, round: usize) -> Remedy {
        let found = &self.comparison;
        let mut remedy = Remedy::default();
        for finding in found.findings.iter().chain(&found.courses) {
            let path = &finding.path.0;
            let shown = path.escape_ascii();
            match finding.reason {
                Reason::Missing if !finding.is_lost => {
                    report::say("vzbuild", format_args!("round {round}: adds {shown}"));
                    remedy.paths.push(path.clone());
                }
                // Nothing can be mounted over the root itself.
                Reason::ReadOnly if path != b"/" => {
                    report::say("vzbuild", format_args!("round {round}: makes {shown} writable"));
                    remedy.writable.push(OsString::from_vec(path.clone()));
                }
                _ => {}
            }
        }
        remedy
    }
}

/// Adds what `verdict` names to the spec and makes the bundle anew. Returns
/// whether there was anything that this helps.
pub(super) fn mend(args: &build::Verify, verdict: &Verdict, round: usize) -> anyhow::Result<bool> {
    let Some(path) = args.spec.first().filter(|_| round <= ROUNDS) else { return Ok(false) };
    let remedy = verdict.remedy(round);
    if remedy.paths.is_empty() && remedy.writable.is_empty() {
        return Ok(false);
    }
    let mut spec = source::read(path)?.spec;
    spec.unite(remedy.paths.into_iter().collect::<Spec>());
    write(path, &spec)?;
    bundle::renew(args, remedy.writable)?;
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
