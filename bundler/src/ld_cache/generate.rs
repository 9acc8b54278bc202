//! A fresh cache for the files of a closure.

use super::{Library, flags, parse, write};
use crate::closure::Closure;
use crate::ld_conf;
use crate::loader::{Content, Files};
use crate::path::RootPath;
use crate::resolve::Resolver;
use crate::rootfs::Rootfs;

/// Where the loader reads the cache.
pub const PATH: &str = "/etc/ld.so.cache";

/// Returns the content of [`PATH`] for a root that holds only the closure's
/// entries: what the present cache says of them, and where there is none, what
/// ldconfig(8) would find. Nothing where no entry needs it.
///
/// The loader then finds each library where it found it before, also one in a
/// directory that only ld.so.conf names.
pub fn for_closure(rootfs: &Rootfs, closure: &Closure) -> Option<Vec<u8>> {
    let resolver = Resolver::new(rootfs);
    let path = RootPath::new(PATH.as_bytes()).ok()?;
    let cache = resolver.resolve(PATH.as_bytes()).ok();
    let cache = cache.and_then(|file| parse(&rootfs.read(&file.path).ok()?).ok());
    let libraries = match cache {
        Some(libraries) => kept(&resolver, closure, libraries),
        None => scanned(&resolver, closure),
    };
    (!libraries.is_empty() || closure.entries.contains_key(&path)).then(|| write(&libraries))
}

/// The libraries that the closure has, each by a path that leads to it there.
fn kept(resolver: &Resolver<'_>, closure: &Closure, libraries: Vec<Library>) -> Vec<Library> {
    let leads = |path: &[u8]| {
        resolver.resolve(path).is_ok_and(|file| {
            let mut all = file.links.iter().chain([&file.path]);
            all.all(|path| closure.entries.contains_key(path))
        })
    };
    let moved = |mut library: Library| {
        if leads(&library.path) {
            return Some(library);
        }
        // The link to its directory (/lib of a merged /usr) may not be there.
        let slash = library.path.iter().rposition(|&b| b == b'/')?;
        let (directory, name) = library.path.split_at_checked(slash)?;
        let directory = resolver.resolve(directory).ok()?.path;
        library.path = directory.join(name.get(1..)?).ok()?.as_bytes().into();
        leads(&library.path).then_some(library)
    };
    libraries.into_iter().filter_map(moved).collect()
}

/// The libraries that lie in directories of ld.so.conf under their own names.
fn scanned(resolver: &Resolver<'_>, closure: &Closure) -> Vec<Library> {
    let directories: Vec<RootPath> = ld_conf::directories(resolver)
        .iter()
        .filter_map(|dir| Some(resolver.resolve(dir).ok()?.path))
        .collect();
    let files = Files::new(resolver);
    let library = |path: &RootPath| {
        let file = resolver.resolve(path.as_bytes()).ok()?;
        let Content::Elf(elf) = files.content(&file) else { return None };
        let name = path.file_name();
        (elf.dynamic && elf.interpreter.is_none()).then_some(())?;
        (elf.soname.as_deref().is_none_or(|soname| soname == name)).then_some(())?;
        Some(Library {
            soname: name.into(),
            path: path.as_bytes().into(),
            flags: flags(elf.abi, elf.flags)?,
            hwcaps: None,
        })
    };
    let inside = |path: &&RootPath| path.parent().is_some_and(|dir| directories.contains(&dir));
    closure.entries.keys().filter(inside).filter_map(library).collect()
}
