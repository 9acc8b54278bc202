//! From a list of paths to all that they need, each with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::elf::ElfError;
use crate::path::RootPath;
use crate::resolve::{End, Unresolved};

/// A list of files that is closed: every link, library and interpreter that an
/// entry needs is an entry too, or is in `missing`, or the runtime gives it.
///
/// The directories above an entry are no entries, unless they were wanted
/// themselves.
#[derive(Debug, Default)]
pub struct Closure {
    /// Every file, link and wanted directory, by its place: no directory of
    /// these paths is a link. Each has its nearest reason.
    pub entries: BTreeMap<RootPath, Why>,
    /// What an entry needs and the root file system does not have.
    pub missing: Vec<Missing>,
    /// What was wanted below /dev, /proc and /sys, where the runtime mounts.
    pub runtime: BTreeMap<RootPath, Why>,
    /// What may be incomplete or depend on this machine.
    pub warnings: Vec<Warning>,
}

/// Why an entry is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// Why `named` was wanted.
    pub reason: Reason,
    /// The path that was wanted, where links lead from it to (or through) the
    /// entry; nothing where the entry itself was wanted. May have `..` in it.
    pub named: Option<Box<[u8]>>,
}

/// Why a path was wanted, with the entry that wants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// A spec has this line.
    Spec,
    /// The ELF interpreter (PT_INTERP) of an executable.
    Interpreter {
        /// The executable.
        of: RootPath,
    },
    /// A library that an ELF file asks the loader for (DT_NEEDED).
    Needed {
        /// The name that it is asked for by.
        soname: Box<[u8]>,
        /// The ELF file that asks.
        by: RootPath,
    },
    /// A library that an ELF file says it may load while running (`.note.dlopen`).
    Dlopen {
        /// The name that it is loaded by.
        soname: Box<[u8]>,
        /// The ELF file that says so.
        by: RootPath,
    },
    /// The copy for every CPU of a library in a `glibc-hwcaps` directory.
    Baseline {
        /// The copy for some CPUs.
        of: RootPath,
    },
    /// The interpreter in the `#!` line of a script.
    Shebang {
        /// The script.
        of: RootPath,
    },
    /// The program that `/usr/bin/env` in the `#!` line of a script starts.
    Env {
        /// The script.
        of: RootPath,
    },
    /// A file that the dynamic loader itself reads.
    LoaderConfig {
        /// An executable that it loads.
        of: RootPath,
    },
    /// A rule for what no file says of itself.
    Rule {
        /// The rule's name.
        name: &'static str,
        /// The entry that the rule applies to.
        because: RootPath,
    },
}

/// Something that is wanted and that the root file system does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The path or the library's name, as it was wanted.
    pub name: Box<[u8]>,
    /// Why it was wanted.
    pub reason: Reason,
    /// Why it was not found.
    pub cause: Cause,
}

/// Why something was not found, or could not be closed over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The path names no file.
    Path(End),
    /// It is a link, and its target names no file.
    Dangling {
        /// The last link on the way.
        link: RootPath,
        /// Why the target names none.
        end: End,
    },
    /// No directory that the loader searches has such a library.
    NotFound {
        /// The directories, in the order of the search.
        searched: Vec<Box<[u8]>>,
    },
    /// A library of this name is there, but for another processor.
    OtherAbi {
        /// The library.
        path: RootPath,
    },
    /// What should be a program or library is no ELF file.
    NotElf {
        /// The file.
        path: RootPath,
    },
    /// It begins as an ELF file and does not go on as one.
    BadElf {
        /// The file.
        path: RootPath,
        /// What is wrong with it.
        error: ElfError,
    },
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: RootPath,
        /// The error's number, errno(3).
        errno: i32,
    },
}

impl Cause {
    /// The cause where a path led nowhere.
    pub(crate) fn of(found: Unresolved) -> Self {
        match found.links.last() {
            Some(link) => Cause::Dangling { link: link.clone(), end: found.end },
            None => Cause::Path(found.end),
        }
    }
}

/// Something that the user should know about a closure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// A stable name for scripts, such as `locale`.
    pub kind: &'static str,
    /// One sentence for the operator, with the way out where there is one.
    pub message: String,
}

/// What the closing depends on beside the root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Value of LD_LIBRARY_PATH in the container.
    pub library_path: Option<Vec<u8>>,
    /// Value of PATH in the container, for `#!/usr/bin/env`; where there is
    /// none, the usual directories of programs.
    pub path: Option<Vec<u8>>,
    /// Links that the run only looked at without following them: such a link
    /// may dangle as it did then.
    pub looked_at: BTreeSet<RootPath>,
    /// Files that the run only read: their `#!` lines started nothing.
    pub not_executed: BTreeSet<RootPath>,
}

impl Why {
    pub(crate) fn of(name: &[u8], entry: &RootPath, reason: &Reason) -> Self {
        let named = (name != entry.as_bytes()).then(|| name.into());
        Why { reason: reason.clone(), named }
    }
}

impl Reason {
    /// The entry that wants it; nothing for a line of the spec.
    pub fn from(&self) -> Option<&RootPath> {
        match self {
            Reason::Spec => None,
            Reason::Interpreter { of }
            | Reason::Baseline { of }
            | Reason::Shebang { of }
            | Reason::Env { of }
            | Reason::LoaderConfig { of } => Some(of),
            Reason::Needed { by, .. } | Reason::Dlopen { by, .. } => Some(by),
            Reason::Rule { because, .. } => Some(because),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Spec => f.write_str("a line of the spec"),
            Reason::Interpreter { of } => write!(f, "the ELF interpreter of {of}"),
            Reason::Needed { soname, by } => {
                write!(f, "the library {} needed by {by}", soname.escape_ascii())
            }
            Reason::Dlopen { soname, by } => {
                write!(f, "the library {} that {by} says it may load", soname.escape_ascii())
            }
            Reason::Baseline { of } => write!(f, "the copy of {of} for every CPU"),
            Reason::Shebang { of } => write!(f, "the `#!` interpreter of {of}"),
            Reason::Env { of } => write!(f, "the program that env starts for {of}"),
            Reason::LoaderConfig { of } => write!(f, "read by the loader of {of}"),
            Reason::Rule { name, because } => write!(f, "rule {name}, because of {because}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Path(end) => end.fmt(f),
            Cause::Dangling { link, end } => write!(f, "the link {link} leads nowhere: {end}"),
            Cause::NotFound { searched } if searched.is_empty() => {
                f.write_str("the loader looks for it nowhere")
            }
            Cause::NotFound { searched } => {
                let names: Vec<_> = searched.iter().map(|d| d.escape_ascii().to_string()).collect();
                write!(f, "it is in none of {}", names.join(", "))
            }
            Cause::OtherAbi { path } => write!(f, "{path} is for another processor"),
            Cause::NotElf { path } => write!(f, "{path} is not an ELF file"),
            Cause::BadElf { path, error } => write!(f, "{path} is a broken ELF file: {error}"),
            Cause::Unreadable { path, errno } => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "cannot read {path}: {error}")
            }
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name.escape_ascii(), self.reason, self.cause)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
