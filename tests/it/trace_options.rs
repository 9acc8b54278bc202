//! The options of `smith-strace`, one test each.

use std::path::Path;

use tracer::record::{BytePath, End};
use tracer::{Record, Spec};

use crate::sandbox::{Finished, Need, Sandbox, require};
use crate::tracee::{Build, Outcome, Traced};

/// Traces the tracee `open` in a fresh directory with these options, and checks
/// what it says of itself; `None` where there is no compiler.
#[track_caller]
fn opened(options: &[&str]) -> Option<(Traced, Outcome)> {
    require("an option", Build::Native.needs()).then(|| {
        let traced = Traced::prepare("open", Build::Native);
        let outcome = traced.run(options);
        traced.assert_seen(&outcome);
        (traced, outcome)
    })
}

fn record(sandbox: &Sandbox, name: &str) -> Record {
    Record::parse(&std::fs::read(sandbox.path(name)).unwrap()).unwrap()
}

#[test]
fn without_options_one_line_is_said() {
    if let Some((_, outcome)) = opened(&[]) {
        let said = outcome.finished.stderr();
        assert_eq!(said.lines().count(), 1, "{said}");
        let files = outcome.spec.paths().len();
        assert!(said.starts_with(&format!("smith-strace: {files} files, ")), "{said}");
        assert!(said.contains("in `spec`"), "{said}");
    }
}

#[test]
fn the_spec_is_what_its_record_lists_and_prints_back() {
    if let Some((traced, outcome)) = opened(&[]) {
        let text = std::fs::read(traced.sandbox.path("spec")).unwrap();
        assert_eq!(Spec::parse(&text).unwrap().print(), text, "sorted, unique, one spelling");
        let listed = outcome.record.files.iter().map(|file| &file.path.0[..]);
        assert!(listed.eq(outcome.spec.paths()));
        let json = std::fs::read(traced.sandbox.path("spec.json")).unwrap();
        assert_eq!(outcome.record.print().unwrap(), json);
    }
}

/// By the name /dev/stdout it would be opened, and kept with its bytes.
#[test]
fn a_file_that_output_is_directed_to_is_none_that_the_run_needs() {
    let sandbox = Sandbox::new();
    sandbox.write("out.log", "before\n");
    sandbox.write("err.log", "");
    let line = "echo x >/dev/stdout; echo y >/dev/stderr; stat -L /dev/stdout; cat data";
    sandbox.write("data", "1\n");
    let mut trace = sandbox.command("smith-strace");
    trace.args(["-o", "spec", "--", "sh", "-c", line]);
    let open = |name: &str| std::fs::File::options().append(true).open(sandbox.path(name)).unwrap();
    Finished::of(trace.stdout(open("out.log")).stderr(open("err.log"))).success();
    let spec = sandbox.lines("spec");
    assert!(spec.iter().any(|line| line.ends_with("/data")), "{spec:?}");
    assert!(!spec.iter().any(|line| line.ends_with(".log")), "{spec:?}");
}

#[test]
fn output_names_all_three() {
    let sandbox = Sandbox::new();
    sandbox.write("data", "before\n");
    std::fs::create_dir(sandbox.path("deep")).unwrap();
    sandbox
        .run("smith-strace", ["-o", "deep/my.spec", "--", "sh", "-c", "echo after > data"])
        .success();
    let data = sandbox.path("data").canonicalize().unwrap();
    assert!(sandbox.lines("deep/my.spec").contains(&data.display().to_string()));
    assert!(record(&sandbox, "deep/my.spec.json").changed.len() == 1);
    let original = Path::new("deep/my.spec.originals").join(data.strip_prefix("/").unwrap());
    assert_eq!(sandbox.lines(original.to_str().unwrap()), ["before"]);
    assert!(!sandbox.path("spec").exists());
}

#[test]
fn quiet_says_nothing() {
    if let Some((_, outcome)) = opened(&["-q"]) {
        assert_eq!(outcome.finished.stderr(), "");
    }
}

#[test]
fn verbose_names_what_was_left_out() {
    let sandbox = Sandbox::new();
    let script = "echo > made; cat /proc/version > /dev/null; cat /etc/passwd > /dev/null";
    let options = ["-v", "--exclude", "/etc/passwd", "--", "sh", "-c", script];
    let finished = sandbox.run("smith-strace", options).success();
    let made = sandbox.path("made").canonicalize().unwrap();
    finished.says("/etc/passwd").says("file system: /proc\n").says(made.to_str().unwrap());
}

#[test]
fn json_is_one_object() {
    if let Some((_, outcome)) = opened(&["--json"]) {
        let summary: serde_json::Value = serde_json::from_str(&outcome.finished.stderr()).unwrap();
        assert_eq!(summary["files"], outcome.spec.paths().len());
        assert!(summary["bytes"].as_u64().unwrap() > 0);
    }
}

#[test]
fn the_log_has_every_use_in_order() {
    let sandbox = Sandbox::new();
    for name in ["one", "two"] {
        sandbox.write(name, name);
    }
    let script = "cat one > /dev/null; cat two > /dev/null; cat one > /dev/null";
    sandbox.run("smith-strace", ["--log", "log", "--", "sh", "-c", script]).success();
    let dir = sandbox.path("").canonicalize().unwrap();
    let paths = sandbox.lines("log").into_iter().filter_map(|line| {
        let use_of: serde_json::Value = serde_json::from_str(&line).unwrap();
        let path = Path::new(use_of["path"].as_str().unwrap()).to_path_buf();
        let opened = use_of["use"] == "read";
        opened.then(|| path.strip_prefix(&dir).ok().map(|p| p.display().to_string())).flatten()
    });
    let paths: Vec<String> = paths.filter(|path| !path.is_empty()).collect();
    assert_eq!(paths, ["one", "two", "one"]);
}

#[test]
fn append_unites_runs() {
    let sandbox = Sandbox::new();
    sandbox.run("smith-strace", ["--", "cat", "/etc/passwd"]).success();
    let first = sandbox.lines("spec");
    sandbox.run("smith-strace", ["--append", "--", "cat", "/etc/group"]).success();
    let both = sandbox.lines("spec");
    assert!(first.iter().all(|path| both.contains(path)));
    assert!(both.contains(&"/etc/group".to_owned()) && !first.contains(&"/etc/group".to_owned()));
    let record = record(&sandbox, "spec.json");
    assert_eq!(record.runs.len(), 2);
    assert_eq!(record.runs[1].args[1], BytePath(b"/etc/group".to_vec()));
    sandbox.run("smith-strace", ["--", "cat", "/etc/group"]).success();
    assert!(!sandbox.lines("spec").contains(&"/etc/passwd".to_owned()), "replaced without it");
}

/// The second run found there what the first one made: whichever way that is
/// told, it is told in one way.
#[test]
fn no_path_is_both_in_an_appended_spec_and_made() {
    let sandbox = Sandbox::new();
    sandbox.run("smith-strace", ["--", "sh", "-c", "echo > made"]).success();
    sandbox.run("smith-strace", ["--append", "--", "cat", "made"]).success();
    let spec = Spec::parse(&std::fs::read(sandbox.path("spec")).unwrap()).unwrap();
    let created = record(&sandbox, "spec.json").created;
    let both: Vec<_> = created.iter().filter(|path| spec.contains(&path.0)).collect();
    assert!(both.is_empty(), "{both:?}");
}

#[test]
fn include_and_exclude_choose_and_it_is_said() {
    if let Some((traced, _)) = opened(&[]) {
        let glob = format!("{}/d/**", traced.dir.display());
        let outcome = traced.run(&["--include", &glob, "--exclude", "**/openat2"]);
        let paths: Vec<_> = outcome.spec.paths().map(<[u8]>::to_vec).collect();
        let kept = |name: &str| traced.dir.join(name).into_os_string().into_encoded_bytes();
        assert!(paths.contains(&kept("d/openat")), "{paths:?}");
        let inside = kept("d/");
        assert!(paths.iter().all(|path| path.starts_with(&inside)), "{paths:?}");
        assert!(!paths.contains(&kept("d/openat2")));
        assert!(outcome.record.excluded.contains(&BytePath(kept("d/openat2"))));
        assert!(outcome.record.excluded.contains(&BytePath(kept("open"))));
        outcome.finished.says(&format!("{} excluded", outcome.record.excluded.len()));
    }
}

#[test]
fn a_glob_that_is_none_is_named_before_anything_runs() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("smith-strace", ["--exclude", "[", "--", "touch", "ran"]).status(125);
    run.says("`[`");
    assert!(!sandbox.path("ran").exists());
}

#[test]
fn originals_over_the_limit_are_said() {
    let sandbox = Sandbox::new();
    sandbox.write("small", "x");
    sandbox.write("large", [b'x'; 5000]);
    let script = "echo > small; echo > large";
    let options = ["--originals-limit", "4K", "--", "sh", "-c", script];
    let finished = sandbox.run("smith-strace", options).success();
    let dir = sandbox.path("").canonicalize().unwrap();
    finished.says(&dir.join("large").display().to_string());
    let record = record(&sandbox, "spec.json");
    let kept: Vec<_> = record.files.iter().filter(|file| file.original).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].path.0.ends_with(b"/small"));
    assert!(!record.unseen.is_empty());
    assert_eq!(record.changed.len(), 2);
}

#[test]
fn outcomes_tell_errors() {
    if require("--outcomes", Build::Native.needs()) {
        let traced = Traced::prepare("exec", Build::Native);
        let outcome = traced.run(&["--outcomes", "--log", "log"]);
        traced.assert_seen(&outcome);
        let path = traced.dir.join("not-executable").into_os_string().into_encoded_bytes();
        assert_eq!(outcome.uses(&path).unwrap().errors, ["EACCES".to_owned()].into());
        let program = traced.dir.join("program").into_os_string().into_encoded_bytes();
        assert!(outcome.uses(&program).unwrap().errors.is_empty());
        let absent = traced.dir.join("no-exec").display().to_string();
        let logged = traced.sandbox.lines("log");
        let line = logged.iter().find(|line| line.contains(&absent));
        assert!(line.is_some_and(|line| line.contains("ENOENT")), "{line:?}");
    }
}

#[test]
fn detached_it_writes_the_same() {
    if let Some((traced, outcome)) = opened(&[]) {
        // What the tracee truncated before is there again.
        let again = Traced::prepare("open", Build::Native);
        Finished::of(&mut again.command(&["-D"])).success();
        again.sandbox.wait_for("spec.json");
        again.sandbox.wait_for("spec");
        let here = |traced: &Traced, path: &[u8]| {
            let dir = traced.dir.parent().unwrap().display().to_string();
            String::from_utf8_lossy(path).replace(&dir, "DIR")
        };
        let text = std::fs::read(again.sandbox.path("spec")).unwrap();
        let detached = Spec::parse(&text).unwrap();
        let detached: Vec<_> = detached.paths().map(|path| here(&again, path)).collect();
        let parent: Vec<_> = outcome.spec.paths().map(|path| here(&traced, path)).collect();
        assert_eq!(detached, parent);
    }
}

#[test]
fn values_of_variables_are_kept_only_where_they_are_no_secrets() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("smith-strace");
    command.args(["--env", "WANTED", "--", "true"]);
    command.env("TOKEN", "vz-secret").env("WANTED", "vz-wanted").env("LC_TIME", "C");
    Finished::of(&mut command).success();
    let text = sandbox.lines("spec.json").join("\n");
    assert!(!text.contains("vz-secret"));
    let record = record(&sandbox, "spec.json");
    let run = &record.runs[0];
    assert!(run.env_names.contains("TOKEN") && !run.env_names.contains("WANTED"));
    assert_eq!(run.env["WANTED"], "vz-wanted");
    assert_eq!(run.env["LC_TIME"], "C");
    assert_eq!(run.end, End::Exited(0));
}

#[test]
fn in_another_root_paths_are_that_roots() {
    let mut needs = vec![crate::sandbox::Need::Root];
    needs.extend([crate::sandbox::Need::Program("cc", "gcc libc6-dev")]);
    if !require("--root", &needs) {
        return;
    }
    let traced = Traced::prepare("links", Build::Static);
    let root = traced.sandbox.path("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::create_dir_all(root.join("proc")).unwrap();
    let [binary, ..] = traced.untraced_words();
    let mut copy = traced.sandbox.command("cp");
    Finished::of(copy.arg(&binary).arg(root.join("bin/tracee"))).success();
    // Prepared inside, so that absolute links mean that root.
    std::fs::create_dir(root.join("data")).unwrap();
    let mut chroot = traced.sandbox.command("chroot");
    Finished::of(chroot.arg(&root).args(["/bin/tracee", "prepare", "/data"])).success();
    let mut command = traced.sandbox.command("smith-strace");
    command.args(["--root", "root", "--", "/bin/tracee", "run", "/data"]);
    let outcome = traced.outcome(Finished::of(&mut command).success());
    assert!(outcome.has("/bin/tracee") && outcome.has("/data/real/sub/file"));
    assert!(outcome.said.len() > 10);
    for (word, path) in &outcome.said {
        assert_eq!(outcome.spec.contains(path), word != "absent", "{}", path.escape_ascii());
    }
    assert!(outcome.spec.paths().all(|path| root.join(os(&path[1..])).symlink_metadata().is_ok()));
}

fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// Runs the tracee over a throw-away overlay; nothing here may change.
#[track_caller]
fn check_isolated(name: &str) {
    let traced = Traced::prepare(name, Build::Native);
    let tree = || {
        let mut list = traced.sandbox.command("sh");
        list.args(["-c", "cd prepared && find . -printf '%p %m %s %T@ %C@ %l\\n' | sort"]);
        let mut sums = traced.sandbox.command("sh");
        sums.args(["-c", "cd prepared && find . -type f | sort | xargs -d '\\n' cat"]);
        (Finished::of(&mut list).success().stdout(), Finished::of(&mut sums).success().stdout())
    };
    let before = tree();
    let outcome = traced.run(&["--isolate"]);
    assert_eq!(tree(), before, "{name}");
    for (word, path) in &outcome.said {
        let left_out = word == "absent" || word == "made";
        let held = word == "optional" || outcome.spec.contains(path) != left_out;
        assert!(held, "{name}: {word} {}\n{}", path.escape_ascii(), outcome.finished.stderr());
    }
}

#[test]
fn isolated_the_machine_is_unchanged() {
    if require("--isolate", Build::Native.needs()) {
        for name in ["changed", "made", "unlink", "rename", "truncate", "chmod"] {
            check_isolated(name);
        }
    }
}

#[test]
fn isolated_the_end_is_the_commands() {
    let sandbox = Sandbox::new();
    sandbox.run("smith-strace", ["--isolate", "--", "sh", "-c", "echo > made; exit 7"]).status(7);
    assert!(!sandbox.path("made").exists());
    assert!(sandbox.path("spec").exists());
}

/// A root of its own with busybox as /bin/sh, and no more.
fn small_root(sandbox: &Sandbox) -> std::path::PathBuf {
    for dir in ["root/bin", "root/dev", "root/etc", "root/proc", "root/srv", "root/sys"] {
        std::fs::create_dir_all(sandbox.path(dir)).unwrap();
    }
    std::fs::copy("/bin/busybox", sandbox.path("root/bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", sandbox.path("root/bin/sh")).unwrap();
    sandbox.write("root/etc/passwd", "root:x:0:0::/:/bin/sh\nann:x:1234:100::/:/bin/sh\n");
    sandbox.write("root/etc/group", "users:x:100:\nmail:x:8:ann\nops:x:77:\n");
    sandbox.path("root")
}

const ROOT_AND_BUSYBOX: [Need; 2] = [Need::Root, Need::File("/bin/busybox", "busybox-static")];

#[test]
fn user_names_are_the_roots_own() {
    if require("--user --cwd", &ROOT_AND_BUSYBOX) {
        let sandbox = Sandbox::new();
        let root = small_root(&sandbox).display().to_string();
        let run = |user: &str, expected: &str| {
            let options = ["--root", &root, "--user", user, "--cwd", "/srv", "--", "/bin/sh", "-c"];
            let script = "echo $(busybox id -u) $(busybox id -G) $(busybox pwd)";
            let run = sandbox.run("smith-strace", options.into_iter().chain([script])).success();
            assert_eq!(run.stdout().trim(), expected, "{user}");
        };
        run("ann", "1234 100 8 /srv");
        run("ann:ops", "1234 77 /srv");
        run("5:6", "5 6 /srv");
        let run = record(&sandbox, "spec.json").runs.remove(0);
        assert_eq!((run.uid, run.gid, run.cwd.0.as_slice()), (5, 6, &b"/srv"[..]));
        let options = ["--root", &root, "--user", "bob", "--", "/bin/sh", "-c", "true"];
        sandbox.run("smith-strace", options).status(125).says("no user `bob`");
        let options = ["--root", &root, "--cwd", "/none", "--", "/bin/sh", "-c", "true"];
        sandbox.run("smith-strace", options).status(125).says("enter the directory `/none`");
    }
}

#[test]
fn what_a_root_lacks_of_the_machine_stands_in_and_is_not_shipped() {
    if require("--root --isolate", &ROOT_AND_BUSYBOX) {
        let sandbox = Sandbox::new();
        let root = small_root(&sandbox);
        sandbox.write("root/etc/hostname", "its-own\n");
        std::os::unix::fs::symlink("/run/none", root.join("etc/hosts")).unwrap();
        let script = "cat /etc/hosts /etc/hostname";
        let root = root.display().to_string();
        let options = ["--root", &root, "--isolate", "--", "/bin/busybox", "sh", "-c", script];
        let said = sandbox.run("smith-strace", options).success().stdout();
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap();
        assert_eq!(said, hosts + "its-own\n");
        let record = record(&sandbox, "spec.json");
        let pseudo = |path: &str| record.pseudo.contains(&BytePath(path.into()));
        assert!(pseudo("/etc/hosts") && !pseudo("/etc/hostname"), "{:?}", record.pseudo);
        assert!(!sandbox.lines("spec").contains(&"/etc/hosts".to_owned()));
        // The bundle has it from the machine where it runs.
        sandbox.run("vzbuild", ["bundle", "spec", "--root", &root]).success();
        assert_eq!(sandbox.run("vzbuild", ["run", "bundle"]).success().stdout(), said);
    }
}
