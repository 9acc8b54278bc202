//! Small C programs that say what a tracer ought to see, and the check of it.
//!
//! `tests/tracee/NAME.c` is compiled once per content into cargo's directory
//! for test files. What its lines mean is told in `tests/tracee/tracee.h`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tracer::record::{BytePath, FileUse, Use};
use tracer::{Record, Spec};

use crate::sandbox::{Finished, Need, Sandbox, require};

/// For which machine, and how, a tracee is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// This machine's own, dynamic.
    Native,
    /// i386, dynamic.
    I386,
    /// This machine's own, static.
    Static,
}

/// Longest path, with its NUL, that a call takes (linux/limits.h).
const PATH_MAX: usize = 4096;

const CC: Need = Need::Program("cc", "gcc libc6-dev");
const MULTILIB: Need = Need::File("/usr/lib32/libc.a", "gcc-multilib");

impl Build {
    /// What a test needs to compile so.
    pub fn needs(self) -> &'static [Need] {
        match self {
            Build::Native | Build::Static => &[CC],
            Build::I386 => &[CC, MULTILIB],
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Build::Native => &[],
            Build::I386 => &["-m32"],
            Build::Static => &["-static"],
        }
    }
}

/// Where the compiled tracee NAME lies; compiles it where its source is new.
pub fn compiled(name: &str, build: Build) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tracee");
    let source = sources.join(format!("{name}.c"));
    let mut hasher = DefaultHasher::new();
    for file in [&source, &sources.join("tracee.h")] {
        let text = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        text.hash(&mut hasher);
    }
    build.flags().hash(&mut hasher);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tracee");
    let binary = dir.join(format!("{name}-{:016x}", hasher.finish()));
    if !binary.exists() {
        // Tests run at the same time: compile aside, then rename.
        std::fs::create_dir_all(&dir).unwrap();
        let aside = tempfile::tempdir_in(&dir).unwrap();
        let fresh = aside.path().join(name);
        let mut cc = Sandbox::new().command("cc");
        cc.current_dir(&dir).args(["-Wall", "-Wextra", "-Werror", "-O1", "-pthread", "-o"]);
        cc.arg(&fresh).arg(&source).args(build.flags());
        Finished::of(&mut cc).success();
        std::fs::rename(&fresh, &binary).unwrap();
    }
    binary
}

/// A tracee in its prepared directory, before and after its traced run.
pub struct Traced {
    pub sandbox: Sandbox,
    /// The prepared directory.
    pub dir: PathBuf,
    binary: PathBuf,
    /// What lay below the prepared directory before the run.
    before: BTreeMap<PathBuf, Content>,
    /// Added to the tracee's environment.
    pub env: Vec<(&'static str, String)>,
}

/// What is kept of a file that a run changes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Bytes(Vec<u8>),
    Target(PathBuf),
    Other,
}

fn content(path: &Path) -> Option<Content> {
    let meta = path.symlink_metadata().ok()?;
    Some(if meta.is_file() {
        Content::Bytes(std::fs::read(path).unwrap())
    } else if meta.is_symlink() {
        Content::Target(std::fs::read_link(path).unwrap())
    } else {
        Content::Other
    })
}

/// What a traced run left: what its tracee said, and the spec with its record.
pub struct Outcome {
    pub finished: Finished,
    /// Word and path of each line that the tracee printed.
    pub said: Vec<(String, Vec<u8>)>,
    pub spec: Spec,
    pub record: Record,
}

impl Traced {
    /// Compiles a tracee and makes the files that it is to find.
    pub fn prepare(name: &str, build: Build) -> Self {
        let (sandbox, binary) = (Sandbox::new(), compiled(name, build));
        let dir = sandbox.path("prepared");
        std::fs::create_dir(&dir).unwrap();
        let dir = dir.canonicalize().unwrap();
        Finished::of(sandbox.command(&binary).arg("prepare").arg(&dir)).success();
        // A path longer than PATH_MAX cannot be walked; its tracee speaks for it.
        let files =
            walkdir::WalkDir::new(&dir).into_iter().flatten().map(walkdir::DirEntry::into_path);
        let before = files.filter_map(|path| Some((path.clone(), content(&path)?))).collect();
        Traced { sandbox, dir, binary, before, env: Vec::new() }
    }

    /// The command line of the traced run, from the sandbox's own directory.
    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = self.sandbox.command("smith-strace");
        command.args(options).arg("--").args(self.untraced_words());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The same run, untraced.
    pub fn untraced(&self) -> Command {
        let words = self.untraced_words();
        let mut command = self.sandbox.command(&words[0]);
        command.args(&words[1..]);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The words of the tracee's own command line.
    pub fn untraced_words(&self) -> [OsString; 3] {
        [self.binary.clone().into(), "run".into(), self.dir.clone().into()]
    }

    /// Runs the tracee under `smith-strace OPTIONS` and reads what came out. The
    /// tracee must succeed.
    pub fn run(&self, options: &[&str]) -> Outcome {
        self.outcome(Finished::of(&mut self.command(options)).success())
    }

    /// Reads what a traced run left.
    pub fn outcome(&self, finished: Finished) -> Outcome {
        let said = finished.output().stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        let said = said.map(|line| {
            let (word, path) = line.split_at(line.iter().position(|&b| b == b' ').unwrap());
            (String::from_utf8(word.to_vec()).unwrap(), unescape(&path[1..]))
        });
        let said = said.collect();
        let spec = Spec::parse(&std::fs::read(self.sandbox.path("spec")).unwrap()).unwrap();
        let record = std::fs::read(self.sandbox.path("spec.json")).unwrap();
        Outcome { finished, said, spec, record: Record::parse(&record).unwrap() }
    }

    /// Asserts all that the tracee said, and that the spec has nothing of the
    /// prepared directory beyond that.
    #[track_caller]
    pub fn assert_seen(&self, outcome: &Outcome) {
        let mut wrong = Vec::new();
        assert!(!outcome.said.is_empty(), "the tracee said nothing");
        for (word, path) in &outcome.said {
            if let Err(why) = self.line(outcome, word, path) {
                wrong.push(format!("{word} {}: {why}", path.escape_ascii()));
            }
        }
        for path in outcome.spec.paths().filter(|path| path.len() < PATH_MAX) {
            let why = self.unsaid(outcome, path);
            wrong.extend(why.map(|why| format!("{} is in the spec, {why}", path.escape_ascii())));
        }
        assert!(
            wrong.is_empty(),
            "{}\n--- what the tracee said and the tracer saw differ:\n{}\n--- spec.json\n{}",
            outcome.finished.stderr(),
            wrong.join("\n"),
            self.sandbox.lines("spec.json").join("\n"),
        );
    }

    /// What is wrong with a path of the spec.
    fn unsaid(&self, outcome: &Outcome, path: &[u8]) -> Option<&'static str> {
        let (real, dir) = (self.dir.join(os(path)), self.dir.as_os_str().as_bytes());
        let needed = |word: &str| !["absent", "made", "unseen"].contains(&word);
        let mut said = outcome.said.iter().filter(|(word, _)| needed(word));
        if content(&real).is_none() && self.original(path).is_none() {
            Some("gone, and not in spec.originals")
        } else if under(path, dir) && !self.before.contains_key(&real) {
            Some("and was not there before the run")
        } else if under(path, dir) && !said.any(|(_, said)| said == path || under(said, path)) {
            Some("and the tracee never said it")
        } else {
            None
        }
    }

    /// What lies in spec.originals for a path of the spec.
    fn original(&self, path: &[u8]) -> Option<Content> {
        content(&self.sandbox.path("spec.originals").join(os(&path[1..])))
    }

    fn line(&self, outcome: &Outcome, word: &str, path: &[u8]) -> Result<(), String> {
        let listed = BytePath(path.to_vec());
        let Outcome { spec, record, .. } = outcome;
        let ensure = |held: bool, why: &str| if held { Ok(()) } else { Err(why.to_owned()) };
        match word {
            "optional" => Ok(()),
            "absent" => ensure(!spec.contains(path), "it is in the spec"),
            "made" => {
                ensure(!spec.contains(path), "it is in the spec")?;
                ensure(record.created.contains(&listed), "not among the created")
            }
            "pseudo" => {
                ensure(!spec.contains(path), "it is in the spec")?;
                let within = |p: &BytePath| p.0 == path || under(path, &p.0);
                ensure(record.pseudo.iter().any(within), "not among the pseudo files")
            }
            "unseen" => ensure(
                record.unseen.iter().any(|u| u.kind.as_bytes() == path),
                "not among the unseen",
            ),
            "used" => ensure(spec.contains(path), "not in the spec"),
            "mapped" => ensure(
                spec.contains(path) || !record.unseen.is_empty(),
                "neither in the spec nor said to be unseen",
            ),
            "changed" | "deleted" => {
                ensure(spec.contains(path), "not in the spec")?;
                let gone = record.deleted.contains(&listed);
                let known = gone || word == "changed" && record.changed.contains(&listed);
                ensure(known, &format!("not among the {word}"))?;
                match self.before.get(&self.dir.join(os(path))) {
                    None => Err("it was not there before the run".to_owned()),
                    Some(Content::Other) => Ok(()),
                    before => ensure(self.original(path).as_ref() == before, "original not kept"),
                }
            }
            kind => {
                let kind: Use = serde_json::from_value(kind.into())
                    .unwrap_or_else(|_| panic!("`{kind}` is no word of tracee.h"));
                ensure(spec.contains(path), "not in the spec")?;
                let uses = outcome.uses(path).ok_or("not in spec.json")?;
                ensure(uses.uses.contains(&kind), &format!("used otherwise: {:?}", uses.uses))
            }
        }
    }
}

impl Outcome {
    /// How spec.json says that a path was used.
    pub fn uses(&self, path: &[u8]) -> Option<&FileUse> {
        self.record.files.iter().find(|file| file.path.0 == path)
    }

    /// Whether the spec has this path.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.spec.contains(path.as_ref().as_os_str().as_bytes())
    }
}

fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// Whether `path` lies below `dir`, by name.
fn under(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| dir == b"/" || rest.first() == Some(&b'/'))
}

/// Turns `\xHH` back into bytes.
fn unescape(text: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(1..3).filter(|_| first == b'\\' && tail[0] == b'x');
        let hex = hex.and_then(|h| u8::from_str_radix(std::str::from_utf8(h).unwrap(), 16).ok());
        bytes.push(hex.unwrap_or(first));
        rest = if hex.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

/// Traces a tracee, native and i386, and checks all that it says.
#[track_caller]
pub fn check(name: &str) {
    check_built(name, Build::Native);
    check_built(name, Build::I386);
}

/// Traces a tracee in one build and checks all that it says.
#[track_caller]
pub fn check_built(name: &str, build: Build) {
    if require(name, build.needs()) {
        let traced = Traced::prepare(name, build);
        let outcome = traced.run(&[]);
        traced.assert_seen(&outcome);
    }
}
