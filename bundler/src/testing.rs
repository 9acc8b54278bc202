//! Small root file systems and ELF files for unit tests.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::closure::{Closure, Options};
use crate::path::RootPath;
use crate::rootfs::Rootfs;

/// Makes a tree of its description, one file a line: `/link -> target`,
/// `/directory/`, `/file`, `/file = its text` (where `\n` is a newline), or
/// `/file = ELF` and the words of [`elf`].
pub(crate) fn tree(files: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for line in files.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, content) = line.split_once(" = ").unwrap_or((line, ""));
        let (name, target) =
            name.split_once(" -> ").map_or((name, None), |(name, target)| (name, Some(target)));
        let path = dir.path().join(&name[1..]);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match target {
            Some(target) => symlink(target, path).unwrap(),
            None if name.ends_with('/') => std::fs::create_dir_all(path).unwrap(),
            None => {
                let bytes = match content.strip_prefix("ELF") {
                    Some(words) => elf(words),
                    None => content.replace("\\n", "\n").into_bytes(),
                };
                std::fs::write(&path, bytes).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }
    dir
}

/// Closes `wanted` (words) over the tree.
pub(crate) fn close(files: &str, wanted: &str, options: &Options) -> Closure {
    let dir = tree(files);
    let rootfs = Rootfs::open(dir.path()).unwrap();
    let wanted = wanted.split_whitespace().map(|path| RootPath::new(path.as_bytes()).unwrap());
    crate::close(&rootfs, wanted, options)
}

/// Returns an ELF file of some words: `interp=PATH`, `needed=NAME`, `soname=NAME`,
/// `rpath=LIST`, `runpath=LIST`, `auxiliary=NAME`, `nodeflib`, `import=NAME`,
/// `dlopen=JSON`, `isa=BITS`, `i386`, `big` (a byte order), `has=BYTES` anywhere
/// in the file.
pub(crate) fn elf(words: &str) -> Vec<u8> {
    let words: Vec<(&str, &str)> =
        words.split_whitespace().map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
    let all = |key: &'static str| words.iter().filter(move |w| w.0 == key).map(|w| w.1);
    let wide = all("i386").next().is_none();
    let big = all("big").next().is_some();
    let number = |value: u64, size: usize| {
        let mut bytes = value.to_le_bytes()[..size].to_vec();
        if big {
            bytes.reverse();
        }
        bytes
    };
    let word = if wide { 8 } else { 4 };
    let mut strings = vec![0];
    let mut entries: Vec<(u64, u64)> = Vec::new();
    let tags =
        [("needed", 1), ("soname", 14), ("rpath", 15), ("runpath", 29), ("auxiliary", 0x7fff_fffd)];
    let name = |strings: &mut Vec<u8>, text: &str| {
        let at = strings.len() as u64;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    for (key, tag) in tags {
        for text in all(key) {
            entries.push((tag, name(&mut strings, text)));
        }
    }
    if all("nodeflib").next().is_some() {
        entries.push((0x6fff_fffb, 0x800));
    }
    let mut symbols = vec![0; if wide { 24 } else { 16 }];
    for text in all("import") {
        symbols.extend(number(name(&mut strings, text), 4));
        symbols.extend(vec![0; if wide { 20 } else { 12 }]);
    }
    let interpreter = all("interp").next().map(|path| [path.as_bytes(), b"\0"].concat());
    let note = |owner: &[u8], kind: u64, content: &[u8]| {
        let mut note = [number(4, 4), number(content.len() as u64, 4), number(kind, 4)].concat();
        note.extend_from_slice(owner);
        note.extend_from_slice(content);
        note.resize(note.len().next_multiple_of(4), 0);
        note
    };
    let mut notes: Vec<u8> =
        all("dlopen").flat_map(|json| note(b"FDO\0", 0x407c_0c0a, json.as_bytes())).collect();
    for bits in all("isa") {
        let property = [number(0xc000_8002, 4), number(4, 4), number(bits.parse().unwrap(), 4)];
        notes.extend(note(b"GNU\0", 5, &property.concat()));
    }
    // All pieces lie one after the other, after room for the headers.
    let mut body: Vec<u8> = Vec::new();
    let start = if wide { 64 + 4 * 56 } else { 52 + 4 * 32 };
    let mut place = |bytes: &[u8]| {
        let at = (start + body.len()) as u64;
        body.extend_from_slice(bytes);
        body.resize(body.len().next_multiple_of(8), 0);
        (at, bytes.len() as u64)
    };
    let symbols = place(&symbols);
    let strings = place(&strings);
    let interpreter = interpreter.map(|path| place(&path));
    let notes = place(&notes);
    for bytes in all("has") {
        place(format!("\0{bytes}\0").replace("\\0", "\0").replace("\\s", " ").as_bytes());
    }
    entries.extend([(5, strings.0), (10, strings.1), (6, symbols.0), (0, 0)]);
    let dynamic: Vec<u8> = entries
        .iter()
        .flat_map(|(tag, value)| [number(*tag, word), number(*value, word)].concat())
        .collect();
    let dynamic = place(&dynamic);
    let total = (start + body.len()) as u64;
    let mut segments = vec![(1, (0, total)), (2, dynamic), (4, notes)];
    segments.extend(interpreter.map(|place| (3, place)));

    let mut file = b"\x7fELF".to_vec();
    file.extend([if wide { 2 } else { 1 }, if big { 2 } else { 1 }, 1]);
    file.resize(16, 0);
    file.extend([number(3, 2), number(if wide { 62 } else { 3 }, 2), number(1, 4)].concat());
    file.extend(
        [number(0, word), number(start as u64 - 4 * (if wide { 56 } else { 32 }), word)].concat(),
    );
    file.extend([number(0, word), number(0, 4), number(if wide { 64 } else { 52 }, 2)].concat());
    file.extend([number(if wide { 56 } else { 32 }, 2), number(segments.len() as u64, 2)].concat());
    file.extend(number(0, 6));
    for (kind, (at, size)) in segments {
        file.extend(number(kind, 4));
        if wide {
            file.extend(number(4, 4));
        }
        for value in [at, at, at, size, size] {
            file.extend(number(value, word));
        }
        if !wide {
            file.extend(number(4, 4));
        }
        file.extend(number(4, word));
    }
    file.resize(start, 0);
    file.extend(body);
    file
}
