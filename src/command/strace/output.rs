//! The files that a trace writes: each whole, or as it was before.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rustix::fs::{Access, AtFlags};
use tracer::{Record, Spec};

use super::beside;

/// Spec, spec.json and originals, beside one another.
pub(super) struct Output {
    dir: PathBuf,
    spec: OsString,
    /// What `--append` adds to.
    former: Option<(Spec, Record)>,
    append: bool,
    /// Temporary names, removed unless they became the real ones.
    staged: Vec<PathBuf>,
    log: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// Looks at where the output goes before the command runs, so that a
    /// mistake there costs no run.
    pub(super) fn prepare(spec: &Path, append: bool) -> anyhow::Result<Self> {
        let name = spec.file_name().ok_or_else(|| anyhow!("`{}` names no file", spec.display()))?;
        let dir = match spec.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => dir,
            None => Path::new("."),
        };
        // The command may leave this directory or run elsewhere.
        let dir = fs::canonicalize(dir)
            .with_context(|| format!("cannot write a spec in `{}`", dir.display()))?;
        let mut output = Output {
            dir,
            spec: name.to_owned(),
            former: None,
            append,
            staged: Vec::new(),
            log: None,
        };
        rustix::fs::accessat(
            rustix::fs::CWD,
            &output.dir,
            Access::WRITE_OK | Access::EXEC_OK,
            AtFlags::EACCESS,
        )
        .with_context(|| format!("cannot write in `{}`", output.dir.display()))?;
        if append {
            output.former = output.read_former()?;
        }
        Ok(output)
    }

    fn read_former(&self) -> anyhow::Result<Option<(Spec, Record)>> {
        let path = self.path("");
        let spec = match fs::read(&path) {
            Ok(text) => {
                Spec::parse(&text).with_context(|| format!("cannot add to `{}`", path.display()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
            }
        };
        let path = self.path(".json");
        let record = match fs::read(&path) {
            Ok(text) => Record::parse(&text)
                .with_context(|| format!("cannot add to `{}`", path.display()))?,
            // A spec written by hand has none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
            }
        };
        Ok(Some((spec, record)))
    }

    /// Where the tracer puts originals for now.
    pub(super) fn originals(&mut self) -> PathBuf {
        let path = self.temporary("originals");
        self.staged.push(path.clone());
        path
    }

    /// Where the log goes for now.
    pub(super) fn log(&mut self, log: Option<&Path>) -> anyhow::Result<Option<Box<dyn Write>>> {
        let Some(log) = log else { return Ok(None) };
        // Something that is no file (a pipe, a terminal) is written at once.
        if fs::metadata(log).is_ok_and(|meta| !meta.is_file()) {
            let file = File::options().write(true).open(log);
            let file = file.with_context(|| format!("cannot write `{}`", log.display()))?;
            return Ok(Some(Box::new(file)));
        }
        let log = std::path::absolute(log)?;
        let name = log.file_name().ok_or_else(|| anyhow!("`{}` names no file", log.display()))?;
        let temporary = log.with_file_name(hidden(name, "log"));
        let file = File::create(&temporary)
            .with_context(|| format!("cannot write `{}`", log.display()))?;
        self.staged.push(temporary.clone());
        self.log = Some((temporary, log));
        Ok(Some(Box::new(file)))
    }

    /// Brings all files to their names.
    pub(super) fn commit(mut self, mut record: Record) -> anyhow::Result<()> {
        let text = match self.former.take() {
            Some((mut spec, former)) => {
                spec.unite(record.paths().map(<[u8]>::to_vec).collect());
                record = former.unite(record);
                spec.print()
            }
            None => tracer::spec::print(record.paths()),
        };
        let text = self.write("spec", &text)?;
        let json = self.write("json", &record.print()?)?;
        // The process ends soon: giving path by path back costs more than it gives.
        std::mem::forget(record);
        self.place_originals()?;
        self.rename(&json, &self.path(".json"))?;
        self.rename(&text, &self.path(""))?;
        if let Some((temporary, log)) = self.log.take() {
            self.rename(&temporary, &log)?;
        }
        Ok(())
    }

    fn write(&mut self, what: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.temporary(what);
        self.staged.push(path.clone());
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().with_context(|| format!("cannot write `{}`", self.path("").display()))?;
        Ok(path)
    }

    /// The new originals take the old ones' place, or join them.
    fn place_originals(&self) -> anyhow::Result<()> {
        let (new, old) = (self.temporary("originals"), self.path(".originals"));
        let context = || format!("cannot write `{}`", old.display());
        if self.append && old.exists() {
            return if new.exists() { join(&new, &old).with_context(context) } else { Ok(()) };
        }
        let replaced = self.temporary("replaced");
        if old.exists() {
            fs::rename(&old, &replaced).with_context(context)?;
        }
        if new.exists() {
            fs::rename(&new, &old).with_context(context)?;
        }
        if replaced.exists() {
            remove_tree(&replaced).with_context(context)?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> anyhow::Result<()> {
        fs::rename(from, to).with_context(|| format!("cannot write `{}`", to.display()))
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.dir.join(beside(&self.spec, suffix))
    }

    fn temporary(&self, what: &str) -> PathBuf {
        self.dir.join(hidden(&self.spec, what))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        for path in &self.staged {
            let _ = fs::remove_file(path);
            let _ = remove_tree(path);
        }
    }
}

/// A name that no other run uses at the same time.
fn hidden(name: &std::ffi::OsStr, what: &str) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{what}.{}", std::process::id()));
    hidden
}

/// Moves everything below `new` to `old` that is not there yet: of two
/// originals the first is the original.
fn join(new: &Path, old: &Path) -> io::Result<()> {
    for entry in fs::read_dir(new)? {
        let entry = entry?;
        let to = old.join(entry.file_name());
        match fs::symlink_metadata(&to) {
            Ok(meta) if meta.is_dir() && entry.file_type()?.is_dir() => join(&entry.path(), &to)?,
            Ok(_) => {}
            Err(_) => fs::rename(entry.path(), to)?,
        }
    }
    Ok(())
}

/// Removes a tree in which directories may lack the write permission.
fn remove_tree(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let Ok(meta) = fs::symlink_metadata(dir) else { return Ok(()) };
    if !meta.is_dir() {
        return fs::remove_file(dir);
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        remove_tree(&entry?.path())?;
    }
    fs::remove_dir(dir)
}
