//! `vzbuild run`: the embedded runner, runc and crun do the same.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bundle::{paths, record, tools_bundle, tools_spec};
use crate::sandbox::{Finished, Need, Sandbox, require};

const RUNC: Need = Need::Program("runc", "runc");
const CRUN: Need = Need::Program("crun", "crun");

/// Runs `sh -c SCRIPT` in the bundle `b`.
fn run(sandbox: &Sandbox, runtime: &str, script: &str) -> Finished {
    run_as(sandbox, runtime, "b", &["sh", "-c", script])
}

/// Runs `command`, or the bundle's own.
pub fn run_as<S: AsRef<OsStr>>(
    sandbox: &Sandbox,
    runtime: &str,
    bundle: &str,
    command: &[S],
) -> Finished {
    Finished::of(&mut self::command(sandbox, runtime, bundle, command))
}

/// A command that runs the bundle. crun wants control groups of version 2 only, so
/// it gets a mount namespace that has them.
pub fn command<S: AsRef<OsStr>>(
    sandbox: &Sandbox,
    runtime: &str,
    bundle: &str,
    words: &[S],
) -> Command {
    let cgroups =
        "umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec \"$0\" \"$@\"";
    let mut command = match runtime {
        "crun" => {
            let mut command = sandbox.command("unshare");
            command.args(["-m", "sh", "-c", cgroups, env!("CARGO_BIN_EXE_vzbuild")]);
            command
        }
        _ => sandbox.command("vzbuild"),
    };
    command.args(["run", "--runtime", runtime, bundle]);
    if !words.is_empty() {
        command.arg("--").args(words);
    }
    command
}

#[test]
fn every_runtime_gives_the_program_the_same_world() {
    let test = "every_runtime_gives_the_program_the_same_world";
    if !require(test, &[Need::Root, RUNC, CRUN]) {
        return;
    }
    let sandbox = Sandbox::new();
    tools_bundle(&sandbox, "b", &["--cap", "CAP_SYS_NICE"]);
    let cases = [
        ("id", 0),
        ("env; cat /proc/sys/kernel/hostname; echo $$", 0),
        ("exit 42", 42),
        ("kill -s TERM $$; echo the first process is spared; exit 5", 5),
        ("sh -c 'kill -s KILL $$'; echo $?", 0),
        ("echo x > /file", 2),
        ("echo x > /tmp/file && cat /tmp/file && stat -c %a:%u /tmp /run", 0),
        (
            "cat /proc/self/status | while read a b; do case $a in Cap*|NoNew*|Groups:) echo $a $b;; esac; done",
            0,
        ),
        ("stat -c '%a %t %T %F' /dev/null /dev/zero /dev/shm /dev/pts /proc /sys", 0),
        ("ls /; ls -d /dev/fd /dev/stdin /dev/ptmx /dev/full /dev/tty", 0),
        ("echo 1 > /proc/sys/vm/swappiness", 2),
        ("cat /proc/kcore /proc/keys; ls /sys/firmware /proc/scsi", 2),
        (
            "while read -r _ _ _ _ where options _; do echo \"$where ${options%%,*}\"; done < /proc/self/mountinfo | { while read w o; do case $w in /dev/*|/sys/*|/proc/*) ;; *) echo $w $o;; esac; done; }",
            0,
        ),
        ("ls /proc/self/fd", 0),
    ];
    for (script, status) in cases {
        let [embedded, runc, crun] = ["embedded", "runc", "crun"]
            .map(|runtime| run(&sandbox, runtime, script).status(status).stdout());
        assert_eq!(embedded, runc, "embedded and runc: {script}");
        assert_eq!(embedded, crun, "embedded and crun: {script}");
    }
}

#[test]
fn what_the_bundle_has_where_a_run_wrote_is_copied_up() {
    let test = "what_the_bundle_has_where_a_run_wrote_is_copied_up";
    if !require(test, &[Need::Root, RUNC, CRUN]) {
        return;
    }
    let sandbox = Sandbox::new();
    tools_spec(&sandbox);
    // The root is this machine's, so the directory is one of the sandbox's own.
    let data = sandbox.path("data");
    sandbox.write("data/sub/kept", "original");
    fs::hard_link(data.join("sub/kept"), data.join("second")).unwrap();
    symlink("sub/kept", data.join("link")).unwrap();
    chown(data.join("sub"), Some(33), Some(34)).unwrap();
    // runc loses setgid here, which `vzbuild bundle` warns of.
    fs::set_permissions(data.join("sub"), PermissionsExt::from_mode(0o750)).unwrap();
    chown(&data, Some(44), Some(45)).unwrap();
    fs::set_permissions(&data, PermissionsExt::from_mode(0o1770)).unwrap();
    let dir = data.to_str().unwrap();
    let tools = fs::read_to_string(sandbox.path("tools.spec")).unwrap();
    let kept = ["", "/sub/kept", "/second", "/link", "/sub"].map(|name| format!("{dir}{name}\n"));
    sandbox.write("spec", tools + &kept.concat());
    record(&sandbox, "spec", |record| {
        record.changed = paths(&[&format!("{dir}/sub/kept"), &format!("{dir}/second")]);
    });
    sandbox.run("vzbuild", ["bundle", "spec", "-o", "b", "--no-sync"]).success();
    let script = format!(
        "cd {dir} && cat link && stat -c '%a %u:%g %s %n' . sub sub/kept && echo changed > sub/kept && cat link"
    );
    for runtime in ["embedded", "runc", "crun"] {
        let out = run(&sandbox, runtime, &script).success().stdout();
        let expected = "original1770 44:45 ";
        assert!(out.starts_with(expected), "{runtime}: {out}");
        assert!(out.contains("\n750 33:34 "), "{runtime}: {out}");
        assert!(out.ends_with("changed\n"), "{runtime}: {out}");
        assert_eq!(fs::read(sandbox.path(format!("b/rootfs{dir}/sub/kept"))).unwrap(), b"original");
    }
}

#[test]
fn a_volume_outlives_the_container() {
    let test = "a_volume_outlives_the_container";
    if !require(test, &[Need::Root, RUNC, CRUN]) {
        return;
    }
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("host")).unwrap();
    let host = sandbox.path("host");
    let volume = format!("{}:/var/lib/data", host.display());
    let readonly = format!("{}:/readonly:ro", host.display());
    tools_bundle(&sandbox, "b", &["--volume", &volume, "--volume", &readonly]);
    for runtime in ["embedded", "runc", "crun"] {
        let script =
            "echo lasting > /var/lib/data/file && cat /readonly/file; echo x > /readonly/file";
        let done = run(&sandbox, runtime, script).status(2);
        assert_eq!(done.stdout(), "lasting\n");
        fs::remove_file(host.join("file")).unwrap();
    }
}

#[test]
fn a_user_of_the_bundle_has_no_rights_but_those_asked_for() {
    let test = "a_user_of_the_bundle_has_no_rights_but_those_asked_for";
    if !require(test, &[Need::Root, RUNC, CRUN]) {
        return;
    }
    let sandbox = Sandbox::new();
    tools_bundle(&sandbox, "b", &["--user", "1234:5678", "--cap", "CAP_NET_BIND_SERVICE"]);
    let script = "id -u; id -g; cat /proc/self/status | while read a b; do case $a in Cap*|NoNew*) echo $a $b;; esac; done";
    for runtime in ["embedded", "runc", "crun"] {
        let out = run(&sandbox, runtime, script).success().stdout();
        let only = "0000000000000400";
        let sets = ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(|set| format!("Cap{set}: {only}\n"));
        assert_eq!(out, format!("1234\n5678\n{}NoNewPrivs: 1\n", sets.concat()), "{runtime}");
    }
}

#[test]
fn input_goes_through_and_status_comes_back() {
    let test = "input_goes_through_and_status_comes_back";
    if !require(test, &[Need::Root, RUNC]) {
        return;
    }
    let sandbox = Sandbox::new();
    tools_bundle(&sandbox, "b", &[]);
    for runtime in ["auto", "runc", "embedded"] {
        let mut command = sandbox.command("vzbuild");
        command.args(["run", "--runtime", runtime, "b", "--", "sh", "-c", "cat; cat nothing"]);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&vec![b'x'; 30_000]).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout.len(), 30_000, "{runtime}");
        assert_eq!(output.status.code(), Some(1), "{runtime}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("nothing"), "{runtime}");
    }
}

/// Starts a script that says when it is ready, and sends it a signal.
fn signalled(sandbox: &Sandbox, runtime: &str, script: &str, signal: Signal) -> (i32, String) {
    let mut command = sandbox.command("vzbuild");
    command.args(["run", "--stop-timeout", "1", "--runtime", runtime, "b"]);
    command.args(["--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{runtime}: {script}");
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    (child.wait().unwrap().code().unwrap(), rest)
}

#[test]
fn signals_reach_the_program() {
    if !require("signals_reach_the_program", &[Need::Root, RUNC]) {
        return;
    }
    let sandbox = Sandbox::new();
    tools_bundle(&sandbox, "b", &[]);
    for runtime in ["runc", "embedded"] {
        let handled = "trap 'echo got it; exit 3' TERM; echo ready; sleep 60 & wait";
        let answer = signalled(&sandbox, runtime, handled, Signal::SIGTERM);
        assert_eq!(answer, (3, "got it\n".to_owned()), "{runtime}");
        // The first process of a PID namespace ignores what it has no handler for.
        let unhandled = "echo ready; sleep 60; echo spared";
        let answer = signalled(&sandbox, runtime, unhandled, Signal::SIGTERM);
        assert_eq!(answer, (143, String::new()), "{runtime}");
        // Shells retry a wait that a handler broke, so this one outlives its TERM.
        let stubborn = "trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done";
        let (status, said) = signalled(&sandbox, runtime, stubborn, Signal::SIGTERM);
        assert_eq!((status, said.as_str()), (137, "no\n"), "{runtime}");
        let ignored = "trap '' HUP; echo ready; sleep 1; echo spared";
        let answer = signalled(&sandbox, runtime, ignored, Signal::SIGHUP);
        assert_eq!(answer, (0, "spared\n".to_owned()), "{runtime}");
    }
}

#[test]
fn a_killed_run_leaves_nothing_for_long() {
    if !require("a_killed_run_leaves_nothing_for_long", &[Need::Root, RUNC]) {
        return;
    }
    let sandbox = Sandbox::new();
    tools_bundle(&sandbox, "b", &[]);
    for runtime in ["embedded", "runc"] {
        let mut command = sandbox.command("vzbuild");
        let script = "echo ready; while sleep 0.1; do echo on || exit; done";
        command.args(["run", "--runtime", runtime, "b", "--", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // The embedded runner's program dies with it; runc's is swept by the next run.
        if runtime == "runc" {
            run(&sandbox, runtime, "exit 0").success();
        }
        // Ends only when no one can write any more.
        std::io::Read::read_to_end(&mut out, &mut Vec::new()).unwrap();
    }
}

#[test]
fn mounts_stay_inside_a_bundle_with_hostile_links() {
    let test = "mounts_stay_inside_a_bundle_with_hostile_links";
    if !require(test, &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("host")).unwrap();
    fs::create_dir(sandbox.path("victim")).unwrap();
    let volume = format!("{}:/var/data/deep", sandbox.path("host").display());
    tools_bundle(&sandbox, "b", &["--volume", &volume]);
    // As a stranger's bundle might: a mount point that is a link to the host's.
    fs::remove_dir_all(sandbox.path("b/rootfs/var")).unwrap();
    symlink(sandbox.path("victim"), sandbox.path("b/rootfs/var")).unwrap();
    fs::remove_dir(sandbox.path("b/rootfs/tmp")).unwrap();
    symlink("../../../../../../../../../tmp", sandbox.path("b/rootfs/tmp")).unwrap();
    run(&sandbox, "embedded", "echo inside > /tmp/x");
    assert_eq!(fs::read_dir(sandbox.path("victim")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(sandbox.path("host")).unwrap().count(), 0);
}
