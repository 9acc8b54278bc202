//! `vzbuild closure`: what it prints is all that is needed, shown by copying
//! just that elsewhere and running it there.

use std::path::Path;
use std::process::Stdio;

use bundler::{Options, RootPath, Rootfs, ld_cache};

use crate::sandbox::{Finished, Need, Sandbox, require};

const PERL: Need = Need::File("/usr/share/perl5/HTTP/Date.pm", "libhttp-date-perl");
const RSYNC: Need = Need::Program("rsync", "rsync");

/// Closes `spec` and copies what is printed into `root/` of the sandbox.
fn copy_closed(sandbox: &Sandbox, spec: &str) {
    sandbox.write("spec", spec);
    let closed = sandbox.run("vzbuild", ["closure", "spec"]).success();
    sandbox.write("closed", closed.output().stdout.as_slice());
    sandbox.run("rsync", ["-a", "--files-from=closed", "/", "root/"]).success();
}

/// Runs a command with `root/` of the sandbox as its root.
fn chroot(sandbox: &Sandbox, words: &[&str]) -> Finished {
    let mut command = sandbox.command("/usr/sbin/chroot");
    command.arg(sandbox.path("root")).args(words).env_clear().stdin(Stdio::null());
    Finished::of(&mut command)
}

#[test]
fn perl_prints_the_date_from_the_closed_list() {
    let needs = [Need::Root, PERL, RSYNC];
    if !require("perl_prints_the_date_from_the_closed_list", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    let perl = "/usr/bin/perl\n/usr/share/perl5/HTTP/Date.pm\n/usr/share/perl/5.36/Time/Local.pm\n";
    let modules = ["Carp", "Exporter", "constant", "overloading", "parent", "strict", "warnings"];
    let base = modules.map(|m| format!("/usr/lib/x86_64-linux-gnu/perl-base/{m}.pm\n")).concat();
    let spec = format!("{perl}{base}/usr/lib/x86_64-linux-gnu/perl-base/warnings/register.pm\n");
    copy_closed(&sandbox, &spec);
    // -e makes perl open /dev/null, which is no part of a closure.
    sandbox.write("root/date.pl", "print time2str(0).\"\\n\"");
    let done = chroot(&sandbox, &["/usr/bin/perl", "-MHTTP::Date", "/date.pl"]).success();
    assert_eq!(done.stdout(), "Thu, 01 Jan 1970 00:00:00 GMT\n");
}

#[test]
fn a_server_named_by_hand_starts_from_its_closed_list() {
    let needs = [Need::Root, RSYNC, Need::Program("redis-server", "redis-server")];
    if !require("a_server_named_by_hand_starts_from_its_closed_list", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    copy_closed(&sandbox, "/usr/bin/redis-server\n");
    std::fs::create_dir_all(sandbox.path("root/dev")).unwrap();
    std::fs::create_dir_all(sandbox.path("root/tmp")).unwrap();
    let mut command = sandbox.command("/usr/sbin/chroot");
    let server = ["/usr/bin/redis-server", "--port", "0", "--unixsocket", "/tmp/s", "--save", ""];
    command.arg(sandbox.path("root")).args(server).stdout(Stdio::null());
    let mut running = command.spawn().unwrap();
    let ready = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        sandbox.path("root/tmp/s").exists()
    });
    let status = running.try_wait().unwrap();
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(ready && status.is_none(), "ended with {status:?}");
}

#[test]
fn i386_and_x86_64_programs_live_side_by_side() {
    let needs = [Need::Root, RSYNC, Need::File("/usr/lib32/libc.so.6", "gcc-multilib")];
    if !require("i386_and_x86_64_programs_live_side_by_side", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("hello.c", "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }");
    for width in ["-m32", "-m64"] {
        let output = sandbox.path(format!("hello{width}")).display().to_string();
        sandbox.run("gcc", ["hello.c", width, "-o", &output]).success();
    }
    let dir = sandbox.path("").canonicalize().unwrap().display().to_string();
    copy_closed(&sandbox, &format!("{dir}/hello-m32\n{dir}/hello-m64\n"));
    for width in ["-m32", "-m64"] {
        let done = chroot(&sandbox, &[&format!("{dir}/hello{width}")]).success();
        assert_eq!(done.stdout(), "hello\n");
    }
}

/// A root with the system's loader and libc, a program that needs a library
/// of /opt/vz, and an ld.so.conf.d that leads there.
fn root_with_configured_library(sandbox: &Sandbox) {
    copy_closed(sandbox, "/bin/true\n");
    std::fs::remove_file(sandbox.path("root/etc/ld.so.cache")).unwrap();
    sandbox.write("root/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n");
    sandbox.write("root/etc/ld.so.conf.d/vz.conf", "/opt/vz\n");
    std::fs::create_dir_all(sandbox.path("root/opt/vz")).unwrap();
    sandbox.write("lib.c", "int vz(void) { return 42; }");
    sandbox.write("main.c", "int vz(void); int main(void) { return vz(); }");
    let library = ["lib.c", "-shared", "-Wl,-soname,libvz.so.1", "-o", "root/opt/vz/libvz.so.1"];
    sandbox.run("gcc", library).success();
    sandbox.run("gcc", ["main.c", "root/opt/vz/libvz.so.1", "-o", "root/program"]).success();
}

#[test]
fn a_library_of_ld_so_conf_loads_with_the_fresh_cache() {
    let name = "a_library_of_ld_so_conf_loads_with_the_fresh_cache";
    if !require(name, &[Need::Root, RSYNC, Need::Program("gcc", "gcc")]) {
        return;
    }
    let sandbox = Sandbox::new();
    root_with_configured_library(&sandbox);
    chroot(&sandbox, &["/program"]).status(127).says("libvz.so.1");
    let rootfs = Rootfs::open(&sandbox.path("root")).unwrap();
    let program = RootPath::new(b"/program").unwrap();
    let closure = bundler::close(&rootfs, [program], &Options::default());
    assert_eq!(closure.missing, []);
    let cache = ld_cache::for_closure(&rootfs, &closure).expect("a cache");
    sandbox.write("root/etc/ld.so.cache", &cache);
    chroot(&sandbox, &["/program"]).status(42);
    // ldconfig reads it too.
    let listed = sandbox.run("/sbin/ldconfig", ["-p", "-C", "root/etc/ld.so.cache"]).success();
    let expected = "libvz.so.1 (libc6,x86-64) => /opt/vz/libvz.so.1";
    assert!(listed.stdout().contains(expected), "{}", listed.stdout());
}

#[test]
fn the_fresh_cache_has_what_the_system_s_cache_has_of_the_closure() {
    let name = "the_fresh_cache_has_what_the_system_s_cache_has_of_the_closure";
    if !require(name, &[Need::File("/etc/ld.so.cache", "libc-bin")]) {
        return;
    }
    let rootfs = Rootfs::open(Path::new("/")).unwrap();
    let wanted = ["/bin/sh", "/usr/bin/env"].map(|p| RootPath::new(p.as_bytes()).unwrap());
    let closure = bundler::close(&rootfs, wanted, &Options::default());
    let fresh = ld_cache::parse(&ld_cache::for_closure(&rootfs, &closure).unwrap()).unwrap();
    let system = ld_cache::parse(&std::fs::read("/etc/ld.so.cache").unwrap()).unwrap();
    assert!(fresh.iter().any(|library| *library.soname == *b"libc.so.6"), "{fresh:?}");
    assert!(fresh.iter().all(|library| system.contains(library)), "{fresh:?}");
    // All of the system's own, written again, are in the system's own order.
    let again = ld_cache::parse(&ld_cache::write(&system)).unwrap();
    let names = |libraries: &[ld_cache::Library]| {
        libraries.iter().map(|l| (l.soname.clone(), l.flags)).collect::<Vec<_>>()
    };
    assert_eq!(names(&again), names(&system));
}

#[test]
fn missing_files_are_listed_with_who_wants_them() {
    let sandbox = Sandbox::new();
    let script = sandbox.write("root/bin/script", "#!/bin/absent\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(script, mode).unwrap();
    sandbox.write("spec", "/bin/script\n\n/gone\n");
    let words = ["closure", "--root", "root", "spec"];
    let failed = sandbox.run("vzbuild", words).status(1).says("2 files are missing or unusable:");
    let failed = failed.says("/gone (a line of the spec): there is no /gone [spec, line 3]");
    let failed = failed.says("/bin/absent (the `#!` interpreter of /bin/script): there is no");
    failed.says("hint: install what is missing");
    let words = words.into_iter().chain(["--allow-missing"]);
    let done = sandbox.run("vzbuild", words).success().says("warning: missing: /gone");
    assert_eq!(done.stdout(), "/bin/script\n");
}

#[test]
fn several_specs_unite_and_one_may_come_from_standard_input() {
    let sandbox = Sandbox::new();
    sandbox.write("root/a", "");
    sandbox.write("root/b", "");
    sandbox.write("a.spec", "/a\n");
    let mut command = sandbox.command("sh");
    let vzbuild = env!("CARGO_BIN_EXE_vzbuild");
    command.args(["-c", &format!("echo /b | {vzbuild} closure --root root a.spec -")]);
    assert_eq!(Finished::of(&mut command).success().stdout(), "/a\n/b\n");
}

/// A spec.json of these members beside the version.
fn record(members: &str) -> String {
    let empty = r#""created":[],"changed":[],"deleted":[],"ports":[],"sockets":[],"excluded":[],
        "unseen":[],"pseudo":[],"host":{"kernel":"","arch":"","cpuLevel":"","locale":"",
        "timeZone":""},"runs":[]"#;
    format!(r#"{{"version":1,{empty},{members}}}"#)
}

#[test]
fn listed_directories_give_their_entries_on_demand() {
    let sandbox = Sandbox::new();
    sandbox.write("root/d/f", "");
    sandbox.write("root/d/e/g", "");
    sandbox.write("spec", "/d\n");
    sandbox.write("spec.json", record(r#""files":[],"listed":["/d"]"#));
    let bare = sandbox.run("vzbuild", ["closure", "--root", "root", "spec"]).success();
    assert_eq!(bare.stdout(), "/d\n");
    let all = sandbox.run("vzbuild", ["closure", "--root", "root", "--listed", "spec"]).success();
    assert_eq!(all.stdout(), "/d\n/d/e\n/d/f\n");
}

#[test]
fn what_one_run_cannot_tell_is_said() {
    let sandbox = Sandbox::new();
    sandbox.write("root/usr/lib/locale/x/LC_TIME", "");
    sandbox.write("root/usr/share/zoneinfo/CET", "");
    sandbox.write("spec", "/usr/lib/locale/x/LC_TIME\n/usr/share/zoneinfo/CET\n");
    let text = record(r#""files":[],"listed":[]"#);
    let text = text.replace(r#""locale":"""#, r#""locale":"x""#);
    sandbox.write("spec.json", text.replace(r#""timeZone":"""#, r#""timeZone":"CET""#));
    let done = sandbox.run("vzbuild", ["closure", "--root", "root", "spec"]).success();
    done.says("the run saw only the locale x and the time zone CET: trace with others too");
}

#[test]
fn what_the_run_deleted_comes_from_the_originals() {
    let sandbox = Sandbox::new();
    sandbox.write("root/other", "");
    sandbox.write("spec", "/d/f\n");
    sandbox.write("spec.originals/d/f", "before");
    let file = r#"{"path":"/d/f","uses":["write"],"pid":7,"process":"/bin/x","original":true}"#;
    sandbox.write("spec.json", record(&format!(r#""listed":[],"files":[{file}]"#)));
    let done = sandbox.run("vzbuild", ["closure", "--root", "root", "--json", "spec"]).success();
    let closure: serde_json::Value = serde_json::from_str(&done.stdout()).unwrap();
    assert_eq!(closure["entries"][0]["path"], "/d/f");
    assert_eq!(closure["entries"][0]["size"], 6);
    assert_eq!(closure["entries"][0]["why"]["reason"], "spec");
}

/// The list goes into rsync as it is, also with names that are not UTF-8.
#[test]
fn strange_names_come_out_as_they_are() {
    use std::os::unix::ffi::OsStrExt;
    let sandbox = Sandbox::new();
    let name = std::ffi::OsStr::from_bytes(b"root/a b\xff'\"");
    std::fs::create_dir(sandbox.path("root")).unwrap();
    std::fs::write(sandbox.path(name), "").unwrap();
    std::fs::write(sandbox.path("root/new\nline"), "").unwrap();
    std::fs::write(sandbox.path("spec"), b"/a b\xff'\"\n\"/new\\nline\"\n").unwrap();
    let done = sandbox.run("vzbuild", ["closure", "--root", "root", "spec"]).success();
    assert_eq!(done.output().stdout, b"/a b\xff'\"\n\"/new\\nline\"\n");
}
