//! The closing itself: a list of files to look into, until none is left.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::rc::Rc;

use crate::closure::{Cause, Closure, Missing, Options, Reason, Warning, Why};
use crate::elf::Elf;
use crate::loader::{Content, Loaded, Loader};
use crate::path::RootPath;
use crate::resolve::{End, Resolved, Resolver};
use crate::rootfs::{Kind, Rootfs};
use crate::shebang::Shebang;

/// Where programs are looked for when nothing else is said.
const USUAL_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Closes `wanted` over links, interpreters, libraries and rules.
///
/// What cannot be found or read is in the result's `missing`, never an error.
pub fn close(
    rootfs: &Rootfs,
    wanted: impl IntoIterator<Item = RootPath>,
    options: &Options,
) -> Closure {
    let resolver = Resolver::new(rootfs);
    let mut closing = Closing {
        resolver: &resolver,
        loader: Loader::new(&resolver, options.library_path.clone()),
        options,
        closure: Closure::default(),
        pending: VecDeque::new(),
        libraries: VecDeque::new(),
        loaded: HashSet::new(),
        unfound: BTreeMap::new(),
        left_out: BTreeMap::new(),
    };
    for path in wanted {
        closing.want(path.as_bytes(), &Reason::Spec);
    }
    closing.run();
    closing.finish()
}

pub(crate) struct Closing<'a> {
    pub(crate) resolver: &'a Resolver<'a>,
    pub(crate) loader: Loader<'a>,
    options: &'a Options,
    pub(crate) closure: Closure,
    /// Entries that have not been looked into.
    pending: VecDeque<Resolved>,
    /// Libraries that no program was seen to load, yet.
    libraries: VecDeque<(Resolved, Rc<Elf>)>,
    /// Libraries that some program loads, with what they need.
    loaded: HashSet<RootPath>,
    /// Needed and not found, by soname and who needs it.
    unfound: BTreeMap<(Box<[u8]>, RootPath), Cause>,
    /// Copies of libraries for some CPUs, by glibc-hwcaps directory.
    left_out: BTreeMap<Box<[u8]>, BTreeSet<RootPath>>,
}

impl Closing<'_> {
    fn run(&mut self) {
        loop {
            // Programs first: a library is best explained by who loads it.
            while let Some(file) = self.pending.pop_front() {
                self.look_into(&file);
            }
            let Some((file, elf)) = self.libraries.pop_front() else { return };
            if !self.loaded.contains(&file.path) {
                let loaded = self.loader.load(&file, &elf);
                self.take(&loaded);
            }
        }
    }

    fn look_into(&mut self, file: &Resolved) {
        match self.loader.files().content(file) {
            Content::Elf(elf) => self.elf(file, elf),
            Content::Script(script) => self.script(file, &script),
            Content::Other | Content::NoFile => {}
            Content::Bad(error) => {
                self.bad(file, Cause::BadElf { path: file.path.clone(), error });
            }
            Content::Unreadable(errno) => {
                self.bad(file, Cause::Unreadable { path: file.path.clone(), errno });
            }
        }
    }

    fn elf(&mut self, file: &Resolved, elf: Rc<Elf>) {
        if let Some(sibling) = baseline_of(&file.path)
            && self.resolver.resolve(sibling.as_bytes()).is_ok()
        {
            self.want(sibling.as_bytes(), &Reason::Baseline { of: file.path.clone() });
        }
        self.dlopen_notes(file, &elf);
        if let Some(interpreter) = &elf.interpreter {
            self.want(interpreter, &Reason::Interpreter { of: file.path.clone() });
            let loaded = self.loader.load(file, &elf);
            self.take(&loaded);
        } else if elf.dynamic {
            self.libraries.push_back((file.clone(), elf));
        }
    }

    fn dlopen_notes(&mut self, file: &Resolved, elf: &Rc<Elf>) {
        if elf.bad_dlopen {
            let message = format!(
                "{} says which libraries it loads while running, in a form that cannot be read: \
                 name them in the spec",
                file.path
            );
            self.warn("dlopen", message);
        }
        for note in &elf.dlopen {
            let priority = note.priority.as_deref().unwrap_or("recommended");
            let found = note
                .soname
                .iter()
                .find_map(|soname| Some((soname, self.loader.find(file, elf, soname.as_bytes())?)));
            let Some(first) = note.soname.first() else { continue };
            match found {
                Some((soname, library)) if priority != "suggested" => {
                    let soname = soname.as_bytes().into();
                    let reason = Reason::Dlopen { soname, by: file.path.clone() };
                    self.want(&library.name, &reason);
                }
                Some((_, library)) if !self.closure.entries.contains_key(&library.file.path) => {
                    let feature = note.feature.as_deref().unwrap_or("something optional");
                    let message = format!(
                        "{} may load {soname} for {feature}, which is left out: add {path} to the \
                         spec if it is wanted",
                        file.path,
                        soname = first.escape_debug(),
                        path = library.file.path,
                    );
                    self.warn("dlopen", message);
                }
                None if priority == "required" => {
                    let soname: Box<[u8]> = first.as_bytes().into();
                    let reason = Reason::Dlopen { soname: soname.clone(), by: file.path.clone() };
                    let cause = Cause::NotFound { searched: Vec::new() };
                    self.closure.missing.push(Missing { name: soname, reason, cause });
                }
                _ => {}
            }
        }
    }

    /// Takes in all that a program or library gets loaded.
    fn take(&mut self, loaded: &Loaded) {
        let Some(program) = loaded.objects.first().map(|object| object.file.path.clone()) else {
            return;
        };
        let path_of = |index: usize| loaded.objects.get(index).map(|o| o.file.path.clone());
        for object in &loaded.objects {
            self.loaded.insert(object.file.path.clone());
            if let Some(by) = object.by.and_then(path_of) {
                let reason = Reason::Needed { soname: object.asked.clone(), by };
                self.want(&object.name, &reason);
            }
        }
        for unfound in &loaded.unfound {
            if let Some(by) = path_of(unfound.by) {
                let key = (unfound.soname.clone(), by);
                self.unfound.entry(key).or_insert_with(|| unfound.cause.clone());
            }
        }
        for variant in &loaded.variants {
            if let Ok(copy) = self.resolver.resolve(&variant.name) {
                if path_of(variant.of).is_some_and(|path| path == copy.path) {
                    let message = format!(
                        "{} runs only on CPUs of level {}, and there is no copy for others",
                        copy.path,
                        variant.level.escape_ascii()
                    );
                    self.warn("cpu", message);
                } else {
                    self.left_out.entry(variant.level.clone()).or_default().insert(copy.path);
                }
            }
        }
        let reason = Reason::LoaderConfig { of: program };
        for name in loaded.config.iter().chain(&loaded.preloads) {
            self.want(name, &reason);
        }
    }

    fn script(&mut self, file: &Resolved, script: &Shebang) {
        let executable = file.meta.mode & 0o111 != 0;
        if !executable || self.options.not_executed.contains(&file.path) {
            return;
        }
        if script.interpreter.first() != Some(&b'/') {
            let message = format!(
                "the `#!` line of {} names {}, which is looked for in the working directory: name \
                 it in the spec",
                file.path,
                script.interpreter.escape_ascii()
            );
            return self.warn("shebang", message);
        }
        self.want(&script.interpreter, &Reason::Shebang { of: file.path.clone() });
        if let Some(program) = script.env_program() {
            let reason = Reason::Env { of: file.path.clone() };
            match self.find_program(&program) {
                Ok(path) => self.want(&path, &reason),
                Err(cause) => {
                    self.closure.missing.push(Missing { name: program, reason, cause });
                }
            }
        }
    }

    /// Where execvp(3) finds `program`.
    fn find_program(&self, program: &[u8]) -> Result<Vec<u8>, Cause> {
        if program.contains(&b'/') {
            return Ok(program.to_vec());
        }
        let list = self.options.path.as_deref().unwrap_or(USUAL_PATH);
        let directories = || list.split(|&b| b == b':').filter(|dir| !dir.is_empty());
        directories()
            .map(|dir| [dir, b"/", program].concat())
            .find(|path| {
                let found = self.resolver.resolve(path);
                found.is_ok_and(|f| f.meta.kind == Kind::File && f.meta.mode & 0o111 != 0)
            })
            .ok_or_else(|| Cause::NotFound { searched: directories().map(Box::from).collect() })
    }

    /// Takes in what `name` names and the links on the way.
    pub(crate) fn want(&mut self, name: &[u8], reason: &Reason) {
        match self.resolver.resolve(name) {
            Ok(found) => {
                for link in &found.links {
                    self.enter(name, link.clone(), reason);
                }
                if self.enter(name, found.path.clone(), reason) && found.meta.kind == Kind::File {
                    self.pending.push_back(found);
                }
            }
            Err(found) => {
                for link in &found.links {
                    self.enter(name, link.clone(), reason);
                }
                if let End::Runtime(path) = found.end {
                    let why = Why::of(name, &path, reason);
                    self.closure.runtime.entry(path).or_insert(why);
                    return;
                }
                let dangled = *reason == Reason::Spec
                    && found.links.last().is_some_and(|l| self.options.looked_at.contains(l));
                if !dangled {
                    let cause = Cause::of(found);
                    let (name, reason) = (name.into(), reason.clone());
                    self.closure.missing.push(Missing { name, reason, cause });
                }
            }
        }
    }

    /// Whether the entry is new.
    fn enter(&mut self, name: &[u8], path: RootPath, reason: &Reason) -> bool {
        use std::collections::btree_map::Entry;
        match self.closure.entries.entry(path) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                let why = Why::of(name, entry.key(), reason);
                entry.insert(why);
                true
            }
        }
    }

    fn bad(&mut self, file: &Resolved, cause: Cause) {
        let why = self.closure.entries.get(&file.path);
        let reason = why.map_or(Reason::Spec, |why| why.reason.clone());
        let name = file.path.as_bytes().into();
        self.closure.missing.push(Missing { name, reason, cause });
    }

    pub(crate) fn warn(&mut self, kind: &'static str, message: String) {
        self.closure.warnings.push(Warning { kind, message });
    }

    fn finish(mut self) -> Closure {
        for ((soname, by), cause) in std::mem::take(&mut self.unfound) {
            match self.entry_with_soname(&soname, &by) {
                Some(other) => {
                    let message = format!(
                        "{by} needs {}, which its own search does not find: it works only in a \
                         program that has loaded {other} before",
                        soname.escape_ascii()
                    );
                    self.warn("loaded-before", message);
                }
                None => {
                    let reason = Reason::Needed { soname: soname.clone(), by };
                    self.closure.missing.push(Missing { name: soname, reason, cause });
                }
            }
        }
        for (level, copies) in std::mem::take(&mut self.left_out) {
            let entries = &self.closure.entries;
            let out: Vec<String> = copies
                .iter()
                .filter(|c| !entries.contains_key(c))
                .map(ToString::to_string)
                .collect();
            if let Some((first, rest)) = out.split_first() {
                let more = if rest.is_empty() {
                    String::new()
                } else {
                    format!(" and {} more", rest.len())
                };
                let level = level.escape_ascii();
                let message = format!(
                    "copies for {level} CPUs are left out ({first}{more}): the copies for every \
                     CPU are in; name the others in the spec to have them too"
                );
                self.warn("cpu", message);
            }
        }
        self.closure.missing.sort_by(|a, b| (&a.name, &a.reason).cmp(&(&b.name, &b.reason)));
        self.closure.missing.dedup();
        self.closure.warnings.sort();
        self.closure.warnings.dedup();
        self.closure
    }

    /// An entry that a program may have loaded under this name before `by`.
    fn entry_with_soname(&self, soname: &[u8], by: &RootPath) -> Option<RootPath> {
        let elf = |path: &RootPath| {
            let file = self.resolver.resolve(path.as_bytes()).ok()?;
            match self.loader.files().content(&file) {
                Content::Elf(elf) => Some(elf),
                _ => None,
            }
        };
        let abi = elf(by)?.abi;
        let fits = |path: &&RootPath| {
            elf(path).is_some_and(|e| {
                let name = e.soname.as_deref().unwrap_or_else(|| path.file_name());
                e.abi == abi && name == soname
            })
        };
        self.closure.entries.keys().find(fits).cloned()
    }
}

/// The copy for every CPU of a library in a glibc-hwcaps directory.
fn baseline_of(path: &RootPath) -> Option<RootPath> {
    let hwcaps = path.parent()?.parent()?;
    (hwcaps.file_name() == b"glibc-hwcaps").then_some(())?;
    hwcaps.parent()?.join(path.file_name()).ok()
}
