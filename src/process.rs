//! The one place that starts child processes (the tracee alone is started by
//! the tracer), so that a failure carries the argv, the status and what the
//! child said.

use std::ffi::OsStr;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::interrupt::INTERRUPTED;
use crate::report::Advice;

/// How often it is looked whether a child has ended.
const POLL: Duration = Duration::from_millis(5);

/// Returns a command for `program`, for callers that need to set it up further.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Runs `command` with this program's own standard streams and returns its status.
///
/// # Errors
/// When it cannot be started.
pub fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    command.status().with_context(|| format!("cannot run {}", words(command)))
}

/// Runs `command` and returns its standard output.
///
/// # Errors
/// When it cannot be started or fails; the error has the end of its standard error.
pub fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", words(command)))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        let end = said.trim_end().lines().rev().take(3).collect::<Vec<_>>();
        let end = end.into_iter().rev().collect::<Vec<_>>().join("; ");
        bail!("{} ended with {status}: {end}", words(command));
    }
    Ok(stdout)
}

/// Runs `command` with `input` as its standard input, and returns its standard output.
///
/// # Errors
/// When it cannot be started or fails; the error has nothing of what came in or out.
pub fn filter(command: &mut Command, input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot run `{}`", command.get_program().display());
    let line = cannot();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| line.clone())?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // One that reads no more says so by its status.
            stdin.map(|mut stdin| stdin.write_all(input))
        });
        child.wait_with_output()
    });
    let output = output.with_context(|| line.clone())?;
    if !output.status.success() {
        bail!("{line}: it ended with {}", output.status);
    }
    Ok(output.stdout)
}

/// Runs `command` to its end, and kills it when `stop` is set.
///
/// # Errors
/// When it cannot be started or fails; the error has the end of its standard
/// error. When it was stopped, with the exit status for that.
pub fn run_unless(command: &mut Command, stop: &AtomicBool) -> anyhow::Result<()> {
    let line = words(command);
    let cannot = || format!("cannot run {line}");
    let mut said = tempfile::tempfile()?;
    command.stderr(said.try_clone()?);
    let mut child = command.spawn().with_context(cannot)?;
    let status = loop {
        if let Some(status) = child.try_wait().with_context(cannot)? {
            break status;
        }
        if stop.load(Ordering::Relaxed) {
            child.kill().with_context(cannot)?;
            child.wait().with_context(cannot)?;
            return Err(anyhow::anyhow!("interrupted")).status(INTERRUPTED);
        }
        std::thread::sleep(POLL);
    };
    if !status.success() {
        let mut text = String::new();
        said.seek(SeekFrom::Start(0))?;
        said.read_to_string(&mut text)?;
        bail!("{}", text.trim_end().trim_start_matches("vzbuild: error: "));
    }
    Ok(())
}

/// Where `program` lies in PATH, if it is there and executable.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok())
}

fn words(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(OsStr::to_string_lossy));
    format!("`{}`", words.join(" "))
}
