//! The loader's answers against those of the real one, on this system's own
//! programs and libraries.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bundler::Rootfs;
use bundler::elf::{Class, Elf};
use bundler::loader::{Content, Loader};
use bundler::resolve::{Resolved, Resolver};

use crate::sandbox::{Need, Sandbox, require};

/// The loader of each processor that this machine runs (`e_machine`).
const LOADERS: [(u16, &str); 2] = [(62, "/lib64/ld-linux-x86-64.so.2"), (3, "/lib/ld-linux.so.2")];

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

/// Names of libraries and their paths, empty where not found.
type Answers = BTreeSet<(String, String)>;

/// What the real loader loads for `file`.
fn real(sandbox: &Sandbox, loader: &str, file: &Path) -> Option<Answers> {
    let mut command = sandbox.command(loader);
    command.arg(file).env_clear().env("LD_TRACE_LOADED_OBJECTS", "1");
    let output = command.output().unwrap();
    // A library that is not found makes the status 127, after the whole list.
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() && !text.contains("not found") {
        return None;
    }
    let mut loaded = Answers::new();
    for line in text.lines().map(str::trim) {
        let line = line.rsplit_once(" (0x").map_or(line, |(line, _)| line);
        // Other lines have the loader itself, the kernel's own object, or nothing.
        if let Some((name, path)) = line.split_once(" => ") {
            let path = if path == "not found" { "" } else { path };
            loaded.insert((name.to_owned(), path.to_owned()));
        }
    }
    Some(loaded)
}

/// What ours loads, in the same form.
fn ours(loader: &Loader<'_>, file: &Resolved, elf: &Rc<Elf>) -> Answers {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let loaded = loader.load(file, elf);
    let mut found: Answers = loaded
        .objects
        .iter()
        .filter(|object| object.by.is_some() && !object.asked.contains(&b'/'))
        .map(|object| (text(&object.asked), text(&object.name)))
        .collect();
    let unfound = loaded.unfound.iter().filter(|u| !u.soname.contains(&b'/'));
    found.extend(unfound.map(|u| (text(&u.soname), String::new())));
    // For a library the real loader shows itself, by the name it was started by.
    found.retain(|(_, path)| !path.contains("/ld-linux"));
    found
}

#[test]
fn the_real_loader_finds_the_same_libraries() {
    let needs = [Need::File(LOADERS[0].1, "libc6"), Need::File(LOADERS[1].1, "gcc-multilib")];
    if !require("the_real_loader_finds_the_same_libraries", &needs) {
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
        // A real loader looks only at its own kind.
        let is_x32 = elf.abi.machine == 62 && elf.abi.class == Class::Elf32;
        let same = LOADERS.iter().find(|(machine, _)| *machine == elf.abi.machine);
        let Some((_, real_loader)) = same.filter(|_| elf.dynamic && !is_x32) else { continue };
        let Some(expected) = real(&sandbox, real_loader, &path) else { continue };
        let found = ours(&loader, &file, &elf);
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

/// Compiles libraries and a program that needs them, each from its words: the
/// output's name, then gcc's options. Both loaders answer the same for all, with
/// `answer` among it.
fn check_built(builds: &[&str], program: &str, answer: (&str, &str)) {
    let sandbox = Sandbox::new();
    sandbox.write("empty.c", "int vz;");
    sandbox.write("main.c", "int main(void) { return 0; }");
    for build in builds {
        let root = sandbox.path("").display().to_string();
        let words: Vec<String> =
            build.split_whitespace().map(|w| w.replace("ROOT/", &root)).collect();
        let output = sandbox.path(&words[0]);
        std::fs::create_dir_all(output.parent().unwrap()).unwrap();
        let is_library = words[0].contains(".so");
        let kind: &[&str] = if is_library { &["-shared", "empty.c"] } else { &["main.c"] };
        let common = ["-fPIC", "-nostartfiles", "-Wl,--no-as-needed", "-o", words[0].as_str()];
        let common = if is_library { &common[..] } else { &common[2..] };
        let options = words[1..].iter().map(String::as_str);
        sandbox.run("gcc", kind.iter().chain(common).copied().chain(options)).success();
    }
    let rootfs = Rootfs::open(Path::new("/")).unwrap();
    let resolver = Resolver::new(&rootfs);
    let loader = Loader::new(&resolver, None);
    let path = sandbox.path(program);
    let file = resolver.resolve(path.as_os_str().as_encoded_bytes()).unwrap();
    let Content::Elf(elf) = loader.files().content(&file) else { panic!("{program} is no ELF") };
    let expected = real(&sandbox, LOADERS[0].1, &path).expect("an answer of the real loader");
    let found = ours(&loader, &file, &elf);
    assert_eq!(found, expected);
    let root = sandbox.path("").display().to_string();
    let answer = (answer.0.to_owned(), answer.1.replace("ROOT/", &root));
    assert!(found.contains(&answer), "no {answer:?} in {found:?}");
}

#[test]
fn the_real_loader_treats_paths_in_files_the_same() {
    if !require("the_real_loader_treats_paths_in_files_the_same", &[Need::Program("gcc", "gcc")]) {
        return;
    }
    let paths = "-Wl,--disable-new-dtags";
    // RPATH of the program is inherited by its library …
    let inherited = [
        "x/libb.so -Wl,-soname,libb.so",
        "x/liba.so -Wl,-soname,liba.so -Lx -lb",
        &format!("p -Lx -la {paths} -Wl,-rpath,ROOT/x -Wl,-rpath-link,x"),
    ];
    check_built(&inherited, "p", ("libb.so", "ROOT/x/libb.so"));
    // … a RUNPATH is not …
    let not = [
        inherited[0],
        inherited[1],
        "p -Lx -la -Wl,--enable-new-dtags -Wl,-rpath,ROOT/x -Wl,-rpath-link,x",
    ];
    check_built(&not, "p", ("libb.so", ""));
    // … and a library's own RUNPATH shuts out the RPATH above it.
    let shut = [
        inherited[0],
        "x/liba.so -Wl,-soname,liba.so -Lx -lb -Wl,--enable-new-dtags -Wl,-rpath,/nowhere",
        inherited[2],
    ];
    check_built(&shut, "p", ("libb.so", ""));
    // Tokens, a name with a slash, and no default directories.
    let tokens = [
        "lib/liba.so -Wl,-soname,liba.so",
        "lib/libslash.so",
        "bin/p -Llib -la lib/libslash.so -Wl,-rpath,$ORIGIN/../lib:${ORIGIN}/$LIB -Wl,-z,nodefaultlib",
    ];
    check_built(&tokens, "bin/p", ("liba.so", "ROOT/bin/../lib/liba.so"));
    check_built(&tokens, "bin/p", ("libc.so.6", ""));
    // A directory with a library of the wrong class is passed.
    let classes = [
        "a/libz9.so -m32 -nostdlib -Wl,-soname,libz9.so",
        "b/libz9.so -Wl,-soname,libz9.so",
        "p -Lb -lz9 -Wl,-rpath,ROOT/a:ROOT/b",
    ];
    check_built(&classes, "p", ("libz9.so", "ROOT/b/libz9.so"));
}

#[test]
fn musl_s_loader_finds_the_same_libraries() {
    const MUSL: &str = "/lib/ld-musl-x86_64.so.1";
    if !require("musl_s_loader_finds_the_same_libraries", &[Need::File(MUSL, "musl-tools")]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("empty.c", "int vz;");
    sandbox.write("main.c", "int main(void) { return 0; }");
    std::fs::create_dir(sandbox.path("lib")).unwrap();
    let library = ["-shared", "-fPIC", "empty.c", "-Wl,--no-as-needed", "-Llib"];
    let build = |options: &[&str]| {
        sandbox.run("musl-gcc", library.iter().chain(options)).success();
    };
    build(&["-o", "lib/libb.so"]);
    build(&["-o", "lib/liba.so", "-lb"]);
    // musl passes a RUNPATH on, which glibc does not.
    let program = ["main.c", "-o", "p", "-Wl,--no-as-needed", "-Llib", "-la"];
    let paths = ["-Wl,-rpath,$ORIGIN/lib", "-Wl,-rpath-link,lib"];
    sandbox.run("musl-gcc", program.iter().chain(&paths)).success();

    let path = sandbox.path("p").canonicalize().unwrap();
    let mut command = sandbox.command(MUSL);
    command.arg("--list").arg(&path).env_clear();
    let output = command.output().unwrap();
    let expected: Answers = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim().rsplit_once(" (0x")?.0.split_once(" => "))
        .filter(|(_, path)| *path != MUSL)
        .map(|(name, path)| (name.to_owned(), path.to_owned()))
        .collect();
    assert_eq!(expected.len(), 2, "{output:?}");

    let rootfs = Rootfs::open(Path::new("/")).unwrap();
    let resolver = Resolver::new(&rootfs);
    let loader = Loader::new(&resolver, None);
    let file = resolver.resolve(path.as_os_str().as_encoded_bytes()).unwrap();
    let Content::Elf(elf) = loader.files().content(&file) else { panic!("no ELF file") };
    assert_eq!(ours(&loader, &file, &elf), expected);
}
