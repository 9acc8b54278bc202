//! ELF files of a root file system, each read once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::elf::{Elf, ElfError, ReadAt};
use crate::path::RootPath;
use crate::resolve::{Resolved, Resolver};
use crate::rootfs::Kind;
use crate::shebang::{self, Shebang};

/// What a file turned out to be.
#[derive(Clone, Debug)]
pub enum Content {
    /// An ELF file.
    Elf(Rc<Elf>),
    /// A file with a `#!` line.
    Script(Rc<Shebang>),
    /// Any other regular file.
    Other,
    /// A directory, socket, device, …
    NoFile,
    /// It begins as an ELF file and does not go on as one.
    Bad(ElfError),
    /// It cannot be opened; the error's number.
    Unreadable(i32),
}

/// Reads ELF files of one root and remembers them.
#[derive(Debug)]
pub struct Files<'a> {
    resolver: &'a Resolver<'a>,
    seen: RefCell<HashMap<RootPath, Content>>,
}

impl<'a> Files<'a> {
    /// Returns an empty memory.
    pub fn new(resolver: &'a Resolver<'a>) -> Self {
        Files { resolver, seen: RefCell::default() }
    }

    /// The resolver of the same root.
    pub fn resolver(&self) -> &'a Resolver<'a> {
        self.resolver
    }

    /// What `file` is.
    pub fn content(&self, file: &Resolved) -> Content {
        if file.meta.kind != Kind::File {
            return Content::NoFile;
        }
        if let Some(content) = self.seen.borrow().get(&file.path) {
            return content.clone();
        }
        let content = self.read(&file.path);
        self.seen.borrow_mut().insert(file.path.clone(), content.clone());
        content
    }

    fn read(&self, path: &RootPath) -> Content {
        let opened = match self.resolver.rootfs().open_file(path) {
            Ok(opened) => opened,
            Err(e) => return Content::Unreadable(e.raw_os_error().unwrap_or(0)),
        };
        match Elf::read(&opened) {
            Ok(Some(elf)) => Content::Elf(Rc::new(elf)),
            Ok(None) => {
                let mut head = [0; shebang::HEAD];
                let length = ReadAt::read_at(&opened, &mut head, 0).unwrap_or(0);
                let script = shebang::parse(head.get(..length).unwrap_or_default());
                script.map_or(Content::Other, |script| Content::Script(Rc::new(script)))
            }
            Err(ElfError::Read { errno, .. }) => Content::Unreadable(errno),
            Err(e) => Content::Bad(e),
        }
    }
}
