//! What the kernel opens by itself to execute a file: the program of a `#!`
//! line, the ELF interpreter, the handler of binfmt_misc.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};

use crate::resolve::Resolver;

/// How many interpreters lie in a row at most: the kernel gives up after
/// five replacements (`exec_binprm` in fs/exec.c), and the last has its own
/// ELF interpreter.
pub(crate) const MAX_DEPTH: usize = 6;

/// What the kernel reads of a file to see how to run it (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;

/// Returns the interpreter that the executable `path` names, as written there.
pub(crate) fn of(resolver: &Resolver, path: &[u8]) -> Option<Vec<u8>> {
    let (dir, name) = resolver.open_parent(path).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(&dir, name, flags, Mode::empty()).ok()?);
    let mut head = Vec::with_capacity(HEAD);
    (&file).take(HEAD as u64).read_to_end(&mut head).ok()?;
    of_misc(&handlers(), &head, name).or_else(|| shebang(&head)).or_else(|| {
        let read = |offset: u64, length: usize| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
        };
        elf_interpreter(&head, read)
    })
}

/// The program of a `#!` line, as load_script in fs/binfmt_script.c reads it:
/// spaces and tabs around it do not count, and it must end in the head.
fn shebang(head: &[u8]) -> Option<Vec<u8>> {
    let rest = head.strip_prefix(b"#!")?;
    let (line, whole) = match rest.iter().position(|&b| b == b'\n') {
        Some(end) => (&rest[..end], true),
        // The head is cut off, unless the file is shorter.
        None => (rest, head.len() < HEAD),
    };
    let start = line.iter().position(|&b| b != b' ' && b != b'\t')?;
    let line = &line[start..];
    let end = line.iter().position(|&b| matches!(b, b' ' | b'\t' | 0));
    match end {
        Some(0) => None,
        Some(end) => Some(line[..end].to_vec()),
        None if whole && !line.is_empty() => Some(line.to_vec()),
        None => None,
    }
}

/// `p_type` of the segment with the interpreter's path (`PT_INTERP`).
const PT_INTERP: u64 = 3;

/// The interpreter of an ELF file of this machine's byte order.
fn elf_interpreter(head: &[u8], read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let wide = match head.get(..6)? {
        [0x7f, b'E', b'L', b'F', 2, 1] => true,
        [0x7f, b'E', b'L', b'F', 1, 1] => false,
        _ => return None,
    };
    // Offsets of e_phoff, e_phentsize, e_phnum and of p_offset, p_filesz: elf(5).
    let (phoff, phentsize, phnum, offset, filesz, word) =
        if wide { (0x20, 0x36, 0x38, 0x08, 0x20, 8) } else { (0x1c, 0x2a, 0x2c, 0x04, 0x10, 4) };
    let table = number(head, phoff, word)?;
    let size = usize::try_from(number(head, phentsize, 2)?).ok()?;
    let count = usize::try_from(number(head, phnum, 2)?).ok()?;
    // The kernel takes at most 64 KiB of program headers.
    let headers = read(table, size.checked_mul(count).filter(|total| *total <= 65536)?)?;
    let header =
        headers.chunks_exact(size.max(1)).find(|header| number(header, 0, 4) == Some(PT_INTERP))?;
    let length = usize::try_from(number(header, filesz, word)?).ok()?;
    // As long as a path may be, with its NUL (load_elf_binary in fs/binfmt_elf.c).
    let mut path = read(number(header, offset, word)?, length.min(4096))?;
    path.truncate(path.iter().position(|&b| b == 0)?);
    (!path.is_empty()).then_some(path)
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..size)?.copy_from_slice(bytes.get(at..at.checked_add(size)?)?);
    Some(u64::from_le_bytes(word))
}

/// A handler of binfmt_misc: which files it takes, and its interpreter.
#[derive(Debug, PartialEq, Eq)]
struct Handler {
    interpreter: Vec<u8>,
    takes: Takes,
}

#[derive(Debug, PartialEq, Eq)]
enum Takes {
    Extension(Vec<u8>),
    Magic { offset: usize, magic: Vec<u8>, mask: Option<Vec<u8>> },
}

/// The handlers that are on now; none where binfmt_misc is not mounted.
fn handlers() -> Vec<Handler> {
    let Ok(dir) = std::fs::read_dir("/proc/sys/fs/binfmt_misc") else { return Vec::new() };
    dir.flatten()
        .filter(|entry| entry.file_name() != "register" && entry.file_name() != "status")
        .filter_map(|entry| parse_handler(&std::fs::read(entry.path()).ok()?))
        .collect()
}

/// Reads a handler's file, Documentation/admin-guide/binfmt-misc.rst.
fn parse_handler(text: &[u8]) -> Option<Handler> {
    let mut lines = text.split(|&b| b == b'\n');
    if lines.next()? != b"enabled" {
        return None;
    }
    let (mut interpreter, mut extension, mut offset) = (None, None, 0);
    let (mut magic, mut mask) = (None, None);
    for line in lines {
        let Some(space) = line.iter().position(|&b| b == b' ') else { continue };
        let value = &line[space + 1..];
        match &line[..space] {
            b"interpreter" => interpreter = Some(value.to_vec()),
            b"extension" => extension = Some(value.strip_prefix(b".")?.to_vec()),
            b"offset" => offset = std::str::from_utf8(value).ok()?.parse().ok()?,
            b"magic" => magic = Some(hex(value)?),
            b"mask" => mask = Some(hex(value)?),
            _ => {}
        }
    }
    let takes = match (extension, magic) {
        (Some(extension), _) => Takes::Extension(extension),
        (None, Some(magic)) => Takes::Magic { offset, magic, mask },
        (None, None) => return None,
    };
    Some(Handler { interpreter: interpreter?, takes })
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    text.chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn of_misc(handlers: &[Handler], head: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let takes = |handler: &&Handler| match &handler.takes {
        Takes::Extension(extension) => {
            name.rsplit(|&b| b == b'.').next() == Some(extension) && name.contains(&b'.')
        }
        Takes::Magic { offset, magic, mask } => head.get(*offset..).is_some_and(|bytes| {
            bytes.len() >= magic.len()
                && magic.iter().enumerate().all(|(i, m)| {
                    let mask = mask.as_ref().and_then(|mask| mask.get(i)).unwrap_or(&0xff);
                    bytes.get(i).is_some_and(|b| (b ^ m) & mask == 0)
                })
        }),
    };
    handlers.iter().find(takes).map(|handler| handler.interpreter.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_shebang(line: &str, expected: Option<&str>) {
        assert_eq!(shebang(line.as_bytes()).as_deref(), expected.map(str::as_bytes), "{line:?}");
    }

    #[test]
    fn a_shebang_is_read_as_the_kernel_does() {
        check_shebang("#!/bin/sh\n", Some("/bin/sh"));
        check_shebang("#! /usr/bin/env -S perl -w\nx", Some("/usr/bin/env"));
        check_shebang("#!\t/bin/sh\t-e\n", Some("/bin/sh"));
        check_shebang("#!/bin/sh", Some("/bin/sh"));
        check_shebang("#!\n/bin/sh", None);
        check_shebang("#!   \n", None);
        check_shebang("/bin/sh\n", None);
    }

    #[test]
    fn an_interpreter_that_does_not_end_in_the_head_is_refused() {
        check_shebang(&format!("#!/{}", "x".repeat(253)), None);
        let name = format!("/{}", "x".repeat(200));
        check_shebang(&format!("#!{name} {}", "y".repeat(60)), Some(&name));
    }

    #[test]
    fn the_test_itself_has_an_elf_interpreter() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let read = |at: u64, length: usize| {
            file.get(at as usize..at as usize + length).map(<[u8]>::to_vec)
        };
        let found = elf_interpreter(&file[..HEAD], read).unwrap();
        assert!(found.starts_with(b"/lib"), "{}", found.escape_ascii());
    }

    #[test]
    fn a_broken_elf_has_none() {
        let mut head = vec![0xff; HEAD];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert_eq!(elf_interpreter(&head, |_, _| None), None);
        assert_eq!(elf_interpreter(&head[..10], |_, _| None), None);
    }

    #[test]
    fn binfmt_misc_takes_by_magic_and_by_extension() {
        let java = parse_handler(
            b"enabled\ninterpreter /usr/bin/jexec\nflags: \noffset 0\nmagic 504b0304\n",
        );
        let exe = parse_handler(b"enabled\ninterpreter /usr/bin/wine\nflags: \nextension .exe\n");
        let all = [java.unwrap(), exe.unwrap()];
        assert_eq!(of_misc(&all, b"PK\x03\x04..", b"a.jar").unwrap(), b"/usr/bin/jexec");
        assert_eq!(of_misc(&all, b"MZ", b"setup.exe").unwrap(), b"/usr/bin/wine");
        assert_eq!(of_misc(&all, b"MZ", b"exe"), None);
        assert_eq!(parse_handler(b"disabled\ninterpreter /x\nextension .y\n"), None);
    }
}
