//! What a loader has built in, and what it reads before any library.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::files::{Content, Files};
use crate::elf::{Abi, Class, Elf};
use crate::resolve::Resolver;
use crate::rootfs::{Kind, Rootfs};
use crate::{ld_cache, ld_conf};

/// Most bytes of a loader, or of a file that it reads, that are looked through.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Whose loader it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Glibc,
    Musl,
}

/// One loader, ready to search.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) family: Family,
    /// Directories that are searched last, in order.
    pub(super) system: Vec<Vec<u8>>,
    /// What `$LIB` stands for.
    pub(super) lib: Vec<u8>,
    /// The entries of ld.so.cache that this ABI takes, by name.
    pub(super) cache: HashMap<Box<[u8]>, Vec<ld_cache::Library>>,
    /// Directories of ld.so.conf, where there is no cache.
    pub(super) configured: Vec<Vec<u8>>,
    /// Files that were read for this.
    pub(super) files: Vec<Box<[u8]>>,
    /// Libraries of ld.so.preload.
    pub(super) preloads: Vec<Box<[u8]>>,
}

/// The loaders seen so far, by path of the interpreter and ABI.
#[derive(Debug, Default)]
pub(super) struct Configs(RefCell<HashMap<(Box<[u8]>, Abi), Rc<Config>>>);

impl Configs {
    /// The loader of `elf`: its interpreter, or for a library the one that its
    /// C library has, and where that can't be told either, the usual one.
    pub(super) fn of(&self, files: &Files<'_>, elf: &Elf) -> Rc<Config> {
        let path = match &elf.interpreter {
            Some(path) => path.clone(),
            None => usual_interpreter(files.resolver(), elf),
        };
        if let Some(config) = self.0.borrow().get(&(path.clone(), elf.abi)) {
            return config.clone();
        }
        let config = Rc::new(read(files, &path, elf));
        self.0.borrow_mut().insert((path, elf.abi), config.clone());
        config
    }
}

/// The name of the processor that `$PLATFORM` stands for (AT_PLATFORM).
pub(super) fn platform(machine: u16) -> &'static [u8] {
    match machine {
        3 => b"i686",
        21 => b"power8",
        22 => b"z13",
        40 => b"v7l",
        62 => b"x86_64",
        183 => b"aarch64",
        _ => b"",
    }
}

/// Interpreter of glibc's ABI and musl's name for the processor.
fn conventions(abi: Abi) -> (&'static [u8], &'static str) {
    match (abi.machine, abi.class, abi.big_endian) {
        (3, ..) => (b"/lib/ld-linux.so.2", "i386"),
        (62, Class::Elf32, _) => (b"/libx32/ld-linux-x32.so.2", "x32"),
        (183, ..) => (b"/lib/ld-linux-aarch64.so.1", "aarch64"),
        (40, ..) => (b"/lib/ld-linux-armhf.so.3", "armhf"),
        (243, ..) => (b"/lib/ld-linux-riscv64-lp64d.so.1", "riscv64"),
        (21, _, false) => (b"/lib64/ld64.so.2", "powerpc64le"),
        (21, _, true) => (b"/lib64/ld64.so.1", "powerpc64"),
        (22, ..) => (b"/lib/ld64.so.1", "s390x"),
        _ => (b"/lib64/ld-linux-x86-64.so.2", "x86_64"),
    }
}

fn usual_interpreter(resolver: &Resolver<'_>, elf: &Elf) -> Box<[u8]> {
    let (glibc, arch) = conventions(elf.abi);
    let musl = format!("/lib/ld-musl-{arch}.so.1").into_bytes();
    let asks = |name: &[u8]| elf.needed.iter().any(|soname| soname.starts_with(name));
    let is_musl = asks(b"libc.musl-")
        || !asks(b"libc.so.6")
            && resolver.resolve(glibc).is_err()
            && resolver.resolve(&musl).is_ok();
    if is_musl { musl.into() } else { glibc.into() }
}

fn read(files: &Files<'_>, interpreter: &[u8], elf: &Elf) -> Config {
    let name = interpreter.rsplit(|&b| b == b'/').next().unwrap_or_default();
    if name.starts_with(b"ld-musl") {
        musl(files, interpreter, name)
    } else {
        glibc(files, interpreter, elf)
    }
}

fn glibc(files: &Files<'_>, interpreter: &[u8], elf: &Elf) -> Config {
    let resolver = files.resolver();
    let image = match resolver.resolve(interpreter) {
        Ok(found) if matches!(files.content(&found), Content::Elf(_)) => {
            read_file(resolver, interpreter).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let system = built_in_directories(&image).unwrap_or_else(|| usual_directories(elf.abi));
    let first = system.first().map(Vec::as_slice).unwrap_or_default();
    let lib = first.strip_prefix(b"/").unwrap_or(first).to_vec();
    let mut config = Config {
        family: Family::Glibc,
        system,
        lib,
        cache: HashMap::new(),
        configured: Vec::new(),
        files: Vec::new(),
        preloads: Vec::new(),
    };
    let cache = built_in_path(&image, b"/ld.so.cache");
    let wanted = ld_cache::flags(elf.abi, elf.flags);
    match read_file(resolver, &cache).map(|data| ld_cache::parse(&data)) {
        Some(Ok(libraries)) => {
            for library in libraries.into_iter().filter(|l| wanted.is_none_or(|f| f == l.flags)) {
                config.cache.entry(library.soname.clone()).or_default().push(library);
            }
            config.files.push(cache.into());
        }
        Some(Err(_)) | None => config.configured = ld_conf::directories(resolver),
    }
    let preload = built_in_path(&image, b"/ld.so.preload");
    if let Some(text) = read_file(resolver, &preload) {
        let line = |line: &[u8]| line.split(|&b| b == b'#').next().unwrap_or_default().to_vec();
        for line in text.split(|&b| b == b'\n').map(line) {
            let words = line.split(|b| b" \t:".contains(b)).filter(|word| !word.is_empty());
            config.preloads.extend(words.map(Box::from));
        }
        config.files.push(preload.into());
    }
    config
}

fn musl(files: &Files<'_>, interpreter: &[u8], name: &[u8]) -> Config {
    // The loader takes what stands before `/lib/` of its own path as a prefix.
    let prefix = interpreter
        .strip_suffix(name)
        .and_then(|directory| directory.strip_suffix(b"/lib/"))
        .unwrap_or_default();
    let arch = name.strip_prefix(b"ld-musl-").unwrap_or_default();
    let arch = arch.strip_suffix(b".so.1").unwrap_or(arch);
    let path = [prefix, b"/etc/ld-musl-", arch, b".path"].concat();
    let list = read_file(files.resolver(), &path);
    let system = list.as_deref().unwrap_or(b"/lib:/usr/local/lib:/usr/lib");
    Config {
        family: Family::Musl,
        system: system
            .split(|b| b":\n".contains(b))
            .filter(|dir| !dir.is_empty())
            .map(<[u8]>::to_vec)
            .collect(),
        lib: b"lib".to_vec(),
        cache: HashMap::new(),
        configured: Vec::new(),
        files: list.map(|_| path.into()).into_iter().collect(),
        preloads: Vec::new(),
    }
}

fn read_file(resolver: &Resolver<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let found = resolver.resolve(path).ok()?;
    let sound = found.meta.kind == Kind::File && found.meta.size <= MAX_FILE;
    let rootfs: &Rootfs = resolver.rootfs();
    if sound { rootfs.read(&found.path).ok() } else { None }
}

/// The default directories that a glibc loader was built with: they lie in it
/// as one run of strings with a slash at both ends, and distributions differ.
fn built_in_directories(image: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut run: Vec<Vec<u8>> = Vec::new();
    for string in image.split(|&b| b == 0) {
        let is_directory = string.len() > 2
            && string.starts_with(b"/")
            && string.ends_with(b"/")
            && string.iter().all(u8::is_ascii_graphic);
        match string.strip_suffix(b"/") {
            Some(directory) if is_directory => run.push(directory.to_vec()),
            _ if run.len() > 1 => return Some(run),
            _ => run.clear(),
        }
    }
    None
}

/// Where a glibc loader was built to look for a file of this name; in /etc
/// except where packages have roots of their own.
fn built_in_path(image: &[u8], name: &[u8]) -> Vec<u8> {
    let is_path = |s: &&[u8]| s.starts_with(b"/") && s.ends_with(name) && s.len() < 4096;
    let found = image.split(|&b| b == 0).find(is_path);
    found.map_or_else(|| [b"/etc", name].concat(), <[u8]>::to_vec)
}

/// Debian's multiarch directories, then those of glibc's own ABI lists.
fn usual_directories(abi: Abi) -> Vec<Vec<u8>> {
    let triplet = match (abi.machine, abi.class) {
        (3, _) => "i386-linux-gnu",
        (62, Class::Elf32) => "x86_64-linux-gnux32",
        (62, _) => "x86_64-linux-gnu",
        (183, _) => "aarch64-linux-gnu",
        (40, _) => "arm-linux-gnueabihf",
        (243, _) => "riscv64-linux-gnu",
        (21, _) => "powerpc64le-linux-gnu",
        (22, _) => "s390x-linux-gnu",
        _ => "",
    };
    let wide = if abi.class == Class::Elf64 { "64" } else { "32" };
    [
        format!("/lib/{triplet}"),
        format!("/usr/lib/{triplet}"),
        format!("/lib{wide}"),
        format!("/usr/lib{wide}"),
        "/lib".to_owned(),
        "/usr/lib".to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}
