//! `vzbuild verify`: the bundle does as the traced run did, or what differs is named.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use crate::sandbox::{Finished, Need, Sandbox, count, require};

/// Traces `command` with errors, and makes its bundle.
#[track_caller]
pub fn bundled<S: AsRef<OsStr>>(options: &[&str], command: impl IntoIterator<Item = S>) -> Sandbox {
    let sandbox = Sandbox::new();
    let mut trace = sandbox.command("smith-strace");
    trace.args(["-q", "--outcomes"]).args(options).arg("--").args(command);
    Finished::of(&mut trace).success();
    sandbox.run("vzbuild", ["bundle", "spec"]).success();
    sandbox
}

pub fn verify(sandbox: &Sandbox, options: &[&str]) -> Finished {
    sandbox.run("vzbuild", ["verify", "bundle", "--spec", "spec"].iter().chain(options))
}

/// `REASON PATH` of each finding, and whether all is equal.
#[track_caller]
fn findings(sandbox: &Sandbox) -> (Vec<String>, bool) {
    let done = verify(sandbox, &["--json"]);
    let json: Value = serde_json::from_str(&done.stdout())
        .unwrap_or_else(|e| panic!("{e}: {}\n{}", done.stdout(), done.stderr()));
    let list = json["findings"].as_array().unwrap().iter();
    let text = |finding: &Value| {
        format!("{} {}", finding["reason"].as_str().unwrap(), finding["path"].as_str().unwrap())
    };
    (list.map(text).collect(), json["equal"].as_bool().unwrap())
}

fn can_run(test: &str, program: Need) -> bool {
    require(test, &[Need::Root, program])
}

/// Asserts that the bundle of a program is as before, again and again, and that
/// each removed file is named, and nothing else.
#[track_caller]
fn check(options: &[&str], command: &[&str]) {
    let sandbox = bundled(options, command);
    for _ in 0..count("clean verifications of a program", 20, 2) {
        let done = verify(&sandbox, &[]).success();
        assert!(done.stdout().contains("verified: "), "{}", done.stdout());
    }
    let is_removable = |path: &&String| {
        let meta = sandbox.path(format!("bundle/rootfs{path}")).symlink_metadata();
        meta.is_ok_and(|meta| !meta.is_dir())
    };
    let spec = sandbox.lines("spec");
    let files: Vec<&String> = spec.iter().filter(is_removable).collect();
    assert!(files.len() > 5, "{files:?}");
    let sample = count("removed files of a program", files.len() as u32, 4) as usize;
    for path in files.iter().step_by(files.len().div_ceil(sample)) {
        let place = sandbox.path(format!("bundle/rootfs{path}"));
        fs::rename(&place, sandbox.path("removed")).unwrap();
        assert_eq!(findings(&sandbox), (vec![format!("missing {path}")], false));
        fs::rename(sandbox.path("removed"), &place).unwrap();
    }
    assert_eq!(findings(&sandbox), (vec![], true), "when all is there again");
}

#[test]
fn a_removed_file_of_perl_is_named_exactly() {
    if can_run("verify perl", Need::File("/usr/share/perl5/HTTP/Date.pm", "libhttp-date-perl")) {
        check(&[], &["perl", "-MHTTP::Date", "-e", "print time2str(0)"]);
    }
}

#[test]
fn a_removed_file_of_python_is_named_exactly() {
    // By its path: what PATH has may be a wrapper.
    if can_run("verify python", Need::File("/usr/bin/python3", "python3")) {
        check(&[], &["/usr/bin/python3", "-c", "import json, sqlite3; print(json.dumps([1]))"]);
    }
}

#[test]
fn a_removed_file_of_node_is_named_exactly() {
    if can_run("verify node", Need::Program("node", "nodejs")) {
        check(&[], &["node", "-e", "console.log(1)"]);
    }
}

#[test]
fn a_removed_file_of_git_is_named_exactly() {
    if can_run("verify git", Need::Program("git", "git")) {
        let dir = Sandbox::new();
        check(&[], &["git", "init", "-q", &dir.path("repository").display().to_string()]);
    }
}

fn free_port() -> String {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string()
}

#[test]
fn a_removed_file_of_redis_is_named_exactly() {
    if can_run("verify redis", Need::Program("redis-server", "redis-server")) {
        let (port, dir) = (free_port(), Sandbox::new());
        let dir = dir.path("").display().to_string();
        let command = ["redis-server", "--port", &port, "--dir", &dir, "--save", ""];
        check(&["--until", "true", "--ready-port", &port], &command);
    }
}

#[test]
fn a_removed_file_of_nginx_is_named_exactly() {
    if can_run("verify nginx", Need::Program("nginx", "nginx-light")) {
        let (port, dir) = (free_port(), Sandbox::new());
        let place = |name: &str| dir.path(name).display().to_string();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};", place(kind)));
        let config = format!(
            "daemon off; pid {}; error_log stderr; events {{}} http {{ access_log off; {} \
             server {{ listen 127.0.0.1:{port}; root {}; }} }}",
            place("pid"),
            temporary.join(" "),
            place("site")
        );
        dir.write("site/index.html", "hello\n");
        let config = dir.write("nginx.conf", config).display().to_string();
        let probe = format!("curl -fsS http://127.0.0.1:{port}/");
        check(&["--until", &probe, "--ready-port", &port], &["nginx", "-c", &config]);
    }
}

#[test]
fn the_bundle_stays_as_it_is() {
    if require("verify", &[Need::Root]) {
        let sandbox = bundled(&[], ["sh", "-c", "echo x > here; cat here"]);
        sandbox.run("cp", ["-a", "bundle", "before"]).success();
        verify(&sandbox, &[]).success();
        sandbox.run("vzbuild", ["diff", "before", "bundle"]).success();
    }
}

#[test]
fn a_directory_that_is_read_only_now_is_named_with_the_way_out() {
    if require("verify", &[Need::Root]) {
        let script = "echo x > state/one.$$; mv state/one.$$ state/two; rm state/two";
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.path("state")).unwrap();
        let trace = ["-q", "--outcomes", "--", "sh", "-c", script];
        sandbox.run("smith-strace", trace).success();
        sandbox.run("vzbuild", ["bundle", "spec"]).success();
        verify(&sandbox, &[]).success();
        let config = sandbox.path("bundle/config.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        let state = sandbox.path("state").canonicalize().unwrap().display().to_string();
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != state.as_str());
        fs::write(&config, spec.to_string()).unwrap();
        let said = verify(&sandbox, &[]).status(1).stdout();
        assert!(said.contains(&format!("read-only: {state}\n")), "{said}");
        assert!(said.contains(&format!("--tmpfs {state}")), "{said}");
        assert!(said.contains("exit status 1, was exit status 0"), "{said}");
    }
}

#[test]
fn fix_adds_what_is_missing_until_nothing_is() {
    if require("verify --fix", &[Need::Root]) {
        let sandbox = Sandbox::new();
        for name in ["one", "two", "three"] {
            sandbox.write(name, format!("echo {name}\n"));
        }
        let script = ". ./one; . ./two; . ./three";
        sandbox.run("smith-strace", ["-q", "--outcomes", "--", "sh", "-c", script]).success();
        // The record knows them all; a spec without them is one that missed them.
        let spec = sandbox.lines("spec");
        let kept = spec.iter().filter(|path| !path.ends_with("/two") && !path.ends_with("/three"));
        sandbox.write("spec", kept.map(|path| format!("{path}\n")).collect::<String>());
        sandbox.run("vzbuild", ["bundle", "spec"]).success();
        let said = verify(&sandbox, &[]).status(1).stdout();
        assert!(said.contains("/two\n") && said.contains("/three\n"), "{said}");
        let fixed = verify(&sandbox, &["--fix"]).success();
        assert!(fixed.stderr().contains("round 1: adds "), "{}", fixed.stderr());
        assert_eq!(sandbox.lines("spec"), spec);
        let run = sandbox.run("vzbuild", ["run", "bundle"]).success();
        assert_eq!(run.stdout(), "one\ntwo\nthree\n");
    }
}

#[test]
fn what_cannot_be_fixed_ends_the_fixing() {
    if require("verify --fix", &[Need::Root]) {
        let sandbox = Sandbox::new();
        let data = sandbox.write("data", "x\n");
        sandbox.run("smith-strace", ["-q", "--outcomes", "--", "cat", "data"]).success();
        sandbox.run("vzbuild", ["bundle", "spec"]).success();
        let inside = Path::new("bundle/rootfs").join(data.strip_prefix("/").unwrap());
        fs::remove_file(sandbox.path(inside)).unwrap();
        fs::remove_file(&data).unwrap();
        let said = verify(&sandbox, &["--fix"]).status(1).stdout();
        assert!(said.contains("the original root does not have it either"), "{said}");
    }
}

#[test]
fn another_command_is_expected_to_succeed() {
    if require("verify --run", &[Need::Root]) {
        let sandbox = bundled(&[], ["sh", "-c", "cat /etc/hostname > /dev/null"]);
        verify(&sandbox, &[]).success();
        verify(&sandbox, &["--run", "exit 0"]).success();
        let said = verify(&sandbox, &["--run", "exit 4"]).status(1).stdout();
        assert!(said.contains("different: exit 4: exit status 4, was exit status 0"), "{said}");
    }
}

#[test]
fn a_program_that_is_gone_is_a_finding_and_no_failure() {
    if require("verify", &[Need::Root]) {
        let sandbox = bundled(&[], ["cat", "/etc/hostname"]);
        let cat = fs::canonicalize("/bin/cat").unwrap().display().to_string();
        fs::remove_file(sandbox.path(format!("bundle/rootfs{cat}"))).unwrap();
        assert_eq!(findings(&sandbox), (vec![format!("missing {cat}")], false));
    }
}

#[test]
fn without_a_first_run_there_is_nothing_to_compare_with() {
    let sandbox = Sandbox::new();
    sandbox.write("spec", "/bin/cat\n");
    sandbox.run("vzbuild", ["bundle", "spec"]).success();
    sandbox.run("vzbuild", ["verify", "bundle"]).status(3).says("--spec SPEC");
    verify(&sandbox, &[]).status(3).says("no spec.json");
    sandbox.run("vzbuild", ["verify", "spec"]).status(3).says("is no image");
    sandbox.write("directory/file", "");
    sandbox.run("vzbuild", ["verify", "directory"]).status(3).says("is no bundle");
}
