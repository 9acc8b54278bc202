//! What was proven goes into the bundle.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use bundler::config;
use oci_spec::runtime::Spec;

use super::Narrowed;
use crate::profile::{self, Use};
use crate::{evidence, report};

impl Narrowed {
    /// Writes what was proven into the bundle at `dir`: into `config.json`, and as a
    /// file for podman and docker into its evidence. Each file is the old one or the
    /// new one.
    ///
    /// # Errors
    /// What cannot be written.
    pub(in crate::command) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        if !self.is_proven() {
            return Ok(());
        }
        let path = dir.join("config.json");
        let text = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut spec: Spec = serde_json::from_slice(&text)
            .with_context(|| format!("`{}` is no OCI config.json", path.display()))?;
        self.narrowing.apply(&mut spec);
        if let Some(document) = self.profile()? {
            let folder = dir.join(evidence::FOLDER);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make `{}`", folder.display()))?;
            replace(&folder.join(evidence::PROFILE), &document)?;
        }
        replace(&path, &config::print(&spec)?)
    }
}

impl Narrowed {
    /// The profile as a file for podman and docker, where one was asked for.
    ///
    /// # Errors
    /// None in practice: it has a JSON form.
    pub(in crate::command) fn profile(&self) -> anyhow::Result<Option<Vec<u8>>> {
        // Podman gives new privileges unless it is told not to.
        let wanted = self.wanted.map(|wanted| Use { new_privileges: true, ..wanted });
        let document = wanted.map(|wanted| profile::document(&self.syscalls, wanted));
        Ok(document.map(|document| report::json_text(&document)).transpose()?)
    }

    /// The capabilities that it keeps, where the fewest were asked for.
    pub(in crate::command) fn capabilities(&self) -> Option<impl Iterator<Item = &String>> {
        self.narrowing.capabilities.is_some().then(|| self.kept.iter())
    }
}

fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let cannot = || format!("cannot write `{}`", path.display());
    let mut part = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(path.parent().unwrap_or(Path::new(".")))
        .with_context(cannot)?;
    part.write_all(content).with_context(cannot)?;
    part.as_file().sync_all().with_context(cannot)?;
    part.persist(path).map_err(|error| error.error).with_context(cannot)?;
    Ok(())
}
