//! dpkg's database, deb-control(5) and dpkg(1), FILES; and distroless images',
//! which have one file a package in `status.d`.

use std::collections::{HashMap, HashSet};

use super::deb822::{field, stanzas, text};
use super::reader::Reader;
use super::{Ecosystem, Package};
use crate::path::RootPath;

const STATUS: &[u8] = b"/var/lib/dpkg/status";
const STATUS_D: &[u8] = b"/var/lib/dpkg/status.d";
const INFO: &str = "/var/lib/dpkg/info";
const DIVERSIONS: &[u8] = b"/var/lib/dpkg/diversions";

pub(super) fn read(reader: &mut Reader<'_>) {
    let diverted = reader.content(DIVERSIONS).unwrap_or_default();
    let diversions = diversions(&diverted);
    if let Some((place, status)) = reader.text(STATUS) {
        let files: HashSet<Vec<u8>> = reader.names(INFO.as_bytes()).into_iter().collect();
        for stanza in stanzas(&status).filter(|stanza| is_installed(stanza)) {
            let Some(mut package) = package(stanza, &place) else { continue };
            let own = own_name(&package, &files, ".list");
            let sums = own_name(&package, &files, ".md5sums");
            package.md5sums = sums.and_then(|path| reader.place(path.as_bytes()));
            let name = package.name.clone();
            let number = reader.add(package);
            let list = own.and_then(|path| reader.content(path.as_bytes()));
            let list = list.unwrap_or_default();
            for path in leaves(&list) {
                let path = diversions.place(path, &name);
                if let Some(place) = reader.place(path) {
                    reader.own(number, place);
                }
            }
        }
    }
    for name in reader.names(STATUS_D) {
        if name.ends_with(b".md5sums") {
            continue;
        }
        let path = [STATUS_D, b"/", &name].concat();
        let Some((place, status)) = reader.text(&path) else { continue };
        let Some(mut package) = stanzas(&status).next().and_then(|s| package(s, &place)) else {
            continue;
        };
        let sums = reader.text(&[&path, b".md5sums".as_slice()].concat());
        package.md5sums = sums.as_ref().map(|(place, _)| place.clone());
        let number = reader.add(package);
        for (_, path) in sums.iter().flat_map(|(_, sums)| md5_lines(sums)) {
            if let Some(place) = reader.place(&[b"/", path].concat()) {
                reader.own(number, place);
            }
        }
    }
}

/// Whether its files are there: states `config-files` and `not-installed` have none.
fn is_installed(stanza: &[u8]) -> bool {
    let state = field(stanza, "Status").and_then(|status| status.rsplit(|&b| b == b' ').next());
    state.is_some_and(|state| state != b"config-files" && state != b"not-installed")
}

fn package(stanza: &[u8], declared: &RootPath) -> Option<Package> {
    let (name, version) = (text(stanza, "Package")?, text(stanza, "Version")?);
    // `Source: NAME` or `Source: NAME (VERSION)`.
    let upstream = text(stanza, "Source").map(|source| {
        let source = source.trim_end_matches(')').to_owned();
        source
            .split_once(" (")
            .map_or(source.clone(), |(name, version)| format!("{name}@{version}"))
    });
    Some(Package {
        ecosystem: Ecosystem::Deb,
        arch: text(stanza, "Architecture"),
        upstream,
        license: None,
        declared: declared.clone(),
        stanza: stanza.to_vec(),
        md5sums: None,
        directories: Vec::new(),
        inside: None,
        name,
        version,
    })
}

/// Packages that several architectures can have at once (`Multi-Arch: same`)
/// have theirs in the names of their files.
fn own_name(package: &Package, files: &HashSet<Vec<u8>>, suffix: &str) -> Option<String> {
    let arch = package.arch.as_deref().unwrap_or_default();
    let names = [format!("{}:{arch}{suffix}", package.name), format!("{}{suffix}", package.name)];
    let name = names.into_iter().find(|name| files.contains(name.as_bytes()))?;
    Some(format!("{INFO}/{name}"))
}

/// The paths of a list that are above no other one. A list has each directory
/// before what is in it; an empty one counts as a leaf.
fn leaves(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut lines = list.split(|&b| b == b'\n').filter(|line| line.len() > 1).peekable();
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?;
            let below =
                |next: &&[u8]| next.strip_prefix(line).is_some_and(|r| r.first() == Some(&b'/'));
            if line != b"/." && !lines.peek().is_some_and(below) {
                return Some(line);
            }
        }
    })
}

/// dpkg-divert(1): what a package has at a path lies elsewhere.
#[derive(Default)]
struct Diversions<'a>(HashMap<&'a [u8], (&'a [u8], &'a [u8])>);

/// Reads the file: triples of lines, from, to, and the package that diverts (`:`
/// for the administrator).
fn diversions(text: &[u8]) -> Diversions<'_> {
    let mut lines = text.split(|&b| b == b'\n');
    let mut found = Diversions::default();
    while let (Some(from), Some(to), Some(by)) = (lines.next(), lines.next(), lines.next()) {
        found.0.insert(from, (to, by));
    }
    found
}

impl<'a> Diversions<'a> {
    fn place(&self, path: &'a [u8], package: &str) -> &'a [u8] {
        match self.0.get(path) {
            Some((to, by)) if *by != package.as_bytes() => to,
            _ => path,
        }
    }
}

/// The lines of a file of MD5 sums: the sum, and the path without its slash.
fn md5_lines(sums: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    sums.split(|&b| b == b'\n').filter_map(|line| {
        let (sum, path) = line.split_at_checked(32)?;
        let path = path.strip_prefix(b"  ")?;
        sum.iter().all(u8::is_ascii_hexdigit).then_some((sum, path))
    })
}

/// The lines of a package's `md5sums` whose files are kept. `place` says where a
/// listed path lies, and `kept` whether something is kept there.
pub fn cut_md5sums(sums: &[u8], mut is_kept: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut cut = Vec::new();
    for (sum, path) in md5_lines(sums) {
        if is_kept(&[b"/", path].concat()) {
            cut.extend([sum, b"  ", path, b"\n"].concat());
        }
    }
    cut
}

/// A package's stanza with only those of its `Conffiles` that are kept.
pub fn cut_stanza(stanza: &[u8], mut is_kept: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut cut = Vec::new();
    let (mut inside, mut heading) = (false, None);
    for line in stanza.split_inclusive(|&b| b == b'\n') {
        if line.first() != Some(&b' ') {
            inside = line.starts_with(b"Conffiles:");
            heading = inside.then_some(line);
            if inside {
                continue;
            }
        } else if inside {
            let path = line.split(|&b| b == b' ').nth(1).unwrap_or_default();
            if !is_kept(path) {
                continue;
            }
            cut.extend_from_slice(heading.take().unwrap_or_default());
        }
        cut.extend_from_slice(line);
    }
    cut
}
