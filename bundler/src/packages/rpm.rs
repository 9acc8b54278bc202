//! rpm's database: headers of packages in a table of SQLite, in a format of its own, or in
//! a hash table of Berkeley DB, told apart by what they begin with.

mod berkeley;
mod header;
mod ndb;
mod sqlite;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use super::deb822::plain;
use super::reader::Reader;
use super::{Ecosystem, Package};
use crate::elf::ReadAt;
use crate::path::RootPath;

pub use header::Header;

/// Where it lies (rpm's `%_dbpath`: Fedora and SUSE, others, and systems of ostree), and
/// what it is called.
const DIRECTORIES: [&str; 3] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm", "/usr/share/rpm"];
/// The name of a database of SQLite.
pub const SQLITE: &str = "rpmdb.sqlite";
const NAMES: [&str; 3] = [SQLITE, "Packages.db", "Packages"];
/// What Azure Linux's distroless images have instead.
const MANIFEST: &[u8] = b"/var/lib/rpmmanifest/container-manifest-2";

/// Largest header, in bytes: those of kernels have 3 MiB.
const MAX_BLOB: u64 = 32 << 20;
/// Largest database: that of a workstation with 2,000 packages has 200 MiB.
const MAX_DATABASE: u64 = 1 << 30;
/// Most bytes of cut headers that are held.
const MAX_STANZAS: usize = 96 << 20;

/// Why a database cannot be read, as the end of a sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// It begins otherwise.
    #[error("it is no database of rpm's")]
    Unknown,
    /// The file ends too early.
    #[error("it ends before its {0}")]
    Truncated(&'static str),
    /// What no program writes.
    #[error("its {0} is damaged")]
    Damaged(&'static str),
    /// Larger than any real one.
    #[error("its {0} is too large")]
    TooLarge(&'static str),
    /// What this reader does not know.
    #[error("its {0} is not supported")]
    Unsupported(&'static str),
    /// The file could not be read.
    #[error("cannot read its {what}: {source}")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A file and its length.
#[derive(Debug)]
pub struct Input<'a, R: ?Sized> {
    /// Its content.
    pub source: &'a R,
    /// Its length in bytes.
    pub length: u64,
}

impl<R: ?Sized> Clone for Input<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: ?Sized> Copy for Input<'_, R> {}

impl<R: ReadAt + ?Sized> Input<'_, R> {
    /// So many bytes of `what`, and not less. No more is asked for than the file has.
    fn bytes(&self, at: u64, count: usize, what: &'static str) -> Result<Vec<u8>, DatabaseError> {
        if at.checked_add(count as u64).is_none_or(|end| end > self.length) {
            return Err(DatabaseError::Truncated(what));
        }
        let mut bytes = vec![0; count];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.source.read_at(rest, at + done as u64) {
                Ok(0) => return Err(DatabaseError::Truncated(what)),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(DatabaseError::Read { what, source }),
            }
        }
        Ok(bytes)
    }
}

/// Gives the header of each package of `database` to `each`. `log` is the write-ahead log
/// beside a database of SQLite, where there is one.
///
/// # Errors
/// What cannot be read, in the middle of it as well; and what `each` returns.
pub fn headers<R: ReadAt + ?Sized>(
    database: Input<'_, R>,
    log: Option<Input<'_, R>>,
    each: &mut dyn FnMut(Header<'_>) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    if database.length > MAX_DATABASE || log.is_some_and(|log| log.length > MAX_DATABASE) {
        return Err(DatabaseError::TooLarge("file"));
    }
    let begin = usize::try_from(database.length.min(berkeley::META as u64)).unwrap_or_default();
    let begin = database.bytes(0, begin, "head")?;
    let each = &mut |blob: &[u8]| each(Header::parse(blob)?);
    if begin.starts_with(sqlite::MAGIC) {
        sqlite::read(database, log, each)
    } else if begin.starts_with(ndb::MAGIC) {
        ndb::read(database, each)
    } else if let Some(big) = berkeley::order(&begin) {
        berkeley::read(database, big, each)
    } else {
        Err(DatabaseError::Unknown)
    }
}

/// Returns a database of SQLite with these headers, from which scanners read packages.
pub fn database(headers: &[Vec<u8>]) -> Vec<u8> {
    sqlite::database(headers)
}

/// A header with only those of its files that are kept, and without what no scanner
/// reads; empty where it is none.
pub fn cut(header: &[u8], is_kept: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    Header::parse(header).map(|header| header.cut(is_kept)).unwrap_or_default()
}

pub(super) fn read(reader: &mut Reader<'_>) {
    let mut seen = BTreeSet::new();
    let mut found = 0;
    for path in DIRECTORIES.iter().flat_map(|dir| NAMES.map(|name| format!("{dir}/{name}"))) {
        let Some((place, file, length)) = reader.open(path.as_bytes()) else { continue };
        // One directory may be a link to the other. Only the first that has any counts:
        // the others were left behind by a conversion.
        if !seen.insert(place.clone()) || found > 0 {
            continue;
        }
        let beside = |suffix: &str| reader.open(&[place.as_bytes(), suffix.as_bytes()].concat());
        let log = beside("-wal");
        if beside("-journal").is_some_and(|(_, _, length)| length > 0) {
            reader.say(&place, "a change of it was broken off; rpm undoes it".to_owned());
            continue;
        }
        let input = |file, length| Input { source: file, length };
        let log = log.as_ref().map(|(_, file, length)| input(file, *length));
        let mut held = 0;
        let done = headers::<File>(input(&file, length), log, &mut |header| {
            let Some(package) = package(&header, &place) else { return Ok(()) };
            held += package.stanza.len();
            if held > MAX_STANZAS {
                return Err(DatabaseError::TooLarge("list of files"));
            }
            found += 1;
            let number = reader.add(package);
            own(reader, number, &header);
            Ok(())
        });
        if let Err(error) = done {
            reader.say(&place, format!("{error}; packages of it are missing"));
        }
    }
    if found == 0
        && let Some(place) = reader.file(MANIFEST)
    {
        let why = "it names packages and none of their files: they are in no SBOM";
        reader.say(&place, why.to_owned());
    }
}

fn package(header: &Header<'_>, declared: &RootPath) -> Option<Package> {
    let text = |tag| {
        let text = header.text(tag).map(plain);
        text.filter(|text| !text.is_empty() && text != "(none)")
    };
    let (name, version) = (text(header::NAME)?, text(header::VERSION)?);
    let release = text(header::RELEASE).unwrap_or_default();
    let epoch = header.number(header::EPOCH).map(|epoch| format!("{epoch}:"));
    let version = format!("{}{version}-{release}", epoch.unwrap_or_default());
    Some(Package {
        arch: text(header::ARCH),
        upstream: text(header::SOURCERPM),
        license: text(header::LICENSE),
        stanza: header.cut(|_| true),
        ..Package::new(Ecosystem::Rpm, name, version, declared.clone())
    })
}

/// Notes which files the package owns: no directories, and nothing that was not
/// installed (documentation, another architecture's) or that another package has replaced.
fn own(reader: &mut Reader<'_>, package: Option<u32>, header: &Header<'_>) {
    let modes: Vec<u32> = header.numbers(header::FILEMODES).collect();
    let states: Vec<u32> = header.numbers(header::FILESTATES).collect();
    for (place, path) in header.files() {
        let is_directory = modes.get(place).is_some_and(|mode| mode & 0o170_000 == 0o040_000);
        let is_there = states.get(place).is_none_or(|&state| state == 0);
        if is_there
            && !is_directory
            && let Some(path) = reader.place(&path)
        {
            reader.own(package, path);
        }
    }
}

#[cfg(test)]
mod tests;
