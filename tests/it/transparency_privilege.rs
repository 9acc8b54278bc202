//! Set-user-id programs, and tracers without privilege.

use std::path::{Path, PathBuf};

use crate::sandbox::{Finished, Need, Sandbox, require};
use crate::tracee::{Build, Traced, compiled};

const NOBODY: u32 = 65534;

/// What each of these tests needs.
fn ready(test: &str) -> bool {
    require(test, &[Need::Root, Need::Program("setpriv", "util-linux")])
        && require(test, Build::Native.needs())
}

/// Copies an executable into the sandbox, with this mode and owner, where others
/// than root can run it.
fn install(
    sandbox: &Sandbox,
    from: impl AsRef<Path>,
    name: &str,
    mode: &str,
    owner: u32,
) -> PathBuf {
    let to = sandbox.path(name);
    // By a child: a descriptor open for writing here might leak into another
    // test's child, and the kernel executes no file that is open for writing.
    let mut install = sandbox.command("install");
    install.args(["-m", mode, "-o", &owner.to_string()]).arg(from.as_ref()).arg(&to);
    Finished::of(&mut install).success();
    to
}

/// A sandbox that belongs to nobody, with `smith-strace` in it.
fn nobodys() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    std::os::unix::fs::chown(sandbox.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
    let strace = env!("CARGO_BIN_EXE_smith-strace");
    let strace = install(&sandbox, strace, "smith-strace", "755", 0);
    (sandbox, strace)
}

/// `setpriv` to nobody, before a command.
fn as_nobody(sandbox: &Sandbox) -> std::process::Command {
    let mut command = sandbox.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command
}

#[test]
fn anyone_may_trace() {
    if ready("tracing as nobody") {
        let (sandbox, strace) = nobodys();
        let mut command = as_nobody(&sandbox);
        command.arg(&strace).args(["--", "cat", "/etc/hostname", "/etc/passwd"]);
        Finished::of(&mut command).success();
        assert!(sandbox.lines("spec").contains(&"/etc/passwd".to_owned()));
    }
}

#[test]
fn a_set_user_id_program_without_its_privilege_is_said() {
    if ready("setuid as nobody") {
        let (sandbox, strace) = nobodys();
        let identity = compiled("identity", Build::Native);
        let identity = install(&sandbox, identity, "identity", "4755", 0);
        let plain = Finished::of(as_nobody(&sandbox).arg(&identity).args(["run", "/"]));
        assert_eq!(plain.success().stdout(), "real 65534 effective 0 secure 1\n");
        let mut command = as_nobody(&sandbox);
        command.arg(&strace).arg("--").arg(&identity).args(["run", "/"]);
        let traced = Finished::of(&mut command).success();
        assert!(traced.stdout().starts_with("real 65534 effective 65534"), "{}", traced.stdout());
        traced.says("set-user-ID").says(&identity.display().to_string());
    }
}

#[test]
fn as_root_a_set_user_id_program_keeps_its_privilege() {
    if ready("setuid as root") {
        let (sandbox, _) = nobodys();
        let identity = compiled("identity", Build::Native);
        let identity = install(&sandbox, identity, "identity", "4755", 0);
        let mut command = sandbox.command("smith-strace");
        let nobody = as_nobody(&sandbox);
        command.arg("--").arg(nobody.get_program()).args(nobody.get_args());
        let traced = Finished::of(command.arg(&identity).args(["run", "/"])).success();
        assert_eq!(traced.stdout(), "real 65534 effective 0 secure 1\n");
        assert!(sandbox.lines("spec").contains(&identity.display().to_string()));
        assert!(!traced.stderr().contains("set-user-ID"), "{}", traced.stderr());
    }
}

/// Traces the tracee as nobody from a file of this mode; returns whether
/// anything was said to be unseen, and the names that the spec has.
fn hides(mode: &str) -> (bool, Vec<&'static str>) {
    let (sandbox, strace) = nobodys();
    let tracee = install(&sandbox, compiled("non-dumpable", Build::Native), "tracee", mode, 0);
    std::fs::create_dir(sandbox.path("prepared")).unwrap();
    Finished::of(sandbox.command(&tracee).arg("prepare").arg(sandbox.path("prepared"))).success();
    let mut command = as_nobody(&sandbox);
    command.arg(&strace).arg("--").arg(&tracee).args(["run", "prepared"]);
    let finished = Finished::of(&mut command).success();
    let record = std::fs::read(sandbox.path("spec.json")).unwrap();
    let record = tracer::Record::parse(&record).unwrap();
    let said = record.unseen.iter().any(|unseen| unseen.kind == "memory");
    assert_eq!(said, finished.stderr().contains("not dumpable"), "{}", finished.stderr());
    let spec = sandbox.lines("spec");
    let dir = sandbox.path("prepared");
    let in_spec = |name: &&str| spec.contains(&dir.join(name).display().to_string());
    (said, ["before", "hidden", "after"].into_iter().filter(in_spec).collect())
}

#[test]
fn a_program_that_hides_its_memory_is_seen_or_said() {
    if ready("a non-dumpable program") {
        let (said, names) = hides("755");
        assert!(names.contains(&"before") && names.contains(&"after"), "{names:?}");
        assert!(said || names.contains(&"hidden"), "neither seen nor said: {names:?}");
    }
}

#[test]
fn a_program_whose_file_cannot_be_read_is_said() {
    if ready("an unreadable program") {
        let (said, names) = hides("711");
        assert!(said || names.len() == 3, "neither seen nor said: {names:?}");
    }
}

#[test]
fn as_root_nothing_hides() {
    if ready("a non-dumpable program, as root") {
        let traced = Traced::prepare("non-dumpable", Build::Native);
        let outcome = traced.run(&[]);
        traced.assert_seen(&outcome);
        assert!(outcome.has(traced.dir.join("hidden")));
    }
}
