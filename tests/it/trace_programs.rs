//! Real programs: what is in their specs, judged by the kernel and by rsync.

use std::collections::BTreeSet;

use crate::sandbox::{Finished, Need, Sandbox, require};
use crate::tracee::{Build, compiled};

const DATE: [&str; 5] =
    ["perl", "-MConfig", "-MHTTP::Date", "-e", "print time2str(0), defined $Config{byacc}"];

const PERL: [Need; 2] = [
    Need::Program("perl", "perl"),
    Need::File("/usr/share/perl5/HTTP/Date.pm", "libhttp-date-perl"),
];

#[test]
fn perls_spec_has_what_perl_used_and_no_more() {
    if !require("perl's spec", &PERL) {
        return;
    }
    let sandbox = Sandbox::new();
    let traced = sandbox.run("smith-strace", DATE).success();
    assert!(traced.stdout().starts_with("Thu, 01 Jan 1970 00:00:00 GMT"), "{}", traced.stdout());
    let spec = sandbox.lines("spec");
    let ends = |end: &str| spec.iter().any(|path| path.ends_with(end));
    for end in ["/bin/perl", "/libc.so.6", "/ld-linux-x86-64.so.2", "/Config.pm", "/HTTP/Date.pm"] {
        assert!(ends(end), "no {end} in {spec:?}");
    }
    assert!(ends("/etc/ld.so.cache"));
    for path in &spec {
        let pseudo = ["/proc", "/sys/", "/dev/"].iter().any(|dir| path.starts_with(dir));
        assert!(!pseudo, "{path} is a pseudo file");
        assert!(std::path::Path::new(path).symlink_metadata().is_ok(), "{path} is not there");
    }
    assert!(!ends("/HTTP/Daemon.pm") && spec.len() < 120, "{} paths", spec.len());
}

#[test]
fn localtime_is_in_the_spec_of_what_asks_for_it() {
    if require("/etc/localtime", &[Need::Program("date", "coreutils")]) {
        let sandbox = Sandbox::new();
        let mut command = sandbox.command("smith-strace");
        Finished::of(command.args(["--", "date"]).env_remove("TZ")).success();
        let spec = sandbox.lines("spec");
        let file = std::fs::canonicalize("/etc/localtime").unwrap().display().to_string();
        assert!(spec.contains(&"/etc/localtime".to_owned()) && spec.contains(&file), "{spec:?}");
    }
}

#[test]
fn rsync_takes_the_spec_and_the_copy_runs() {
    let mut needs = PERL.to_vec();
    needs.extend([Need::Root, Need::Program("rsync", "rsync")]);
    if !require("rsync --files-from", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.run("smith-strace", DATE).success();
    let mut rsync = sandbox.command("rsync");
    Finished::of(rsync.args(["-a", "--files-from=spec", "/", "copy/"])).success();
    for path in sandbox.lines("spec") {
        let copied = sandbox.path("copy").join(path.trim_start_matches('/'));
        assert!(copied.symlink_metadata().is_ok(), "{path} was not copied");
    }
    // Device files are no business of a spec, and perl -e reads from this one.
    std::fs::create_dir_all(sandbox.path("copy/dev")).unwrap();
    sandbox.run("mknod", ["-m", "666", "copy/dev/null", "c", "1", "3"]).success();
    let mut chroot = sandbox.command("chroot");
    let ran = Finished::of(chroot.arg("copy").args(DATE)).success();
    assert!(ran.stdout().starts_with("Thu, 01 Jan 1970 00:00:00 GMT"));
}

/// Runs a command twice: watched by the kernel's own account of what is opened,
/// and traced. All that was opened must be in the spec.
#[track_caller]
fn check_against_the_kernel(test: &str, needs: &[Need], words: &[&str]) {
    let root = [Need::Root, Need::Program("unshare", "util-linux"), Need::Program("cc", "gcc")];
    if !require(test, &root) || !require(test, needs) {
        return;
    }
    let (sandbox, oracle) = (Sandbox::new(), compiled("fanotify-oracle", Build::Native));
    sandbox.write("work/input", "3\n1\n2\n");
    let dir = sandbox.path("work");
    // Caches and the like are made first, so that both runs find the same.
    let run = |before: &[&str]| {
        let mut command = sandbox.command(before[0]);
        command
            .args(&before[1..])
            .args(words)
            .current_dir(&dir)
            .env("HOME", &dir)
            .env("TMPDIR", &dir);
        Finished::of(&mut command).success().stdout()
    };
    let plain = run(&["env"]);
    // A mount namespace of its own: only this command's opens are seen there.
    let oracle = oracle.to_str().unwrap();
    let report = "exec 3> ../opened; exec \"$@\"";
    let watched = run(&["unshare", "-m", "sh", "-c", report, "sh", oracle, "/", "--"]);
    let traced = run(&[env!("CARGO_BIN_EXE_smith-strace"), "-q", "-o", "../spec", "--"]);
    assert_eq!((&watched, &traced), (&plain, &plain));
    let spec: BTreeSet<String> = sandbox.lines("spec").into_iter().collect();
    let opened = sandbox.lines("opened");
    assert!(opened.len() > 2, "{opened:?}");
    let opened: BTreeSet<String> =
        opened.iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
    let here = dir.canonicalize().unwrap().display().to_string();
    let missing = opened.difference(&spec).filter(|path| !path.starts_with(&here));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "the kernel opened, and the spec has not: {missing:#?}");
    // What was there before the run, in the working directory, is no exception.
    let input = format!("{here}/input");
    assert_eq!(spec.contains(&input), opened.contains(&input));
}

#[test]
fn the_kernel_opened_nothing_else_for_perl() {
    check_against_the_kernel("the kernel's account of perl", &PERL, &DATE);
}

#[test]
fn the_kernel_opened_nothing_else_for_python() {
    let program = "import json, sqlite3, ssl, ctypes, zoneinfo, email, http.client, asyncio
print(json.dumps(sorted(open('input').read().split())), zoneinfo.ZoneInfo('Europe/Berlin'))";
    let needs = [
        Need::File("/usr/bin/python3", "python3"),
        Need::File("/usr/share/zoneinfo/Europe/Berlin", "tzdata"),
    ];
    let words = ["/usr/bin/python3", "-B", "-c", program];
    check_against_the_kernel("the kernel's account of python", &needs, &words);
}

#[test]
fn the_kernel_opened_nothing_else_for_a_shell_script() {
    let script = "sort input | sed s/1/one/ | tr 3 x; cat <<END
here
END
[ -x /usr/bin/env ] && command -v awk; find . -name input; head -c 3 < input; . /dev/null";
    let needs = [Need::Program("sh", "dash")];
    check_against_the_kernel("the kernel's account of a script", &needs, &["sh", "-c", script]);
}

#[test]
fn the_kernel_opened_nothing_else_for_git() {
    let script = "rm -rf r c; git init -q r && cd r && git config user.name x &&
        git config user.email x@localhost && cp ../input . && git add . && git commit -qm one &&
        cd .. && git clone -q r c && cat c/input; rm -rf r c";
    let needs = [Need::Program("git", "git")];
    check_against_the_kernel("the kernel's account of git", &needs, &["sh", "-c", script]);
}

#[test]
fn the_kernel_opened_nothing_else_for_a_compiler() {
    let script = "echo '#include <stdio.h>
int main(void) { return puts(\"hello\") < 0; }' > main.c && cc -O1 -o main main.c && ./main";
    let needs = [Need::Program("cc", "gcc libc6-dev")];
    check_against_the_kernel("the kernel's account of a compiler", &needs, &["sh", "-c", script]);
}

#[test]
fn the_kernel_opened_nothing_else_for_node() {
    let program = "const fs = require('fs'); const os = require('os');
require('child_process').execFileSync('true');
console.log(fs.readFileSync('input', 'utf8').split('\\n').sort().join(), typeof os.cpus())";
    let needs = [Need::Program("node", "nodejs")];
    check_against_the_kernel("the kernel's account of node", &needs, &["node", "-e", program]);
}

/// Traces a command where `mounts` were made in a mount namespace before, and
/// returns the spec and all that was said of pseudo files.
fn spec_where(mounts: &str, command: &str) -> (Vec<String>, String) {
    let sandbox = Sandbox::new();
    let strace = env!("CARGO_BIN_EXE_smith-strace");
    let script = format!("set -e; mkdir m; {mounts}; \"$0\" -v -- {command} > /dev/null");
    let said = sandbox.run("unshare", ["-m", "sh", "-c", &script, strace]).success().stderr();
    let dir = sandbox.path("").canonicalize().unwrap().join("").display().to_string();
    let spec = sandbox.lines("spec").into_iter();
    (spec.filter_map(|path| Some(path.strip_prefix(&dir)?.to_owned())).collect(), said)
}

#[test]
fn mounts_are_told_by_their_file_systems_type() {
    if require("mounts", &[Need::Root, Need::Program("unshare", "util-linux")]) {
        let (spec, _) = spec_where("mount -t tmpfs x m; echo > m/file", "cat m/file");
        assert!(spec.contains(&"m/file".to_owned()), "a tmpfs has files: {spec:?}");
        let (spec, said) = spec_where("mount -t proc x m", "cat m/version");
        assert!(!spec.contains(&"m/version".to_owned()), "procfs, wherever it is: {spec:?}");
        assert!(said.contains("pseudo file system: ") && said.contains("/m\n"), "{said}");
        let mounts = "echo inner > inner; echo > m/file; mount --bind inner m/file";
        let (spec, _) = spec_where(mounts, "cat m/file");
        assert!(spec.contains(&"m/file".to_owned()), "a bind mount shows a file: {spec:?}");
    }
}
