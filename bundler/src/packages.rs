//! Who owns the files of a root file system: what package managers wrote down there.
//!
//! Every database is read inside the root, through its own links, up to a limit
//! in bytes and entries; what is larger or cannot be read is in
//! [`Packages::unread`]. Nothing of it is run and nothing outside is asked.
//!
//! | kind | read from |
//! |---|---|
//! | deb | `/var/lib/dpkg/status`, `status.d/*`, `info/*.list`, `diversions` |
//! | apk | `/lib/apk/db/installed`, `/usr/lib/apk/db/installed` |
//! | rpm | `rpmdb.sqlite`, `Packages.db` or `Packages` in `/usr/lib/sysimage/rpm`, `/var/lib/rpm`, `/usr/share/rpm` |
//! | pypi | `*.dist-info/METADATA` and `RECORD`, `*.egg-info` beside a file of the list |
//! | npm | `package.json` with a name and a version, in or above the list |
//! | gem | `specifications/*.gemspec` beside a file of the list |
//! | golang | section `.go.buildinfo` of executables of the list |

mod apk;
mod deb822;
mod dpkg;
mod gem;
mod golang;
mod npm;
mod purl;
mod python;
mod reader;
pub mod rpm;

use std::collections::{BTreeMap, HashMap};

use crate::path::RootPath;
use crate::rootfs::Rootfs;

pub use apk::cut as cut_apk;
pub use dpkg::{cut_md5sums, cut_stanza};
use reader::Reader;

/// The kinds of packages that are known, in the order of what owns a file first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the types of package URLs")]
pub enum Ecosystem {
    Deb,
    Apk,
    Rpm,
    PyPi,
    Npm,
    Gem,
    Golang,
}

/// One installed package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// What manages it.
    pub ecosystem: Ecosystem,
    /// Its name there.
    pub name: String,
    /// Its version there.
    pub version: String,
    /// Processor that it is built for, in the manager's words.
    pub arch: Option<String>,
    /// What it is built from where that has another name or version, as
    /// `NAME` or `NAME@VERSION`; of rpm the name of the source package's file.
    pub upstream: Option<String>,
    /// Its licence in its own words.
    pub license: Option<String>,
    /// The file that says that it is installed.
    pub declared: RootPath,
    /// What that file says of it, where it speaks of several: dpkg's and apk's
    /// stanza, rpm's header without what no scanner reads.
    pub stanza: Vec<u8>,
    /// The file with MD5 sums of its files (dpkg).
    pub md5sums: Option<RootPath>,
    /// Directories of which it owns all that no other package owns.
    pub directories: Vec<RootPath>,
    /// The executable that it is linked into (Go).
    pub inside: Option<RootPath>,
}

/// The operating system that a root says it is, by os-release(5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distro {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`; empty where there is none.
    pub version: String,
    /// `PRETTY_NAME`.
    pub name: String,
}

/// A database or a part of one that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unread {
    /// The file.
    pub path: RootPath,
    /// Why, as the end of a sentence.
    pub why: String,
}

/// The packages of a root and what they own.
#[derive(Debug, Default)]
pub struct Packages {
    /// What the root says it is.
    pub distro: Option<Distro>,
    /// Sorted by ecosystem, name, version, and where they are declared.
    pub list: Vec<Package>,
    /// What could not be read.
    pub unread: Vec<Unread>,
    owners: HashMap<RootPath, Owners>,
    directories: HashMap<RootPath, u32>,
    /// Packages linked into an executable, by its path.
    inside: BTreeMap<RootPath, Vec<u32>>,
}

/// Who owns a file, as places in [`Packages::list`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// The package of the operating system.
    pub system: Option<u32>,
    /// The package of a language, which that one may have brought.
    pub language: Option<u32>,
}

impl Package {
    /// A package of which no more is known.
    fn new(ecosystem: Ecosystem, name: String, version: String, declared: RootPath) -> Self {
        Package {
            ecosystem,
            name,
            version,
            arch: None,
            upstream: None,
            license: None,
            declared,
            stanza: Vec::new(),
            md5sums: None,
            directories: Vec::new(),
            inside: None,
        }
    }
}

impl Owners {
    /// The one to name where only one is named.
    pub fn first(self) -> Option<u32> {
        self.system.or(self.language)
    }

    /// Both, where there are two.
    pub fn all(self) -> impl Iterator<Item = u32> {
        self.system.into_iter().chain(self.language)
    }
}

impl Packages {
    /// Reads the databases of the operating system, and those of languages that
    /// lie beside or above `paths`.
    pub fn read<'a>(rootfs: &Rootfs, paths: impl IntoIterator<Item = &'a RootPath>) -> Packages {
        let mut reader = Reader::new(rootfs);
        let distro = distro(&reader);
        dpkg::read(&mut reader);
        apk::read(&mut reader);
        rpm::read(&mut reader);
        let mut seen = python::Seen::default();
        let mut modules = npm::Seen::default();
        let mut gems = gem::Seen::default();
        for path in paths {
            python::look(&mut reader, &mut seen, path);
            npm::look(&mut reader, &mut modules, path);
            gem::look(&mut reader, &mut gems, path);
            golang::look(&mut reader, path);
        }
        let mut packages = reader.finish();
        packages.distro = distro;
        packages
    }

    /// Who owns `path`, which is where the file lies, without links.
    pub fn owners(&self, path: &RootPath) -> Owners {
        let mut owners = self.owners.get(path).copied().unwrap_or_default();
        let mut above = path.parent();
        while let (None, Some(dir)) = (owners.language, above) {
            owners.language = self.directories.get(&dir).copied();
            above = dir.parent();
        }
        owners
    }

    /// Every path that a database lists, with its owners, in no order.
    pub fn listed(&self) -> impl Iterator<Item = (&RootPath, Owners)> {
        self.owners.iter().map(|(path, owners)| (path, *owners))
    }

    /// Whether a database of the package at `place` lists `path` itself.
    pub fn is_listed(&self, path: &RootPath, place: u32) -> bool {
        self.owners.get(path).is_some_and(|owners| owners.all().any(|owner| owner == place))
    }

    /// The packages that are linked into the executable at `path`.
    pub fn inside(&self, path: &RootPath) -> &[u32] {
        self.inside.get(path).map_or(&[], Vec::as_slice)
    }

    /// The package at this place of the list.
    pub fn get(&self, place: u32) -> Option<&Package> {
        self.list.get(place as usize)
    }

    /// The licence of `package` in its own words, where it says so in a form for
    /// machines; Debian's packages may in their copyright file, which is read now
    /// (Debian Policy, section 12.5).
    pub fn license(rootfs: &Rootfs, package: &Package) -> Option<String> {
        let path = format!("/usr/share/doc/{}/copyright", package.name);
        let read = || dpkg::licenses(&Reader::new(rootfs).content(path.as_bytes())?);
        let is_deb = package.ecosystem == Ecosystem::Deb;
        package.license.clone().or_else(|| is_deb.then(read).flatten())
    }

    /// The package URL of `package`, as scanners write it.
    pub fn purl(&self, package: &Package) -> String {
        purl::purl(package, self.distro.as_ref())
    }
}

impl Ecosystem {
    /// The type of its package URLs.
    pub fn name(self) -> &'static str {
        match self {
            Ecosystem::Deb => "deb",
            Ecosystem::Apk => "apk",
            Ecosystem::Rpm => "rpm",
            Ecosystem::PyPi => "pypi",
            Ecosystem::Npm => "npm",
            Ecosystem::Gem => "gem",
            Ecosystem::Golang => "golang",
        }
    }

    /// Whether its packages are those of the operating system.
    pub fn is_system(self) -> bool {
        matches!(self, Ecosystem::Deb | Ecosystem::Apk | Ecosystem::Rpm)
    }
}

/// Reads os-release(5): shell assignments, quoted or not.
fn distro(reader: &Reader<'_>) -> Option<Distro> {
    let text = [b"/etc/os-release".as_slice(), b"/usr/lib/os-release"]
        .iter()
        .find_map(|path| reader.content(path))?;
    let text = String::from_utf8_lossy(&text);
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
    };
    let distro =
        Distro { id: value("ID"), version: value("VERSION_ID"), name: value("PRETTY_NAME") };
    (!distro.id.is_empty()).then_some(distro)
}

#[cfg(test)]
mod tests;
