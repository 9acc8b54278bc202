//! `vzbuild bundle`: what a bundle is, how it is replaced, what it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tracer::Record;
use tracer::record::{BytePath, Run, VERSION};

use crate::sandbox::{Need, Sandbox, require};

/// Programs that tests run in bundles.
const TOOLS: [&str; 9] = ["cat", "env", "id", "ls", "mkdir", "sh", "sleep", "stat", "touch"];

/// A spec of some programs of this machine; bundles of it run `sh`.
pub fn tools_spec(sandbox: &Sandbox) {
    let paths = TOOLS.iter().map(|name| vz::process::find(name).unwrap());
    let lines: String = paths.map(|path| format!("{}\n", path.display())).collect();
    sandbox.write("tools.spec", lines);
}

/// A bundle of some programs in `name`.
pub fn tools_bundle(sandbox: &Sandbox, name: &str, options: &[&str]) {
    tools_spec(sandbox);
    let args = ["bundle", "tools.spec", "-o", name, "--arg", "sh", "--no-sync"];
    sandbox.run("vzbuild", args.iter().chain(options)).success();
}

/// Writes `spec.json` of a run that used `created` and so on.
pub fn record(sandbox: &Sandbox, spec: &str, change: impl FnOnce(&mut Record)) {
    let mut record = Record { version: VERSION, ..Record::default() };
    record.runs.push(Run {
        args: vec![BytePath(b"sh".to_vec())],
        cwd: BytePath(b"/".to_vec()),
        ..Run::default()
    });
    change(&mut record);
    sandbox.write(&format!("{spec}.json"), record.print().unwrap());
}

pub fn paths(list: &[&str]) -> BTreeSet<BytePath> {
    list.iter().map(|path| BytePath(path.as_bytes().to_vec())).collect()
}

/// The `config.json` of a bundle.
pub fn config(sandbox: &Sandbox, bundle: &str) -> Value {
    let text = fs::read(sandbox.path(bundle).join("config.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// A small root file system with a program that needs nothing.
fn small_root(sandbox: &Sandbox) {
    sandbox.write(
        "root/etc/passwd",
        "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
    );
    sandbox.write("root/etc/group", "root:x:0:\nann:x:1000:\n");
    sandbox.write("root/etc/shadow", "root:$y$secret:1:0:9:7:::\n");
    sandbox.write("root/srv/data/a", "text");
    sandbox.write("root/bin/run", "#!/bin/interpreter\n");
    sandbox.write("root/bin/interpreter", "no ELF");
    for name in ["root/bin/run", "root/bin/interpreter"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(sandbox.path(name), mode).unwrap();
    }
}

fn mount<'a>(config: &'a Value, destination: &str) -> Option<&'a Value> {
    let mounts = config["mounts"].as_array().unwrap();
    mounts.iter().find(|mount| mount["destination"] == destination)
}

fn options(config: &Value, destination: &str) -> String {
    let mount = mount(config, destination).unwrap_or_else(|| panic!("no {destination}: {config}"));
    let options = mount["options"].as_array().unwrap();
    options.iter().map(|option| option.as_str().unwrap()).collect::<Vec<_>>().join(",")
}

/// What lies in a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_only_program_of_a_spec_is_what_is_run() {
    let sandbox = Sandbox::new();
    small_root(&sandbox);
    sandbox.write("spec", "/bin/run\n/srv/data/a\n");
    let done = sandbox.run("vzbuild", ["bundle", "spec", "--root", "root"]).success();
    assert!(done.stdout().is_empty());
    let done = done.says("run it with `vzbuild run bundle`");
    let config = config(&sandbox, "bundle");
    assert_eq!(config["process"]["args"], serde_json::json!(["/bin/run"]));
    assert_eq!(config["root"]["readonly"], true);
    let id = config["annotations"]["vz.diff-id"].as_str().unwrap();
    done.says(id);
    assert_eq!(names(&sandbox.path("bundle")), ["config.json", "evidence", "rootfs"]);
    assert_eq!(fs::read(sandbox.path("bundle/rootfs/srv/data/a")).unwrap(), b"text");
}

#[test]
fn a_choice_of_programs_is_not_guessed() {
    let sandbox = Sandbox::new();
    small_root(&sandbox);
    sandbox.write("root/bin/walk", "#!/bin/interpreter\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(sandbox.path("root/bin/walk"), mode).unwrap();
    sandbox.write("spec", "/bin/run\n/bin/walk\n");
    let told = sandbox.run("vzbuild", ["bundle", "spec", "--root", "root"]).status(2);
    told.says("which to run: /bin/run, /bin/walk").says("--arg");
    assert!(!sandbox.path("bundle").exists());
}

#[test]
fn accounts_are_cut_and_password_hashes_stay() {
    let sandbox = Sandbox::new();
    small_root(&sandbox);
    sandbox.write("spec", "/bin/run\n/etc/passwd\n/etc/shadow\n");
    let args = ["bundle", "spec", "--root", "root", "--user", "7:8"];
    sandbox.run("vzbuild", args).success().says("/etc/shadow is left out");
    assert!(!sandbox.path("bundle/rootfs/etc/shadow").exists());
    assert!(!fs::read_to_string(sandbox.path("bundle/rootfs/etc/passwd")).unwrap().contains("ann"));
}

#[test]
fn where_a_run_wrote_is_memory_with_what_the_bundle_has_there() {
    let sandbox = Sandbox::new();
    small_root(&sandbox);
    fs::create_dir_all(sandbox.path("root/var/cache")).unwrap();
    sandbox.write("spec", "/bin/run\n/srv/data/a\n/var/cache\n");
    record(&sandbox, "spec", |record| {
        record.runs[0].args = vec![BytePath(b"/bin/run".to_vec())];
        record.created =
            paths(&["/srv/data/b", "/var/cache/new", "/var/cache/new/x", "/dev/shm/y"]);
        record.changed = paths(&["/srv/data/a"]);
    });
    let done = sandbox.run("vzbuild", ["bundle", "spec", "--root", "root"]).success();
    done.says("what it writes to /srv/data, /var/cache is lost when it stops");
    let first = config(&sandbox, "bundle");
    assert!(options(&first, "/srv/data").ends_with(",tmpcopyup"));
    assert!(!options(&first, "/var/cache").contains("tmpcopyup"));
    assert!(mount(&first, "/tmp").is_none());

    let volume = ["bundle", "spec", "--root", "root", "--volume", "/host/dir:/srv:ro"];
    sandbox.run("vzbuild", volume).success();
    let second = config(&sandbox, "bundle");
    assert_eq!(options(&second, "/srv"), "rbind,ro");
    assert!(mount(&second, "/srv/data").is_none());

    sandbox.run("vzbuild", ["bundle", "spec", "--root", "root", "--writable"]).success();
    let third = config(&sandbox, "bundle");
    assert_eq!(third["root"]["readonly"], false);
    assert!(mount(&third, "/srv/data").is_none());
}

#[test]
fn flags_decide_over_the_trace() {
    let sandbox = Sandbox::new();
    small_root(&sandbox);
    sandbox.write("spec", "/bin/run\n");
    record(&sandbox, "spec", |record| {
        record.runs[0].uid = 1000;
        record.runs[0].groups = [1000, 27].into();
        record.runs[0].env = [("LANG".to_owned(), "C".to_owned())].into();
    });
    let args = ["bundle", "spec", "--root", "root", "--arg", "run", "--arg", "-x"];
    let more = ["-e", "LANG=de", "--user", "ann", "--cwd", "/srv", "--cap", "net_bind_service"];
    sandbox.run("vzbuild", args.iter().chain(&more)).success();
    let config = config(&sandbox, "bundle");
    assert_eq!(config["process"]["args"], serde_json::json!(["run", "-x"]));
    assert_eq!(config["process"]["env"][0], "HOME=/home/ann");
    assert_eq!(config["process"]["env"][1], "LANG=de");
    assert_eq!(config["process"]["cwd"], "/srv");
    let expected = serde_json::json!(["CAP_NET_BIND_SERVICE"]);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(config["process"]["user"]["uid"], 1000);
        assert_eq!(config["process"]["capabilities"]["ambient"], expected);
    }
}

#[test]
fn a_config_of_the_user_s_is_the_base() {
    let sandbox = Sandbox::new();
    small_root(&sandbox);
    sandbox.write("spec", "/bin/run\n");
    let base = r#"{"ociVersion":"1.0.2","hostname":"mine","process":{"user":{"uid":5,"gid":5},
        "args":["run","twice"],"cwd":"/srv"},"root":{"path":"elsewhere"},"linux":{}}"#;
    sandbox.write("base.json", base);
    sandbox.run("vzbuild", ["bundle", "spec", "--root", "root", "--config", "base.json"]).success();
    let config = config(&sandbox, "bundle");
    assert_eq!(config["hostname"], "mine");
    assert_eq!(config["process"]["args"], serde_json::json!(["run", "twice"]));
    assert_eq!(config["root"]["path"], "rootfs");
    assert!(sandbox.path("bundle/rootfs/srv").is_dir());
}

#[test]
fn what_is_no_bundle_is_never_replaced() {
    let sandbox = Sandbox::new();
    small_root(&sandbox);
    sandbox.write("spec", "/bin/run\n");
    sandbox.write("home/letter", "dear");
    let told = sandbox.run("vzbuild", ["bundle", "spec", "--root", "root", "-o", "home"]).status(3);
    told.says("is there already and is no bundle").says("-o");
    assert_eq!(names(&sandbox.path("home")), ["letter"]);
    assert!(!names(&sandbox.path("")).iter().any(|name| name.contains(".vz-")));
}

#[test]
fn a_tar_has_the_digest_that_the_bundle_has() {
    let sandbox = Sandbox::new();
    small_root(&sandbox);
    sandbox.write("spec", "/bin/run\n/srv/data/a\n");
    sandbox.run("vzbuild", ["bundle", "spec", "--root", "root"]).success();
    let id = config(&sandbox, "bundle")["annotations"]["vz.diff-id"].clone();
    let piped =
        sandbox.run("vzbuild", ["bundle", "spec", "--root", "root", "--tar", "-"]).success();
    sandbox.run("vzbuild", ["bundle", "spec", "--root", "root", "--tar", "layer.tar"]).success();
    assert_eq!(fs::read(sandbox.path("layer.tar")).unwrap(), piped.output().stdout);
    let sum = sandbox.run("sha256sum", ["layer.tar"]).success().stdout();
    assert_eq!(format!("sha256:{}", sum.split_whitespace().next().unwrap()), id.as_str().unwrap());
}

#[test]
fn json_tells_what_the_lines_tell() {
    let sandbox = Sandbox::new();
    small_root(&sandbox);
    sandbox.write("spec", "/bin/run\n");
    let out = sandbox.run("vzbuild", ["bundle", "spec", "--root", "root", "--json"]).success();
    let json: Value = serde_json::from_str(&out.stdout()).unwrap();
    assert_eq!(json["diffId"], config(&sandbox, "bundle")["annotations"]["vz.diff-id"]);
    assert_eq!(json["lostAtStop"], serde_json::json!(["/run", "/tmp"]));
    assert!(json["files"].as_u64().unwrap() >= 2);
}

/// A root with enough in it that a kill meets the middle of the work.
fn large_root(sandbox: &Sandbox) {
    small_root(sandbox);
    let mut spec = "/bin/run\n".to_owned();
    for number in 0..600 {
        sandbox.write(&format!("root/srv/data/f{number}"), vec![number as u8; 40_000]);
        spec += &format!("/srv/data/f{number}\n");
    }
    sandbox.write("large.spec", spec);
    sandbox.write("small.spec", "/bin/run\n");
}

/// Whether the bundle is one of two whole ones.
fn assert_whole(sandbox: &Sandbox, old: &[u8], new: &[u8]) {
    let text = fs::read(sandbox.path("bundle/config.json")).unwrap();
    let files = fs::read_dir(sandbox.path("bundle/rootfs/srv/data")).map_or(0, Iterator::count);
    assert!(text == old && files == 0 || text == new && files == 600, "{files} files");
}

#[test]
fn killed_at_any_moment_there_is_the_old_bundle_or_the_new_one() {
    let sandbox = Sandbox::new();
    large_root(&sandbox);
    let small = ["bundle", "small.spec", "--root", "root"];
    let large = ["bundle", "large.spec", "--root", "root", "--no-sync"];
    sandbox.run("vzbuild", large).success();
    let new = fs::read(sandbox.path("bundle/config.json")).unwrap();
    for round in 0..24 {
        sandbox.run("vzbuild", small).success();
        let old = fs::read(sandbox.path("bundle/config.json")).unwrap();
        let mut child = sandbox.command("vzbuild").args(large).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 12));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_whole(&sandbox, &old, &new);
    }
    // The next one takes away what the killed ones left.
    sandbox.run("vzbuild", small).success();
    let left: Vec<_> =
        names(&sandbox.path("")).into_iter().filter(|name| name.contains(".vz-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn ctrl_c_leaves_the_old_bundle_and_nothing_else() {
    let sandbox = Sandbox::new();
    large_root(&sandbox);
    sandbox.run("vzbuild", ["bundle", "small.spec", "--root", "root"]).success();
    let old = fs::read(sandbox.path("bundle/config.json")).unwrap();
    let args = ["bundle", "large.spec", "--root", "root"];
    for round in 0..8 {
        let mut child = sandbox.command("vzbuild").args(args).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(40 + round * 25));
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let status = child.wait().unwrap();
        let left = names(&sandbox.path("")).into_iter().any(|name| name.contains(".vz-"));
        // Before the work begins it dies of the signal, after it it is done.
        use std::os::unix::process::ExitStatusExt;
        let is_known = matches!(status.code(), Some(0 | 130)) || status.signal() == Some(2);
        assert!(is_known && !left, "{status}, left: {left}");
        if status.success() {
            sandbox.run("vzbuild", ["bundle", "small.spec", "--root", "root"]).success();
        }
        assert_eq!(fs::read(sandbox.path("bundle/config.json")).unwrap(), old);
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    let test = "a_full_disk_leaves_nothing_half_made";
    if !require(test, &[Need::Root, Need::Program("unshare", "util-linux")]) {
        return;
    }
    let sandbox = Sandbox::new();
    large_root(&sandbox);
    fs::create_dir(sandbox.path("disk")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=4m none disk && {vzbuild} bundle large.spec --root root -o disk/b; \
         status=$?; {vzbuild} bundle large.spec --root root --tar disk/t; echo $status $? $(ls -A disk)",
        vzbuild = env!("CARGO_BIN_EXE_vzbuild")
    );
    let done = sandbox.run("unshare", ["-m", "sh", "-c", &script]).success();
    assert_eq!(done.stdout().trim(), "3 3");
    done.says("No space left on device").says("cannot write `disk/b`");
}

#[test]
fn a_file_that_goes_while_it_is_read_is_named() {
    let sandbox = Sandbox::new();
    large_root(&sandbox);
    // A fifo as tar: the writer waits for a reader, and a file goes meanwhile.
    sandbox.run("mkfifo", ["pipe"]).success();
    let args = ["bundle", "large.spec", "--root", "root", "--tar", "pipe"];
    let mut child =
        sandbox.command("vzbuild").args(args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut pipe = fs::File::open(sandbox.path("pipe")).unwrap();
    std::io::Read::read_exact(&mut pipe, &mut [0; 512]).unwrap();
    fs::remove_file(sandbox.path("root/srv/data/f99")).unwrap();
    std::io::copy(&mut pipe, &mut std::io::sink()).unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{said}");
    assert!(said.contains("`/srv/data/f99` vanished while the bundle was written"), "{said}");
}

#[test]
fn what_looks_secret_is_told_and_bundled_all_the_same() {
    let sandbox = Sandbox::new();
    small_root(&sandbox);
    sandbox.write("root/home/ann/.ssh/id_ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    sandbox.write("root/home/ann/.ssh/known_hosts", "a ssh-ed25519 AAAA\n");
    sandbox.write("root/app/.env", "TOKEN=1\n");
    let spec = "/home/ann/.ssh/id_ed25519\n/home/ann/.ssh/known_hosts\n/app/.env\n";
    sandbox.write("spec", spec);
    let bundle =
        ["bundle", "spec", "--root", "root", "-o", "b", "--arg", "sh", "--no-sync", "--json"];
    let said = sandbox.run("vzbuild", bundle).success();
    let said = said.says("/home/ann/.ssh/id_ed25519: it looks like a private key");
    let said = said.says("/app/.env: it looks like a file of secret variables");
    let said = said.says("hint: `smith-strace --exclude /app/.env` keeps it out");
    let summary: Value = serde_json::from_str(&said.stdout()).unwrap();
    let paths: Vec<&str> =
        summary["secrets"].as_array().unwrap().iter().filter_map(|s| s["path"].as_str()).collect();
    assert_eq!(paths, ["/app/.env", "/home/ann/.ssh/id_ed25519"]);
    assert!(sandbox.path("b/rootfs/app/.env").exists());
}
