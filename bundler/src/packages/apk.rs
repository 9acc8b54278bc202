//! apk's database of installed packages: stanzas of `X:value` lines
//! (apk-v2 installed database, apk-package(5)).

use super::deb822::{stanzas, text};
use super::reader::Reader;
use super::{Ecosystem, Package};

/// Where it lies, and where it lies since apk 3.
const INSTALLED: [&[u8]; 2] = [b"/lib/apk/db/installed", b"/usr/lib/apk/db/installed"];

pub(super) fn read(reader: &mut Reader<'_>) {
    let Some((place, database)) = INSTALLED.iter().find_map(|path| reader.text(path)) else {
        return;
    };
    for stanza in stanzas(&database) {
        let (Some(name), Some(version)) = (text(stanza, "P"), text(stanza, "V")) else { continue };
        let number = reader.add(Package {
            ecosystem: Ecosystem::Apk,
            arch: text(stanza, "A"),
            upstream: text(stanza, "o").filter(|origin| *origin != name),
            license: text(stanza, "L"),
            declared: place.clone(),
            stanza: stanza.to_vec(),
            md5sums: None,
            directories: Vec::new(),
            inside: None,
            name,
            version,
        });
        for (path, _) in files(stanza) {
            if let Some(place) = reader.place(&path) {
                reader.own(number, place);
            }
        }
    }
}

/// The files of a stanza, each with its lines: `R:NAME` in the directory of the
/// `F:` before it, and the lines after it up to the next of them.
fn files(stanza: &[u8]) -> impl Iterator<Item = (Vec<u8>, &[u8])> {
    let mut dir: &[u8] = b"";
    stanza.split(|&b| b == b'\n').filter_map(move |line| {
        if let Some(name) = line.strip_prefix(b"F:") {
            dir = name;
        }
        let name = line.strip_prefix(b"R:")?;
        let separator: &[u8] = if dir.is_empty() { b"" } else { b"/" };
        Some(([b"/", dir, separator, name].concat(), line))
    })
}

/// A package's stanza with only those of its files that are kept.
pub fn cut(stanza: &[u8], mut is_kept: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut cut = Vec::new();
    let (mut dir, mut dir_lines): (&[u8], Vec<u8>) = (b"", Vec::new());
    let (mut in_files, mut keep) = (false, true);
    for line in stanza.split_inclusive(|&b| b == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(name) = text.strip_prefix(b"F:") {
            (dir, dir_lines, in_files, keep) = (name, line.to_vec(), true, false);
        } else if let Some(name) = text.strip_prefix(b"R:") {
            let separator: &[u8] = if dir.is_empty() { b"" } else { b"/" };
            keep = is_kept(&[b"/", dir, separator, name].concat());
            if keep {
                cut.append(&mut dir_lines);
                cut.extend_from_slice(line);
            }
        } else if in_files && text.starts_with(b"M:") {
            dir_lines.extend_from_slice(line);
        } else if !in_files || keep {
            cut.extend_from_slice(line);
        }
    }
    cut
}
