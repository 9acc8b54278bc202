//! From an entry to what the rules say of it.

use std::rc::Rc;

use super::{Given, RULES, Rule, Then, When, nss};
use crate::close::Closing;
use crate::closure::{Reason, Why};
use crate::elf::Elf;
use crate::path::RootPath;
use crate::resolve::Resolved;
use crate::rootfs::Kind;

/// Most bytes of a library that are looked through for a path built into it.
const MAX_LIBRARY: u64 = 64 * 1024 * 1024;

/// Libraries that import what rules are about for others to use, or as part
/// of a rule's own work: those who call them say more.
const MERE_CARRIERS: [&str; 3] = ["libstdc++.so", "libnss_", "libc.so"];

impl Closing<'_> {
    /// Applies every rule to an ELF entry; each rule works once for each ABI.
    pub(crate) fn apply_rules(&mut self, file: &Resolved, elf: &Rc<Elf>) {
        let imports = self.imports(file, elf);
        for rule in RULES {
            let applies = match rule.when {
                When::Imports(names) => names.iter().any(|name| imports.contains(name)),
                When::ProgramImports(name) => elf.interpreter.is_some() && imports.contains(&name),
                When::Named(start) => file.path.file_name().starts_with(start.as_bytes()),
                When::InDirectory(name) => {
                    file.path.parent().is_some_and(|dir| dir.file_name() == name.as_bytes())
                }
            };
            if applies && self.is_given(&rule.given) && self.fired.insert((rule.name, elf.abi)) {
                for then in rule.then {
                    self.follow(rule, then, file, elf);
                }
            }
        }
    }

    fn is_given(&self, given: &Given) -> bool {
        let used = |path: &str| {
            RootPath::new(path.as_bytes()).is_ok_and(|p| self.closure.entries.contains_key(&p))
        };
        match given {
            Given::Anything => true,
            Given::UnobservedOr(path) => !self.options.observed || used(path),
            Given::Unobserved => !self.options.observed,
        }
    }

    /// The functions of all rules that it imports.
    fn imports(&self, file: &Resolved, elf: &Elf) -> Vec<&'static str> {
        if MERE_CARRIERS.iter().any(|name| file.path.file_name().starts_with(name.as_bytes())) {
            return Vec::new();
        }
        let names: Vec<&'static str> = RULES
            .iter()
            .flat_map(|rule| match rule.when {
                When::Imports(names) => names.to_vec(),
                When::ProgramImports(name) => vec![name],
                _ => Vec::new(),
            })
            .collect();
        let Ok(source) = self.resolver.rootfs().open_file(&file.path) else { return Vec::new() };
        let found = elf.imports(&source, &names);
        names.into_iter().zip(found).filter(|(_, found)| *found).map(|(name, _)| name).collect()
    }

    fn follow(&mut self, rule: &Rule, then: &Then, file: &Resolved, elf: &Rc<Elf>) {
        let reason = Reason::Rule { name: rule.name, why: rule.why, because: file.path.clone() };
        match then {
            Then::File(path) => self.want_if_there(path.as_bytes(), &reason),
            Then::Files(directory) => {
                for path in self.files_in(directory.as_bytes()) {
                    self.want(&path, &reason);
                }
            }
            Then::Mount(path) => {
                if let Ok(path) = RootPath::new(path.as_bytes())
                    && !self.closure.entries.contains_key(&path)
                {
                    let why = Why { reason, named: None };
                    self.closure.runtime.entry(path).or_insert(why);
                }
            }
            Then::Library(soname) => {
                if let Some(library) = self.loader.find(file, elf, soname.as_bytes()) {
                    self.want(&library.name, &reason);
                }
            }
            Then::Nss(database) => self.nss(database, file, elf, &reason),
            Then::GconvIndex => {
                for directory in self.loader.system_directories(elf) {
                    let gconv = [&*directory, b"/gconv/gconv-modules"].concat();
                    let cache = [&*gconv, b".cache"].concat();
                    if self.resolver.resolve(&cache).is_ok() {
                        // Where it is there, glibc reads nothing else.
                        self.want(&cache, &reason);
                        continue;
                    }
                    self.want_if_there(&gconv, &reason);
                    for path in self.files_in(&[&*gconv, b".d"].concat()) {
                        self.want(&path, &reason);
                    }
                }
            }
            Then::OpenSslConfig => {
                if let Some(directory) = self.openssl_directory(file) {
                    self.want_if_there(&[&*directory, b"/openssl.cnf"].concat(), &reason);
                }
            }
            Then::Warn(text) => {
                self.warn(rule.name, text.replace("{}", &file.path.to_string()));
            }
        }
    }

    fn nss(&mut self, database: &str, file: &Resolved, elf: &Rc<Elf>, reason: &Reason) {
        self.want_if_there(b"/etc/nsswitch.conf", reason);
        let config = self.read(b"/etc/nsswitch.conf").unwrap_or_default();
        let libc = self.loader.find(file, elf, b"libc.so.6").map(|libc| libc.file);
        // Since glibc 2.34 the services `files` and `dns` are in libc itself.
        let built_in = libc.and_then(|libc| self.read(libc.path.as_bytes())).is_some_and(|libc| {
            let name: &[u8] = b"\0_nss_files_getpwnam_r\0";
            libc.windows(name.len()).any(|window| window == name)
        });
        for service in nss::services(&config, database) {
            let has_file = matches!(database, "passwd" | "group" | "services" | "protocols");
            if has_file && matches!(service, b"files" | b"compat" | b"db") {
                self.want_if_there(format!("/etc/{database}").as_bytes(), reason);
            }
            let soname = [b"libnss_", service, b".so.2"].concat();
            let in_libc = built_in && matches!(service, b"files" | b"dns");
            if !in_libc && let Some(library) = self.loader.find(file, elf, &soname) {
                self.want(&library.name, reason);
            }
        }
    }

    /// The directory that libcrypto was built to find its configuration in.
    fn openssl_directory(&self, file: &Resolved) -> Option<Vec<u8>> {
        let library = self.read(file.path.as_bytes())?;
        let start: &[u8] = b"OPENSSLDIR: \"";
        let at = library.windows(start.len()).position(|window| window == start)? + start.len();
        let directory = library.get(at..)?.split(|&b| b == b'"').next()?;
        (directory.starts_with(b"/") && directory.len() < 4096).then(|| directory.to_vec())
    }

    fn want_if_there(&mut self, path: &[u8], reason: &Reason) {
        if self.resolver.resolve(path).is_ok() {
            self.want(path, reason);
        }
    }

    fn files_in(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let Ok(found) = self.resolver.resolve(directory) else { return Vec::new() };
        let names = self.resolver.rootfs().read_dir(&found.path).unwrap_or_default();
        let paths = names.iter().map(|name| [directory, b"/", name].concat());
        let is_file = |path: &Vec<u8>| {
            self.resolver.resolve(path).is_ok_and(|file| file.meta.kind == Kind::File)
        };
        paths.filter(is_file).collect()
    }

    fn read(&self, path: &[u8]) -> Option<Vec<u8>> {
        let file = self.resolver.resolve(path).ok()?;
        let sound = file.meta.kind == Kind::File && file.meta.size <= MAX_LIBRARY;
        if sound { self.resolver.rootfs().read(&file.path).ok() } else { None }
    }
}
