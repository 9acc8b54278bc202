//! `vzbuild minify`: an image becomes a bundle that is proven to do the same.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::sandbox::{Finished, Need, Sandbox, require};

pub const NEEDS: [Need; 2] = [Need::Root, Need::File("/bin/busybox", "busybox-static")];

/// A root file system of busybox and some data, at `root` of the sandbox.
pub fn root(sandbox: &Sandbox) -> PathBuf {
    for dir in ["root/bin", "root/tmp", "root/var/lib/app", "root/home/ann"] {
        fs::create_dir_all(sandbox.path(dir)).unwrap();
    }
    fs::copy("/bin/busybox", sandbox.path("root/bin/busybox")).unwrap();
    for applet in ["cat", "httpd", "id", "ls", "sh", "sleep", "wget"] {
        symlink("busybox", sandbox.path("root/bin").join(applet)).unwrap();
    }
    sandbox.write("root/etc/passwd", "root:x:0:0::/:/bin/sh\nann:x:1234:100::/home/ann:/bin/sh\n");
    sandbox.write("root/etc/group", "users:x:100:\nmail:x:8:ann\n");
    for name in ["one", "two", "never"] {
        sandbox.write(&format!("root/var/lib/app/{name}"), format!("{name}\n"));
    }
    sandbox.path("root")
}

/// Packs the sandbox's `root` as `docker save` does, with this config.
pub fn image(sandbox: &Sandbox, config: &Value) {
    let dir = sandbox.path("image");
    fs::create_dir(&dir).unwrap();
    let tar = |file: &Path, of: &Path, names: &[&str]| {
        let mut tar = sandbox.command("tar");
        tar.args(["--sort=name", "--mtime=@0", "-cf"]).arg(file).arg("-C").arg(of).args(names);
        Finished::of(&mut tar).success();
    };
    tar(&dir.join("layer.tar"), &sandbox.path("root"), &["."]);
    let digest = Sha256::digest(fs::read(dir.join("layer.tar")).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    // As registries have it.
    sandbox.run("gzip", ["-1", "image/layer.tar"]).success();
    fs::rename(dir.join("layer.tar.gz"), dir.join("layer.tar")).unwrap();
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let layers = json!({ "type": "layers", "diff_ids": [format!("sha256:{digest}")] });
    let config = json!({
        "architecture": arch, "os": "linux", "config": config, "rootfs": layers,
        "author": "Ann", "variant": "v3", "docker_version": "1",
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let manifest = json!([{ "Config": "config.json", "Layers": ["layer.tar"], "RepoTags": null }]);
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    tar(&sandbox.path("image.tar"), &dir, &["manifest.json", "config.json", "layer.tar"]);
}

fn minify(sandbox: &Sandbox, image: &str, options: &[&str]) -> Finished {
    sandbox.run("vzbuild", ["minify", image].iter().chain(options))
}

fn has(sandbox: &Sandbox, path: &str) -> bool {
    sandbox.path(format!("bundle/rootfs{path}")).symlink_metadata().is_ok()
}

/// Names in the sandbox, hidden ones too.
fn names(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.path("")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_looks_secret_is_told_with_the_way_to_keep_it_out() {
    if require("minify", &NEEDS) {
        let sandbox = Sandbox::new();
        root(&sandbox);
        sandbox.write("root/app/.env", "TOKEN=1\n");
        sandbox.write("env", "TOKEN=2\n");
        let command = ["-o", "bundle", "--", "cat", "/app/.env"];
        let said = minify(&sandbox, "root", &command).success();
        said.says("hint: another file in its place (`--volume FILE:/app/.env:ro`) keeps it out");
        assert_eq!(sandbox.lines("bundle/rootfs/app/.env"), ["TOKEN=1"]);
        let volume = format!("{}:/app/.env:ro", sandbox.path("env").display());
        let said = minify(&sandbox, "root", &[&["--volume", &volume], &command[..]].concat());
        assert!(!said.success().stderr().contains("looks secret"));
        assert!(sandbox.lines("bundle/rootfs/app/.env").is_empty());
    }
}

#[test]
fn an_images_own_command_user_variables_and_directory_are_the_bundles() {
    if require("minify", &NEEDS) {
        let sandbox = Sandbox::new();
        root(&sandbox);
        image(
            &sandbox,
            &json!({
                "Entrypoint": ["/bin/sh", "-c"],
                "Cmd": ["echo $(id -u) $(id -G) $HOME $GREETING $PWD; cat one"],
                "Env": ["PATH=/bin", "GREETING=hello"],
                "User": "ann",
                "WorkingDir": "/var/lib/app",
            }),
        );
        let done = minify(&sandbox, "docker-archive:image.tar", &[]).success();
        assert!(done.stdout().contains("verified: "), "{}", done.stdout());
        assert!(has(&sandbox, "/var/lib/app/one") && !has(&sandbox, "/var/lib/app/two"));
        let run = sandbox.run("vzbuild", ["run", "bundle"]).success();
        assert_eq!(run.stdout(), "1234 100 8 /home/ann hello /var/lib/app\none\n");
        sandbox.run("vzbuild", ["verify", "bundle"]).success();
        assert_eq!(names(&sandbox), ["bundle", "image", "image.tar", "root"]);
    }
}

#[test]
fn an_image_becomes_an_image_with_its_own_settings() {
    if require("minify to an image", &NEEDS) {
        let sandbox = Sandbox::new();
        root(&sandbox);
        let config = json!({
            "Entrypoint": ["/bin/cat"], "Cmd": ["one"], "WorkingDir": "/var/lib/app",
            "User": "ann", "Labels": { "by": "ann" }, "ExposedPorts": { "80/tcp": {} },
        });
        image(&sandbox, &config);
        minify(&sandbox, "image.tar", &["-o", "oci:images:small"]).success();
        assert_eq!(names(&sandbox), ["image", "image.tar", "images", "root"]);
        // The small image is as good a start as the large one.
        minify(&sandbox, "oci:images:small", &["-o", "docker-archive:smaller.tar"]).success();
        minify(&sandbox, "smaller.tar", &[]).success();
        assert_eq!(sandbox.run("vzbuild", ["run", "bundle"]).success().stdout(), "one\n");
        let manifest = sandbox.run("tar", ["-xOf", "smaller.tar", "manifest.json"]).success();
        let manifest: Value = serde_json::from_str(&manifest.stdout()).unwrap();
        let name = manifest[0]["Config"].as_str().unwrap();
        let carried = sandbox.run("tar", ["-xOf", "smaller.tar", name]).success().stdout();
        let carried: Value = serde_json::from_str(&carried).unwrap();
        for (name, value) in config.as_object().unwrap() {
            assert_eq!(&carried["config"][name], value, "{name}");
        }
        assert_eq!([&carried["author"], &carried["variant"]], ["Ann", "v3"]);
        assert_eq!(carried["docker_version"], Value::Null);
    }
}

#[test]
fn scenarios_unite_and_a_command_takes_the_place_of_cmd() {
    if require("minify --run", &NEEDS) {
        let sandbox = Sandbox::new();
        root(&sandbox);
        image(&sandbox, &json!({ "Entrypoint": ["/bin/cat"], "Cmd": ["/var/lib/app/never"] }));
        let runs = ["--run", "cat /var/lib/app/two", "--", "/var/lib/app/one"];
        let said = minify(&sandbox, "image.tar", &runs).success();
        assert!(said.stderr().contains("traced 2 of 2: /bin/sh -c "), "{}", said.stderr());
        assert!(has(&sandbox, "/var/lib/app/one") && has(&sandbox, "/var/lib/app/two"));
        assert!(!has(&sandbox, "/var/lib/app/never"));
        assert_eq!(sandbox.run("vzbuild", ["run", "bundle"]).success().stdout(), "one\n");
        // The evidence is enough to make both runs again.
        let two = sandbox.path("bundle/rootfs/var/lib/app/two");
        fs::remove_file(two).unwrap();
        let said = sandbox.run("vzbuild", ["verify", "bundle"]).status(1).stdout();
        assert!(said.contains("missing: /var/lib/app/two\n"), "{said}");
    }
}

#[test]
fn a_server_is_exercised_and_what_its_health_check_uses_is_kept() {
    if require("minify a server", &NEEDS) {
        let sandbox = Sandbox::new();
        root(&sandbox);
        sandbox.write("root/srv/index.html", "hello\n");
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let check = format!("/bin/wget -qO- http://127.0.0.1:{port}/ && cat /var/lib/app/one");
        image(
            &sandbox,
            &json!({
                "Cmd": ["httpd", "-f", "-p", format!("127.0.0.1:{port}"), "-h", "/srv"],
                "Env": ["PATH=/bin"],
                "Volumes": { "/var/cache/app": {} },
                "Healthcheck": { "Test": ["CMD-SHELL", check] },
            }),
        );
        let probe = format!("curl -fsS http://127.0.0.1:{port}/ > answer");
        minify(&sandbox, "image.tar", &["--until", &probe]).success();
        assert_eq!(sandbox.lines("answer"), ["hello"]);
        assert!(has(&sandbox, "/srv/index.html"));
        assert!(has(&sandbox, "/bin/wget") && has(&sandbox, "/var/lib/app/one"));
        assert!(!has(&sandbox, "/var/lib/app/two"));
        let config = fs::read_to_string(sandbox.path("bundle/config.json")).unwrap();
        assert!(config.contains("\"/var/cache/app\""), "{config}");
    }
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    if require("minify twice", &NEEDS) {
        let sandbox = Sandbox::new();
        root(&sandbox);
        image(&sandbox, &json!({ "Cmd": ["/bin/sh", "-c", "cat /var/lib/app/* > /tmp/all.$$"] }));
        let digest = |output: &str| {
            minify(&sandbox, "image.tar", &["-o", output]).success();
            let files = ["config.json", "evidence/spec", "evidence/spec.json"];
            let read = |file| fs::read(sandbox.path(output).join(file)).unwrap();
            let json: Value = serde_json::from_slice(&read(files[0])).unwrap();
            (json["annotations"]["vz.diff-id"].to_string(), files.map(read))
        };
        assert_eq!(digest("first"), digest("second"));
    }
}

#[test]
fn what_cannot_be_made_equal_is_not_written() {
    if require("minify", &NEEDS) {
        let sandbox = Sandbox::new();
        let root = root(&sandbox).display().to_string();
        let before = names(&sandbox);
        // Nothing can be mounted over the root itself.
        let command = ["--", "/bin/sh", "-c", "echo x > /state && cat /state"];
        let said = minify(&sandbox, &root, &command).status(1).stdout();
        assert!(said.contains("read-only: /\n") && said.contains("--writable"), "{said}");
        assert!(said.contains("nothing is written"), "{said}");
        assert_eq!(names(&sandbox), before);
        minify(
            &sandbox,
            &root,
            &["--writable"].iter().chain(&command).copied().collect::<Vec<_>>(),
        )
        .success();
        assert!(!Path::new(&root).join("state").exists(), "the image stays as it is");
    }
}

#[test]
fn an_image_that_no_disk_holds_is_refused_and_leaves_nothing() {
    if require("minify a bomb", &NEEDS) {
        let sandbox = Sandbox::new();
        root(&sandbox);
        for number in 0..8 {
            let file = fs::File::create(sandbox.path(format!("root/zeros{number}"))).unwrap();
            file.set_len(16 << 20).unwrap();
        }
        image(&sandbox, &json!({ "Cmd": ["/bin/id"] }));
        assert!(fs::metadata(sandbox.path("image.tar")).unwrap().len() < 4 << 20);
        // 64 MiB of a disk are left free.
        let script = "mkdir small; mount -t tmpfs -o size=160m none small; \
                      \"$0\" minify image.tar -o small/bundle; echo status $?; ls -A small";
        let in_small = ["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_vzbuild")];
        let done = sandbox.run("unshare", in_small).success();
        assert_eq!(done.stdout(), "status 3\n");
        done.says("has no more room");
    }
}

#[test]
fn output_that_differs_is_a_difference_where_it_is_asked_for() {
    if require("minify --same-output", &NEEDS) {
        let sandbox = Sandbox::new();
        let root = root(&sandbox).display().to_string();
        let command = ["--", "/bin/sh", "-c", "echo /var/lib/app/*"];
        minify(&sandbox, &root, &command).success();
        let mut options = vec!["--same-output"];
        options.extend(command);
        let said = minify(&sandbox, &root, &options).status(1).stdout();
        assert!(said.contains("its standard output differs: line 1 is `/var/lib/app/*`, was `/var/lib/app/never /var/lib/app/one /var/lib/app/two`"), "{said}");
    }
}

#[test]
fn a_command_that_fails_in_the_image_is_no_test() {
    if require("minify", &NEEDS) {
        let sandbox = Sandbox::new();
        let root = root(&sandbox).display().to_string();
        minify(&sandbox, &root, &[]).status(2).says("--run CMD");
        minify(&sandbox, &root, &["--", "/bin/none"]).status(3).says("not run in the image itself");
        minify(&sandbox, &root, &["--user", "bob", "--", "/bin/id"])
            .status(3)
            .says("no user `bob`");
        minify(&sandbox, "web:1", &[]).status(3).says("containers-storage:web:1 in podman's store");
        let archive = ["-o", "out.tar", "--", "/bin/id"];
        minify(&sandbox, &root, &archive).status(2).says("hint: write oci-archive:out.tar or ");
        let until = ["--until", "exit 3", "--", "/bin/sleep", "100"];
        minify(&sandbox, &root, &until).status(3).says("`exit 3` ended with");
        sandbox.write("bundle/keep", "x");
        minify(&sandbox, &root, &["--", "/bin/id"]).status(3).says("is no bundle");
        assert_eq!(names(&sandbox), ["bundle", "root"]);
    }
}

#[test]
fn a_place_where_no_image_can_go_costs_no_run() {
    if require("minify to no place", &NEEDS) {
        let sandbox = Sandbox::new();
        let root = root(&sandbox).display().to_string();
        for (output, status, said) in [
            ("oci:root", 3, "is there already and is no OCI image layout"),
            ("docker-archive:x.tar:Bad_Name", 2, "Bad_Name"),
            ("oci-archive:root", 3, "is there already and is no file"),
        ] {
            let done = minify(&sandbox, &root, &["-o", output, "--", "/bin/id"]).status(status);
            assert!(!done.stderr().contains("traced 1 of 1"), "{}", done.stderr());
            done.says(said);
        }
    }
}

#[test]
fn interrupted_nothing_is_left() {
    if require("minify interrupted", &NEEDS) {
        use nix::sys::signal::{Signal, kill};
        let sandbox = Sandbox::new();
        root(&sandbox);
        let mut command = sandbox.command("vzbuild");
        let script = "echo x > /tmp/begun; sleep 100";
        command.args(["minify", "root", "--timeout", "90", "--", "/bin/sh", "-c", script]);
        let mut child = command.spawn().unwrap();
        for _ in 0..3000 {
            let work =
                names(&sandbox).into_iter().find(|name| name.starts_with(".bundle.work.vz-"));
            let begun = work.map(|work| sandbox.path(work).join("run-0/overlay/upper/tmp/begun"));
            if begun.is_some_and(|begun| begun.exists()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(names(&sandbox), ["root"]);
    }
}
