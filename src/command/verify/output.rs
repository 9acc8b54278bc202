//! What the runs wrote to their standard streams.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Files with what a run is to write.
#[derive(Clone, Debug)]
pub(in crate::command) struct Expected {
    pub(super) stdout: PathBuf,
    /// Nothing where anything will do.
    pub(super) stderr: Option<PathBuf>,
}

impl Expected {
    /// The same as the run whose streams are in `dir`.
    pub(in crate::command) fn of_run(dir: &Path) -> Self {
        Expected { stdout: dir.join("stdout"), stderr: Some(dir.join("stderr")) }
    }
}

/// Where the streams in the directory `run` differ from what is expected.
///
/// # Errors
/// What cannot be read.
pub(super) fn differs(expected: &Expected, run: &Path) -> anyhow::Result<Option<String>> {
    let stdout = ("stdout", "standard output", Some(&expected.stdout));
    let stderr = ("stderr", "standard error", expected.stderr.as_ref());
    for (name, what, first) in [stdout, stderr] {
        let Some(first) = first else { continue };
        let number = first_difference(first, &run.join(name))
            .with_context(|| format!("cannot compare the {what} with `{}`", first.display()))?;
        if let Some((number, before, now)) = number {
            return Ok(Some(format!(
                "its {what} differs: line {number} is `{now}`, was `{before}`"
            )));
        }
    }
    Ok(None)
}

/// The first line that differs: its number, as it was, as it is.
fn first_difference(first: &Path, second: &Path) -> io::Result<Option<(u64, String, String)>> {
    let (mut first, mut second) =
        (BufReader::new(File::open(first)?), BufReader::new(File::open(second)?));
    for number in 1.. {
        let (before, now) = (line(&mut first)?, line(&mut second)?);
        if before != now {
            let text = |bytes: &[u8]| bytes.trim_ascii_end().escape_ascii().to_string();
            return Ok(Some((number, text(&before), text(&now))));
        }
        if before.is_empty() {
            break;
        }
    }
    Ok(None)
}

/// A line, or 64 KiB of one.
fn line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(64 << 10).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// The last line of a file, of its last four KiB at most.
///
/// # Errors
/// What cannot be read.
pub(in crate::command) fn last_line(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned())
}
