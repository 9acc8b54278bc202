//! A directory of its own for each test, and the programs under test run in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A temporary directory that a test works in.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        Sandbox { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    /// Where `name` lies in the sandbox.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, with the directories that it needs.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The lines of a file in the sandbox.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let path = self.path(name);
        let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// A command with the sandbox as its working directory. `smith-strace` and
    /// `vzbuild` are the ones just built, whatever else PATH has.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref();
        #[expect(clippy::disallowed_methods, reason = "tests start the programs under test")]
        let mut command = match program.to_str() {
            Some("smith-strace") => Command::new(env!("CARGO_BIN_EXE_smith-strace")),
            Some("vzbuild") => Command::new(env!("CARGO_BIN_EXE_vzbuild")),
            Some("vzmaster") => Command::new(env!("CARGO_BIN_EXE_vzmaster")),
            Some("vzpush") => Command::new(env!("CARGO_BIN_EXE_vzpush")),
            _ => Command::new(program),
        };
        command.current_dir(self.dir.path());
        command
    }

    /// Waits until a file is there: written by a program in the background.
    /// Panics after a minute.
    #[track_caller]
    pub fn wait_for(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        for _ in 0..6000 {
            if path.exists() {
                return path;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("a minute has passed, and there is no {}", path.display());
    }

    /// Runs a program to its end.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Finished {
        let mut command = self.command(program);
        command.args(args);
        Finished::of(&mut command)
    }
}

/// A program that ended, with what it printed.
pub struct Finished {
    what: String,
    output: Output,
}

impl Finished {
    /// Runs `command` to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Finished { what: format!("{command:?}"), output }
    }

    /// Asserts exit status 0.
    #[track_caller]
    pub fn success(self) -> Self {
        self.status(0)
    }

    /// Asserts this exit status.
    #[track_caller]
    pub fn status(self, expected: i32) -> Self {
        let (what, status) = (&self.what, self.output.status);
        let (out, err) = (self.stdout(), self.stderr());
        assert_eq!(
            status.code(),
            Some(expected),
            "{what}: {status}\n--- out\n{out}\n--- err\n{err}"
        );
        self
    }

    /// Asserts that standard error has `text` in it.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let err = self.stderr();
        assert!(err.contains(text), "{}: no `{text}` in\n{err}", self.what);
        self
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    pub fn output(&self) -> &Output {
        &self.output
    }
}

/// Something that a test needs and a fresh machine may lack.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Effective user id 0.
    Root,
    /// A program in PATH, and the Debian package that has it.
    Program(&'static str, &'static str),
    /// A program in PATH, and the Python package of PyPI that has it.
    PyPi(&'static str, &'static str),
    /// A file, and the Debian package that has it.
    File(&'static str, &'static str),
    /// An account for this user that ssh can log in to.
    Login,
}

/// Returns whether all of `needs` are there. Where not, says so on standard
/// error, so that the test can return; with VZ_TEST_ALL=1 it panics instead.
pub fn require(test: &str, needs: &[Need]) -> bool {
    let absent = |need: &&Need| match need {
        Need::Root => !nix::unistd::geteuid().is_root(),
        Need::Program(name, _) | Need::PyPi(name, _) => vz::process::find(name).is_none(),
        Need::File(path, _) => !Path::new(path).exists(),
        Need::Login => {
            let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
            user.is_none_or(|u| u.shell.ends_with("nologin") || u.shell.ends_with("false"))
        }
    };
    let Some(need) = needs.iter().find(absent) else { return true };
    let what = match need {
        Need::Root => "root".to_owned(),
        Need::Program(name, package) => format!("`{name}` (Debian package {package})"),
        Need::PyPi(name, package) => format!("`{name}` (`pip install {package}` in a venv)"),
        Need::File(path, package) => format!("{path} (Debian package {package})"),
        Need::Login => "a user with a login shell".to_owned(),
    };
    skip(test, &what);
    false
}

/// Says on standard error that `test` is skipped, since it lacks `what`; with
/// VZ_TEST_ALL=1 it panics instead.
pub fn skip(test: &str, what: &str) {
    assert!(
        std::env::var_os("VZ_TEST_ALL").is_none(),
        "{test} needs {what}, and VZ_TEST_ALL is set"
    );
    say(&format!("SKIPPED {test}: it needs {what}\n"));
}

/// How often a test does what it does: `full` times with VZ_TEST_FULL=1, which
/// takes minutes; else `reduced` times, which is said.
pub fn count(test: &str, full: u32, reduced: u32) -> u32 {
    if std::env::var_os("VZ_TEST_FULL").is_some() {
        return full;
    }
    say(&format!("REDUCED {test}: {reduced} of {full}; VZ_TEST_FULL=1 does all\n"));
    reduced
}

/// Says that a test does less than it can, and why.
pub fn reduced(test: &str, why: &str) {
    say(&format!("REDUCED {test}: {why}\n"));
}

/// Past the test harness's capture, so that it is seen in every run.
pub fn say(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}
