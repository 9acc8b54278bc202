//! Starts the tracee: alone with itself until it is traced, then as a program
//! that sees nothing of the tracer.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::fs::{Access, FileType};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::error::Error;
use crate::filter;
use crate::surroundings::{Surroundings, User};
use crate::sys::{self, Tid};
use crate::world;

/// A command to trace. What is not set is as it is in this process.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// The program and its arguments.
    pub args: Vec<OsString>,
    /// Where a program without a slash in its name is looked for: the value of PATH.
    pub search: Option<OsString>,
    /// The directory that the program sees as its root.
    pub root: Option<PathBuf>,
    /// Whether the run happens over a throw-away overlay.
    pub isolate: bool,
    /// Working directory, as seen from its root.
    pub cwd: Option<PathBuf>,
    /// Whom it runs as.
    pub user: Option<User>,
    /// All of its variables.
    pub env: Option<Vec<(OsString, OsString)>>,
    /// Files and directories of the machine that the program sees in the place
    /// of its root's own, such as /etc/resolv.conf in a container. Their uses
    /// count as those of pseudo files. With `root` and `isolate` the files are
    /// bound; [`Surroundings`] bind theirs themselves.
    pub foreign: Vec<PathBuf>,
}

/// A started tracee that waits for [`Started::go`].
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) main: Tid,
    /// What of its surroundings could not be made as asked for.
    pub(crate) warnings: Vec<String>,
    channel: File,
}

/// The steps that a tracee reports when they fail, by their byte on the channel.
const READY: u8 = b'r';
const GO: u8 = b'g';
const AT_WORLD: u8 = b'w';
const AT_FILTER: u8 = b'f';
const AT_EXEC: u8 = b'x';
const AT_INTERPRETER: u8 = b'i';
const AT_USER: u8 = b'u';

/// How the new process comes to be.
pub(crate) struct Birth {
    /// Whether this process becomes the command, see [`start`].
    pub(crate) detach: bool,
    /// Namespaces that it is born into.
    pub(crate) namespaces: CloneFlags,
    pub(crate) surroundings: Option<Box<dyn Surroundings>>,
}

/// Starts `command` up to where it waits to be traced.
///
/// With `detach` the roles are reversed: this process becomes the command, and
/// the function returns in a grandchild.
pub(crate) fn start(command: &Command, birth: &Birth) -> Result<Started, Error> {
    let step = |step| move |source| Error::Start { step, source };
    let words: Vec<CString> = command
        .args
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| Error::NoCommand)?;
    if words.is_empty() {
        return Err(Error::NoCommand);
    }
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.map_err(|error| step("make a channel")(error.into()))?;
    let around = birth.surroundings.as_deref();
    let main = if birth.detach {
        // Under Yama only an ancestor may trace, unless it is allowed to.
        let _ = sys::prctl(libc::PR_SET_PTRACER, libc::c_ulong::MAX);
        let this = std::process::id() as Tid;
        match sys::fork().map_err(step("fork"))? {
            Some(child) => {
                sys::reap(child);
                drop(ours);
                become_tracee(command, &words, around, theirs)
            }
            None => match sys::fork() {
                Ok(None) => this,
                _ => sys::exit_now(0),
            },
        }
    } else {
        match sys::fork_into(birth.namespaces).map_err(step("fork"))? {
            Some(child) => child,
            None => {
                drop(ours);
                become_tracee(command, &words, around, theirs)
            }
        }
    };
    drop(theirs);
    let mut started = Started { main, warnings: Vec::new(), channel: File::from(ours) };
    started.wait_until_ready(command)?;
    Ok(started)
}

impl Started {
    fn wait_until_ready(&mut self, command: &Command) -> Result<(), Error> {
        let mut byte = [0];
        match self.channel.read(&mut byte) {
            Ok(1) if byte == [READY] => self.read_warnings(),
            Ok(1) => {
                sys::reap(self.main);
                Err(self.failure_of(command, byte[0]))
            }
            Ok(_) => Err(Error::Start {
                step: "wait for the new process",
                source: io::ErrorKind::UnexpectedEof.into(),
            }),
            Err(source) => Err(Error::Start { step: "wait for the new process", source }),
        }
    }

    fn read_warnings(&mut self) -> Result<(), Error> {
        let mut read = || {
            let mut length = [0; 4];
            self.channel.read_exact(&mut length)?;
            let mut text = Vec::new();
            let length = u64::from(u32::from_le_bytes(length));
            (&self.channel).take(length).read_to_end(&mut text)?;
            let text = String::from_utf8_lossy(&text).into_owned();
            io::Result::Ok(text.lines().map(str::to_owned).collect())
        };
        self.warnings =
            read().map_err(|source| Error::Start { step: "wait for the new process", source })?;
        Ok(())
    }

    /// Lets the tracee, which is traced now, install its filter and exec.
    pub(crate) fn go(&mut self) -> Result<(), Error> {
        self.channel
            .write_all(&[GO])
            .map_err(|source| Error::Start { step: "let the new process go", source })
    }

    /// Why the tracee ended without having executed the command.
    pub(crate) fn failure(&mut self, command: &Command) -> Option<Error> {
        let mut byte = [0];
        match self.channel.read(&mut byte) {
            Ok(1) => Some(self.failure_of(command, byte[0])),
            _ => None,
        }
    }

    fn failure_of(&mut self, command: &Command, step: u8) -> Error {
        let mut rest = Vec::new();
        let _ = self.channel.read_to_end(&mut rest);
        let (number, text) = rest.split_at_checked(4).unwrap_or((&[0; 4], &[]));
        let number = number.try_into().map_or(0, i32::from_le_bytes);
        let source = io::Error::from_raw_os_error(number);
        let program = command.args.first().cloned().unwrap_or_default();
        match step {
            AT_WORLD => Error::Root {
                root: command.root.clone().unwrap_or_else(|| PathBuf::from("/")),
                step: String::from_utf8_lossy(text).into_owned(),
                source,
            },
            AT_USER => Error::User { step: String::from_utf8_lossy(text).into_owned(), source },
            AT_FILTER => Error::Filter(source),
            AT_INTERPRETER if number == libc::ENOENT => Error::NoInterpreter { program, source },
            _ if matches!(number, libc::ENOENT | libc::ENOTDIR) => {
                Error::NotFound { program, source }
            }
            _ => Error::Execute { program, source },
        }
    }
}

/// What the new process does: the rest of its life.
fn become_tracee(
    command: &Command,
    words: &[CString],
    around: Option<&dyn Surroundings>,
    channel: OwnedFd,
) -> ! {
    let mut channel = File::from(channel);
    let fail = |channel: &mut File, step: u8, error: &io::Error, text: &str| -> ! {
        let mut message = vec![step];
        message.extend(error.raw_os_error().unwrap_or(libc::EIO).to_le_bytes());
        message.extend_from_slice(text.as_bytes());
        let _ = channel.write_all(&message);
        sys::exit_now(127)
    };
    let warnings = match enter(command, around) {
        Ok(warnings) => warnings,
        Err((text, error)) => fail(&mut channel, AT_WORLD, &error, &text),
    };
    let mut message = vec![READY];
    message.extend((warnings.join("\n").len() as u32).to_le_bytes());
    message.extend_from_slice(warnings.join("\n").as_bytes());
    let mut byte = [0];
    if channel.write_all(&message).is_err() || channel.read_exact(&mut byte).is_err() {
        sys::exit_now(127);
    }
    let _ = sys::prctl(libc::PR_SET_PTRACER, 0);
    let program = filter::program();
    let env = match command.env.as_deref().map(variables).transpose() {
        Ok(env) => env,
        Err(error) => fail(&mut channel, AT_EXEC, &error, ""),
    };
    let candidates = match candidates(command) {
        Ok(candidates) => candidates,
        Err(error) => fail(&mut channel, AT_EXEC, &error, ""),
    };
    // Descriptors 0–2 may be closed now, so the channel must not be one of them.
    if channel.as_raw_fd() > 2 {
        sys::restore_start();
    }
    if let Err(error) = install(&program) {
        fail(&mut channel, AT_FILTER, &error, "");
    }
    // Last of all: who may not be root may not install a filter either.
    let user = command.user.as_ref().map_or(Ok(()), User::assume);
    let user = user.map_err(|error| ("become the user".to_owned(), error));
    if let Err((text, error)) = user.and_then(|()| around.map_or(Ok(()), Surroundings::assume)) {
        fail(&mut channel, AT_USER, &error, &text);
    }
    let error = exec(&candidates, words, env.as_deref());
    // ENOENT of a file that is there is that of its interpreter.
    let there = candidates.iter().any(|file| rustix::fs::stat(file).is_ok());
    fail(&mut channel, if there { AT_INTERPRETER } else { AT_EXEC }, &error, "")
}

/// Brings the new process to where its program starts.
fn enter(
    command: &Command,
    around: Option<&dyn Surroundings>,
) -> Result<Vec<String>, (String, io::Error)> {
    let warnings = match around {
        Some(around) => around.enter()?,
        None => world::enter(command.root.as_deref(), command.isolate, &command.foreign)?,
    };
    if let Some(cwd) = &command.cwd {
        std::env::set_current_dir(cwd)
            .map_err(|e| (format!("enter the directory `{}`", cwd.display()), e))?;
    }
    Ok(warnings)
}

/// The environment as execve(2) takes it.
fn variables(env: &[(OsString, OsString)]) -> io::Result<Vec<CString>> {
    let variable = |(name, value): &(OsString, OsString)| {
        Ok(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?)
    };
    env.iter().map(variable).collect()
}

/// Only an unprivileged process has to give up what setuid programs gain.
fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    match sys::install_filter(program) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
            sys::install_filter(program)
        }
        other => other,
    }
}

/// The files that the command may mean, as execvp(3) would try them.
fn candidates(command: &Command) -> io::Result<Vec<CString>> {
    let name = command.args.first().map(OsString::as_os_str).unwrap_or_default();
    if name.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    if name.as_bytes().contains(&b'/') {
        return Ok(vec![CString::new(name.as_bytes())?]);
    }
    let search = command.search.as_deref().unwrap_or(OsStr::new("/bin:/usr/bin"));
    let mut refused = libc::ENOENT;
    let mut found = Vec::new();
    for dir in search.as_bytes().split(|&b| b == b':') {
        // An empty part means the working directory, as in a shell.
        let dir = if dir.is_empty() { &b"."[..] } else { dir };
        let file = Path::new(OsStr::from_bytes(dir)).join(name);
        let Ok(stat) = rustix::fs::stat(&file) else { continue };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && rustix::fs::access(&file, Access::EXEC_OK).is_ok() {
            found.push(CString::new(file.into_os_string().into_vec())?);
        } else {
            refused = libc::EACCES;
        }
    }
    if found.is_empty() { Err(io::Error::from_raw_os_error(refused)) } else { Ok(found) }
}

fn exec(candidates: &[CString], words: &[CString], env: Option<&[CString]>) -> io::Error {
    let env: Option<Vec<_>> = env.map(|env| env.iter().map(CString::as_c_str).collect());
    let env = env.as_deref();
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for file in candidates {
        let args: Vec<_> = words.iter().map(CString::as_c_str).collect();
        last = sys::exec(file, &args, env);
        if last.raw_os_error() == Some(libc::ENOEXEC) {
            // A script without `#!`: the shell runs it, as execvp(3) has it.
            let mut shell = vec![c"/bin/sh", file.as_c_str()];
            shell.extend(args.get(1..).unwrap_or_default());
            last = sys::exec(c"/bin/sh", &shell, env);
        }
        if !matches!(last.raw_os_error(), Some(libc::EACCES | libc::ENOENT | libc::ENOTDIR)) {
            break;
        }
    }
    last
}
