//! Images as other tools make them, unpacked as those tools unpack them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use bundler::image::{Image, Reference, UnpackOptions, Unpacked};
use bundler::{Lost, RootPath, Unkept};
use sha2::Digest;

use vz::image::Source;

use crate::sandbox::{Finished, Need, Sandbox, count, require};

const UMOCI: Need = Need::Program("umoci", "umoci");
const SKOPEO: Need = Need::Program("skopeo", "skopeo");
const PODMAN: Need = Need::Program("podman", "podman");

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Everything below `dir` that a layer can say of a file. Names of one file share a
/// number; owners are left out where only one's own can be had.
fn listing(dir: &Path, times_of_directories: bool) -> BTreeMap<Vec<u8>, String> {
    let mut files = BTreeMap::new();
    let mut names: HashMap<(u64, u64), usize> = HashMap::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(dir).unwrap().as_os_str().as_bytes().to_vec();
        let meta = entry.metadata().unwrap();
        let kind = meta.file_type();
        // For an ordinary user setuid is not kept but listed.
        let bits = if is_root() || !kind.is_file() { meta.mode() } else { meta.mode() & !0o6000 };
        let mut text = format!("{bits:o}");
        if !kind.is_dir() || times_of_directories {
            text += &format!(" {}.{:09}", meta.mtime(), meta.mtime_nsec());
        }
        if is_root() {
            text += &format!(" {}:{}", meta.uid(), meta.gid());
        }
        if kind.is_file() {
            let number = names.len();
            let number = *names.entry((meta.dev(), meta.ino())).or_insert(number);
            let content = fs::read(entry.path()).unwrap();
            let digest = sha2::Sha256::digest(&content);
            text += &format!(" #{number} {} {digest:?}", meta.len());
        }
        if kind.is_symlink() {
            text += &format!(" -> {}", fs::read_link(entry.path()).unwrap().display());
        } else if kind.is_file() || kind.is_dir() {
            for (key, value) in bundler::xattr::read(File::open(entry.path()).unwrap()).unwrap() {
                if key != b"user.rootlesscontainers" {
                    text += &format!(" {}={}", key.escape_ascii(), value.escape_ascii());
                }
            }
        } else if kind.is_char_device() || kind.is_block_device() {
            text += &format!(" device {:x}", meta.rdev());
        }
        files.insert(name, text);
    }
    files
}

#[track_caller]
fn assert_equal(ours: &Path, theirs: &Path) {
    assert_equal_listings(&listing(ours, true), &listing(theirs, true));
}

#[track_caller]
fn assert_equal_listings(ours: &BTreeMap<Vec<u8>, String>, theirs: &BTreeMap<Vec<u8>, String>) {
    assert!(!theirs.is_empty());
    for (name, text) in theirs {
        let shown = name.escape_ascii();
        assert_eq!(ours.get(name).map(String::as_str), Some(text.as_str()), "{shown}");
    }
    for name in ours.keys() {
        assert!(theirs.contains_key(name), "only we have {}", name.escape_ascii());
    }
}

fn mtime(path: &Path, seconds: u64, nanos: u32) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, nanos);
    let times = rustix::fs::Timespec {
        tv_sec: time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64,
        tv_nsec: nanos.into(),
    };
    let times = rustix::fs::Timestamps { last_access: times, last_modification: times };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Puts into `root` the files of some packages of this machine and one of everything
/// that a file can be.
fn fill(sandbox: &Sandbox, root: &Path) {
    let at = |name: &str| root.join(name);
    // What /bin and others are links to.
    for dir in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    let list = sandbox.run("dpkg", ["-L", "coreutils", "passwd", "libc-bin"]).success();
    for line in list.stdout().lines() {
        let (from, to) = (Path::new(line), root.join(line.trim_start_matches('/')));
        match fs::symlink_metadata(from) {
            Ok(meta) if meta.is_dir() => fs::create_dir_all(&to).unwrap(),
            // Several packages may have the same.
            _ if fs::symlink_metadata(&to).is_ok() => {}
            Ok(meta) if meta.is_symlink() => {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                symlink(fs::read_link(from).unwrap(), &to).unwrap();
            }
            Ok(meta) if File::open(from).is_ok() => {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(from, &to).unwrap();
                mode(&to, meta.mode() & 0o7777);
            }
            // It is not for this user to read, or only in the database.
            _ => {}
        }
    }
    for dir in ["d/deep/er", "closed", "tmp", "lists", "gone/with/all", "was-dir", "s"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    for number in 0..30 {
        fs::write(at("s/first"), "one file").unwrap();
        fs::hard_link(at("s/first"), at(&format!("s/name{number}"))).unwrap_or(());
    }
    for file in [
        "d/a",
        "d/b",
        "d/deep/er/c",
        "gone/with/all/x",
        "was-dir/x",
        "was-file",
        "lists/1",
        "lists/2",
    ] {
        fs::write(at(file), file).unwrap();
    }
    fs::write(root.join(OsStr::from_bytes(b"not-\xff-utf8")), "odd").unwrap();
    fs::write(at(&format!("{}-end", "long".repeat(50))), "long name").unwrap();
    symlink("x".repeat(150), at("long-link")).unwrap();
    symlink("/d", at("to-d")).unwrap();
    let sparse = File::create(at("sparse")).unwrap();
    sparse.write_all_at(b"data", 3 << 20).unwrap();
    sparse.set_len(5 << 20).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let rwx = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), fifo, rwx, 0).unwrap();
    let set = |name: &str, key: &str, value: &[u8]| {
        let file = File::open(at(name)).unwrap();
        rustix::fs::fsetxattr(&file, key, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("d/a", "user.note", b"kept\0binary");
    set("d", "user.dir", b"kept");
    mode(&at("tmp"), 0o1777);
    mode(&at("d/b"), 0o4711);
    if is_root() {
        set("d/a", "security.capability", b"\x01\0\0\x02\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        chown(at("d/b"), Some(1234), Some(70_000)).unwrap();
        mode(&at("d/b"), 0o6755);
        let null = rustix::fs::makedev(1, 3);
        let device = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, at("null"), device, rwx, null).unwrap();
        std::os::unix::fs::lchown(at("long-link"), Some(5), Some(6)).unwrap();
    }
    mtime(&at("d/a"), 1_000_000_000, 0);
    mtime(&at("long-link"), 1_100_000_000, 0);
    mode(&at("closed"), 0o555);
    mtime(&at("d"), 1_200_000_000, 0);
}

/// Changes of all kinds, for a layer above.
fn change(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::remove_dir_all(at("gone")).unwrap();
    fs::remove_file(at("was-file")).unwrap();
    fs::create_dir(at("was-file")).unwrap();
    fs::write(at("was-file/x"), "now below").unwrap();
    fs::remove_file(at("lists/1")).unwrap();
    fs::write(at("lists/3"), "new").unwrap();
    fs::write(at("s/first"), "other!!!").unwrap();
    fs::remove_file(at("s/name7")).unwrap();
    mode(&at("d/deep"), 0o700);
    fs::remove_file(at("to-d")).unwrap();
    fs::create_dir(at("to-d")).unwrap();
    mtime(&at("d"), 1_200_000_000, 0);
}

fn umoci(sandbox: &Sandbox, args: &[&str]) {
    let mut command = sandbox.command("umoci");
    command.args(args);
    if !is_root() && matches!(args.first(), Some(&"unpack")) {
        command.arg("--rootless");
    }
    Finished::of(&mut command).success();
}

/// For a directory that became a file umoci writes whiteouts of what was in it below
/// that file, which podman 4.3 cannot unpack.
fn change_directory_to_file(root: &Path) {
    fs::remove_dir_all(root.join("was-dir")).unwrap();
    fs::write(root.join("was-dir"), "now a file").unwrap();
}

/// An image of two layers in the layout `image`, and what umoci makes of it in `theirs`.
fn make_image(sandbox: &Sandbox, change: impl Fn(&Path)) {
    umoci(sandbox, &["init", "--layout", "image"]);
    umoci(sandbox, &["new", "--image", "image:web"]);
    umoci(sandbox, &["unpack", "--image", "image:web", "one"]);
    fill(sandbox, &sandbox.path("one/rootfs"));
    umoci(sandbox, &["repack", "--image", "image:web", "one"]);
    umoci(sandbox, &["unpack", "--image", "image:web", "two"]);
    change(&sandbox.path("two/rootfs"));
    umoci(sandbox, &["repack", "--image", "image:web", "two"]);
    umoci(sandbox, &["unpack", "--image", "image:web", "theirs"]);
}

#[track_caller]
fn unpack(sandbox: &Sandbox, name: &str, to: &str) -> Unpacked {
    let at = sandbox.path("").display().to_string();
    let reference = Reference::parse(OsStr::new(&name.replace("@", &at))).unwrap();
    let image = Image::open(&reference).unwrap();
    fs::create_dir(sandbox.path(to)).unwrap();
    image.unpack(&sandbox.path(to), &UnpackOptions::default()).unwrap()
}

#[test]
fn an_image_unpacks_as_umoci_unpacks_it() {
    if !require("an_image_unpacks_as_umoci_unpacks_it", &[UMOCI]) {
        return;
    }
    let sandbox = Sandbox::new();
    make_image(&sandbox, |root| {
        change(root);
        change_directory_to_file(root);
    });
    let done = unpack(&sandbox, "oci:@image:web", "ours");
    assert_equal(&sandbox.path("ours"), &sandbox.path("theirs/rootfs"));
    assert!(done.entries > 300, "{done:?}");
    let lost = Unkept { path: RootPath::new(b"/d/b").unwrap(), what: Lost::SetIds };
    assert_eq!(done.unkept.contains(&lost), !is_root());
    assert_eq!(done.unkept.is_empty(), is_root());
}

#[test]
fn every_form_of_an_image_unpacks_to_the_same() {
    if !require("every_form_of_an_image_unpacks_to_the_same", &[UMOCI, SKOPEO]) {
        return;
    }
    let sandbox = Sandbox::new();
    make_image(&sandbox, change);
    let copy = |args: &[&str]| {
        let fixed = ["--insecure-policy", "--tmpdir", ".", "copy", "--quiet"];
        sandbox.run("skopeo", fixed.iter().chain(args)).success();
    };
    copy(&["oci:image:web", "oci-archive:web.tar:web"]);
    copy(&["--dest-compress-format", "zstd", "oci:image:web", "oci:zstd:web"]);
    copy(&["oci:image:web", "docker-archive:docker.tar:web:1"]);
    for (number, name) in [
        "oci-archive:@web.tar",
        "oci-archive:@web.tar:web",
        "@web.tar",
        "@zstd",
        "docker-archive:@docker.tar:web:1",
        "docker-archive:@docker.tar:docker.io/library/web:1",
        "@docker.tar",
    ]
    .iter()
    .enumerate()
    {
        let to = format!("ours{number}");
        unpack(&sandbox, name, &to);
        assert_equal(&sandbox.path(&to), &sandbox.path("theirs/rootfs"));
    }
}

#[test]
fn an_image_unpacks_as_podman_unpacks_it() {
    let needs = [Need::Root, UMOCI, SKOPEO, PODMAN];
    if !require("an_image_unpacks_as_podman_unpacks_it", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    make_image(&sandbox, change);
    let podman = |args: &[&str]| {
        let mut command = sandbox.command("podman");
        command.args(["--root", "store", "--runroot", "run", "--storage-driver", "vfs"]);
        command.env("TMPDIR", sandbox.path(""));
        Finished::of(command.args(args)).success()
    };
    sandbox
        .run(
            "skopeo",
            ["--insecure-policy", "copy", "-q", "oci:image:web", "oci-archive:web.tar:web:1"],
        )
        .success();
    podman(&["load", "-q", "-i", "web.tar"]);
    for format in ["docker-archive", "oci-archive"] {
        let file = format!("{format}.tar");
        podman(&["save", "-q", "--format", format, "-o", &file, "localhost/web:1"]);
        unpack(&sandbox, &format!("@{file}"), &format!("ours-{format}"));
    }
    let foreign = sandbox.path("store").display().to_string();
    let storage = format!("[vfs@{foreign}+{}]localhost/web:1", sandbox.path("run").display());
    let name = format!("containers-storage:{storage}");
    let Source::Image(opened) = vz::image::open(OsStr::new(&name), &Default::default()).unwrap()
    else {
        panic!()
    };
    fs::create_dir(sandbox.path("ours-storage")).unwrap();
    opened.image.unpack(&sandbox.path("ours-storage"), &UnpackOptions::default()).unwrap();
    let mounted = podman(&["image", "mount", "localhost/web:1"]).stdout();
    let theirs = Path::new(mounted.trim());
    for format in ["docker-archive", "oci-archive", "storage"] {
        // Podman gives a directory a new time where a layer changes what is in it.
        let ours = listing(&sandbox.path(format!("ours-{format}")), false);
        assert_equal_listings(&ours, &listing(theirs, false));
    }
    podman(&["image", "umount", "-a"]);
}

#[test]
fn a_layer_unpacks_as_tar_unpacks_it() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("root")).unwrap();
    fill(&sandbox, &sandbox.path("root"));
    fs::create_dir(sandbox.path("theirs")).unwrap();
    for format in ["posix", "gnu"] {
        let tar = format!("{format}.tar");
        let xattrs = if format == "posix" { &["--xattrs", "--xattrs-include=*"][..] } else { &[] };
        let mut command = sandbox.command("tar");
        command.args(["--sparse", "--numeric-owner", "--format", format, "-C", "root"]);
        Finished::of(command.args(xattrs).args(["-cf", &tar, "."])).success();
        let theirs = format!("theirs/{format}");
        fs::create_dir(sandbox.path(&theirs)).unwrap();
        let mut command = sandbox.command("tar");
        command.args(["-xpf", &tar, "--numeric-owner", "-C", &theirs]).args(xattrs);
        Finished::of(&mut command).success();
        let options = UnpackOptions::default();
        let ours = sandbox.path(format!("ours-{format}"));
        fs::create_dir(&ours).unwrap();
        let mut unpacker = bundler::image::Unpacker::new(&ours, &options).unwrap();
        unpacker.layer(File::open(sandbox.path(&tar)).unwrap(), "tar").unwrap();
        unpacker.finish().unwrap();
        assert_equal(&ours, &sandbox.path(&theirs));
        let blocks = |dir: &Path| fs::metadata(dir.join("sparse")).unwrap().blocks();
        assert!(blocks(&ours) < 100, "{format}: {} blocks are no hole", blocks(&ours));
    }
}

/// A tar that is made while it is read: so many entries of a kind.
struct Endless {
    left: u32,
    link: bool,
    block: Vec<u8>,
}

impl std::io::Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.block.is_empty() && self.left > 0 {
            self.left -= 1;
            let number = self.left;
            let mut header = tar::Header::new_ustar();
            header.set_path(format!("d{}/{number}", number % 1000)).unwrap();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1);
            header.set_size(0);
            if self.link {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name("target").unwrap();
            }
            header.set_cksum();
            self.block = header.as_bytes().to_vec();
        }
        let count = buf.len().min(self.block.len());
        buf[..count].copy_from_slice(&self.block[..count]);
        self.block.drain(..count);
        Ok(count)
    }
}

#[test]
fn a_million_entries_take_little_memory() {
    const NAME: &str = "a_million_entries_take_little_memory";
    // In a process of its own, since tests beside it take memory, too.
    if std::env::var_os("VZ_TEST_ALONE").is_none() {
        let sandbox = Sandbox::new();
        let number = count(NAME, 1_000_000, 20_000).to_string();
        let mut command = sandbox.command(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("image_in::{NAME}")]);
        Finished::of(command.env("VZ_TEST_ALONE", number)).success();
        return;
    }
    let number: u32 = std::env::var("VZ_TEST_ALONE").unwrap().parse().unwrap();
    let shared = Path::new("/dev/shm");
    let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    let dir = tempfile::tempdir_in(parent).unwrap();
    let options = UnpackOptions::default();
    let mut unpacker = bundler::image::Unpacker::new(dir.path(), &options).unwrap();
    let before = resident();
    for link in [false, true] {
        let layer = Endless { left: number, link, block: Vec::new() };
        unpacker.layer(layer, "endless").unwrap();
    }
    let grown = resident().saturating_sub(before);
    assert_eq!(unpacker.finish().unwrap().entries, u64::from(number) * 2);
    assert!(grown < 64 << 20, "{grown} bytes more");
}

/// Bytes that this process has in memory.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_bomb_ends_where_the_disk_or_the_limit_does() {
    let needs = [Need::Root, Need::Program("mount", "mount")];
    if !require("a_bomb_ends_where_the_disk_or_the_limit_does", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    let target = sandbox.path("small");
    fs::create_dir(&target).unwrap();
    sandbox.run("mount", ["-t", "tmpfs", "-o", "size=100m", "none", "small"]).success();
    let mut header = tar::Header::new_ustar();
    header.set_path("bomb").unwrap();
    header.set_mode(0o644);
    header.set_size(30 << 20);
    header.set_cksum();
    let zeros = || std::io::Read::take(std::io::repeat(0), 30 << 20);
    let file = || std::io::Read::chain(&header.as_bytes()[..], zeros());
    let options = UnpackOptions::default();
    let mut unpacker = bundler::image::Unpacker::new(&target, &options).unwrap();
    unpacker.layer(file(), "one").unwrap();
    header.set_path("another").unwrap();
    header.set_cksum();
    let file = std::io::Read::chain(&header.as_bytes()[..], zeros());
    let error = unpacker.layer(file, "two").unwrap_err().to_string();
    drop(unpacker);
    sandbox.run("umount", ["small"]).success();
    assert!(error.contains("has no more room: 7"), "{error}");
}
