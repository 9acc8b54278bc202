//! Modules that a Go executable was built from, as `go version -m` prints them
//! (`debug/buildinfo`; the format since Go 1.18, whose strings are inline).

use super::deb822::plain;
use super::reader::Reader;
use super::{Ecosystem, Package};
use crate::elf::section;
use crate::path::RootPath;
use crate::rootfs::Kind;

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Where the strings begin, and the flag that says that they are there.
const STRINGS: usize = 32;
const FLAG_INLINE: u8 = 2;
/// No real list of modules is larger.
const MAX_INFO: u64 = 16 << 20;
/// The smallest Go programs are larger.
const MIN_FILE: u64 = 64 << 10;

/// Reads the modules of `path` where it is a Go executable.
pub(super) fn look(reader: &mut Reader<'_>, path: &RootPath) {
    let rootfs = reader.rootfs();
    let is_program = |meta: &crate::Meta| {
        meta.kind == Kind::File && meta.mode & 0o111 != 0 && meta.size >= MIN_FILE
    };
    if !rootfs.lstat(path).is_ok_and(|meta| is_program(&meta)) {
        return;
    }
    let Ok(file) = rootfs.open_file(path) else { return };
    match section(&file, ".go.buildinfo", MAX_INFO) {
        Ok(Some(info)) => {
            for (name, version) in modules(&info) {
                reader.add(Package {
                    ecosystem: Ecosystem::Golang,
                    name,
                    version,
                    arch: None,
                    upstream: None,
                    license: None,
                    declared: path.clone(),
                    stanza: Vec::new(),
                    md5sums: None,
                    directories: Vec::new(),
                    inside: Some(path.clone()),
                });
            }
        }
        Ok(None) => {}
        Err(error) => reader.say(path, error.to_string()),
    }
}

/// The modules of a `.go.buildinfo`, with the standard library first.
pub(super) fn modules(info: &[u8]) -> Vec<(String, String)> {
    let inline = info.get(15).is_some_and(|flags| flags & FLAG_INLINE != 0);
    let strings = info.get(STRINGS..).filter(|_| info.starts_with(MAGIC) && inline);
    let Some((version, rest)) = strings.and_then(string) else { return Vec::new() };
    let mut modules = Vec::new();
    if let Some(version) = version.strip_prefix(b"go") {
        let end = version.iter().position(u8::is_ascii_whitespace).unwrap_or(version.len());
        let version = version.get(..end).unwrap_or_default();
        modules.push(("stdlib".to_owned(), plain(version)));
    }
    // The text lies between marks of 16 bytes.
    let text = string(rest).and_then(|(text, _)| text.get(16..text.len().checked_sub(16)?));
    for line in text.unwrap_or_default().split(|&b| b == b'\n') {
        let mut fields = line.split(|&b| b == b'\t');
        let (kind, name, version) = (fields.next(), fields.next(), fields.next());
        let (Some(kind), Some(name), Some(version)) = (kind, name, version) else { continue };
        match kind {
            b"mod" | b"dep" => modules.push((plain(name), plain(version))),
            // The module before it was replaced by this one.
            b"=>" => {
                modules.pop();
                modules.push((plain(name), plain(version)));
            }
            _ => {}
        }
    }
    modules
}

/// A string after its length (LEB128), and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes.get(index + 1..)?.split_at_checked(length);
        }
    }
    None
}
