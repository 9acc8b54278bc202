//! Which libraries a program gets, as its dynamic loader would find them in
//! the root file system, without ever running anything.
//!
//! glibc's loader is followed by ld.so(8) and `dl-load.c`, musl's by
//! `dynlink.c`. Where glibc-hwcaps has copies for some CPUs, the copy for every
//! CPU is the answer and the others are told beside it.

use std::collections::HashMap;
use std::rc::Rc;

mod config;
mod files;
mod glibc;
mod musl;
mod tokens;

use crate::closure::Cause;
use crate::elf::Elf;
use crate::resolve::{Resolved, Resolver};
use config::{Config, Family};
pub use files::{Content, Files};

/// The loaders of one root file system.
#[derive(Debug)]
pub struct Loader<'a> {
    files: Files<'a>,
    library_path: Option<Vec<u8>>,
    configs: config::Configs,
}

/// A program or library with all that is loaded for it, in loading order.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The file itself, then what is loaded for it.
    pub objects: Vec<Object>,
    /// What it needs and the loader does not find.
    pub unfound: Vec<Unfound>,
    /// Copies for some CPUs of libraries that are loaded.
    pub variants: Vec<Variant>,
    /// Files that the loader itself reads, where they are there.
    pub config: Vec<Box<[u8]>>,
    /// Libraries that the loader puts into every program (/etc/ld.so.preload).
    pub preloads: Vec<Box<[u8]>>,
    known: HashMap<Box<[u8]>, usize>,
}

/// A loaded file.
#[derive(Clone, Debug)]
pub struct Object {
    /// The name that it was asked for by: a soname or a path.
    pub asked: Box<[u8]>,
    /// The path that the loader opens; links may be on its way.
    pub name: Box<[u8]>,
    /// The file that it is.
    pub file: Resolved,
    /// What it says of itself.
    pub elf: Rc<Elf>,
    /// Index of the object that asked first; the program itself and its
    /// interpreter have none.
    pub by: Option<usize>,
}

/// A library that is needed and not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfound {
    /// The name that it is asked for by.
    pub soname: Box<[u8]>,
    /// Index of the object that asks.
    pub by: usize,
    /// Why it is not found.
    pub cause: Cause,
}

/// A copy of a library for some CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Path that the loader would open on such a CPU.
    pub name: Box<[u8]>,
    /// The glibc-hwcaps directory, such as `x86-64-v3`.
    pub level: Box<[u8]>,
    /// Index of the loaded library; this very one where no copy for every CPU
    /// is there.
    pub of: usize,
}

/// What a search for a name came to.
enum Search {
    Found(Hit, Vec<(Hit, Box<[u8]>)>),
    /// Only copies for some CPUs, the least demanding first.
    Only(Vec<(Hit, Box<[u8]>)>),
    /// The interpreter itself has this name.
    Interpreter,
    Failed(Cause),
}

/// An ELF file that fits.
#[derive(Clone)]
struct Hit {
    name: Box<[u8]>,
    file: Resolved,
    elf: Rc<Elf>,
}

/// What became of opening one candidate.
enum Opened {
    Fits(Hit),
    /// The loader goes on to the next directory.
    Passed(Option<Cause>),
    /// The loader gives up.
    Fatal(Cause),
}

impl<'a> Loader<'a> {
    /// Returns the loaders of `resolver`'s root, with this LD_LIBRARY_PATH.
    pub fn new(resolver: &'a Resolver<'a>, library_path: Option<Vec<u8>>) -> Self {
        let configs = config::Configs::default();
        Loader { files: Files::new(resolver), library_path, configs }
    }

    /// The files that it has read.
    pub fn files(&self) -> &Files<'a> {
        &self.files
    }

    /// Finds the library `soname` alone, as `file` would get it by dlopen(3).
    pub fn find(&self, file: &Resolved, elf: &Rc<Elf>, soname: &[u8]) -> Option<Object> {
        let mut loaded = Loaded::default();
        let name: Box<[u8]> = file.path.as_bytes().into();
        let (asked, elf) = (name.clone(), elf.clone());
        let config = self.configs.of(&self.files, &elf);
        loaded.add(Object { asked, name, file: file.clone(), elf, by: None });
        self.need(&mut loaded, &config, 0, soname, false, false);
        loaded.objects.into_iter().nth(1)
    }

    /// Finds all that is loaded for `file`: for a program by its interpreter,
    /// for a library as if it were opened by a program that has nothing else.
    pub fn load(&self, file: &Resolved, elf: &Rc<Elf>) -> Loaded {
        let mut loaded = Loaded::default();
        let name: Box<[u8]> = file.path.as_bytes().into();
        loaded.add(Object {
            asked: name.clone(),
            name,
            file: file.clone(),
            elf: elf.clone(),
            by: None,
        });
        let config = self.configs.of(&self.files, elf);
        if let Some(interpreter) = &elf.interpreter
            && let Opened::Fits(hit) = self.open(interpreter, elf)
        {
            let asked = interpreter.clone();
            loaded.add(Object { asked, name: hit.name, file: hit.file, elf: hit.elf, by: None });
        }
        loaded.config = config.files.clone();
        loaded.preloads = config.preloads.clone();
        let secure = file.meta.mode & 0o6000 != 0;
        let mut next = 0;
        while let Some(object) = loaded.objects.get(next) {
            let elf = object.elf.clone();
            for soname in &elf.needed {
                self.need(&mut loaded, &config, next, soname, secure, true);
            }
            for (soname, optional) in &elf.filters {
                self.need(&mut loaded, &config, next, soname, secure, !optional);
            }
            next += 1;
        }
        loaded
    }

    fn need(
        &self,
        loaded: &mut Loaded,
        config: &Config,
        by: usize,
        soname: &[u8],
        secure: bool,
        required: bool,
    ) {
        let library_path = self.library_path.as_deref().filter(|_| !secure);
        let chain = Chain { loaded, by, config, library_path };
        let wanted = match config.family {
            Family::Glibc => chain.expand(by, soname),
            Family::Musl => soname.to_vec(),
        };
        if loaded.known.contains_key(&*wanted) {
            return;
        }
        let search = if wanted.contains(&b'/') {
            match chain.program().map(|program| self.open(&wanted, program)) {
                Some(Opened::Fits(hit)) => Search::Found(hit, Vec::new()),
                Some(Opened::Passed(Some(cause)) | Opened::Fatal(cause)) => Search::Failed(cause),
                _ => Search::Failed(Cause::NotFound { searched: Vec::new() }),
            }
        } else {
            match config.family {
                Family::Glibc => glibc::search(self, &chain, &wanted),
                Family::Musl => musl::search(self, &chain, &wanted),
            }
        };
        match search {
            Search::Found(hit, variants) => loaded.found(soname, &wanted, by, hit, variants),
            Search::Only(mut variants) => {
                let hit = variants.remove(0);
                let all = std::iter::once(hit.clone()).chain(variants).collect();
                loaded.found(soname, &wanted, by, hit.0, all);
            }
            Search::Interpreter => {}
            Search::Failed(_) if !required => {}
            Search::Failed(cause) => {
                loaded.unfound.push(Unfound { soname: soname.into(), by, cause });
            }
        }
    }

    /// Opens `name` as the loader of `program` does.
    fn open(&self, name: &[u8], program: &Elf) -> Opened {
        let file = match self.files.resolver().resolve(name) {
            Ok(file) => file,
            Err(found) => return Opened::Passed(Some(Cause::of(found))),
        };
        let path = file.path.clone();
        match self.files.content(&file) {
            Content::Elf(elf) if elf.abi == program.abi => {
                Opened::Fits(Hit { name: name.into(), file, elf })
            }
            Content::Elf(_) => Opened::Passed(Some(Cause::OtherAbi { path })),
            Content::Script(_) | Content::Other | Content::NoFile => {
                Opened::Fatal(Cause::NotElf { path })
            }
            Content::Bad(error) => Opened::Fatal(Cause::BadElf { path, error }),
            Content::Unreadable(errno) => Opened::Passed(Some(Cause::Unreadable { path, errno })),
        }
    }
}

impl Loaded {
    fn add(&mut self, object: Object) -> usize {
        let index = self.objects.len();
        let names = [Some(&object.asked), Some(&object.name), object.elf.soname.as_ref()];
        for name in names.into_iter().flatten() {
            self.known.entry(name.clone()).or_insert(index);
        }
        self.objects.push(object);
        index
    }

    fn found(
        &mut self,
        asked: &[u8],
        wanted: &[u8],
        by: usize,
        hit: Hit,
        variants: Vec<(Hit, Box<[u8]>)>,
    ) {
        let same = self.objects.iter().position(|o| o.file.meta.inode == hit.file.meta.inode);
        let index = same.unwrap_or_else(|| {
            let (asked, by) = (asked.into(), Some(by));
            self.add(Object { asked, name: hit.name, file: hit.file, elf: hit.elf, by })
        });
        self.known.entry(wanted.into()).or_insert(index);
        for (copy, level) in variants {
            self.variants.push(Variant { name: copy.name, level, of: index });
        }
    }
}

/// The object that asks for a library, and those that it was loaded by.
struct Chain<'a> {
    loaded: &'a Loaded,
    by: usize,
    config: &'a Config,
    library_path: Option<&'a [u8]>,
}

impl<'a> Chain<'a> {
    /// The asking object's index, then that of the one that loaded it, and so on.
    fn indices(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(self.by), |&index| self.loaded.objects.get(index)?.by)
    }

    fn elf(&self, index: usize) -> Option<&'a Elf> {
        self.loaded.objects.get(index).map(|object| &*object.elf)
    }

    /// The program or library that everything is loaded for.
    fn program(&self) -> Option<&'a Elf> {
        self.elf(0)
    }

    /// `text` of object `index` with its tokens replaced.
    fn expand(&self, index: usize, text: &[u8]) -> Vec<u8> {
        if !text.contains(&b'$') {
            return text.to_vec();
        }
        let object = self.loaded.objects.get(index);
        let origin = object.map(|o| &*o.name).and_then(|name| {
            let slash = name.iter().rposition(|&b| b == b'/')?;
            name.get(..slash.max(1))
        });
        let machine = self.program().map_or(0, |elf| elf.abi.machine);
        tokens::expand(
            text,
            tokens::Tokens {
                origin: origin.unwrap_or(b"/"),
                lib: &self.config.lib,
                platform: config::platform(machine),
            },
        )
    }

    /// The directories of a path list of object `index`; an empty one is the
    /// working directory, which is taken for the root.
    fn directories(&self, index: usize, list: &[u8], separators: &[u8]) -> Vec<Vec<u8>> {
        list.split(|b| separators.contains(b)).map(|dir| self.expand(index, dir)).collect()
    }
}

/// `name` in `directory`.
fn inside(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory, b"/", name].concat()
}
