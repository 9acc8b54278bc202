//! From SPEC arguments to the closure: the specs' text, the spec.json and
//! originals beside each, the root file system.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bundler::{Closure, Options, Reason, RootPath, Rootfs};
use tracer::record::{BytePath, FileUse, Host, Use};
use tracer::{Record, Spec};

use crate::cli::build::Source;
use crate::report::{self, Advice, Status};

/// One SPEC argument, read.
#[derive(Debug)]
pub struct Input {
    /// As it was named; `-` is standard input.
    pub name: PathBuf,
    /// Its text.
    pub text: Vec<u8>,
    /// Its paths.
    pub spec: Spec,
    /// The spec.json beside it, where there is one.
    pub record: Option<Record>,
}

/// All that the verbs start from.
#[derive(Debug)]
pub struct Gathered {
    /// The SPEC arguments, in their order.
    pub inputs: Vec<Input>,
    /// The root file system, with the originals of changed files.
    pub rootfs: Rootfs,
    /// The specs and all that they need.
    pub closure: Closure,
}

/// Reads the specs and closes them over the root file system.
///
/// # Errors
/// A spec, a spec.json or the root that cannot be read, a bad line in a spec.
/// What is missing is no error here: see [`Gathered::refuse_missing`].
pub fn gather(source: &Source) -> anyhow::Result<Gathered> {
    let inputs = source.specs.iter().map(|name| read(name)).collect::<Result<Vec<_>, _>>()?;
    let rootfs = open_root(source, &inputs)?;
    let mut wanted = BTreeSet::new();
    for input in &inputs {
        for path in input.spec.paths() {
            wanted.insert(RootPath::new(path)?);
        }
        if let Some(record) = &input.record {
            wanted.extend(record.devices.iter().filter_map(|path| RootPath::new(&path.0).ok()));
        }
        if let (true, Some(record)) = (source.listed, &input.record) {
            wanted.extend(listed(&rootfs, record));
        }
    }
    let closure = bundler::close(&rootfs, wanted, &options(&inputs));
    Ok(Gathered { inputs, rootfs, closure })
}

/// Reads one SPEC argument and the spec.json beside it.
///
/// # Errors
/// What cannot be read, or is no spec.
pub fn read(name: &Path) -> anyhow::Result<Input> {
    let mut text = Vec::new();
    if name == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut text).context("cannot read standard input")?;
    } else {
        text = std::fs::read(name)
            .with_context(|| format!("cannot read the spec `{}`", name.display()))
            .hint("SPEC is a file that `smith-strace` wrote, or a list of absolute paths")?;
    }
    let spec = Spec::parse(&text)
        .with_context(|| format!("`{}` is not a spec", name.display()))
        .hint("a spec has one absolute path a line; man 5 vz-spec")?;
    let record = read_record(name)?;
    Ok(Input { name: name.to_owned(), text, spec, record })
}

fn read_record(name: &Path) -> anyhow::Result<Option<Record>> {
    if name == Path::new("-") {
        return Ok(None);
    }
    let path = beside(name, ".json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read `{}`", path.display())),
    };
    let record = Record::parse(&text)
        .with_context(|| format!("cannot use `{}`", path.display()))
        .hint("trace again, or move it away to use the spec alone")?;
    Ok(Some(record))
}

/// `SPEC.json` or `SPEC.originals`.
fn beside(name: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(name);
    path.push(suffix);
    path.into()
}

fn open_root(source: &Source, inputs: &[Input]) -> anyhow::Result<Rootfs> {
    let mut rootfs = Rootfs::open(&source.root)
        .with_context(|| format!("cannot open the root `{}`", source.root.display()))
        .hint("--root takes a directory that holds a whole file system")?;
    for input in inputs {
        let Some(record) = &input.record else { continue };
        let kept = record.files.iter().filter(|file| file.original);
        let paths = kept.map(|file| root_path(&file.path)).collect::<Result<BTreeSet<_>, _>>()?;
        if !paths.is_empty() {
            let dir = beside(&input.name, ".originals");
            rootfs = rootfs
                .with_originals(&dir, paths)
                .with_context(|| format!("cannot open the originals `{}`", dir.display()))
                .hint("keep the spec, its .json and its .originals together, or trace again")?;
        }
    }
    Ok(rootfs)
}

fn root_path(path: &BytePath) -> anyhow::Result<RootPath> {
    RootPath::new(&path.0).context("a bad path in the spec.json")
}

/// What is in the directories that the run listed, and that the run did not make.
fn listed(rootfs: &Rootfs, record: &Record) -> Vec<RootPath> {
    let mut found = Vec::new();
    for directory in record.listed.iter().filter_map(|dir| RootPath::new(&dir.0).ok()) {
        let names = rootfs.read_dir(&directory).unwrap_or_default();
        let paths = names.iter().filter_map(|name| directory.join(name).ok());
        found.extend(paths.filter(|p| !record.created.contains(&BytePath(p.as_bytes().into()))));
    }
    found
}

/// What the runs tell about how to close.
fn options(inputs: &[Input]) -> Options {
    let mut options = Options::default();
    let runs = || inputs.iter().filter_map(|i| i.record.as_ref()).flat_map(|r| &r.runs);
    let value = |name| runs().find_map(|run| run.env.get(name)).map(|v| v.clone().into_bytes());
    options.observed = inputs.iter().all(|input| input.record.is_some());
    options.path = value("PATH");
    options.library_path = value("LD_LIBRARY_PATH");
    let (mut followed, mut executed) = (BTreeSet::new(), BTreeSet::new());
    for input in inputs {
        let files = input.record.iter().flat_map(|record| &record.files);
        let files: BTreeMap<&[u8], &FileUse> = files.map(|f| (f.path.0.as_slice(), f)).collect();
        for path in input.spec.paths() {
            let uses = files.get(path);
            let Ok(path) = RootPath::new(path) else { continue };
            // Without a record nothing is known, so all is possible.
            let ran = |u: &Use| matches!(u, Use::Execute | Use::Interpret);
            if uses.is_none_or(|file| file.uses.iter().any(ran)) {
                executed.insert(path.clone());
            }
            if uses.is_none_or(|file| file.uses.iter().any(|u| *u != Use::Inspect)) {
                followed.insert(path);
            }
        }
    }
    let all: BTreeSet<RootPath> = inputs
        .iter()
        .filter_map(|input| input.record.as_ref())
        .flat_map(|record| &record.files)
        .filter_map(|file| RootPath::new(&file.path.0).ok())
        .collect();
    options.looked_at = all.difference(&followed).cloned().collect();
    options.not_executed = all.difference(&executed).cloned().collect();
    options
}

impl Gathered {
    /// Says what is missing: as warnings where `allow` is set, else as the error.
    ///
    /// # Errors
    /// Something is missing and not allowed to be; exit status 1.
    pub fn refuse_missing(&self, allow: bool) -> anyhow::Result<()> {
        let missing = &self.closure.missing;
        if missing.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> =
            missing.iter().map(|m| format!("{m}{}", self.line_of(m))).collect();
        if allow {
            for line in lines {
                report::warn("vzbuild", format_args!("missing: {line}"));
            }
            return Ok(());
        }
        let verb = if lines.len() == 1 { "is" } else { "are" };
        let count = format!("{} {verb}", report::count(lines.len(), "file"));
        let list = lines.join("\n  ");
        Err(anyhow::anyhow!("{count} missing or unusable:\n  {list}"))
            .hint(
                "install what is missing, take its line out of the spec, trace again, or give \
                 --allow-missing to go on without",
            )
            .status(Status::No as u8)
    }

    /// Says what may be incomplete.
    pub fn say_warnings(&self) {
        if self.inputs.iter().filter_map(|i| i.record.as_ref()).any(lost_library_path) {
            report::warn(
                "vzbuild",
                "the run had LD_LIBRARY_PATH set, and its value was not kept: trace with `--env \
                 LD_LIBRARY_PATH` if libraries are missing",
            );
        }
        for warning in &self.closure.warnings {
            report::warn("vzbuild", warning);
        }
        for record in self.inputs.iter().filter_map(|i| i.record.as_ref()) {
            let paths = || self.closure.entries.keys().map(RootPath::as_bytes);
            if let Some(seen) = only_seen(record, paths) {
                report::warn("vzbuild", seen);
            }
        }
    }

    /// Where the spec has the line that names something missing.
    fn line_of(&self, missing: &bundler::Missing) -> String {
        if missing.reason != Reason::Spec {
            return String::new();
        }
        for input in &self.inputs {
            for (index, line) in input.text.split(|&b| b == b'\n').enumerate() {
                if Spec::parse(line).is_ok_and(|spec| spec.contains(&missing.name)) {
                    return format!(" [{}, line {}]", input.name.display(), index + 1);
                }
            }
        }
        String::new()
    }
}

/// What two runs may differ by that is no fault of the bundle: the first
/// `record`'s machine, and `host`, the second's.
pub(super) fn only_seen_here(record: &Record, host: &Host) -> Vec<String> {
    let first = &record.host;
    let differs = [
        ("kernel", &first.kernel, &host.kernel),
        ("CPU level", &first.cpu_level, &host.cpu_level),
        ("locale", &first.locale, &host.locale),
        ("time zone", &first.time_zone, &host.time_zone),
    ];
    let differs = differs.into_iter().filter(|(_, first, second)| first != second);
    let mut warnings: Vec<String> = differs
        .map(|(what, first, second)| {
            format!("the first run had the {what} `{first}`, this one has `{second}`")
        })
        .collect();
    warnings.extend(only_seen(record, || record.files.iter().map(|file| file.path.0.as_slice())));
    warnings
}

/// What the choice of files may depend on and the run saw one of, where
/// `paths` have such files.
fn only_seen<'a, I: Iterator<Item = &'a [u8]>>(
    record: &Record,
    paths: impl Fn() -> I,
) -> Option<String> {
    let host = &record.host;
    let has = |part: &[u8]| paths().any(|path| path.windows(part.len()).any(|w| w == part));
    let mut seen = Vec::new();
    if has(b"/glibc-hwcaps/") && !host.cpu_level.is_empty() {
        seen.push(format!("a CPU of level {}", host.cpu_level));
    }
    if has(b"/usr/lib/locale/") && !host.locale.is_empty() {
        seen.push(format!("the locale {}", host.locale));
    }
    if has(b"/usr/share/zoneinfo/") && !host.time_zone.is_empty() {
        seen.push(format!("the time zone {}", host.time_zone));
    }
    if has(b"/ssl/certs/") || has(b"/pki/tls/") {
        seen.push("the certificate authorities that it used".to_owned());
    }
    let (last, rest) = seen.split_last()?;
    let list =
        if rest.is_empty() { last.clone() } else { format!("{} and {last}", rest.join(", ")) };
    Some(format!("the run saw only {list}: trace with others too if the bundle must work there"))
}

fn lost_library_path(record: &Record) -> bool {
    record.runs.iter().any(|run| run.env_names.contains("LD_LIBRARY_PATH"))
}
