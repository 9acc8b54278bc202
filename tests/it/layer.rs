//! What a layer keeps of its files: compared with the source after writing.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use rustix::fs::{FileType, Mode, XattrFlags};

use crate::sandbox::{Need, Sandbox, require};

/// Version 2 of vfs_ns_cap_data: CAP_NET_RAW, effective, as `ping` has it
/// (linux/capability.h).
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An ACL that lets user 4242 read (acl(5): tag, permissions, id of each entry).
const ACL: [u8; 44] = [
    2, 0, 0, 0, // version
    1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, // owner rw
    2, 0, 4, 0, 0x92, 0x10, 0, 0, // user 4242 r
    4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // group
    16, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, // mask r
    32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // other
];

/// Everything of a file that a bundle is to keep, as text.
fn describe(path: &Path) -> String {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let mut text = format!("{:o} {}:{} {}", meta.mode(), meta.uid(), meta.gid(), meta.nlink());
    if kind.is_file() {
        text += &format!(" mtime {} size {}", meta.mtime(), meta.len());
        text += &format!(" content {:?}", md5(path));
    }
    if kind.is_symlink() {
        text += &format!(" -> {:?}", fs::read_link(path).unwrap());
        return text;
    }
    if kind.is_char_device() || kind.is_block_device() {
        text += &format!(" device {}", meta.rdev());
    }
    if kind.is_file() || kind.is_dir() {
        let file = File::open(path).unwrap();
        let mut list = Vec::with_capacity(4096);
        rustix::fs::flistxattr(&file, rustix::buffer::spare_capacity(&mut list)).unwrap();
        let mut names: Vec<_> = list.split(|&b| b == 0).filter(|name| !name.is_empty()).collect();
        names.sort();
        for name in names {
            let mut value = Vec::with_capacity(4096);
            let spare = rustix::buffer::spare_capacity(&mut value);
            rustix::fs::fgetxattr(&file, name, spare).unwrap();
            text += &format!(" {}={}", name.escape_ascii(), value.escape_ascii());
        }
    }
    text
}

/// A checksum that is good enough to tell contents apart.
fn md5(path: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    fs::read(path).unwrap().hash(&mut hasher);
    hasher.finish()
}

/// Every name below `dir`, with its description.
pub fn describe_all(dir: &Path) -> Vec<(Vec<u8>, String)> {
    let walk = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    let entry = |entry: walkdir::DirEntry| {
        let name = entry.path().strip_prefix(dir).unwrap().as_os_str().as_bytes().to_vec();
        (name, describe(entry.path()))
    };
    walk.map(entry).collect()
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A tree with one of each that tends to get lost.
pub fn odd_tree(sandbox: &Sandbox) {
    let at = |name: &str| sandbox.path("root").join(name);
    sandbox.write("root/bin/su", "setuid");
    chown(at("bin/su"), Some(0), Some(42)).unwrap();
    mode(&at("bin/su"), 0o6755);
    sandbox.write("root/bin/ping", "capable");
    set(&at("bin/ping"), "security.capability", &NET_RAW);
    sandbox.write("root/srv/shared", "acl");
    mode(&at("srv/shared"), 0o640);
    set(&at("srv/shared"), "system.posix_acl_access", &ACL);
    set(&at("srv"), "system.posix_acl_default", &ACL);
    sandbox.write("root/srv/noted", "user attribute");
    set(&at("srv/noted"), "user.note", b"a=b\nc\0d");
    sandbox.write("root/tmp/kept", "");
    mode(&at("tmp"), 0o1777);
    sandbox.write("root/home/file", "odd owner");
    chown(at("home/file"), Some(3_000_000), Some(1234)).unwrap();
    chown(at("home"), Some(1234), Some(1234)).unwrap();
    mode(&at("home"), 0o2710);
    mode(&at("home/file"), 0o000);
    fs::hard_link(at("home/file"), at("srv/other-name")).unwrap();
    symlink("/nowhere", at("srv/link")).unwrap();
    lchown(at("srv/link"), Some(77), Some(78)).unwrap();
    let (root, own) = (File::open(sandbox.path("root")).unwrap(), Mode::from_raw_mode(0o640));
    rustix::fs::mknodat(&root, "srv/fifo", FileType::Fifo, own, 0).unwrap();
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(&root, "srv/null", FileType::CharacterDevice, own, null).unwrap();
    let long = format!("root/srv/{}/{}", "d".repeat(120), "f".repeat(130));
    sandbox.write(&long, "long names");
    let odd = sandbox.path("root/srv").join(std::ffi::OsStr::from_bytes(b"odd \xff\n\"name"));
    fs::write(odd, "bytes").unwrap();
    let sparse = File::create(at("srv/sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 40 << 20).unwrap();
    for name in ["bin/su", "bin/ping", "srv/shared", "srv/noted", "srv/sparse", "home/file"] {
        let file = File::options().read(true).open(at(name)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_001);
        file.set_modified(time).unwrap();
    }
}

/// Writes a spec of everything below `root`.
pub fn spec_of_all(sandbox: &Sandbox) {
    let root = sandbox.path("root");
    let mut spec = tracer::Spec::default();
    for entry in walkdir::WalkDir::new(&root).min_depth(1) {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(&root).unwrap().as_os_str().as_bytes();
        spec.insert([b"/", name].concat());
    }
    sandbox.write("spec", spec.print());
}

#[test]
fn a_bundle_s_files_are_as_they_were() {
    if !require("a_bundle_s_files_are_as_they_were", &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    odd_tree(&sandbox);
    // The closure refuses a dangling link; this one is meant to dangle.
    fs::remove_file(sandbox.path("root/srv/link")).unwrap();
    symlink("noted", sandbox.path("root/srv/link")).unwrap();
    lchown(sandbox.path("root/srv/link"), Some(77), Some(78)).unwrap();
    spec_of_all(&sandbox);
    let args = ["bundle", "spec", "--root", "root", "--arg", "x", "--network", "none"];
    sandbox.run("vzbuild", args).success();
    let expected = describe_all(&sandbox.path("root"));
    let found = describe_all(&sandbox.path("bundle/rootfs"));
    for (name, description) in &expected {
        if name.is_empty() {
            continue;
        }
        let found = found.iter().find(|(other, _)| other == name);
        let found = found.unwrap_or_else(|| panic!("no {}", name.escape_ascii()));
        // Directories gain entries (mount points), which nlink counts.
        assert_eq!(&found.1, description, "{}", name.escape_ascii());
    }
    let sparse = fs::metadata(sandbox.path("bundle/rootfs/srv/sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
}

#[test]
fn gnu_tar_unpacks_the_layer_to_the_same_files() {
    let test = "gnu_tar_unpacks_the_layer_to_the_same_files";
    if !require(test, &[Need::Root, Need::Program("tar", "tar")]) {
        return;
    }
    let sandbox = Sandbox::new();
    odd_tree(&sandbox);
    fs::remove_file(sandbox.path("root/srv/link")).unwrap();
    spec_of_all(&sandbox);
    let args = ["bundle", "spec", "--root", "root", "--arg", "x"];
    sandbox.run("vzbuild", args).success();
    sandbox.run("vzbuild", args.iter().chain(&["--tar", "layer.tar"])).success();
    fs::create_dir(sandbox.path("unpacked")).unwrap();
    let unpack = ["--xattrs", "--xattrs-include=*", "-xpf", "layer.tar", "-C", "unpacked"];
    sandbox.run("tar", unpack).success();
    assert_eq!(
        describe_all(&sandbox.path("unpacked")),
        describe_all(&sandbox.path("bundle/rootfs"))
    );
}

#[test]
fn three_hundred_names_of_one_file_take_its_place_once() {
    let sandbox = Sandbox::new();
    sandbox.write("root/bin/busybox", vec![7; 1_200_000]);
    let mut spec = "/bin/busybox\n".to_owned();
    for number in 0..300 {
        let name = format!("root/bin/applet{number}");
        fs::hard_link(sandbox.path("root/bin/busybox"), sandbox.path(&name)).unwrap();
        spec += &format!("/bin/applet{number}\n");
    }
    sandbox.write("spec", spec);
    let args = ["bundle", "spec", "--root", "root", "--arg", "x"];
    sandbox.run("vzbuild", args).success().says("1.14 MiB");
    assert_eq!(fs::metadata(sandbox.path("bundle/rootfs/bin/applet7")).unwrap().nlink(), 301);
    sandbox.run("vzbuild", args.iter().chain(&["--tar", "layer.tar"])).success();
    assert!(fs::metadata(sandbox.path("layer.tar")).unwrap().len() < 1_400_000);
}

#[test]
fn a_socket_is_left_out_and_named() {
    let sandbox = Sandbox::new();
    sandbox.write("root/srv/file", "");
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.path("root/srv/socket")).unwrap();
    sandbox.write("spec", "/srv/file\n/srv/socket\n");
    let args = ["bundle", "spec", "--root", "root", "--arg", "x"];
    sandbox.run("vzbuild", args).success().says("/srv/socket is left out: a socket");
    assert!(!sandbox.path("bundle/rootfs/srv/socket").exists());
}

#[test]
fn links_of_a_hostile_root_lead_nowhere_else() {
    let sandbox = Sandbox::new();
    sandbox.write("outside/secret", "secret");
    sandbox.write("root/srv/file", "inside");
    let outside = sandbox.path("outside");
    symlink(&outside, sandbox.path("root/absolute")).unwrap();
    symlink("../../../../../../../../etc", sandbox.path("root/climbing")).unwrap();
    symlink("/srv", sandbox.path("root/etc")).unwrap();
    symlink("srv", sandbox.path("root/run")).unwrap();
    let lines = "/srv/file\n/absolute/secret\n/climbing/hostname\n/run\n";
    sandbox.write("spec", lines);
    let args = ["bundle", "spec", "--root", "root", "--arg", "x", "--allow-missing"];
    let done = sandbox.run("vzbuild", args).success();
    done.says("missing: /absolute/secret").says("missing: /climbing/hostname");
    for entry in walkdir::WalkDir::new(sandbox.path("bundle/rootfs")) {
        let entry = entry.unwrap();
        assert!(entry.file_name() != "secret" && entry.file_name() != "hostname", "{entry:?}");
    }
    assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
}
