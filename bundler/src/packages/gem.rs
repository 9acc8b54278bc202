//! Ruby gems: `specifications/NAME-VERSION.gemspec`, whose files are in
//! `gems/NAME-VERSION`.

use std::collections::HashSet;

use super::deb822::plain;
use super::reader::Reader;
use super::{Ecosystem, Package};
use crate::path::RootPath;

/// Gems that were looked for.
#[derive(Default)]
pub(super) struct Seen(HashSet<Vec<u8>>);

/// Reads the gem of `path`, be it its specification or one of its files.
pub(super) fn look(reader: &mut Reader<'_>, seen: &mut Seen, path: &RootPath) {
    let mut above = path.parent();
    if let (Some(name), Some(dir)) = (path.file_name().strip_suffix(b".gemspec"), &above) {
        // Those of Ruby itself lie in `specifications/default`.
        let home = if dir.file_name() == b"default" { dir.parent() } else { above.clone() };
        if let Some(home) = home.filter(|home| home.file_name() == b"specifications") {
            let gem = [home.parent().unwrap_or(home).as_bytes(), b"/gems/", name].concat();
            read(reader, seen, path.as_bytes(), &gem);
        }
    }
    while let Some(dir) = above {
        above = dir.parent();
        if let Some(gems) = above.as_ref().filter(|gems| gems.file_name() == b"gems") {
            let home = gems.parent().unwrap_or_else(RootPath::root);
            let spec =
                [home.as_bytes(), b"/specifications/", dir.file_name(), b".gemspec"].concat();
            read(reader, seen, &spec, dir.as_bytes());
        }
    }
}

fn read(reader: &mut Reader<'_>, seen: &mut Seen, spec: &[u8], gem: &[u8]) {
    if !seen.0.insert(spec.to_vec()) {
        return;
    }
    let Some((declared, text)) = reader.text(spec) else { return };
    let (Some(name), Some(version)) = (value(&text, "name"), value(&text, "version")) else {
        return;
    };
    let number = reader.add(Package {
        ecosystem: Ecosystem::Gem,
        arch: None,
        upstream: None,
        license: value(&text, "licenses"),
        declared: declared.clone(),
        stanza: Vec::new(),
        md5sums: None,
        directories: RootPath::new(gem).into_iter().collect(),
        inside: None,
        name,
        version,
    });
    reader.own(number, declared);
}

/// The first string that the specification gives this attribute: it is Ruby code,
/// but that of RubyGems' own printer, one assignment a line.
fn value(text: &[u8], name: &str) -> Option<String> {
    let line = text.split(|&b| b == b'\n').find_map(|line| {
        let rest = line.trim_ascii_start().strip_prefix(b"s.")?.strip_prefix(name.as_bytes())?;
        rest.trim_ascii_start().strip_prefix(b"=")
    })?;
    let quoted = line.split(|&b| b == b'"').nth(1)?;
    Some(plain(quoted)).filter(|text| !text.is_empty())
}
