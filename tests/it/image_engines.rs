//! Images of ours in the hands of others: podman, docker, skopeo, umoci.

use std::fs;
use std::process::Child;

use serde_json::{Value, json};

use crate::image_out::{json, named};
use crate::layer::{describe_all, odd_tree, spec_of_all};
use crate::sandbox::{Finished, Need, Sandbox, require, skip};

const PODMAN: Need = Need::Program("podman", "podman");
const RUNC: Need = Need::Program("runc", "runc");
const BUSYBOX: Need = Need::File("/bin/busybox", "busybox-static");

/// Everything that an image can say of its container.
const FLAGS: [&str; 16] = [
    "--user",
    "1234:1234",
    "--cwd",
    "/srv",
    "--label",
    "a=b",
    "--port",
    "8080",
    "--stop-signal",
    "quit",
    "-e",
    "GREETING=hello",
    "--healthcheck",
    r#"["/bin/busybox","true"]"#,
    "--volume",
    "/data",
];

/// A bundle of busybox that prints a variable.
fn bundle(sandbox: &Sandbox) {
    sandbox.write("spec", "/bin/busybox\n");
    let command = ["--arg", "/bin/busybox", "--arg", "sh", "--arg", "-c", "--arg"];
    let script = "busybox id -u; busybox pwd; echo $GREETING";
    let args = ["bundle", "spec"].into_iter().chain(command).chain([script]);
    sandbox.run("vzbuild", args).success();
}

fn write_image(sandbox: &Sandbox, output: &str, more: &[&str]) {
    let args = ["image", "bundle", "-o", output];
    sandbox.run("vzbuild", args.iter().chain(&FLAGS).chain(more)).success();
}

/// What the image's command prints.
const PRINTED: &str = "1234\n/srv\nhello\n";

/// podman with a store in the sandbox. Where limits cannot be raised, podman's own
/// default ones stop its runtime, so lower ones are configured.
pub fn podman(sandbox: &Sandbox, args: &[&str]) -> Finished {
    let configuration = "[containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=1024:1024\"]\n\
                         [engine]\nruntime=\"runc\"\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"none\"\n";
    let mut command = sandbox.command("podman");
    command.env("CONTAINERS_CONF", sandbox.write("containers.conf", configuration));
    command.args(["--storage-driver", "vfs", "--root"]).arg(sandbox.path("store"));
    command.arg("--runroot").arg(sandbox.path("run"));
    Finished::of(command.args(args))
}

#[test]
fn podman_runs_every_form() {
    if !require("podman_runs_every_form", &[Need::Root, PODMAN, RUNC, BUSYBOX]) {
        return;
    }
    let sandbox = Sandbox::new();
    bundle(&sandbox);
    for how in ["zstd", "gzip", "none"] {
        let reference = format!("oci:layout:{how}");
        write_image(&sandbox, &reference, &["--compression", how]);
        let run = ["run", "--rm", "--network", "none", &reference];
        assert_eq!(podman(&sandbox, &run).success().stdout(), PRINTED, "{how}");
        // Else the layer would not be read again.
        podman(&sandbox, &["rmi", "--all", "--force"]).success();
    }
    for form in ["oci-archive", "docker-archive"] {
        let output = format!("{form}:{form}.tar");
        let name = format!("localhost/{form}:1");
        write_image(&sandbox, &output, &["--ref", &name]);
        let loaded = podman(&sandbox, &["load", "-i", &format!("{form}.tar")]).success();
        assert!(loaded.stdout().contains(&name), "{}", loaded.stdout());
        let run = ["run", "--rm", "--network", "none", &name];
        assert_eq!(podman(&sandbox, &run).success().stdout(), PRINTED, "{form}");
    }
    let inspected = podman(&sandbox, &["image", "inspect", "localhost/docker-archive:1"]).success();
    let inspected: Value = serde_json::from_str(&inspected.stdout()).unwrap();
    check_configuration(&inspected[0]["Config"]);
    // The layer was taken as it is.
    let summary = json(&sandbox.path("bundle/config.json"));
    let id = &summary["annotations"]["vz.diff-id"];
    assert_eq!(&inspected[0]["RootFS"]["Layers"][0], id);
    let health = &inspected[0]["Healthcheck"];
    assert_eq!(health["Test"], json!(["CMD", "/bin/busybox", "true"]), "{inspected}");
}

#[track_caller]
fn check_configuration(config: &Value) {
    assert_eq!(config["User"], "1234:1234");
    assert_eq!(config["WorkingDir"], "/srv");
    assert_eq!(config["Labels"]["a"], "b");
    assert_eq!(config["ExposedPorts"], json!({ "8080/tcp": {} }));
    assert_eq!(config["StopSignal"], "SIGQUIT");
    assert_eq!(config["Volumes"], json!({ "/data": {} }));
    let env = config["Env"].as_array().unwrap();
    assert!(env.contains(&json!("GREETING=hello")), "{env:?}");
}

#[test]
fn what_tends_to_get_lost_is_in_the_container() {
    let test = "what_tends_to_get_lost_is_in_the_container";
    let umoci = Need::Program("umoci", "umoci");
    if !require(test, &[Need::Root, PODMAN, RUNC, umoci]) {
        return;
    }
    let sandbox = Sandbox::new();
    odd_tree(&sandbox);
    fs::remove_file(sandbox.path("root/srv/link")).unwrap();
    spec_of_all(&sandbox);
    let args = ["spec", "--root", "root", "--arg", "x"];
    sandbox.run("vzbuild", ["bundle"].iter().chain(&args)).success();
    let output = ["-o", "oci:out:odd"];
    sandbox.run("vzbuild", ["image"].iter().chain(&args).chain(&output)).success();
    let expected = describe_all(&sandbox.path("bundle/rootfs"));

    let pulled = podman(&sandbox, &["pull", "-q", "oci:out:odd"]).success().stdout();
    let mounted = podman(&sandbox, &["image", "mount", pulled.trim()]).success().stdout();
    assert_eq!(describe_all(mounted.trim().as_ref()), expected);

    sandbox.run("umoci", ["unpack", "--image", "out:odd", "unpacked"]).success();
    assert_eq!(describe_all(&sandbox.path("unpacked/rootfs")), expected);
    let config = json(&sandbox.path("unpacked/config.json"));
    assert_eq!(config["process"]["args"], json!(["x"]));
}

#[test]
fn a_base_and_what_is_on_it_make_the_whole() {
    let test = "a_base_and_what_is_on_it_make_the_whole";
    let umoci = Need::Program("umoci", "umoci");
    if !require(test, &[Need::Root, umoci]) {
        return;
    }
    let sandbox = Sandbox::new();
    odd_tree(&sandbox);
    fs::remove_file(sandbox.path("root/srv/link")).unwrap();
    spec_of_all(&sandbox);
    sandbox.write("base", "/srv/shared\n/srv/other-name\n/bin/ping\n");
    let args = ["spec", "--root", "root", "--arg", "x"];
    sandbox.run("vzbuild", ["bundle"].iter().chain(&args)).success();
    let more = ["-o", "oci:out:odd", "--base-layer", "base", "--compression", "none"];
    sandbox.run("vzbuild", ["image"].iter().chain(&args).chain(&more)).success();
    sandbox.run("umoci", ["unpack", "--image", "out:odd", "unpacked"]).success();
    assert_eq!(
        describe_all(&sandbox.path("unpacked/rootfs")),
        describe_all(&sandbox.path("bundle/rootfs"))
    );
}

#[test]
fn skopeo_copies_it_digest_by_digest() {
    let skopeo = Need::Program("skopeo", "skopeo");
    if !require("skopeo_copies_it_digest_by_digest", &[skopeo, BUSYBOX]) {
        return;
    }
    let sandbox = Sandbox::new();
    bundle(&sandbox);
    write_image(&sandbox, "oci:out:one", &[]);
    write_image(&sandbox, "oci:out:two", &["--compression", "zstd"]);
    let skopeo = |args: &[&str]| sandbox.run("skopeo", ["--insecure-policy"].iter().chain(args));
    for name in ["one", "two"] {
        let from = format!("oci:out:{name}");
        let digest = named(&sandbox.path("out"), name)["digest"].clone();
        let inspected = skopeo(&["inspect", &from]).success().stdout();
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        assert_eq!((&inspected["Digest"], &inspected["Os"]), (&digest, &json!("linux")));
        skopeo(&["copy", "-q", &from, &format!("oci:second:{name}")]).success();
        assert_eq!(named(&sandbox.path("second"), name)["digest"], digest);
        skopeo(&["copy", "-q", &from, &format!("dir:dir-{name}")]).success();
        assert!(sandbox.path(format!("dir-{name}/manifest.json")).is_file());
    }
    // And what skopeo made takes ours beside it.
    write_image(&sandbox, "oci:second:three", &[]);
    named(&sandbox.path("second"), "three");
    skopeo(&["inspect", "oci:second:one"]).success();
    for form in ["oci-archive", "docker-archive"] {
        let image = format!("{form}:{form}.tar");
        write_image(&sandbox, &image, &["--ref", "x:1"]);
        let config = skopeo(&["inspect", "--config", &image]).success().stdout();
        check_configuration(&serde_json::from_str::<Value>(&config).unwrap()["config"]);
    }
}

/// dockerd of the test's own; ended when it is dropped.
struct Dockerd<'a> {
    sandbox: &'a Sandbox,
    child: Child,
}

impl<'a> Dockerd<'a> {
    /// Starts it; nothing where it does not answer, as on machines that let no one
    /// mount or make control groups.
    fn start(sandbox: &'a Sandbox) -> Option<Self> {
        let mut command = sandbox.command("dockerd");
        command.args(["--iptables=false", "--bridge=none", "--storage-driver", "vfs"]);
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("-p", "pid")] {
            command.arg(flag).arg(sandbox.path(name));
        }
        command.arg("-H").arg(format!("unix://{}", sandbox.path("socket").display()));
        let log = fs::File::create(sandbox.path("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().ok()?;
        let mut dockerd = Dockerd { sandbox, child };
        for _ in 0..600 {
            if dockerd.docker(&["version"]).output().status.success() {
                return Some(dockerd);
            }
            if dockerd.child.try_wait().ok()?.is_some() {
                return None;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        None
    }

    fn docker(&self, args: &[&str]) -> Finished {
        // Not the first `docker` of PATH, which need not be the one of the package.
        let mut command = self.sandbox.command("/usr/bin/docker");
        command.env("HOME", self.sandbox.path("home"));
        command.arg("-H").arg(format!("unix://{}", self.sandbox.path("socket").display()));
        Finished::of(command.args(args))
    }
}

impl Drop for Dockerd<'_> {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// dockerd, where what it needs is here; `test` says that it is skipped else.
fn dockerd<'a>(test: &str, sandbox: &'a Sandbox) -> Option<Dockerd<'a>> {
    let docker = Need::File("/usr/bin/docker", "docker.io");
    let dockerd = Need::Program("dockerd", "docker.io");
    if !require(test, &[Need::Root, docker, dockerd, RUNC, BUSYBOX]) {
        return None;
    }
    let started = Dockerd::start(sandbox);
    if started.is_none() {
        let log = fs::read_to_string(sandbox.path("log")).unwrap_or_default();
        let end = log.lines().last().unwrap_or_default();
        skip(test, &format!("a machine on which dockerd can be started ({end})"));
    }
    started
}

#[test]
fn docker_runs_a_minified_image_under_its_profile() {
    let sandbox = Sandbox::new();
    let test = "docker_runs_a_minified_image_under_its_profile";
    let Some(dockerd) = dockerd(test, &sandbox) else { return };
    crate::minify::root(&sandbox);
    // A thread is where libraries meet a call that the profile leaves out: clone3(2).
    let source = "#include <pthread.h>\n#include <stdio.h>\n
        void *hello(void *p) { puts(\"thread\"); return p; }
        int main(void) { pthread_t t; return pthread_create(&t, 0, hello, 0) || pthread_join(t, 0); }";
    sandbox.write("thread.c", source);
    sandbox.run("cc", ["-static", "-pthread", "-o", "root/bin/thread", "thread.c"]).success();
    let config = json!({ "Cmd": ["/bin/sh", "-c", "/bin/thread; id -u"], "User": "ann" });
    crate::minify::image(&sandbox, &config);
    let minify = ["minify", "image.tar", "--seccomp", "-o", "docker-archive:small.tar:small:1"];
    sandbox.run("vzbuild", minify).success();
    sandbox.run("tar", ["-xf", "small.tar", "evidence/seccomp.json"]).success();
    dockerd.docker(&["load", "-i", "small.tar"]).success();
    let run = |profile: &str, more: &[&str]| {
        let begin = ["run", "--rm", "--network", "none", "--security-opt", profile, "small:1"];
        dockerd.docker(&[&begin[..], more].concat())
    };
    let profile = "seccomp=evidence/seccomp.json";
    assert_eq!(run(profile, &[]).success().stdout(), "thread\n1234\n");
    let beyond = ["/bin/busybox", "mkdir", "/dev/shm/x"];
    // Docker before 23.0 has its own error for all other calls.
    run(profile, &beyond).status(1).says("mkdir: can't create directory '/dev/shm/x': ");
    run("seccomp=unconfined", &beyond).success();
}

#[test]
fn docker_loads_and_runs_it() {
    let sandbox = Sandbox::new();
    let Some(dockerd) = dockerd("docker_loads_and_runs_it", &sandbox) else { return };
    bundle(&sandbox);
    // Debian's docker (20.10) reads no zstd, which is said.
    let zstd = ["image", "bundle", "-o", "docker-archive:image.tar", "--compression", "zstd"];
    sandbox.run("vzbuild", zstd).success().says("docker before 23.0 cannot load zstd");
    for how in ["gzip", "none"] {
        let name = format!("web:{how}");
        write_image(&sandbox, "docker-archive:image.tar", &["--ref", &name, "--compression", how]);
        let loaded = dockerd.docker(&["load", "-i", "image.tar"]).success().stdout();
        assert_eq!(loaded.trim(), format!("Loaded image: {name}"));
        let run = ["run", "--rm", "--network", "none", &name];
        assert_eq!(dockerd.docker(&run).success().stdout(), PRINTED, "{how}");
        if how == "gzip" {
            // Else the layer would not be read again.
            dockerd.docker(&["rmi", &name]).success();
        }
    }
    let inspected = dockerd.docker(&["inspect", "web:none"]).success().stdout();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let config = &inspected[0]["Config"];
    check_configuration(config);
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD", "/bin/busybox", "true"]));
}
