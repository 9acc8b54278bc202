//! The loader's answers against those of the real one, on this system's own
//! programs and libraries.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use bundler::Rootfs;
use bundler::loader::{Content, Loader};
use bundler::resolve::Resolver;

use crate::sandbox::{Need, Sandbox, require};

const REAL: &str = "/lib64/ld-linux-x86-64.so.2";

/// Files in `directory` that may be ELF, sorted, no links.
fn files(directory: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|e| e.file_type().is_ok_and(|t| t.is_file() && !t.is_fifo()))
        .map(|e| e.path())
        .collect();
    files.sort();
    files
}

/// What the real loader loads for `file`: path by name, empty where not found.
fn real(sandbox: &Sandbox, file: &Path) -> Option<BTreeMap<String, String>> {
    let mut command = sandbox.command(REAL);
    command.arg(file).env_clear().env("LD_TRACE_LOADED_OBJECTS", "1");
    let output = command.output().unwrap();
    // A library that is not found makes the status 127, after the whole list.
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() && !text.contains("not found") {
        return None;
    }
    let mut loaded = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        let line = line.rsplit_once(" (0x").map_or(line, |(line, _)| line);
        match line.split_once(" => ") {
            Some((name, "not found")) => loaded.insert(name.to_owned(), String::new()),
            Some((name, path)) => loaded.insert(name.to_owned(), path.to_owned()),
            // The loader itself, the kernel's own object, or nothing at all.
            None => None,
        };
    }
    Some(loaded)
}

#[test]
fn the_real_loader_finds_the_same_libraries() {
    if !require("the_real_loader_finds_the_same_libraries", &[Need::File(REAL, "libc6")]) {
        return;
    }
    let sandbox = Sandbox::new();
    let rootfs = Rootfs::open(Path::new("/")).unwrap();
    let resolver = Resolver::new(&rootfs);
    let loader = Loader::new(&resolver, None);
    let directories =
        ["/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/git-core", "/lib32"];
    let (mut compared, mut libraries, mut different) = (0, 0, Vec::new());
    for path in directories.iter().flat_map(|directory| files(directory)) {
        let file = resolver.resolve(path.as_os_str().as_encoded_bytes()).unwrap();
        let Content::Elf(elf) = loader.files().content(&file) else { continue };
        // The real loader looks only at its own kind.
        if elf.abi.machine != 62 || !elf.dynamic {
            continue;
        }
        let Some(expected) = real(&sandbox, &path) else { continue };
        let loaded = loader.load(&file, &elf);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut found: BTreeMap<String, String> = loaded
            .objects
            .iter()
            .filter(|object| object.by.is_some() && !object.asked.contains(&b'/'))
            .map(|object| (text(&object.asked), text(&object.name)))
            .collect();
        found.extend(loaded.unfound.iter().map(|u| (text(&u.soname), String::new())));
        // For a library the real loader shows itself, by the name it was started by.
        found.retain(|_, path| !path.contains("/ld-linux"));
        if found != expected {
            different.push(format!("{}:\nreal {expected:#?}\nours {found:#?}", path.display()));
        }
        compared += 1;
        libraries += expected.len();
    }
    println!("{compared} files, {libraries} libraries, {} differ", different.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(compared >= 200, "only {compared} files to compare");
}
