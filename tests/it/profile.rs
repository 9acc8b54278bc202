//! `vzbuild verify --seccomp --least-caps`: what a bundle can do without.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::image_engines::podman;
use crate::run::run_as;
use crate::sandbox::{Finished, Need, Sandbox, require};
use crate::verify::{bundled, verify};

const PERL: Need = Need::File("/usr/share/perl5/HTTP/Date.pm", "libhttp-date-perl");
const RUNC: Need = Need::Program("runc", "runc");
const CRUN: Need = Need::Program("crun", "crun");

fn json_of(sandbox: &Sandbox, file: &str) -> Value {
    serde_json::from_slice(&fs::read(sandbox.path(file)).unwrap()).unwrap()
}

/// Cuts the bundle down, and returns what was found out.
#[track_caller]
fn narrow(sandbox: &Sandbox, options: &[&str]) -> Value {
    let done = verify(sandbox, &[&["--json"], options].concat()).success();
    serde_json::from_str::<Value>(&done.stdout()).unwrap()["narrowed"].clone()
}

/// The names of the profile's rules with this comment.
fn names(sandbox: &Sandbox, comment: &str) -> Vec<String> {
    let profile = json_of(sandbox, "bundle/evidence/seccomp.json");
    let rules = profile["syscalls"].as_array().unwrap().iter();
    let rules = rules.filter(|rule| rule["comment"] == comment);
    let names = rules.flat_map(|rule| rule["names"].as_array().unwrap());
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Runs `command` in the bundle with each runtime.
fn everywhere<S: AsRef<OsStr>>(sandbox: &Sandbox, command: &[S]) -> Vec<Finished> {
    let runtimes = ["embedded", "runc", "crun"];
    runtimes.iter().map(|runtime| run_as(sandbox, runtime, "bundle", command)).collect()
}

const CAPABILITIES: [&str; 5] = ["ambient", "bounding", "effective", "inheritable", "permitted"];

#[test]
fn a_call_beyond_the_profile_fails_under_every_runtime() {
    if !require("a profile under every runtime", &[Need::Root, PERL, RUNC, CRUN]) {
        return;
    }
    let sandbox = bundled(&[], ["perl", "-MHTTP::Date", "-e", "print time2str(0)"]);
    let found = narrow(&sandbox, &["--seccomp", "--least-caps"]);
    assert_eq!((&found["proven"], &found["capabilities"]["kept"]), (&json!(true), &json!([])));
    let config = json_of(&sandbox, "bundle/config.json");
    assert_eq!(config["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(config["linux"]["seccomp"]["architectures"], json!(["SCMP_ARCH_X86_64"]));
    for set in CAPABILITIES {
        assert_eq!(config["process"]["capabilities"][set], json!([]), "{set}");
    }
    assert!(names(&sandbox, "made").contains(&"newfstatat".to_owned()));
    for done in everywhere(&sandbox, &["perl", "-MHTTP::Date", "-e", "print time2str(0)"]) {
        assert_eq!(done.success().stdout(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
    let script = "print mkdir('/dev/shm/x') ? 'made' : $!";
    for done in everywhere(&sandbox, &["perl", "-e", script]) {
        assert_eq!(done.success().stdout(), "Function not implemented");
    }
    // Where it is only logged, it is done.
    narrow(&sandbox, &["--seccomp=log"]);
    for done in everywhere(&sandbox, &["perl", "-e", script]) {
        assert_eq!(done.success().stdout(), "made");
    }
    verify(&sandbox, &[]).success();
    sandbox.run("vzbuild", ["report", "bundle", "-o", "page.html"]).success();
    let page = fs::read_to_string(sandbox.path("page.html")).unwrap();
    assert!(
        page.contains("Any other system call is done and logged.") && page.contains("newfstatat")
    );
}

#[test]
fn podman_takes_the_profile_as_a_file() {
    let needs = [Need::Root, PERL, RUNC, Need::Program("podman", "podman")];
    if !require("podman with a profile", &needs) {
        return;
    }
    let sandbox = bundled(&[], ["perl", "-e", "print 'hello'"]);
    narrow(&sandbox, &["--seccomp"]);
    sandbox.run("vzbuild", ["image", "bundle", "-o", "oci:layout:perl"]).success();
    let run = |option: &str, script: &str| {
        let begin = ["run", "--rm", "--network", "none", "--security-opt", option];
        podman(&sandbox, &[&begin[..], &["oci:layout:perl", "perl", "-e", script]].concat())
    };
    let script = "print mkdir('/new') ? 'made' : $!";
    let profile = "seccomp=bundle/evidence/seccomp.json";
    assert_eq!(run(profile, "print 'hello'").success().stdout(), "hello");
    assert_eq!(run(profile, script).success().stdout(), "Function not implemented");
    assert_eq!(run("seccomp=unconfined", script).success().stdout(), "made");
    let artifacts = fs::read_to_string(sandbox.path("layout/index.json")).unwrap();
    assert!(artifacts.contains("seccomp.json") || artifacts.contains("vz.evidence"), "{artifacts}");
}

#[test]
fn a_32_bit_program_s_calls_are_allowed_under_their_own_names() {
    let needs = [Need::Root, Need::File("/usr/lib32/libc.so.6", "gcc-multilib"), RUNC, CRUN];
    if !require("a profile of a 32-bit program", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("hello.c", "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n");
    sandbox.run("cc", ["-m32", "-o", "hello", "hello.c"]).success();
    let hello = sandbox.path("hello");
    sandbox.run("smith-strace", [OsStr::new("-q"), hello.as_os_str()]).success();
    sandbox.run("vzbuild", ["bundle", "spec"]).success();
    narrow(&sandbox, &["--seccomp"]);
    let profile = json_of(&sandbox, "bundle/config.json")["linux"]["seccomp"].clone();
    assert_eq!(profile["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
    for call in ["mmap2", "set_thread_area"] {
        assert!(names(&sandbox, "made").contains(&call.to_owned()), "{call}");
    }
    for done in everywhere(&sandbox, &[hello.as_os_str()]) {
        assert_eq!(done.success().stdout(), "hello\n");
    }
}

#[test]
fn the_start_of_a_server_is_told_from_its_service() {
    let needs = [
        Need::Root,
        Need::Program("/usr/sbin/nginx", "nginx-light"),
        Need::Program("curl", "curl"),
        RUNC,
        CRUN,
    ];
    if !require("the profile of a server", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    sandbox.write("html/index.html", "hello\n");
    let dir = sandbox.path("");
    let dir = dir.display();
    let config = format!(
        "user www-data; pid {dir}/run/nginx.pid; error_log stderr; daemon off; events {{}}
         http {{ access_log off; client_body_temp_path {dir}/run/body; proxy_temp_path {dir}/run/p;
           fastcgi_temp_path {dir}/run/f; uwsgi_temp_path {dir}/run/u; scgi_temp_path {dir}/run/s;
           server {{ listen 127.0.0.1:{port}; root {dir}/html; }} }}"
    );
    let config = sandbox.write("nginx.conf", config);
    fs::create_dir(sandbox.path("run")).unwrap();
    let open = sandbox.command("chmod").args(["755", "."]).status().unwrap();
    assert!(open.success());
    let url = format!("http://127.0.0.1:{port}/");
    let curl = format!("curl -fsS {url} {url}");
    let mut trace = sandbox.command("smith-strace");
    trace.args(["-q", "--outcomes", "--until", &curl, "--ready-port", &port.to_string(), "--"]);
    Finished::of(trace.arg("/usr/sbin/nginx").arg("-c").arg(&config)).success();
    sandbox.run("vzbuild", ["bundle", "spec"]).success();
    let found = narrow(&sandbox, &["--seccomp", "--least-caps"]);
    let kept: Vec<&str> = found["capabilities"]["kept"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for needed in ["CAP_SETGID", "CAP_SETUID"] {
        assert!(kept.contains(&needed), "{kept:?}");
    }
    assert!(!kept.contains(&"CAP_NET_BIND_SERVICE"), "{kept:?}");
    let (start, service) =
        (names(&sandbox, "made to start only"), names(&sandbox, "made when ready"));
    for (list, name) in [(&start, "listen"), (&start, "setuid"), (&service, "accept4")] {
        assert!(list.contains(&name.to_owned()), "{name}: {start:?} {service:?}");
    }
    for runtime in ["runc", "crun", "embedded"] {
        let mut server = crate::run::command(&sandbox, runtime, "bundle", &[] as &[&str]);
        let mut server = server.spawn().unwrap();
        let retry = ["-fsS", "--retry", "100", "--retry-connrefused", "--retry-delay", "0", &url];
        let answer = sandbox.run("curl", retry);
        let pid = nix::unistd::Pid::from_raw(server.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        server.wait().unwrap();
        assert_eq!(answer.success().stdout(), "hello\n", "{runtime}");
    }
}

#[test]
fn a_profile_that_is_not_proven_is_not_written() {
    if require("a profile that fails", &[Need::Root]) {
        // Under a profile there is a filter more.
        let script = "grep -q 'Seccomp_filters:.1$' /proc/self/status";
        let sandbox = bundled(&[], ["sh", "-c", script]);
        let before = fs::read(sandbox.path("bundle/config.json")).unwrap();
        let said = verify(&sandbox, &["--seccomp"]).status(1).stdout();
        assert!(said.contains("exit status 1, was exit status 0"), "{said}");
        assert!(said.contains("none is written"), "{said}");
        assert_eq!(fs::read(sandbox.path("bundle/config.json")).unwrap(), before);
        assert!(!sandbox.path("bundle/evidence/seccomp.json").exists());
    }
}

#[test]
fn a_bundle_that_is_mended_keeps_its_profile_and_what_scanners_need() {
    if require("verify --fix under a profile", &[Need::Root]) {
        let sandbox = Sandbox::new();
        let data = sandbox.write("data", "hello\n");
        sandbox.run("smith-strace", ["-q", "--outcomes", "--", "cat", "data"]).success();
        sandbox.run("vzbuild", ["bundle", "spec", "--scanner-files"]).success();
        narrow(&sandbox, &["--seccomp"]);
        let kept =
            ["bundle/config.json", "bundle/evidence/seccomp.json", "bundle/evidence/files.json"];
        let read = || kept.map(|file| fs::read_to_string(sandbox.path(file)).unwrap());
        let before = read();
        assert!(before[0].contains("SCMP_ACT_ERRNO") && before[2].contains("\"scanner\""));
        fs::remove_file(sandbox.path(format!("bundle/rootfs{}", data.display()))).unwrap();
        let said = verify(&sandbox, &["--fix"]).success().stderr();
        assert!(said.contains("round 1: adds "), "{said}");
        assert_eq!(read(), before);
        // Without one there is none afterwards either.
        sandbox.run("vzbuild", ["bundle", "spec"]).success();
        fs::remove_file(sandbox.path(format!("bundle/rootfs{}", data.display()))).unwrap();
        verify(&sandbox, &["--fix"]).success();
        assert!(!sandbox.path(kept[1]).exists());
    }
}

#[test]
fn what_is_minified_under_a_profile_runs_under_it() {
    let needs =
        [&crate::minify::NEEDS[..], &[RUNC, CRUN, Need::Program("podman", "podman")]].concat();
    if !require("minify --seccomp --least-caps", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    crate::minify::root(&sandbox);
    let command = json!(["sh", "-c", "cat one; id -u"]);
    let config = json!({ "Cmd": command, "Env": ["PATH=/bin"], "WorkingDir": "/var/lib/app" });
    crate::minify::image(&sandbox, &config);
    let minify = |more: &[&str]| {
        let args = ["minify", "image.tar", "--seccomp", "--least-caps"];
        sandbox.run("vzbuild", args.iter().chain(more))
    };
    let told: Value = serde_json::from_str(&minify(&["--json"]).success().stdout()).unwrap();
    let found = &told["narrowed"];
    assert_eq!((&found["proven"], &found["capabilities"]["kept"]), (&json!(true), &json!([])));
    let written = json_of(&sandbox, "bundle/config.json");
    assert_eq!(written["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(written["process"]["capabilities"]["bounding"], json!([]));
    for done in everywhere(&sandbox, &["sh", "-c", "cat one; id -u"]) {
        assert_eq!(done.success().stdout(), "one\n0\n");
    }
    let beyond = ["busybox", "mkdir", "/dev/shm/x"];
    let refused = "mkdir: can't create directory '/dev/shm/x': Function not implemented";
    for done in everywhere(&sandbox, &beyond) {
        done.status(1).says(refused);
    }
    // An image has no place for the profile: it goes along as a file.
    let said = minify(&["-o", "docker-archive:small.tar:small:1"]).success().stdout();
    let rights = "just these rights: `tar -xf small.tar evidence/seccomp.json`, then `podman run \
                  --cap-drop all --security-opt seccomp=evidence/seccomp.json IMAGE`\n";
    assert!(said.contains(rights), "{said}");
    let said = minify(&["-o", "oci:images:small"]).success().stdout();
    let file = said.split_once("seccomp=").unwrap().1.split(' ').next().unwrap();
    let written = fs::read(sandbox.path("bundle/evidence/seccomp.json")).unwrap();
    assert!(fs::read(sandbox.path(file)).unwrap() == written, "{said}");
    sandbox.run("tar", ["-xf", "small.tar", "evidence/seccomp.json"]).success();
    podman(&sandbox, &["load", "-i", "small.tar"]).success();
    let profile = "seccomp=evidence/seccomp.json";
    let run = |more: &[&str]| {
        let begin = ["run", "--rm", "--network", "none", "--cap-drop", "all"];
        let image = ["--security-opt", profile, "small:1"];
        podman(&sandbox, &[&begin[..], &image, more].concat())
    };
    assert_eq!(run(&[]).success().stdout(), "one\n0\n");
    run(&beyond).status(1).says(refused);
}

#[test]
fn a_capability_is_kept_where_the_kernel_refuses_something_without_it() {
    if require("a refusal that the program ignores", &[Need::Root, PERL]) {
        // It asks for another group, and does not mind whether it gets it.
        let sandbox = bundled(&[], ["perl", "-e", "$) = '5 5'"]);
        let found = narrow(&sandbox, &["--least-caps"]);
        assert_eq!(found["capabilities"]["kept"], json!(["CAP_SETGID"]));
        let config = json_of(&sandbox, "bundle/config.json");
        assert_eq!(config["process"]["capabilities"]["bounding"], json!(["CAP_SETGID"]));
        assert_eq!(config["linux"]["seccomp"], Value::Null);
    }
}

#[test]
fn threads_need_no_call_whose_flags_nobody_sees() {
    if require("threads under a profile", &[Need::Root, Need::File("/usr/bin/python3", "python3")])
    {
        let script = "import threading; t = threading.Thread(target=print, args=['hi']); t.start()";
        let sandbox = bundled(&[], ["/usr/bin/python3", "-c", script]);
        let found = narrow(&sandbox, &["--seccomp"]);
        let allowed = found["seccomp"]["allowed"].as_array().unwrap();
        assert!(allowed.contains(&json!("clone")) && !allowed.contains(&json!("clone3")));
        let rules = json_of(&sandbox, "bundle/config.json")["linux"]["seccomp"]["syscalls"].clone();
        let clone = rules.as_array().unwrap().iter().find(|rule| rule["names"] == json!(["clone"]));
        assert_eq!(clone.unwrap()["args"][0]["op"], "SCMP_CMP_MASKED_EQ");
    }
}
