//! `vzbuild delta` and `vzbuild patch` over directories, tars and files.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::sandbox::{Finished, Need, Sandbox, require};

/// Lines that differ from one another.
pub fn text(lines: u64, seed: u64) -> String {
    (0..lines).map(|n| format!("{n} {:x}\n", (n + seed).wrapping_mul(0x9e37_79b9_7f4a))).collect()
}

/// Two versions of a small bundle.
pub fn two_versions(sandbox: &Sandbox) {
    for name in ["old", "new"] {
        sandbox.write(&format!("{name}/config.json"), "{}");
        sandbox.write(&format!("{name}/rootfs/etc/kept.conf"), text(500, 1));
        sandbox.write(&format!("{name}/rootfs/bin/program"), text(5000, 2));
    }
    sandbox.write("new/rootfs/bin/program", text(5000, 2).replacen("777 ", "777: ", 1));
    sandbox.write("new/rootfs/bin/twin", text(5000, 2).replacen("777 ", "777: ", 1));
    sandbox.write("old/rootfs/lib/libx.so.1.2", text(800, 3));
    sandbox.write("new/rootfs/lib/libx.so.1.3", text(801, 3));
    sandbox.write("old/rootfs/gone", "gone");
    symlink("libx.so.1.2", sandbox.path("old/rootfs/lib/libx.so.1")).unwrap();
    symlink("libx.so.1.3", sandbox.path("new/rootfs/lib/libx.so.1")).unwrap();
    std::fs::hard_link(
        sandbox.path("new/rootfs/etc/kept.conf"),
        sandbox.path("new/rootfs/etc/link"),
    )
    .unwrap();
    let program = sandbox.path("new/rootfs/bin/program");
    std::fs::set_permissions(program, PermissionsExt::from_mode(0o4751)).unwrap();
}

fn vzbuild(sandbox: &Sandbox, line: &str) -> Finished {
    sandbox.run("vzbuild", line.split_whitespace())
}

#[track_caller]
fn same_bytes(sandbox: &Sandbox, a: &str, b: &str) {
    assert!(
        std::fs::read(sandbox.path(a)).unwrap() == std::fs::read(sandbox.path(b)).unwrap(),
        "{a} and {b} differ"
    );
}

/// Asserts that two trees are equal, by their deterministic tars.
#[track_caller]
fn same_tree(sandbox: &Sandbox, a: &str, b: &str) {
    let delta = sandbox.path("compare.vz");
    sandbox.run("vzbuild", ["delta", a, b, "-o", "compare.vz"]).success();
    let length = std::fs::metadata(delta).unwrap().len();
    let stat = vzbuild(sandbox, "delta --stat compare.vz --json").success().stdout();
    let stat: serde_json::Value = serde_json::from_str(&stat).unwrap();
    assert_eq!(stat["base"], stat["target"], "{a} and {b} differ: {stat}");
    assert!(length < 200, "{length}");
}

#[test]
fn a_delta_of_bundles_gives_the_new_bundle() {
    let sandbox = Sandbox::new();
    two_versions(&sandbox);
    vzbuild(&sandbox, "delta old new -o update").success().says("2 files kept");
    assert!(std::fs::metadata(sandbox.path("update")).unwrap().len() < 1024);
    vzbuild(&sandbox, "patch old update -o result").success();
    same_tree(&sandbox, "new", "result");
    let meta = std::fs::metadata(sandbox.path("result/rootfs/bin/program")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o4751);
    let inode = |name| std::fs::metadata(sandbox.path(name)).unwrap().ino();
    assert_eq!(inode("result/rootfs/etc/kept.conf"), inode("result/rootfs/etc/link"));
    let link = std::fs::read_link(sandbox.path("result/rootfs/lib/libx.so.1")).unwrap();
    assert_eq!(link, Path::new("libx.so.1.3"));
}

#[test]
fn a_bundle_is_replaced_in_place_and_another_directory_never() {
    let sandbox = Sandbox::new();
    two_versions(&sandbox);
    vzbuild(&sandbox, "delta old new -o update").success();
    sandbox.write("mine/letter", "dear");
    vzbuild(&sandbox, "patch old update -o mine")
        .status(3)
        .says("is there already and is no bundle");
    assert_eq!(sandbox.lines("mine/letter"), ["dear"]);
    vzbuild(&sandbox, "patch old update -o old").success();
    same_tree(&sandbox, "new", "old");
}

#[test]
fn directories_and_their_tars_are_the_same_trees() {
    let sandbox = Sandbox::new();
    two_versions(&sandbox);
    vzbuild(&sandbox, "delta old new -o update").success();
    vzbuild(&sandbox, "patch old update -o new.tar").success();
    same_tree(&sandbox, "new", "new.tar");
    vzbuild(&sandbox, "delta new.tar old -o back").success();
    vzbuild(&sandbox, "patch new.tar back -o old.tar").success();
    same_tree(&sandbox, "old", "old.tar");
    // From tar to tar, byte for byte.
    vzbuild(&sandbox, "delta old.tar new.tar -o update2").success();
    vzbuild(&sandbox, "patch old.tar update2 -o again.tar").success();
    same_bytes(&sandbox, "new.tar", "again.tar");
    same_bytes(&sandbox, "update", "update2");
}

#[test]
fn a_tar_of_gnu_tar_is_read_and_its_other_bytes_are_said() {
    if !require("a_tar_of_gnu_tar", &[Need::Program("tar", "tar")]) {
        return;
    }
    let sandbox = Sandbox::new();
    two_versions(&sandbox);
    let long = format!("new/rootfs/{}", "n".repeat(150));
    sandbox.write(&long, "a long name");
    sandbox.run("tar", ["-C", "new", "-cf", "gnu.tar", "."]).success();
    same_tree(&sandbox, "new", "gnu.tar");
    vzbuild(&sandbox, "delta old gnu.tar -o update").success().says("a tar of the same tree");
}

#[test]
fn plain_files_are_patched_too() {
    let sandbox = Sandbox::new();
    sandbox.write("a", text(9000, 1));
    sandbox.write("b", text(9000, 1).replacen("4321 ", "4321, ", 1));
    for format in ["vz", "vcdiff"] {
        vzbuild(&sandbox, &format!("delta --format {format} a b -o ab")).success();
        assert!(std::fs::metadata(sandbox.path("ab")).unwrap().len() < 300);
        vzbuild(&sandbox, "patch a ab -o c").success();
        same_bytes(&sandbox, "b", "c");
    }
    sandbox.write("d/x", "a tree");
    vzbuild(&sandbox, "delta a d -o ad")
        .status(2)
        .says("two directories or layer tars, or two plain files");
}

#[test]
fn vcdiff_of_directories_works_on_their_tars() {
    let sandbox = Sandbox::new();
    two_versions(&sandbox);
    vzbuild(&sandbox, "delta --format vcdiff old new -o update").success();
    vzbuild(&sandbox, "patch old update -o result").success();
    same_tree(&sandbox, "new", "result");
}

#[test]
fn stat_says_how_each_file_travels() {
    let sandbox = Sandbox::new();
    two_versions(&sandbox);
    vzbuild(&sandbox, "delta old new -o update").success();
    let table = vzbuild(&sandbox, "delta --stat update").success().stdout();
    assert!(table.contains("rootfs/lib/libx.so.1.3 from rootfs/lib/libx.so.1.2"), "{table}");
    let json = vzbuild(&sandbox, "delta --stat update --json").success().stdout();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let files = json["files"].as_array().unwrap();
    let find = |path: &str| files.iter().find(|file| file["path"] == path).unwrap();
    assert_eq!(find("rootfs/bin/program")["how"], "patch");
    assert_eq!(find("rootfs/bin/program")["codec"], "split");
    assert_eq!(find("rootfs/bin/twin")["codec"], "again");
    assert_eq!(find("rootfs/bin/twin")["base"], "rootfs/bin/program");
    assert_eq!(json["bytes"], std::fs::metadata(sandbox.path("update")).unwrap().len());
    assert_eq!(json["dropped"], 3);
}

#[test]
fn one_changed_line_in_ten_megabytes_takes_less_than_a_kilobyte() {
    let sandbox = Sandbox::new();
    for n in 0..50 {
        for tree in ["old", "new"] {
            sandbox.write(&format!("{tree}/share/doc/{n}.txt"), text(11_000, n * 31));
        }
    }
    let size: u64 = 50 * std::fs::metadata(sandbox.path("old/share/doc/7.txt")).unwrap().len();
    assert!(size > 10_000_000, "{size}");
    sandbox
        .write("new/share/doc/7.txt", text(11_000, 7 * 31).replacen("5000 ", "5000 changed ", 1));
    vzbuild(&sandbox, "delta old new -o update").success();
    assert!(std::fs::metadata(sandbox.path("update")).unwrap().len() < 1024);
    vzbuild(&sandbox, "patch old update -o result").success();
    same_tree(&sandbox, "new", "result");
}

#[test]
fn xattrs_owners_and_devices_come_back() {
    let needs = [Need::Root, Need::Program("setfattr", "attr")];
    if !require("xattrs_owners_and_devices", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    two_versions(&sandbox);
    let new = sandbox.path("new/rootfs");
    std::os::unix::fs::chown(new.join("etc"), Some(12), Some(34)).unwrap();
    sandbox.run("mknod", ["new/rootfs/null", "c", "1", "3"]).success();
    sandbox.run("mkfifo", ["new/rootfs/fifo"]).success();
    sandbox.run("setfattr", ["-n", "user.note", "-v", "x", "new/rootfs/bin/program"]).success();
    vzbuild(&sandbox, "delta old new -o update").success();
    vzbuild(&sandbox, "patch old update -o result").success();
    same_tree(&sandbox, "new", "result");
    let device = std::fs::metadata(sandbox.path("result/rootfs/null")).unwrap();
    assert_eq!(device.rdev(), std::fs::metadata("/dev/null").unwrap().rdev());
    assert_eq!(std::fs::metadata(sandbox.path("result/rootfs/etc")).unwrap().uid(), 12);
}
