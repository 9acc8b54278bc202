//! Roots of rpm's: databases that rpm itself has written, and what rpm and syft read in
//! the ones that we cut down.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::evidence::{SYFT, document, syft};
use crate::sandbox::{Finished, Need, Sandbox, require};

const RPM: Need = Need::Program("rpmbuild", "rpm");
const DB_LOAD: Need = Need::Program("db5.3_load", "db5.3-util");
const PYTHON: Need = Need::File("/usr/bin/python3", "python3");
const DATABASE: &str = "root/var/lib/rpm/rpmdb.sqlite";

/// A root into which rpm has installed three packages: of `app` the spec has one file of
/// three, `release` says which system it is, and of `other` nothing is used.
fn root(sandbox: &Sandbox) {
    let package = |name: &str, more: &str, files: &[&str]| {
        let (dirs, list) = (files.iter().map(|f| f.rsplit_once('/').unwrap().0), files.join("\n"));
        let dirs: Vec<String> = dirs.map(|dir| format!("%{{buildroot}}{dir}")).collect();
        let touch = files.iter().map(|file| format!("echo {name} > %{{buildroot}}{file}\n"));
        let spec = format!(
            "Name: {name}\nVersion: 2.0\nRelease: 3%{{?dist}}\nSummary: {name}\nLicense: MIT and BSD\n\
             BuildArch: noarch\n{more}\n%description\n{name}\n%install\nmkdir -p {}\n{}%files\n{list}\n",
            dirs.join(" "),
            touch.collect::<String>()
        );
        sandbox.write(&format!("{name}.spec"), spec);
        let file = format!("{name}.spec");
        let top = format!("_topdir {}", sandbox.path("build").display());
        let args = ["-bb", "--quiet", "--define", &top, "--define", "dist .fc40", &file];
        sandbox.run("rpmbuild", args).success();
    };
    package("app", "Epoch: 1", &["/usr/share/app/data", "/usr/share/app/más", "/etc/app.conf"]);
    package("other", "", &["/srv/other"]);
    package("release", "", &["/etc/fedora-release", "/usr/lib/os-release"]);
    fs::create_dir(sandbox.path("root")).unwrap();
    let root = sandbox.path("root").display().to_string();
    let install = "rpm --root \"$0\" --define '_dbpath /var/lib/rpm' --define '_db_backend sqlite' \
                   -i --nodeps build/RPMS/noarch/*.rpm";
    sandbox.run("sh", ["-c", install, &root]).success();
    sandbox.write("root/usr/lib/os-release", "ID=fedora\nVERSION_ID=40\n");
    sandbox.write("spec", "/usr/share/app/data\n");
}

fn bundle(sandbox: &Sandbox) {
    let args = ["bundle", "spec", "--root", "root", "--arg", "x", "--scanner-files", "--no-sync"];
    sandbox.run("vzbuild", args).success();
}

/// The packages of the evidence: each with how many files of it are kept, and found.
fn packages(sandbox: &Sandbox) -> Vec<(String, u64, u64)> {
    let files = document(sandbox, "bundle", "files.json");
    let of = |one: &Value| {
        let count = |key: &str| one[key]["files"].as_u64().unwrap();
        assert_eq!(one["partial"], count("kept") < count("found"));
        (one["purl"].as_str().unwrap().to_owned(), count("kept"), count("found"))
    };
    files["packages"].as_array().unwrap().iter().map(of).collect()
}

/// What [`root`] has, whatever the format of its database.
fn expected() -> Vec<(String, u64, u64)> {
    let purl = |name: &str, epoch: &str| {
        format!(
            "pkg:rpm/fedora/{name}@2.0-3.fc40?arch=noarch&distro=fedora-40{epoch}\
             &upstream={name}-2.0-3.fc40.src.rpm"
        )
    };
    vec![(purl("app", "&epoch=1"), 1, 3), (purl("release", ""), 2, 2)]
}

#[test]
fn rpm_s_packages_own_the_files_of_their_root() {
    if !require("rpm_s_packages_own_the_files_of_their_root", &[Need::Root, RPM]) {
        return;
    }
    let sandbox = Sandbox::new();
    root(&sandbox);
    bundle(&sandbox);
    assert_eq!(packages(&sandbox), expected());
    let files = document(&sandbox, "bundle", "files.json");
    assert_eq!(files["packages"][0]["license"], "MIT and BSD");
    let left_out = document(&sandbox, "bundle", "left-out.json");
    let names = left_out["packages"].as_array().unwrap().iter().map(|one| &one["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["app", "other"]);
    assert_eq!(left_out["unread"], Value::Array(Vec::new()));
    // rpm itself takes the database that is left: it builds its indexes anew, and knows
    // what is kept of each package.
    let place = sandbox.path("bundle/rootfs/var/lib/rpm");
    let of_place = |program: &str, args: &[&str]| {
        let place = place.display().to_string();
        sandbox.run(program, ["--dbpath", &place].iter().chain(args)).success().stdout()
    };
    of_place("rpmdb", &["--rebuilddb"]);
    let format = "%{EPOCHNUM}:%{NAME}-%{VERSION}-%{RELEASE} %{LICENSE} [%{FILENAMES} ]\n";
    let told = of_place("rpm", &["-qa", "--qf", format]);
    let told: BTreeSet<&str> = told.lines().map(str::trim_end).collect();
    let expected = [
        "0:release-2.0-3.fc40 MIT and BSD /etc/fedora-release /usr/lib/os-release",
        "1:app-2.0-3.fc40 MIT and BSD /usr/share/app/data",
    ];
    assert_eq!(told, expected.into());
}

#[test]
fn scanners_name_the_rpms_that_are_kept_and_no_other() {
    let test = "scanners_name_the_rpms_that_are_kept_and_no_other";
    if !require(test, &[Need::Root, RPM, SYFT]) {
        return;
    }
    let sandbox = Sandbox::new();
    root(&sandbox);
    bundle(&sandbox);
    let (before, after) = (syft(&sandbox, "dir:root"), syft(&sandbox, "dir:bundle/rootfs"));
    let ours = crate::evidence::packages(&sandbox, "bundle");
    assert_eq!(after, ours);
    let gone: Vec<_> = before.difference(&after).map(|one| one[0].as_str()).collect();
    assert_eq!((gone, after.is_subset(&before)), (vec!["other"], true));
    // The same from the image, and once more from what was minified already.
    let image = ["image", "bundle", "-o", "docker-archive:image.tar"];
    sandbox.run("vzbuild", image).success();
    assert_eq!(syft(&sandbox, "docker-archive:image.tar"), ours);
    fs::rename(sandbox.path("bundle"), sandbox.path("first")).unwrap();
    let again = ["bundle", "spec", "--root", "first/rootfs", "--arg", "x", "--scanner-files"];
    sandbox.run("vzbuild", again).success();
    assert_eq!(syft(&sandbox, "dir:bundle/rootfs"), ours);
}

#[test]
fn what_lies_in_the_log_beside_a_database_counts() {
    let test = "what_lies_in_the_log_beside_a_database_counts";
    if !require(test, &[Need::Root, RPM, PYTHON]) {
        return;
    }
    let sandbox = Sandbox::new();
    root(&sandbox);
    // A process that ends while it has it open leaves the log; what it had not committed
    // does not count.
    let script = "import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
rows = db.execute('SELECT hnum, blob FROM Packages').fetchall()
db.execute('DELETE FROM Packages')
db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
db.execute('PRAGMA wal_autocheckpoint = 0')
db.executemany('INSERT INTO Packages VALUES (?, ?)', rows)
db.execute('PRAGMA cache_size = 1')
db.execute('BEGIN')
db.execute('DELETE FROM Packages')
db.execute('CREATE TABLE more AS SELECT randomblob(100000)')
os._exit(0)";
    sandbox.run("/usr/bin/python3", ["-c", script, DATABASE]).success();
    bundle(&sandbox);
    assert_eq!(packages(&sandbox), expected());
    let log = sandbox.path(format!("{DATABASE}-wal"));
    assert!(fs::metadata(&log).unwrap().len() > 100_000);
    fs::remove_file(&log).unwrap();
    bundle(&sandbox);
    assert_eq!(packages(&sandbox), []);
}

#[test]
fn a_database_of_berkeley_s_has_the_same_packages() {
    let test = "a_database_of_berkeley_s_has_the_same_packages";
    if !require(test, &[Need::Root, RPM, PYTHON, DB_LOAD]) {
        return;
    }
    let sandbox = Sandbox::new();
    root(&sandbox);
    // As rpm before 4.16 had it: the number of the last package, then the headers.
    let script = "import sqlite3, sys
key = lambda number: number.to_bytes(4, 'little').hex()
print('VERSION=3\\nformat=bytevalue\\ntype=hash\\ndb_pagesize=4096\\nHEADER=END')
print(f' {key(0)}\\n {key(3)}')
for number, blob in sqlite3.connect(sys.argv[1]).execute('SELECT hnum, blob FROM Packages'):
    print(f' {key(number)}\\n {blob.hex()}')
print('DATA=END')";
    let dump = sandbox.run("/usr/bin/python3", ["-c", script, DATABASE]).success().stdout();
    sandbox.write("dump", dump);
    for entry in fs::read_dir(sandbox.path("root/var/lib/rpm")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let mut load = sandbox.command("db5.3_load");
    let load = load.args(["-f", "dump", "root/var/lib/rpm/Packages"]);
    Finished::of(load).success();
    bundle(&sandbox);
    assert_eq!(packages(&sandbox), expected());
    // Whatever format it was, scanners are given the one that each of them reads.
    let kept = crate::bundle::names(&sandbox.path("bundle/rootfs/var/lib/rpm"));
    assert_eq!(kept, ["rpmdb.sqlite"]);
}

#[test]
fn a_database_that_cannot_be_read_is_said() {
    let sandbox = Sandbox::new();
    sandbox.write("root/var/lib/rpm/Packages", "none of rpm's");
    sandbox.write("root/data", "x");
    sandbox.write("spec", "/data\n");
    let args = ["bundle", "spec", "--root", "root", "--arg", "x"];
    let said = "packages: /var/lib/rpm/Packages was not read: it is no database of rpm's; \
                packages of it are missing";
    sandbox.run("vzbuild", args).success().says(said);
    let left_out = document(&sandbox, "bundle", "left-out.json");
    assert_eq!(left_out["unread"][0]["path"], "/var/lib/rpm/Packages");
}
