//! Python distributions: `*.dist-info` (packaging.python.org, "Recording
//! installed projects") and the older `*.egg-info`.

use std::collections::HashSet;

use super::deb822::{plain, text};
use super::reader::Reader;
use super::{Ecosystem, Package};
use crate::path::RootPath;

/// Directories that were searched.
#[derive(Default)]
pub(super) struct Seen(HashSet<RootPath>);

/// Reads all distributions of the site directories above `path`.
pub(super) fn look(reader: &mut Reader<'_>, seen: &mut Seen, path: &RootPath) {
    let mut above = path.parent();
    while let Some(dir) = above {
        if [b"site-packages".as_slice(), b"dist-packages"].contains(&dir.file_name())
            && seen.0.insert(dir.clone())
        {
            read(reader, &dir);
        }
        above = dir.parent();
    }
}

fn read(reader: &mut Reader<'_>, site: &RootPath) {
    for name in reader.names(site.as_bytes()) {
        let (metadata, record): (&[u8], &[u8]) = if name.ends_with(b".dist-info") {
            (b"/METADATA", b"/RECORD")
        } else if name.ends_with(b".egg-info") {
            (b"/PKG-INFO", b"/installed-files.txt")
        } else {
            continue;
        };
        let base = [site.as_bytes(), b"/", &name].concat();
        // An egg-info can be a file, which is the metadata itself.
        let found = reader.text(&[&base, metadata].concat()).or_else(|| reader.text(&base));
        let Some((declared, metadata)) = found else { continue };
        // The description follows an empty line.
        let end = metadata.windows(2).position(|w| w == b"\n\n").unwrap_or(metadata.len());
        let head = metadata.get(..end).unwrap_or_default();
        let (Some(name), Some(version)) = (text(head, "Name"), text(head, "Version")) else {
            continue;
        };
        let known = |license: &String| license != "UNKNOWN";
        let license = text(head, "License-Expression").or_else(|| text(head, "License"));
        let record = reader.content(&[&base, record].concat());
        let mut files = Vec::new();
        let mut directories: Vec<RootPath> = RootPath::new(&base).into_iter().collect();
        match &record {
            Some(record) if record.contains(&b',') => files
                .extend(first_fields(record).map(|file| [site.as_bytes(), b"/", &file].concat())),
            // Paths of installed-files.txt start at the egg-info.
            Some(record) => files.extend(
                record.split(|&b| b == b'\n').map(|file| [&base, b"/".as_slice(), file].concat()),
            ),
            None => {
                let top = reader.content(&[&base, b"/top_level.txt".as_slice()].concat());
                let guess = name.replace('-', "_").to_lowercase().into_bytes();
                let modules = top.unwrap_or(guess);
                for module in modules.split(|&b| b == b'\n').filter(|m| !m.is_empty()) {
                    directories.extend(site.join(module).ok());
                    files.push([site.as_bytes(), b"/", module, b".py"].concat());
                }
            }
        }
        let number = reader.add(Package {
            ecosystem: Ecosystem::PyPi,
            arch: None,
            upstream: None,
            license: license.filter(known),
            declared: declared.clone(),
            stanza: Vec::new(),
            md5sums: None,
            directories,
            inside: None,
            name,
            version,
        });
        reader.own(number, declared);
        for file in files {
            if let Some(place) = reader.place(&file) {
                reader.own(number, place);
            }
        }
    }
}

/// The first field of each line of comma-separated values (RFC 4180).
fn first_fields(csv: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    csv.split(|&b| b == b'\n').filter_map(|line| match line.strip_prefix(b"\"") {
        Some(quoted) => {
            let end = quoted.windows(2).position(|w| w == b"\",")?;
            Some(plain(quoted.get(..end)?).replace("\"\"", "\"").into_bytes())
        }
        None => line.split(|&b| b == b',').next().filter(|f| !f.is_empty()).map(<[u8]>::to_vec),
    })
}
