//! Node packages: directories with a `package.json` that has a name and a version.

use std::collections::HashSet;

use serde::Deserialize;

use super::deb822::plain;
use super::reader::Reader;
use super::{Ecosystem, Package};
use crate::path::RootPath;

/// Larger ones are data; npm's own registry allows less.
const MAX_MANIFEST: usize = 4 << 20;

/// Directories whose `package.json` was looked for.
#[derive(Default)]
pub(super) struct Seen(HashSet<RootPath>);

#[derive(Deserialize)]
struct Manifest {
    name: String,
    version: String,
    #[serde(default)]
    license: serde_json::Value,
}

/// Reads the package of `path` where it is a `package.json`, and those of the
/// directories above it that lie in a directory of packages.
pub(super) fn look(reader: &mut Reader<'_>, seen: &mut Seen, path: &RootPath) {
    let mut above = path.parent();
    if path.file_name() == b"package.json" {
        above.clone().into_iter().for_each(|dir| read(reader, seen, dir));
    }
    while let Some(dir) = above {
        above = dir.parent();
        let Some(holder) = &above else { return };
        let scope = holder.file_name().starts_with(b"@").then(|| holder.parent()).flatten();
        let holder = scope.as_ref().unwrap_or(holder);
        // Debian's own packages lie in /usr/share/nodejs.
        if [b"node_modules".as_slice(), b"nodejs"].contains(&holder.file_name())
            && !dir.file_name().starts_with(b"@")
        {
            read(reader, seen, dir);
        }
    }
}

fn read(reader: &mut Reader<'_>, seen: &mut Seen, dir: RootPath) {
    if !seen.0.insert(dir.clone()) {
        return;
    }
    let Some((declared, text)) = reader.text(&[dir.as_bytes(), b"/package.json"].concat()) else {
        return;
    };
    let text = text.get(..MAX_MANIFEST).unwrap_or(&text);
    let Ok(manifest) = serde_json::from_slice::<Manifest>(text) else { return };
    if manifest.name.is_empty() || manifest.version.is_empty() {
        return;
    }
    // Old packages have an object with the licence's type.
    let license = manifest.license.get("type").unwrap_or(&manifest.license).as_str();
    reader.add(Package {
        ecosystem: Ecosystem::Npm,
        name: plain(manifest.name.as_bytes()),
        version: plain(manifest.version.as_bytes()),
        arch: None,
        upstream: None,
        license: license.map(|text| plain(text.as_bytes())),
        declared,
        stanza: Vec::new(),
        md5sums: None,
        directories: vec![dir],
        inside: None,
    });
}
