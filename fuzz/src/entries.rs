//! One function a target: it takes any bytes and panics only where a promise is
//! broken. The tests replay every file of the corpora through them.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bundler::elf::Elf;
use bundler::{Kind, Options, RootPath, Rootfs, ld_cache, shebang};

/// What parses prints as a text that parses to the same.
pub fn spec(data: &[u8]) {
    if let Ok(spec) = tracer::Spec::parse(data) {
        assert_eq!(tracer::Spec::parse(&spec.print()), Ok(spec));
    }
}

/// Any file is read or refused.
pub fn elf(data: &[u8]) {
    if let Ok(Some(elf)) = Elf::read(data) {
        elf.imports(data, &["getaddrinfo", "malloc"]);
        assert!(elf.rpath.is_none() || elf.runpath.is_none());
    }
}

/// What is read has no blanks around it.
pub fn shebang(data: &[u8]) {
    if let Some(line) = shebang::parse(data) {
        let blank = |b: &u8| b" \t\n\0".contains(b);
        assert!(!line.interpreter.is_empty() && !line.interpreter.iter().any(blank));
        line.env_program();
    }
}

/// What is read can be written, and reads back as the same set.
pub fn ld_cache(data: &[u8]) {
    if let Ok(libraries) = ld_cache::parse(data) {
        let written = ld_cache::write(&libraries);
        let back = ld_cache::parse(&written).expect("what was written");
        assert_eq!(ld_cache::write(&back), written);
    }
}

/// Names of the files that a root can have.
const NAMES: [&str; 12] = [
    "p",
    "lib/a.so",
    "lib/b.so",
    "ld.so",
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/ld.so.preload",
    "etc/nsswitch.conf",
    "lib/ld-musl-x86_64.so.1",
    "d/s",
    "d/l",
    "lib/glibc-hwcaps/v/a.so",
];

/// A root made of the bytes is closed: every entry is there, and none lies
/// behind a link. The bytes are files one after the other: one byte picks the
/// name (the highest bit makes it a link), two are the length, then the content.
pub fn loader(data: &[u8]) {
    let shared = Path::new("/dev/shm");
    let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    let dir = tempfile::tempdir_in(parent).expect("a temporary directory");
    let root = make(dir.path(), data);
    let rootfs = Rootfs::open(&root).expect("the root");
    let wanted = ["/p", "/d/s", "/lib/a.so", "/lib/glibc-hwcaps/v/a.so"];
    let wanted = wanted.map(|path| RootPath::new(path.as_bytes()).expect("a path"));
    let closure = bundler::close(&rootfs, wanted, &Options::default());
    for path in closure.entries.keys() {
        assert!(rootfs.lstat(path).is_ok(), "{path}");
        let parent = path.parent().map(|dir| rootfs.lstat(&dir).map(|m| m.kind).ok());
        assert!(parent.is_none_or(|kind| kind == Some(Kind::Directory)), "{path}");
    }
    ld_cache::for_closure(&rootfs, &closure);
}

fn make(dir: &Path, mut data: &[u8]) -> PathBuf {
    let root = dir.join("root");
    for name in ["lib/glibc-hwcaps/v", "etc", "d"] {
        std::fs::create_dir_all(root.join(name)).expect("a directory");
    }
    while let [pick, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (content, after) = rest.split_at(length);
        data = after;
        let path = root.join(NAMES[usize::from(pick & 0x7f) % NAMES.len()]);
        let _ = std::fs::remove_file(&path);
        if pick & 0x80 == 0 {
            std::fs::write(&path, content).expect("a file");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("its mode");
        } else {
            // An empty target, or one with a NUL byte, makes no link.
            let _ = std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(content), &path);
        }
    }
    root
}
