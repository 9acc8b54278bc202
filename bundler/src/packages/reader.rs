//! Reads databases inside a root, within limits, and gathers what they say.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;

use super::{Owners, Package, Packages, Unread};
use crate::path::RootPath;
use crate::resolve::{End, Resolver};
use crate::rootfs::{Kind, Rootfs};

/// Largest file that is read, in bytes: dpkg's status of all of Debian would be
/// 90 MiB.
const MAX_TEXT: u64 = 128 << 20;
/// Bytes that are read of a root. The lists of 2,000 packages have 30 MB.
const MAX_TOTAL: u64 = 512 << 20;
/// Most directories in which listed paths lie.
const MAX_PLACES: usize = 300_000;
/// Most packages of a root. Debian has 65,000.
const MAX_PACKAGES: usize = 200_000;
/// Most paths that are owned, which bounds memory.
const MAX_PATHS: usize = 1_000_000;

pub(super) struct Reader<'a> {
    resolver: Resolver<'a>,
    /// Bytes that may still be read.
    left: Cell<u64>,
    /// Where the directories of listed paths lie.
    places: HashMap<Vec<u8>, Option<RootPath>>,
    list: Vec<Package>,
    owners: HashMap<RootPath, Owners>,
    unread: RefCell<Vec<Unread>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rootfs: &'a Rootfs) -> Self {
        Reader {
            resolver: Resolver::new(rootfs),
            left: Cell::new(MAX_TOTAL),
            places: HashMap::new(),
            list: Vec::new(),
            owners: HashMap::new(),
            unread: RefCell::default(),
        }
    }

    pub(super) fn rootfs(&self) -> &'a Rootfs {
        self.resolver.rootfs()
    }

    /// The content of a file, through links; nothing where it is absent.
    pub(super) fn text(&self, path: &[u8]) -> Option<(RootPath, Vec<u8>)> {
        let found = match self.resolver.resolve(path) {
            Ok(found) => found,
            Err(found) => {
                if let End::Error { at, errno } = found.end {
                    self.say(&at, std::io::Error::from_raw_os_error(errno).to_string());
                }
                return None;
            }
        };
        if found.meta.kind != Kind::File {
            return None;
        }
        if found.meta.size > MAX_TEXT.min(self.left.get()) {
            self.say_once(&found.path, "it is too large, or all databases together are");
            return None;
        }
        let mut text = Vec::new();
        let read = self.rootfs().open_file(&found.path);
        match read.and_then(|file| file.take(MAX_TEXT).read_to_end(&mut text)) {
            Ok(read) => {
                self.left.set(self.left.get().saturating_sub(read as u64));
                Some((found.path, text))
            }
            Err(error) => {
                self.say(&found.path, error.to_string());
                None
            }
        }
    }

    /// As [`Reader::text`], without its place.
    pub(super) fn content(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.text(path).map(|(_, text)| text)
    }

    /// Where the file at `path` lies, through links; nothing where it is absent.
    pub(super) fn file(&self, path: &[u8]) -> Option<RootPath> {
        let found = self.resolver.resolve(path).ok()?;
        (found.meta.kind == Kind::File).then_some(found.path)
    }

    /// Opens the file at `path`, through links: where it lies, and its length.
    pub(super) fn open(&self, path: &[u8]) -> Option<(RootPath, File, u64)> {
        let found = self.resolver.resolve(path).ok().filter(|it| it.meta.kind == Kind::File)?;
        match self.rootfs().open_file(&found.path) {
            Ok(file) => Some((found.path, file, found.meta.size)),
            Err(error) => {
                self.say(&found.path, error.to_string());
                None
            }
        }
    }

    /// The names in a directory, sorted; none where it is absent.
    pub(super) fn names(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let Ok(found) = self.resolver.resolve(path) else { return Vec::new() };
        if found.meta.kind != Kind::Directory {
            return Vec::new();
        }
        self.rootfs().read_dir(&found.path).unwrap_or_else(|error| {
            self.say(&found.path, error.to_string());
            Vec::new()
        })
    }

    /// Where a listed path lies: its directory may be behind links, as `/lib`
    /// is on a merged /usr, and may have `..` in it. Whether the file itself is
    /// there is not looked at.
    pub(super) fn place(&mut self, path: &[u8]) -> Option<RootPath> {
        let slash = path.iter().rposition(|&b| b == b'/')?;
        let (dir, name) = (path.get(..slash)?, path.get(slash + 1..)?);
        if name.is_empty() || name == b"." || name == b".." || name.len() > 255 {
            return None;
        }
        if !self.places.contains_key(dir) {
            if self.places.len() >= MAX_PLACES {
                self.say_once(&RootPath::root(), "the databases name too many directories");
                return None;
            }
            let place = self.resolver.resolve(dir).ok().map(|found| found.path);
            self.places.insert(dir.to_vec(), place);
        }
        self.places.get(dir)?.as_ref()?.join(name).ok()
    }

    /// Adds a package and returns its number.
    pub(super) fn add(&mut self, package: Package) -> Option<u32> {
        if self.list.len() >= MAX_PACKAGES {
            self.say_once(&package.declared, "there are too many packages");
            return None;
        }
        self.list.push(package);
        u32::try_from(self.list.len() - 1).ok()
    }

    /// Notes that `package` owns the file at `path`. The first of a kind stays.
    pub(super) fn own(&mut self, package: Option<u32>, path: RootPath) {
        let Some(package) = package else { return };
        let system = self.list.get(package as usize).is_some_and(|p| p.ecosystem.is_system());
        if self.owners.len() >= MAX_PATHS && !self.owners.contains_key(&path) {
            self.say_once(&path, "more than a million files are owned by packages");
            return;
        }
        let owners = self.owners.entry(path).or_default();
        let owner = if system { &mut owners.system } else { &mut owners.language };
        owner.get_or_insert(package);
    }

    pub(super) fn say(&self, path: &RootPath, why: String) {
        self.unread.borrow_mut().push(Unread { path: path.clone(), why });
    }

    fn say_once(&self, path: &RootPath, why: &str) {
        if !self.unread.borrow().iter().any(|unread| unread.why == why) {
            self.say(path, why.to_owned());
        }
    }

    /// Returns the packages in their order.
    pub(super) fn finish(self) -> Packages {
        let mut order: Vec<usize> = (0..self.list.len()).collect();
        let list = &self.list;
        order.sort_by_key(|&at| {
            list.get(at)
                .map(|p| (p.ecosystem, &p.name, &p.version, &p.arch, &p.declared, &p.inside))
        });
        let mut moved = vec![0; order.len()];
        for (to, &from) in order.iter().enumerate() {
            if let Some(place) = moved.get_mut(from) {
                *place = u32::try_from(to).unwrap_or(u32::MAX);
            }
        }
        let shift = |old: Option<u32>| moved.get(old? as usize).copied();
        let mut owners = self.owners;
        for owner in owners.values_mut() {
            *owner = Owners { system: shift(owner.system), language: shift(owner.language) };
        }
        let list: Vec<Package> =
            order.iter().filter_map(|&at| self.list.get(at)).cloned().collect();
        let mut directories = HashMap::new();
        let mut inside: BTreeMap<RootPath, Vec<u32>> = BTreeMap::new();
        for (place, package) in (0..).zip(&list) {
            for dir in &package.directories {
                directories.entry(dir.clone()).or_insert(place);
            }
            if let Some(path) = &package.inside {
                inside.entry(path.clone()).or_default().push(place);
            }
        }
        let mut unread = self.unread.into_inner();
        unread.sort();
        unread.dedup();
        Packages { distro: None, list, unread, owners, directories, inside }
    }
}
