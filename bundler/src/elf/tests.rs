use super::*;
use crate::testing::elf;
use proptest::prelude::*;

fn read(words: &str) -> Elf {
    Elf::read(&*elf(words)).unwrap().expect("an ELF file")
}

fn text(names: &[Box<[u8]>]) -> Vec<String> {
    names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[test]
fn both_classes_and_byte_orders_are_read() {
    for kind in ["", "i386", "big", "i386 big"] {
        let words = "interp=/lib/ld.so needed=libb.so.1 needed=liba.so.2 soname=me runpath=/x";
        let elf = read(&format!("{words} {kind}"));
        assert_eq!(text(&elf.needed), ["libb.so.1", "liba.so.2"], "{kind}");
        assert_eq!(elf.interpreter.as_deref(), Some(&b"/lib/ld.so"[..]), "{kind}");
        assert_eq!(elf.soname.as_deref(), Some(&b"me"[..]), "{kind}");
        assert_eq!(elf.runpath.as_deref(), Some(&b"/x"[..]), "{kind}");
        let class = if kind.contains("i386") { Class::Elf32 } else { Class::Elf64 };
        assert_eq!(elf.abi.class, class, "{kind}");
    }
}

#[test]
fn an_rpath_beside_a_runpath_does_not_count() {
    assert_eq!(read("rpath=/a runpath=/b").rpath, None);
    assert_eq!(read("rpath=/a").rpath.as_deref(), Some(&b"/a"[..]));
}

#[test]
fn notes_tell_what_may_be_loaded() {
    let elf = read(
        r#"dlopen=[{"soname":["libz.so.1","libz.so"],"feature":"zip","priority":"required"}] isa=4"#,
    );
    let [note] = &*elf.dlopen else { panic!("{:?}", elf.dlopen) };
    assert_eq!(note.soname, ["libz.so.1", "libz.so"]);
    assert_eq!(note.priority.as_deref(), Some("required"));
    assert_eq!(elf.isa_level, Some(3));
    assert!(read("dlopen=[{").bad_dlopen);
}

#[test]
fn imports_are_undefined_symbols() {
    let bytes = elf("import=getpwnam import=puts");
    let found = Elf::read(&*bytes).unwrap().unwrap().imports(&*bytes, &["puts", "gets"]);
    assert_eq!(found, [true, false]);
}

#[test]
fn other_files_are_none() {
    for bytes in [&b""[..], b"\x7fEL", b"#!/bin/sh\n", &[0; 5000]] {
        assert_eq!(Elf::read(bytes), Ok(None));
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_less() {
    let whole = elf("interp=/lib/ld.so needed=libb.so.1 soname=x import=puts isa=1");
    for length in 4..whole.len() {
        let cut = &whole[..length];
        if let Ok(Some(elf)) = Elf::read(cut) {
            elf.imports(cut, &["puts"]);
        }
    }
    assert!(matches!(Elf::read(&whole[..100]), Err(ElfError::Truncated("program headers"))));
}

/// Changes a number of a sound file's second header, PT_DYNAMIC, and reads it.
#[track_caller]
fn check_hostile(field: usize, value: u64, expected: ElfError) {
    let mut bytes = elf("needed=libb.so.1");
    let at = 64 + 56 + field;
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    assert_eq!(Elf::read(&*bytes), Err(expected));
}

#[test]
fn wild_sizes_and_offsets_are_errors() {
    let (offset, size) = (8, 32);
    check_hostile(size, 4 << 30, ElfError::TooLarge("dynamic section"));
    check_hostile(size, u64::MAX, ElfError::TooLarge("dynamic section"));
    check_hostile(offset, u64::MAX, ElfError::Truncated("dynamic section"));
    check_hostile(offset, 1 << 40, ElfError::Truncated("dynamic section"));
    let mut many = elf("");
    many[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(Elf::read(&*many), Err(ElfError::TooLarge("program headers")));
}

/// goblin reads whole files in memory; where both read one, they agree.
#[test]
fn another_reader_says_the_same_of_this_system_s_files() {
    let mut compared = 0;
    for directory in ["/usr/bin", "/usr/lib/x86_64-linux-gnu", "/lib32"] {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for path in entries.filter_map(|e| Some(e.ok()?.path())) {
            let small = path.metadata().is_ok_and(|m| m.is_file() && m.len() < 4 << 20);
            let Some(bytes) = small.then(|| std::fs::read(&path).ok()).flatten() else { continue };
            let Ok(Some(ours)) = Elf::read(&*bytes) else { continue };
            let theirs = goblin::elf::Elf::parse(&bytes).unwrap();
            let shown = path.display();
            assert_eq!(text(&ours.needed), theirs.libraries, "{shown}");
            let ours_interpreter = ours.interpreter.as_deref().map(String::from_utf8_lossy);
            assert_eq!(ours_interpreter.as_deref(), theirs.interpreter, "{shown}");
            let soname = ours.soname.as_deref().map(String::from_utf8_lossy);
            assert_eq!(soname.as_deref(), theirs.soname, "{shown}");
            let names = ["getaddrinfo", "malloc", "dlopen", "setlocale"];
            let imported = |name: &str| {
                let symbols = || theirs.dynsyms.iter().filter(goblin::elf::Sym::is_import);
                symbols().any(|s| theirs.dynstrtab.get_at(s.st_name) == Some(name))
            };
            assert_eq!(ours.imports(&*bytes, &names), names.map(imported), "{shown}");
            compared += 1;
        }
    }
    println!("{compared} files");
}

proptest! {
    #[test]
    fn no_change_of_a_few_bytes_makes_it_panic(
        changes in proptest::collection::vec((0usize..600, any::<u8>()), 1..8)
    ) {
        let mut bytes = elf("interp=/ld needed=libb.so.1 runpath=/x import=puts isa=1 dlopen=[]");
        for (at, value) in changes {
            let length = bytes.len();
            bytes[at % length] = value;
        }
        if let Ok(Some(elf)) = Elf::read(&*bytes) {
            elf.imports(&*bytes, &["puts"]);
        }
    }
}
