//! `spec.json`: what a run showed beside the bare list of paths.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version of the format that this program writes; it reads no other.
pub const VERSION: u32 = 1;

/// The content of `spec.json`. Lists are sorted, so equal runs write equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Version of the format: [`VERSION`].
    pub version: u32,
    /// Every traced command, in the order of the runs (`--append` adds one).
    pub runs: Vec<Run>,
    /// Every path of the spec, sorted by path.
    pub files: Vec<FileUse>,
    /// Files, directories and sockets that the runs made; never in the spec.
    pub created: BTreeSet<BytePath>,
    /// Files of the spec whose content or name the runs changed.
    pub changed: BTreeSet<BytePath>,
    /// Files of the spec that the runs deleted or moved away.
    pub deleted: BTreeSet<BytePath>,
    /// Directories whose entries were listed (getdents64).
    pub listed: BTreeSet<BytePath>,
    /// Ports that the runs listened on or bound.
    pub ports: BTreeSet<Port>,
    /// Unix sockets that the runs bound or connected to.
    pub sockets: BTreeSet<BytePath>,
    /// Paths that `--exclude` (or a missing `--include`) left out.
    pub excluded: BTreeSet<BytePath>,
    /// What could not be seen, kept or mapped.
    pub unseen: BTreeSet<Unseen>,
    /// Paths on pseudo file systems that were used, by mount point.
    pub pseudo: BTreeSet<BytePath>,
    /// Device nodes below /dev that were used.
    pub devices: BTreeSet<BytePath>,
    /// With `--outcomes`: paths that were asked for and never found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Absent>,
    /// Every system call of the runs, sorted by name, where all were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<Syscall>,
    /// The machine of the first run.
    pub host: Host,
}

/// One traced command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The command and its arguments.
    pub args: Vec<BytePath>,
    /// Working directory.
    pub cwd: BytePath,
    /// Variables whose values are no secrets: PATH, LANG, LC_*, TZ, HOME, and
    /// those of `--env`, and those that hold only paths, one of which was used.
    pub env: BTreeMap<String, String>,
    /// Names of all other variables.
    pub env_names: BTreeSet<String>,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: BTreeSet<u32>,
    /// How it ended.
    pub end: End,
    /// Whether errors were recorded (`--outcomes`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outcomes: bool,
    /// What exercised it and ended it, where it did not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// Whether the tracer ended it, after `until` or a time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// `--until`: how a command that does not end by itself is exercised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Until {
    /// Shell command that exercises it, on the machine; empty where only time
    /// ends the run.
    pub command: String,
    /// It is ready when this TCP port of 127.0.0.1 answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_port: Option<u16>,
    /// It is ready when this file is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_file: Option<BytePath>,
    /// It is ready when this command succeeds, run beside it in its container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<BytePath>,
    /// It is ended after so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

impl Until {
    /// Whether anything but time ends the run.
    pub fn is_exercise(&self) -> bool {
        !self.command.is_empty()
            || !self.health.is_empty()
            || self.ready_port.is_some()
            || self.ready_file.is_some()
    }
}

/// How a traced command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    /// By exit, with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl Default for End {
    fn default() -> Self {
        End::Exited(0)
    }
}

/// How a path was used, and by whom first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileUse {
    /// The path, as in the spec.
    pub path: BytePath,
    /// The kinds of use, sorted.
    pub uses: BTreeSet<Use>,
    /// Process id of the first process that used it.
    pub pid: i32,
    /// Name of that process's executable.
    pub process: BytePath,
    /// Whether the original content lies beside the spec, since the run
    /// changed the file: in the folder `SPEC.originals`, under the same path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub original: bool,
    /// With `--outcomes`: error names of the calls that failed on it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub errors: BTreeSet<String>,
}

/// A path that was asked for and never found.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Absent {
    /// The path.
    pub path: BytePath,
    /// Error names, such as `ENOENT`.
    pub errors: BTreeSet<String>,
    /// Executable of the first process that asked for it.
    #[serde(default)]
    pub process: BytePath,
}

/// A system call that the runs made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Syscall {
    /// Its name, as the kernel's tables have it.
    pub name: String,
    /// By which calling convention.
    pub abi: Abi,
    /// Whether no run made it once its program was ready; false where nothing
    /// said when that was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start_only: bool,
    /// Names of the errors EPERM, EACCES and ENOMEM that it ended with.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub errors: BTreeSet<String>,
    /// What the first argument was: the namespaces of clone and clone3
    /// (`CLONE_NEW*`), the family of socket, the persona of personality.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub arguments: BTreeSet<u64>,
    /// Executable of the first process that made it.
    pub process: BytePath,
}

/// A calling convention of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Abi {
    /// That of 64-bit programs.
    #[serde(rename = "x86_64")]
    X86_64,
    /// That of programs with 32-bit pointers in 64-bit mode.
    X32,
    /// That of 32-bit programs.
    I386,
}

/// A kind of use of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Use {
    /// execve, execveat.
    Execute,
    /// Opened by the kernel itself: an ELF or `#!` interpreter of something executed.
    Interpret,
    /// Opened for reading.
    Read,
    /// Opened for writing, truncated, or its name or metadata changed.
    Write,
    /// Only looked at: stat, access, readlink, getxattr.
    Inspect,
    /// Its entries were listed.
    List,
    /// Made the working or root directory.
    Enter,
    /// A symbolic link crossed on the way to another path.
    Link,
    /// A directory in which the run made or removed something.
    Parent,
    /// connect or bind of a Unix socket.
    Socket,
}

/// A port that a run bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// `tcp`, `udp` or another name of protocols(5).
    pub protocol: String,
    /// The numeric address bound, such as `0.0.0.0` or `::1`.
    pub address: String,
    /// The port in host byte order.
    pub port: u16,
}

/// Something that the tracer could not see, keep or map, so that the spec may
/// be incomplete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unseen {
    /// A stable name for scripts, such as `io-uring`.
    pub kind: String,
    /// One sentence for the operator, with the way out where there is one.
    pub message: String,
}

/// The machine of a run: what the choice of files may depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Machine, as `uname -m` prints it.
    pub arch: String,
    /// Highest x86-64 psABI level of this CPU (`x86-64-v3`); empty elsewhere.
    pub cpu_level: String,
    /// Locale of the run: LC_ALL, else LC_CTYPE, else LANG.
    pub locale: String,
    /// Target of /etc/localtime, or TZ.
    pub time_zone: String,
}

/// A path or argument as bytes: in JSON a string where it is UTF-8, else the
/// list of its bytes as numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BytePath(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form<'a> {
    Text(std::borrow::Cow<'a, str>),
    Bytes(Vec<u8>),
}

impl Serialize for BytePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => Form::Text(text.into()).serialize(serializer),
            Err(_) => Form::Bytes(self.0.clone()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for BytePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(BytePath(match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into_owned().into_bytes(),
            Form::Bytes(bytes) => bytes,
        }))
    }
}

/// Why a `spec.json` could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It is not JSON of this shape.
    #[error("not a spec.json")]
    Json(#[from] serde_json::Error),
    /// Another version of vz wrote it.
    #[error("format version {0}; this vz reads version {VERSION}: trace again")]
    Version(u32),
}

impl Record {
    /// Reads the text of a `spec.json`.
    ///
    /// # Errors
    /// Text that is no such JSON, or of another version.
    pub fn parse(text: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(text)?;
        if head.version != VERSION {
            return Err(RecordError::Version(head.version));
        }
        Ok(serde_json::from_slice(text)?)
    }

    /// Joins the record of a later run to this one: lists unite, the first
    /// process of a path stays, the host is the first run's.
    #[must_use]
    pub fn unite(mut self, later: Record) -> Record {
        if self.version == 0 {
            self.host = later.host;
        }
        self.version = VERSION;
        self.runs.extend(later.runs);
        let mut files: BTreeMap<BytePath, FileUse> =
            self.files.into_iter().map(|file| (file.path.clone(), file)).collect();
        for file in later.files {
            match files.entry(file.path.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(file);
                }
                Entry::Occupied(mut entry) => {
                    let first = entry.get_mut();
                    first.uses.extend(file.uses);
                    first.errors.extend(file.errors);
                    first.original |= file.original;
                }
            }
        }
        // A file that an earlier run made may be read by a later one: the spec has it.
        self.created.extend(later.created);
        self.created.retain(|path| !files.contains_key(path));
        self.excluded.extend(later.excluded);
        self.excluded.retain(|path| !files.contains_key(path));
        self.absent.extend(later.absent);
        self.absent.retain(|absent| !files.contains_key(&absent.path));
        self.absent.sort();
        self.absent.dedup_by(|next, first| {
            let same = next.path == first.path;
            if same {
                first.errors.append(&mut next.errors);
            }
            same
        });
        self.files = files.into_values().collect();
        self.changed.extend(later.changed);
        self.deleted.extend(later.deleted);
        self.listed.extend(later.listed);
        self.ports.extend(later.ports);
        self.sockets.extend(later.sockets);
        self.unseen.extend(later.unseen);
        self.pseudo.extend(later.pseudo);
        self.devices.extend(later.devices);
        for call in later.syscalls {
            match self.syscalls.iter_mut().find(|c| (&c.name, c.abi) == (&call.name, call.abi)) {
                Some(first) => {
                    first.start_only &= call.start_only;
                    first.errors.extend(call.errors);
                    first.arguments.extend(call.arguments);
                }
                None => self.syscalls.push(call),
            }
        }
        self.syscalls.sort();
        self
    }

    /// The paths of the spec, sorted and unique.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.files.iter().map(|file| file.path.0.as_slice())
    }

    /// Returns the text, indented, with a newline at the end.
    ///
    /// # Errors
    /// None in practice: every value of the type has a JSON form.
    pub fn print(&self) -> Result<Vec<u8>, RecordError> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_utf8_comes_back() {
        let record = Record {
            version: VERSION,
            created: [BytePath(b"/a\xff".to_vec()), BytePath(b"/b".to_vec())].into(),
            ..Record::default()
        };
        assert_eq!(Record::parse(&record.print().unwrap()).unwrap(), record);
    }

    #[test]
    fn another_version_is_refused_before_its_shape() {
        let error = Record::parse(b"{\"version\": 7, \"strange\": []}").unwrap_err();
        assert_eq!(error.to_string(), "format version 7; this vz reads version 1: trace again");
    }
}
