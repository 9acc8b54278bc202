//! The one place that prints errors and chooses exit statuses.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Exit statuses of all tools but `smith-strace`, which ends as its tracee did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Done = 0,
    /// The answer is no: files are missing, things differ.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// It could not be done.
    Failed = 3,
    /// Done on some nodes only.
    Partly = 4,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status as u8)
    }
}

/// An error with the exit status it asks for and what the user can do about it.
///
/// Attach one anywhere in a chain with [`Advice`]; the outermost hint and the
/// outermost status count.
#[derive(Debug)]
struct Advised {
    hint: Option<String>,
    status: Option<u8>,
    source: anyhow::Error,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl std::error::Error for Advised {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // Its text is this error's own text, so the chain goes on below it.
        self.source.source()
    }
}

/// Adds a hint or an exit status to an error.
pub trait Advice<T> {
    /// One sentence that says what to do; printed last.
    ///
    /// # Errors
    /// The same error, with the hint.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
    /// The exit status if this error ends the program.
    ///
    /// # Errors
    /// The same error, with the status.
    fn status(self, status: u8) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Advice<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|e| Advised { hint: Some(hint.into()), status: None, source: e.into() }.into())
    }

    fn status(self, status: u8) -> anyhow::Result<T> {
        self.map_err(|e| Advised { hint: None, status: Some(status), source: e.into() }.into())
    }
}

/// Ends `tool`: its status where it succeeded, else the printed error and the
/// status that the error asks for (3 where it asks for none).
pub fn exit(tool: &str, result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            print_error(tool, &error);
            status_of(&error)
        }
    }
}

fn advices(error: &anyhow::Error) -> impl Iterator<Item = &Advised> {
    // `Advised` hides its source's own layer, so look into that one too.
    let mut next = error.chain().find_map(|e| e.downcast_ref::<Advised>());
    std::iter::from_fn(move || {
        let found = next?;
        next = found.source.chain().find_map(|e| e.downcast_ref::<Advised>());
        Some(found)
    })
}

/// The hint that `error` has, as it would be printed.
pub fn hint_of(error: &anyhow::Error) -> Option<&str> {
    advices(error).find_map(|a| a.hint.as_deref())
}

/// An error with its causes in a line, and its hint in the next.
pub fn with_hint(error: &anyhow::Error) -> String {
    let hint = hint_of(error).map(|hint| format!("\n  hint: {hint}"));
    format!("{error:#}{}", hint.unwrap_or_default())
}

/// Ends the program at once, where no error can be returned: a thread found out
/// that nobody is left to work for.
pub fn abandon(tool: &str, message: impl fmt::Display) -> ! {
    end(tool, format_args!("{} {message}", emphasis("error:")), Status::Failed as i32)
}

/// Ends the program at once, with a message and an exit status.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn end(tool: &str, message: impl fmt::Display, status: i32) -> ! {
    write_stderr(&format!("{tool}: {message}\n"));
    std::process::exit(status)
}

fn status_of(error: &anyhow::Error) -> ExitCode {
    match advices(error).find_map(|a| a.status) {
        Some(status) => ExitCode::from(status),
        None => Status::Failed.into(),
    }
}

fn print_error(tool: &str, error: &anyhow::Error) {
    let mut text = format!("{tool}: {} {}\n", emphasis("error:"), plain(error));
    let mut last = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if cause != last {
            text.push_str(&format!("  caused by: {}\n", plain(&cause)));
        }
        last = cause;
    }
    if let Some(hint) = advices(error).find_map(|a| a.hint.as_deref()) {
        text.push_str(&format!("  hint: {}\n", plain(hint)));
    }
    write_stderr(&text);
}

/// Prints a line about something that did not stop the work.
pub fn warn(tool: &str, message: impl fmt::Display) {
    write_stderr(&format!("{tool}: {} {}\n", emphasis("warning:"), plain(message)));
}

/// Prints a line of summary to standard error, which leaves standard output to data.
pub fn say(tool: &str, message: impl fmt::Display) {
    write_stderr(&format!("{tool}: {}\n", plain(message)));
}

/// Prints a line of JSON to standard error.
pub fn line(text: &str) {
    write_stderr(&format!("{text}\n"));
}

/// Writes data to standard output; a reader that went away (`| head`) is no error.
///
/// # Errors
/// Any other failure to write.
pub fn data(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes a value as JSON, indented, to standard output.
///
/// # Errors
/// As [`data`].
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    data(&json_text(value)?)
}

/// A value as JSON, indented, with a newline at the end.
///
/// # Errors
/// When it has no form in JSON.
pub fn json_text(value: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

/// Whether standard output is a terminal.
pub fn to_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Standard output as it is, for those who speak a protocol over it: not gathered
/// into lines.
pub fn output() -> std::fs::File {
    // A descriptor of its own, which no buffer of the library is in front of.
    match std::os::fd::AsFd::as_fd(&std::io::stdout()).try_clone_to_owned() {
        Ok(fd) => fd.into(),
        Err(error) => abandon("vz", format_args!("cannot write standard output: {error}")),
    }
}

/// A text without control characters but line ends and tabs: names of files, and what
/// other machines say, may hold sequences that a terminal obeys.
pub fn plain(text: impl fmt::Display) -> String {
    let mut plain = String::new();
    for c in text.to_string().chars() {
        match c {
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => plain.extend(c.escape_debug()),
            c => plain.push(c),
        }
    }
    plain
}

/// A number of things, as `1 file` or `2 files`.
pub fn count(number: impl fmt::Display, thing: &str) -> String {
    let number = number.to_string();
    let ending = if number == "1" { "" } else { "s" };
    format!("{number} {thing}{ending}")
}

fn emphasis(word: &str) -> String {
    if colour() { format!("\x1b[1;31m{word}\x1b[0m") } else { word.to_owned() }
}

/// Whether standard error takes colour: a terminal, and no `NO_COLOR` (no-color.org).
fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Nobody is left to tell when standard error is closed.
fn write_stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        assert_eq!(plain("a\x1b]0;x\x07\n\u{9b}1mä"), "a\\u{1b}]0;x\\u{7}\n\\u{9b}1mä");
    }

    #[test]
    fn one_thing_is_not_several() {
        let counts = [0, 1, 2].map(|number| count(number, "pod"));
        assert_eq!(counts, ["0 pods", "1 pod", "2 pods"]);
    }

    #[test]
    fn hints_and_statuses_are_found_through_context() {
        let error = Err::<(), _>(std::io::Error::other("disk"))
            .hint("buy one")
            .status(1)
            .context("cannot write `x`")
            .unwrap_err();
        assert_eq!(advices(&error).find_map(|a| a.hint.as_deref()), Some("buy one"));
        assert_eq!(advices(&error).find_map(|a| a.status), Some(1));
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        assert_eq!(causes[0], "cannot write `x`");
        assert_eq!(causes.last().unwrap(), "disk");
    }
}
