//! The search of glibc's loader, `_dl_map_object` in `dl-load.c`.

use super::{Chain, Hit, Loader, Opened, Search, inside};
use crate::closure::Cause;
use crate::rootfs::Kind;

/// Finds the library `soname`, a name without a slash.
pub(super) fn search(loader: &Loader<'_>, chain: &Chain<'_>, soname: &[u8]) -> Search {
    let mut round =
        Round { loader, chain, soname, variants: Vec::new(), passed: None, tried: Vec::new() };
    match round.all() {
        Some(Ok(hit)) => Search::Found(hit, round.variants),
        Some(Err(cause)) => Search::Failed(cause),
        None if !round.variants.is_empty() => Search::Only(round.variants),
        None => Search::Failed(round.passed.unwrap_or(Cause::NotFound { searched: round.tried })),
    }
}

struct Round<'a> {
    loader: &'a Loader<'a>,
    chain: &'a Chain<'a>,
    soname: &'a [u8],
    /// Copies for some CPUs that were met, with their glibc-hwcaps directory.
    variants: Vec<(Hit, Box<[u8]>)>,
    /// A file of the right name that could not be taken.
    passed: Option<Cause>,
    /// The directories searched, for the message.
    tried: Vec<Box<[u8]>>,
}

type Answer = Option<Result<Hit, Cause>>;

impl Round<'_> {
    fn all(&mut self) -> Answer {
        let chain = self.chain;
        let asking = chain.elf(chain.by)?;
        if asking.runpath.is_none() {
            let mut indices: Vec<usize> = chain.indices().collect();
            if !indices.contains(&0) {
                indices.push(0);
            }
            for index in indices {
                if let Some(list) = chain.elf(index).and_then(|elf| elf.rpath.as_deref()) {
                    let found = self.list(index, list, b":");
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
        if let Some(list) = chain.library_path {
            // Tokens of LD_LIBRARY_PATH are those of the program.
            let found = self.list(0, list, b":;");
            if found.is_some() {
                return found;
            }
        }
        if let Some(list) = asking.runpath.as_deref() {
            let found = self.list(chain.by, list, b":");
            if found.is_some() {
                return found;
            }
        }
        self.cached(asking.no_default_dirs).or_else(|| self.system(asking.no_default_dirs))
    }

    fn list(&mut self, index: usize, list: &[u8], separators: &[u8]) -> Answer {
        let directories = self.chain.directories(index, list, separators);
        directories.iter().find_map(|dir| self.directory(dir))
    }

    fn cached(&mut self, no_default_dirs: bool) -> Answer {
        let config = self.chain.config;
        let libraries = config.cache.get(self.soname).map(Vec::as_slice).unwrap_or_default();
        let mut found = None;
        for library in libraries {
            let is_system = || config.system.iter().any(|dir| in_directory(&library.path, dir));
            if no_default_dirs && is_system() {
                continue;
            }
            match (&library.hwcaps, self.open(&library.path)) {
                (Some(level), Some(Ok(hit))) => self.variant(hit, level),
                (None, answer) if found.is_none() => found = answer,
                _ => {}
            }
        }
        found
    }

    fn system(&mut self, no_default_dirs: bool) -> Answer {
        if no_default_dirs {
            return None;
        }
        let config = self.chain.config;
        config.configured.iter().chain(&config.system).find_map(|dir| self.directory(dir))
    }

    fn directory(&mut self, directory: &[u8]) -> Answer {
        self.tried.push(directory.into());
        let resolver = self.loader.files.resolver();
        let hwcaps = inside(directory, b"glibc-hwcaps");
        if let Ok(found) = resolver.resolve(&hwcaps)
            && found.meta.kind == Kind::Directory
        {
            for level in resolver.rootfs().read_dir(&found.path).unwrap_or_default() {
                let name = inside(&inside(&hwcaps, &level), self.soname);
                if let Some(Ok(hit)) = self.open(&name) {
                    self.variant(hit, &level);
                }
            }
        }
        self.open(&inside(directory, self.soname))
    }

    fn variant(&mut self, hit: Hit, level: &[u8]) {
        if !self.variants.iter().any(|(known, _)| known.file.path == hit.file.path) {
            self.variants.push((hit, level.into()));
        }
    }

    fn open(&mut self, name: &[u8]) -> Answer {
        match self.loader.open(name, self.chain.program()?) {
            Opened::Fits(hit) => Some(Ok(hit)),
            Opened::Fatal(cause) => Some(Err(cause)),
            Opened::Passed(cause) => {
                let tells = |c: &Cause| {
                    matches!(
                        c,
                        Cause::OtherAbi { .. } | Cause::Unreadable { .. } | Cause::Dangling { .. }
                    )
                };
                self.passed = self.passed.take().or_else(|| cause.filter(tells));
                None
            }
        }
    }
}

fn in_directory(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}
