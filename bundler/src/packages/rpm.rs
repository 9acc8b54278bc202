//! rpm's database, which is not read: it is SQLite, Berkeley DB or a format of its own,
//! and the maintained readers of these wrap C libraries.

use super::reader::Reader;

/// Where it lies and what it is called (rpm's `macros`: `%_dbpath`, and its backends).
const DIRECTORIES: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
const NAMES: [&str; 3] = ["rpmdb.sqlite", "Packages.db", "Packages"];

const WHY: &str = "it is rpm's, which is not supported: its packages are in no SBOM, and their \
                   files are listed as nobody's";

/// Says so where a root is one of rpm's.
pub(super) fn say_unread(reader: &Reader<'_>) {
    let mut places = DIRECTORIES.iter().flat_map(|dir| NAMES.map(|name| format!("{dir}/{name}")));
    if let Some(path) = places.find_map(|place| reader.file(place.as_bytes())) {
        reader.say(&path, WHY.to_owned());
    }
}
