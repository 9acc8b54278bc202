//! Trace → bundle → run, compared with a run outside, and a row of the report.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::{Finished, Need, Sandbox, require};

/// A program with all that the comparison needs.
pub struct Program<'a> {
    pub name: &'a str,
    pub needs: &'a [Need],
    /// Puts the sandbox into the state in which the program starts; called
    /// before the run outside and again before the trace.
    pub prepare: &'a dyn Fn(&Sandbox),
    /// The command line; `{dir}` stands for the sandbox.
    pub args: &'a [&'a str],
}

/// A server: started, exercised by a client from outside, ended by SIGTERM.
pub struct Server<'a> {
    pub program: Program<'a>,
    /// Port of 127.0.0.1 that answers when it is ready.
    pub port: u16,
    /// Shell command whose output is compared; `{dir}` stands for the sandbox.
    pub client: &'a str,
}

impl Program<'_> {
    /// Asserts equal output and status outside and in the bundle.
    #[track_caller]
    pub fn check(&self) {
        if !self.can_run() {
            return;
        }
        let sandbox = Sandbox::new();
        (self.prepare)(&sandbox);
        let outside = Finished::of(&mut self.command(&sandbox));
        (self.prepare)(&sandbox);
        let mut trace = sandbox.command("smith-strace");
        trace.args(["-o", "spec", "--"]).args(self.words(&sandbox));
        let traced = Finished::of(&mut trace);
        assert_eq!(traced.stdout(), outside.stdout(), "traced; stderr: {}", traced.stderr());
        assert_eq!(traced.output().status, outside.output().status, "{}", traced.stderr());
        sandbox.run("vzbuild", ["bundle", "spec"]).success();
        let inside = sandbox.run("vzbuild", ["run", "bundle"]);
        assert_eq!(inside.stdout(), outside.stdout(), "in the bundle; stderr: {}", inside.stderr());
        assert_eq!(inside.output().status.code(), outside.output().status.code());
        report(self.name, &sandbox);
    }

    fn can_run(&self) -> bool {
        require(self.name, &[Need::Root, Need::Program("runc", "runc")])
            && require(self.name, self.needs)
    }

    fn words(&self, sandbox: &Sandbox) -> Vec<String> {
        self.args.iter().map(|arg| in_sandbox(arg, sandbox)).collect()
    }

    fn command(&self, sandbox: &Sandbox) -> Command {
        let words = self.words(sandbox);
        let mut command = sandbox.command(&words[0]);
        command.args(&words[1..]);
        command
    }
}

impl Server<'_> {
    /// Asserts that the client sees the same outside and of the bundle.
    #[track_caller]
    pub fn check(&self) {
        if !self.program.can_run() {
            return;
        }
        let sandbox = Sandbox::new();
        let client = in_sandbox(self.client, &sandbox);
        (self.program.prepare)(&sandbox);
        let outside = self.exercise(&sandbox, self.program.command(&sandbox), &client);
        assert!(!outside.is_empty(), "{}: the client saw nothing", self.program.name);
        (self.program.prepare)(&sandbox);
        let mut trace = sandbox.command("smith-strace");
        trace.args(["-o", "spec", "--until", &client, "--ready-port", &self.port.to_string()]);
        Finished::of(trace.arg("--").args(self.program.words(&sandbox))).success();
        sandbox.run("vzbuild", ["bundle", "spec"]).success();
        let mut run = sandbox.command("vzbuild");
        run.args(["run", "bundle"]);
        assert_eq!(self.exercise(&sandbox, run, &client), outside);
        report(self.program.name, &sandbox);
    }

    /// Returns what the client printed while the server ran.
    #[track_caller]
    fn exercise(&self, sandbox: &Sandbox, mut server: Command, client: &str) -> String {
        let log = fs::File::create(sandbox.path("server.log")).unwrap();
        server.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut server = Ended(server.process_group(0).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = server.0.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                panic!(
                    "{}: {ended:?}: {}",
                    self.program.name,
                    sandbox.lines("server.log").join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let seen = Finished::of(sandbox.command("sh").args(["-c", client]));
        let log = sandbox.lines("server.log").join("\n");
        assert!(seen.output().status.success(), "client: {}\nserver: {log}", seen.stderr());
        kill(Pid::from_raw(server.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        server.0.wait().unwrap();
        seen.stdout()
    }
}

/// A server that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(-self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn in_sandbox(text: &str, sandbox: &Sandbox) -> String {
    text.replace("{dir}", sandbox.path("").display().to_string().trim_end_matches('/'))
}

/// Writes `target/tmp/programs/NAME`: files and bytes of the bundle, beside the
/// number and size of the Debian packages that they came from.
fn report(name: &str, sandbox: &Sandbox) {
    let rootfs = sandbox.path("bundle/rootfs");
    let (mut files, mut bytes) = (0, 0);
    let mut seen = std::collections::BTreeSet::new();
    for entry in walkdir::WalkDir::new(&rootfs).into_iter().filter_map(Result::ok) {
        let meta = entry.metadata().unwrap();
        if meta.is_file() {
            files += 1;
            if seen.insert(std::os::unix::fs::MetadataExt::ino(&meta)) {
                bytes += meta.len();
            }
        }
    }
    let packages = packages(&sandbox.lines("spec"));
    let installed: u64 = packages.iter().map(|p| installed_size(p)).sum();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    fs::create_dir_all(&dir).unwrap();
    let row = format!(
        "{name:<22} {files:>6} {:>9.2} {:>9} {:>10.1}\n",
        bytes as f64 / 1e6,
        packages.len(),
        installed as f64 / 1e6
    );
    fs::write(dir.join(name.replace(' ', "-")), row).unwrap();
}

/// The Debian packages that own any of `paths`.
fn packages(paths: &[String]) -> Vec<String> {
    let both = paths.iter().flat_map(|p| [Some(p.as_str()), p.strip_prefix("/usr")]).flatten();
    let output = Finished::of(&mut tool("dpkg-query", ["-S"].into_iter().chain(both)));
    let mut names: Vec<String> = output
        .stdout()
        .lines()
        .filter_map(|line| Some(line.split_once(": ")?.0.to_owned()))
        .filter(|name| !name.contains(", ") && !name.starts_with("diversion"))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Bytes that the package takes when installed, as dpkg has it.
fn installed_size(package: &str) -> u64 {
    let output = Finished::of(&mut tool("dpkg-query", ["-W", "-f=${Installed-Size}", package]));
    output.stdout().trim().parse::<u64>().unwrap_or(0) * 1024
}

#[expect(clippy::disallowed_methods, reason = "a tool of the machine, not of the sandbox")]
fn tool<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Makes `name` in the sandbox an empty directory.
pub fn fresh_dir(sandbox: &Sandbox, name: &str) -> PathBuf {
    let dir = sandbox.path(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}
