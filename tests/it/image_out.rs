//! `vzbuild image`: what the images are, told from the files alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::bundle::names;
use crate::sandbox::{Finished, Need, Sandbox, require};

/// A root with a program, and a spec of it.
fn root(sandbox: &Sandbox, name: &str) {
    let write = |file: &str, content: &str| {
        let path = sandbox.write(&format!("{name}/{file}"), content);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    write("srv/program", "#!/bin/true\n");
    write("bin/true", "");
    write("srv/data", "data");
    write("etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/false\n");
    write("etc/group", "root:x:0:\nweb:x:33:\n");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(sandbox.path(name).join("srv/program"), executable).unwrap();
    fs::create_dir(sandbox.path(name).join("tmp")).unwrap();
    let sticky = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(sandbox.path(name).join("tmp"), sticky).unwrap();
    sandbox.write("spec", "/srv/program\n/srv/data\n");
}

/// Runs `vzbuild image spec --root root` with more arguments.
fn image<'a>(sandbox: &Sandbox, args: impl IntoIterator<Item = &'a str>) -> Finished {
    let args = ["image", "spec", "--root", "root", "--arg", "x"].into_iter().chain(args);
    sandbox.run("vzbuild", args)
}

pub fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// The content of a blob that a descriptor names.
fn blob(layout: &Path, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().unwrap();
    json(&layout.join("blobs/sha256").join(&digest[7..]))
}

/// The entry of an index that has this name.
pub fn named(layout: &Path, name: &str) -> Value {
    let index = json(&layout.join("index.json"));
    let has = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == name;
    index["manifests"].as_array().unwrap().iter().find(has).unwrap().clone()
}

/// The first manifest of a layout, and the configuration of it.
fn manifest(layout: &Path) -> (Value, Value) {
    let manifest = blob(layout, &json(&layout.join("index.json"))["manifests"][0]);
    let config = blob(layout, &manifest["config"]);
    (manifest, config)
}

/// The digests of the layers of a layout's first image.
pub fn layers(layout: &Path) -> Vec<String> {
    let layers = manifest(layout).0["layers"].as_array().unwrap().clone();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_same_files_give_the_same_image_elsewhere_and_later() {
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    image(&sandbox, ["-o", "oci:first:x"]).success();
    let mut other = sandbox.command("sh");
    let script = "umask 077; mkdir deep; cp -a root deep/other; cd deep; \
                  exec \"$0\" image ../spec --root other --arg x -o oci:second:x";
    other.args(["-c", script, env!("CARGO_BIN_EXE_vzbuild")]).env("TZ", "Asia/Tokyo");
    Finished::of(&mut other).success();
    let index = |path: &str| fs::read_to_string(sandbox.path(path).join("index.json")).unwrap();
    assert_eq!(index("first"), index("deep/second"));
}

#[test]
fn a_spec_and_its_bundle_give_the_same_image() {
    if !require("a_spec_and_its_bundle_give_the_same_image", &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    let common = ["spec", "--root", "root", "--arg", "x", "--user", "web"];
    sandbox.run("vzbuild", ["bundle"].iter().chain(&common)).success();
    sandbox.run("vzbuild", ["image"].iter().chain(&common).chain(&["-o", "oci:a:x"])).success();
    sandbox.run("vzbuild", ["image", "bundle", "-o", "oci:b:x"]).success();
    assert_eq!(named(&sandbox.path("a"), "x"), named(&sandbox.path("b"), "x"));
}

#[test]
fn source_date_epoch_is_the_time_of_the_image() {
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    image(&sandbox, ["-o", "oci:newest"]).success();
    assert_eq!(manifest(&sandbox.path("newest")).1["created"], "2017-07-14T02:40:00Z");
    let mut command = sandbox.command("vzbuild");
    command.args(["image", "spec", "--root", "root", "--arg", "x", "-o", "oci:given"]);
    Finished::of(command.env("SOURCE_DATE_EPOCH", "1000000000")).success();
    let config = manifest(&sandbox.path("given")).1;
    assert_eq!(config["created"], "2001-09-09T01:46:40Z");
    assert_eq!(config["history"][0]["created"], "2001-09-09T01:46:40Z");
}

#[test]
fn flags_say_what_the_container_is_like() {
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    let flags = [
        "-o",
        "oci:out",
        "--user",
        "web",
        "--cwd",
        "/srv",
        "-e",
        "A=b=c",
        "--label",
        "a.b=c",
        "--port",
        "80",
        "--port",
        "53/udp",
        "--stop-signal",
        "quit",
        "--volume",
        "/var/lib/web",
        "--healthcheck",
        r#"["/srv/program","-t"]"#,
    ];
    let done = image(&sandbox, flags).success();
    done.says("podman and docker heed health checks of docker-archive: images only");
    let (_, config) = manifest(&sandbox.path("out"));
    let expected = json!({
        "Cmd": ["x"],
        "Env": ["A=b=c", "HOME=/srv", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "ExposedPorts": { "53/udp": {}, "80/tcp": {} },
        "Healthcheck": { "Test": ["CMD", "/srv/program", "-t"] },
        "Labels": { "a.b": "c" },
        "StopSignal": "SIGQUIT",
        "User": "33:33",
        "Volumes": { "/var/lib/web": {} },
        "WorkingDir": "/srv",
    });
    let mut found = config["config"].clone();
    found["Env"].as_array_mut().unwrap().sort_by_key(Value::to_string);
    assert_eq!(found, expected);
    assert_eq!((&config["os"], &config["rootfs"]["type"]), (&json!("linux"), &json!("layers")));
}

#[test]
fn places_to_write_in_are_there_as_they_were() {
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    image(&sandbox, ["-o", "oci:out", "--compression", "none", "--volume", "/data"]).success();
    let (manifest, _) = manifest(&sandbox.path("out"));
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let layer = format!("out/blobs/sha256/{}", &digest[7..]);
    let listed = sandbox.run("tar", ["-tvf", layer.as_str()]).success().stdout();
    let modes: Vec<(&str, &str)> = listed
        .lines()
        .map(|line| (line.split(' ').next().unwrap(), line.rsplit(' ').next().unwrap()))
        .collect();
    assert!(modes.contains(&("drwxrwxrwt", "tmp/")), "{listed}");
    assert!(modes.contains(&("drwxr-xr-x", "data/")), "{listed}");
}

#[test]
fn images_on_one_base_share_its_layer() {
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    sandbox.write("base.spec", "/bin/true\n/srv/data\n");
    for (spec, extra) in [("one", ""), ("two", "/etc/passwd\n")] {
        sandbox.write(spec, format!("/srv/program\n{extra}"));
        let out = format!("oci:{spec}.out:x");
        let args = ["image", spec, "--root", "root", "--arg", "x", "-o", &out];
        let done = sandbox.run("vzbuild", args.iter().chain(&["--base-layer", "base.spec"]));
        done.success().says("1 file is the base layer's alone, and in no evidence");
    }
    let [one, two] = ["one.out", "two.out"].map(|layout| manifest(&sandbox.path(layout)));
    assert_eq!(one.0["layers"][0], two.0["layers"][0]);
    assert_eq!(one.1["history"].as_array().unwrap().len(), 2);
    assert_eq!(one.1["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    let digest = one.0["layers"][1]["digest"].as_str().unwrap();
    let layer = format!("one.out/blobs/sha256/{}", &digest[7..]);
    let listed = sandbox.run("tar", ["-tzf", layer.as_str()]).success().stdout();
    assert!(listed.contains("srv/program\n"), "{listed}");
    assert!(!listed.contains("bin/true") && !listed.contains("srv/data"), "{listed}");
}

#[test]
fn an_image_may_lie_on_the_layers_of_another_image() {
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    sandbox.write("base.spec", "/bin/true\n/srv/data\n");
    let spec = |spec: &'static str| ["image", spec, "--root", "root", "--arg", "x", "-o"];
    let below = ["oci:below:x", "--compression", "zstd", "--no-scanner-files"];
    sandbox.run("vzbuild", spec("base.spec").iter().chain(&below)).success();
    sandbox
        .run(
            "vzbuild",
            [
                "image",
                "base.spec",
                "--root",
                "root",
                "--arg",
                "x",
                "-o",
                "docker-archive:below.tar",
                "--no-scanner-files",
            ],
        )
        .success();
    let (base, base_config) = manifest(&sandbox.path("below"));
    for (number, name) in ["oci:below:x", "docker-archive:below.tar"].into_iter().enumerate() {
        let out = format!("oci:out{number}:x");
        let done =
            sandbox.run("vzbuild", spec("spec").iter().chain(&[&*out, "--base-layer", name]));
        done.success().says("1 layer");
        let (image, config) = manifest(&sandbox.path(format!("out{number}")));
        assert_eq!(image["layers"].as_array().unwrap().len(), 2);
        let diff_ids = &config["rootfs"]["diff_ids"];
        assert_eq!(diff_ids[0], base_config["rootfs"]["diff_ids"][0]);
        assert_eq!(config["history"].as_array().unwrap().len(), 2);
        let kind = image["layers"][0]["mediaType"].as_str().unwrap();
        assert_eq!(kind.ends_with("zstd"), number == 0, "{kind}");
        if number == 0 {
            assert_eq!(image["layers"][0], base["layers"][0]);
        }
        let digest = image["layers"][1]["digest"].as_str().unwrap();
        let layer = format!("out{number}/blobs/sha256/{}", &digest[7..]);
        let listed = sandbox.run("tar", ["-tzf", layer.as_str()]).success().stdout();
        assert!(listed.contains("srv/program\n") && !listed.contains("srv/data"), "{listed}");
    }
}

#[test]
fn the_evidence_of_a_bundle_refers_to_its_image() {
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    sandbox.run("vzbuild", ["bundle", "spec", "--root", "root", "--arg", "x"]).success();
    fs::remove_dir_all(sandbox.path("bundle/evidence")).ok();
    sandbox.write("bundle/evidence/sbom.spdx.json", r#"{"spdxVersion":"SPDX-2.3"}"#);
    sandbox.write("bundle/evidence/files.json", "{}");
    sandbox.run("vzbuild", ["image", "bundle", "-o", "oci:out:x"]).success();
    let index = json(&sandbox.path("out/index.json"));
    let kinds: Vec<&str> = index["manifests"].as_array().unwrap()[1..]
        .iter()
        .map(|e| e["artifactType"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["application/vnd.vz.evidence", "application/spdx+json"]);
    let artifact = blob(&sandbox.path("out"), &index["manifests"][2]);
    assert_eq!(artifact["subject"]["digest"], index["manifests"][0]["digest"]);
    // Without a name it would not be found among its artifacts.
    let nameless = ["image", "bundle", "-o", "oci:nameless"];
    sandbox.run("vzbuild", nameless).success().says("podman run oci:nameless:latest");
    for output in ["docker-archive:out.tar", "oci-archive:out.tar"] {
        sandbox.run("vzbuild", ["image", "bundle", "-o", output]).success();
        let members = sandbox.run("tar", ["-tf", "out.tar", "evidence"]).success().stdout();
        assert_eq!(members, "evidence\nevidence/files.json\nevidence/sbom.spdx.json\n");
    }
}

#[test]
fn a_summary_is_json_on_demand() {
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    let done = image(&sandbox, ["-o", "oci:out", "--ref", "web", "--json"]).success();
    let summary: Value = serde_json::from_str(&done.stdout()).unwrap();
    let entry = &json(&sandbox.path("out/index.json"))["manifests"][0];
    assert_eq!(summary["manifest"], entry["digest"]);
    assert_eq!(summary["name"], "web:latest");
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "web:latest");
    let (manifest, config) = manifest(&sandbox.path("out"));
    assert_eq!(summary["layers"][0]["digest"], manifest["layers"][0]["digest"]);
    assert_eq!(summary["layers"][0]["diffId"], config["rootfs"]["diff_ids"][0]);
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_left() {
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    let usage = |args: &[&str], said: &str| {
        image(&sandbox, args.iter().copied()).status(2).says(said);
    };
    usage(&["-o", "out"], "is none of oci:DIR, oci-archive:FILE, docker-archive:FILE");
    usage(&["-o", "oci:out", "--ref", "Web"], "`Web` is no name of an image");
    usage(&["-o", "docker-archive:out:Web"], "`Web` is no name of an image");
    usage(&["-o", "oci:out", "--port", "http"], "--port `http` is not PORT");
    usage(&["-o", "oci:out", "--stop-signal", "STAP"], "there is no signal `STAP`");
    usage(&["-o", "oci:out", "--label", "a"], "--label `a` is not NAME=VALUE");
    usage(&["-o", "oci:out", "--healthcheck", "[x"], "is no JSON list of words");
    image(&sandbox, ["-o", "oci:root"]).status(3).says("is no OCI image layout");
    image(&sandbox, ["-o", "oci-archive:root"]).status(3).says("is no file");
    image(&sandbox, ["-o", "oci:no/where"]).status(3).says("cannot write `no/where`");
    let directory = ["image", "root", "-o", "oci:out"];
    sandbox.run("vzbuild", directory).status(2).says("is a directory and no bundle");
    assert_eq!(fs::read_dir(sandbox.path("")).unwrap().count(), 2, "root and spec");
}

/// Waits until there is a name that begins so.
fn wait_for_prefix(sandbox: &Sandbox, prefix: &str) {
    while !names(&sandbox.path("")).iter().any(|name| name.starts_with(prefix)) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn an_interrupted_image_leaves_nothing() {
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    // Hours of work: a hole of 1 TiB.
    fs::File::create(sandbox.path("root/srv/data")).unwrap().set_len(1 << 40).unwrap();
    for (output, begun) in [("oci:out", "out/.vz-part"), ("docker-archive:o.tar", "")] {
        let mut command = sandbox.command("vzbuild");
        command.args(["image", "spec", "--root", "root", "--arg", "x", "-o", output]);
        command.stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        match begun {
            "" => wait_for_prefix(&sandbox, ".o.tar.vz-"),
            name => drop(sandbox.wait_for(name)),
        }
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(130), "{ended:?}");
        assert_eq!(fs::read_dir(sandbox.path("")).unwrap().count(), 2, "root and spec");
    }
}

#[test]
fn a_base_that_is_no_list_is_told_as_the_image_that_it_is_not() {
    let sandbox = Sandbox::new();
    root(&sandbox, "root");
    sandbox.run("tar", ["-cf", "base.tar", "root"]).success();
    sandbox.run("gzip", ["-k", "base.tar"]).success();
    for base in ["base.tar", "base.tar.gz"] {
        let args = ["image", "spec", "--root", "root", "--arg", "x", "-o", "oci:out"];
        let done = sandbox.run("vzbuild", args.iter().chain(&["--base-layer", base])).status(3);
        done.says(&format!("{base}` is no image"));
    }
}
