//! What goes with an image that we write: its evidence, by which it is verified and
//! reported on without the files that it was made from.

use std::fs;

use serde_json::Value;

use crate::sandbox::{Finished, Need, Sandbox, require};

const FORMS: [(&str, &str); 3] = [
    ("oci:layout:x", "oci:layout:x"),
    ("oci-archive:oci.tar:x", "oci.tar"),
    ("docker-archive:docker.tar:x", "docker.tar"),
];

/// A root with a program of a package, and a spec of it.
fn root(sandbox: &Sandbox) {
    sandbox.write("root/srv/data", "data");
    sandbox.write("root/etc/os-release", "ID=debian\n");
    let package = "Package: data\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n";
    sandbox.write("root/var/lib/dpkg/status", package);
    sandbox.write("root/var/lib/dpkg/info/data.list", "/srv\n/srv/data\n/srv/other\n");
    sandbox.write("root/srv/other", "other");
    sandbox.write("spec", "/srv/data\n");
}

const OF_ROOT: [&str; 5] = ["spec", "--root", "root", "--arg", "/srv/data"];

/// The documents of an image, by name.
fn documents(name: &str) -> Vec<(&'static str, String)> {
    let reference = bundler::image::Reference::parse(name.as_ref()).unwrap();
    let image = bundler::image::Image::open(&reference).unwrap();
    let names = ["files.json", "left-out.json", "sbom.cdx.json", "sbom.spdx.json", "spec"];
    let read = |name| {
        let content = image.document(name, 1 << 20).unwrap();
        (name, String::from_utf8(content.unwrap_or_else(|| panic!("no {name}"))).unwrap())
    };
    names.map(read).to_vec()
}

#[test]
fn an_image_of_a_spec_has_the_evidence_of_its_bundle() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    sandbox.run("vzbuild", ["bundle", "--scanner-files"].iter().chain(&OF_ROOT)).success();
    let folder = sandbox.path("bundle/evidence");
    let read = |name| fs::read_to_string(folder.join(name)).unwrap();
    for (output, name) in FORMS {
        let output = ["image", "-o", output];
        sandbox.run("vzbuild", output.iter().chain(&OF_ROOT)).success();
        let (kind, path) = name.split_once(':').map_or(("", name), |(kind, path)| (kind, path));
        let path = sandbox.path(path).display().to_string();
        let at = if kind.is_empty() { path } else { format!("{kind}:{path}") };
        for (document, content) in documents(&at) {
            assert_eq!(content, read(document), "{document} of {name}");
        }
        let told = sandbox.run("vzbuild", ["report", name, "--json"]).success().stdout();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["args"][0], "/srv/data");
        assert_eq!(told["packages"][0]["name"], "data");
        assert_eq!(told["packages"][0]["partial"], true);
    }
    let files = sandbox.run("tar", ["-xOf", "oci.tar", "evidence/files.json"]).success();
    assert_eq!(files.stdout(), read("files.json"));
}

#[test]
fn the_evidence_is_of_all_layers() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    sandbox.write("root/srv/more", "more");
    // The list of files of an image of these lines, in the layout `name`.
    let image = |name: &str, lines: &str, base: Option<&str>| -> Value {
        let spec = format!("{name}.spec");
        sandbox.write(&spec, lines);
        let output = format!("oci:{}:x", sandbox.path(name).display());
        let args = ["image", &spec, "--root", "root", "--no-scanner-files", "-o", &output];
        let base = base.map(|base| format!("--base-layer=oci:{base}:x"));
        let args = args.into_iter().chain(["--arg", "x"]).chain(base.as_deref());
        sandbox.run("vzbuild", args).success();
        let found = documents(&output).into_iter().find(|(name, _)| *name == "files.json");
        serde_json::from_str(&found.unwrap().1).unwrap()
    };
    let digests = |files: &Value| -> Vec<String> {
        let files = files["files"].as_array().unwrap().iter().filter(|one| one["kind"] == "file");
        files.map(|one| format!("{} {}", one["path"], one["sha256"].as_str().unwrap())).collect()
    };
    image("below", "/srv/other\n", None);
    image("below2", "/srv/more\n", None);
    let alone = image("alone", "/srv/data\n/srv/other\n", None);
    // What the base has is not written again, and has its digest all the same.
    let one = image("one", "/srv/data\n/srv/other\n", Some("below"));
    assert_eq!(digests(&one), digests(&alone));
    // The same layer on top of another one is another image.
    let two = image("two", "/srv/data\n/srv/more\n", Some("below2"));
    let layers = ["one", "two"].map(|name| crate::image_out::layers(&sandbox.path(name)));
    assert_eq!((layers[0].len(), layers[0].last()), (2, layers[1].last()));
    assert_ne!(one["diffId"], two["diffId"]);
}

#[test]
fn scanners_files_can_be_left_out_of_an_image() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    let count = |more: &[&str]| {
        let args = ["image", "-o", "oci-archive:out.tar", "--json"];
        let told = sandbox.run("vzbuild", args.iter().chain(&OF_ROOT).chain(more)).success();
        let told: Value = serde_json::from_str(&told.stdout()).unwrap();
        told["files"].as_u64().unwrap()
    };
    // os-release, and of the package its stanza and its sums.
    assert_eq!(count(&[]), count(&["--no-scanner-files"]) + 3);
}

#[test]
fn the_evidence_of_other_files_is_refused() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    let output = ["image", "-o", "docker-archive:out.tar"];
    sandbox.run("vzbuild", output.iter().chain(&OF_ROOT)).success();
    let told = sandbox.run("tar", ["-xOf", "out.tar", "evidence/files.json"]).success().stdout();
    let told = told.replacen("\"diffId\": \"sha256:", "\"diffId\": \"sha256:0", 1);
    sandbox.write("evidence/files.json", told);
    sandbox.run("tar", ["-rf", "out.tar", "evidence/files.json"]).success();
    sandbox.run("vzbuild", ["report", "out.tar"]).status(3).says("is of other files");
}

#[test]
fn the_evidence_of_other_layers_is_warned_of() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    sandbox.write("base.spec", "/srv/other\n");
    let on_base = ["--base-layer", "base.spec", "-o", "docker-archive:out.tar"];
    sandbox.run("vzbuild", ["image"].iter().chain(&OF_ROOT).chain(&on_base)).success();
    let report = || sandbox.run("vzbuild", ["report", "out.tar", "--json"]).success().stderr();
    assert!(!report().contains("other files"), "{}", report());
    let told = sandbox.run("tar", ["-xOf", "out.tar", "evidence/files.json"]).success().stdout();
    let told = told.replacen("\"diffId\": \"sha256:", "\"diffId\": \"sha256:0", 1);
    sandbox.write("evidence/files.json", told);
    sandbox.run("tar", ["-rf", "out.tar", "evidence/files.json"]).success();
    assert!(report().contains("is of other files"), "{}", report());
}

/// Traces a script of the shell that reads two files, and makes its bundle.
fn traced(sandbox: &Sandbox) -> Finished {
    sandbox.write("one", "1\n");
    sandbox.write("two", "2\n");
    let script = "while read -r x; do echo $x; done < one; read -r x < two";
    let traced = sandbox.run("smith-strace", ["-q", "--outcomes", "--", "sh", "-c", script]);
    sandbox.write("expected", traced.stdout());
    sandbox.run("vzbuild", ["bundle", "spec"]).success();
    traced
}

#[test]
fn an_image_is_verified_by_what_goes_with_it() {
    if !require("verify an image", &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    traced(&sandbox).success();
    for (output, name) in FORMS {
        sandbox.run("vzbuild", ["image", "spec", "-o", output]).success();
        // What it was made from may be gone.
        fs::rename(sandbox.path("spec.json"), sandbox.path("hidden")).unwrap();
        let done = sandbox.run("vzbuild", ["verify", name, "--output", "expected"]).success();
        assert!(done.stdout().contains("verified: the image does as"), "{}", done.stdout());
        fs::rename(sandbox.path("hidden"), sandbox.path("spec.json")).unwrap();
    }
    let place = sandbox.path("two").canonicalize().unwrap();
    fs::remove_file(sandbox.path(format!("bundle/rootfs{}", place.display()))).unwrap();
    for (output, name) in FORMS {
        sandbox.run("vzbuild", ["image", "bundle", "-o", output]).success();
        let done = sandbox.run("vzbuild", ["verify", name, "--json"]).status(1);
        let told: Value = serde_json::from_str(&done.stdout()).unwrap();
        let findings = told["findings"].as_array().unwrap().iter();
        let findings: Vec<_> = findings.map(|found| found["path"].as_str().unwrap()).collect();
        assert_eq!(findings, [place.display().to_string()], "{name}");
    }
}

#[test]
fn other_output_than_the_traced_runs_is_a_difference() {
    if !require("verify --output", &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    traced(&sandbox).success();
    sandbox.run("vzbuild", ["verify", "bundle", "--output", "expected"]).success();
    sandbox.write("expected", "2\n");
    let done = sandbox.run("vzbuild", ["verify", "bundle", "--output", "expected"]).status(1);
    let said = "its standard output differs: line 1 is `1`, was `2`";
    assert!(done.stdout().contains(said), "{}", done.stdout());
    let twice = ["verify", "bundle", "--output", "expected", "--output", "expected"];
    sandbox.run("vzbuild", twice).status(2).says("there is 1 run");
}

#[test]
fn an_image_without_its_evidence_says_the_way_out() {
    if !require("verify an image without evidence", &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    traced(&sandbox).success();
    fs::remove_dir_all(sandbox.path("bundle/evidence")).unwrap();
    sandbox.run("vzbuild", ["image", "bundle", "-o", "oci-archive:out.tar"]).success();
    let done = sandbox.run("vzbuild", ["verify", "out.tar"]).status(3);
    let done = done.says("no `spec.json` goes with the image `out.tar`").says("--spec SPEC");
    assert!(!done.stderr().contains("unpacked"), "{}", done.stderr());
    sandbox.run("vzbuild", ["report", "out.tar"]).status(3).says("oci-archive:FILE");
    sandbox.run("vzbuild", ["verify", "out.tar", "--spec", "spec"]).success();
    sandbox.run("vzbuild", ["verify", "out.tar", "--spec", "spec", "--fix"]).status(2);
}

#[test]
fn a_command_that_only_the_evidence_names_is_shown_and_not_run() {
    if !require("verify an exercised image", &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("data", "1\n");
    let script = "while :; do read -r x < data; echo $x > /dev/null; sleep 1; done";
    let exercise = format!("echo run >> {}", sandbox.path("runs").display());
    let trace = ["-q", "--outcomes", "--until", &exercise, "--", "sh", "-c", script];
    sandbox.run("smith-strace", trace).success();
    assert_eq!(sandbox.lines("runs").len(), 1);
    sandbox.run("vzbuild", ["bundle", "spec"]).success();
    sandbox.run("vzbuild", ["image", "spec", "-o", "oci:layout:x"]).success();
    for name in ["bundle", "oci:layout:x"] {
        let before = sandbox.lines("runs").len();
        let verify = |more: &[&str]| sandbox.run("vzbuild", ["verify", name].iter().chain(more));
        verify(&[]).status(3).says(&format!("`{exercise}`")).says("--trust-exercise");
        assert_eq!(sandbox.lines("runs").len(), before, "{name}: it ran");
        verify(&["--trust-exercise"]).success();
        assert_eq!(sandbox.lines("runs").len(), before + 1, "{name}");
        verify(&["--until", "true"]).success();
        assert_eq!(sandbox.lines("runs").len(), before + 1, "{name}");
    }
    // Whoever gives the spec has said so.
    sandbox.run("vzbuild", ["verify", "bundle", "--spec", "spec"]).success();
    assert_eq!(sandbox.lines("runs").len(), 4);
}
