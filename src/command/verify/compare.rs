//! What differs between a run and the same run in the bundle: a pure function
//! over their records.
//!
//! Neither order nor counts matter, and names that only one run made up (a
//! process id, a random temporary name) never do: a path counts only where one
//! run found it there when it first asked, or made it.

use std::collections::{BTreeMap, BTreeSet};

use tracer::Record;
use tracer::record::{self, BytePath, End, FileUse, Port, Until};

/// Errors that say that nothing is there.
const ABSENT: [&str; 5] = ["ELOOP", "ENODEV", "ENOENT", "ENOTDIR", "ENXIO"];
/// Errors that say that it may not be.
const REFUSED: [&str; 3] = ["EACCES", "EPERM", "EROFS"];
/// Mounts of the runtime: what lies there is no matter of the bundle.
const RUNTIMES: [&[u8]; 3] = [b"/dev", b"/proc", b"/sys"];
/// The lowest port that Linux gives to sockets which ask for any (ip(7)).
const FIRST_EPHEMERAL: u16 = 32768;

/// What the bundle has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It is there.
    There,
    /// It is not.
    Absent,
    /// It is not, and on purpose.
    LeftOut(&'static str),
}

/// The places that the runs' paths are looked up in.
pub(super) trait Places {
    /// What the bundle has at `path`.
    fn held(&self, path: &[u8]) -> Held;
    /// Whether the original root has something at `path`; nothing where it is
    /// not at hand.
    fn original(&self, path: &[u8]) -> Option<bool>;
}

/// Why a path is another one for the second run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// The bundle does not have it.
    Missing,
    /// The bundle has it, and the run did not find it: a mount covers it.
    Hidden,
    /// The first run wrote there, and the bundle's root is read-only.
    ReadOnly,
    /// Access is denied, by owner, mode or a missing capability.
    Denied,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The path; for [`Reason::ReadOnly`] the directory.
    pub(super) path: BytePath,
    pub(super) reason: Reason,
    /// What it was for the first run.
    pub(super) first: String,
    /// What the second run got.
    pub(super) second: String,
    /// Whether the original root is at hand and does not have it either.
    pub(super) is_lost: bool,
    /// Executable of the process that asked; of the first run's, where the
    /// second did not ask.
    pub(super) process: BytePath,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) end: End,
    /// Whether it would have gone on, had its time not been up; nothing where an
    /// exercise ends it, which it may forestall by a moment.
    pub(super) still_ran: Option<bool>,
}

/// How the two runs ended.
pub(super) fn endings(first: &record::Run, second: &record::Run) -> (Ending, Ending) {
    let is_exercised = |run: &record::Run| run.until.as_ref().is_some_and(Until::is_exercise);
    let is_known = !is_exercised(first) && !is_exercised(second);
    let ending =
        |run: &record::Run| Ending { end: run.end, still_ran: is_known.then_some(run.ended) };
    (ending(first), ending(second))
}

/// All that differs.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Sorted by path.
    pub(super) findings: Vec<Finding>,
    /// Runs that ended otherwise: which, as in the first, as in the second.
    pub(super) ends: Vec<(usize, Ending, Ending)>,
    /// What only the second run asked for and did not find, and the original
    /// has: it took another course. The cause, where an end differs and nothing
    /// else is found; else no difference yet, but worth to have.
    pub(super) courses: Vec<Finding>,
    /// Ports that only the first listened on.
    pub(super) ports: Vec<Port>,
    /// Differences that are no fault of the bundle, one sentence each.
    pub(super) warnings: Vec<String>,
    /// Paths that only the second run found.
    pub(super) found: Vec<BytePath>,
}

impl Comparison {
    /// Whether the second run was as the first.
    pub(super) fn is_equal(&self) -> bool {
        self.findings.is_empty() && self.ends.is_empty() && self.ports.is_empty()
    }
}

/// A record, by path.
struct Run<'a> {
    record: &'a Record,
    files: BTreeMap<&'a [u8], &'a FileUse>,
    failed: BTreeMap<&'a [u8], (&'a BTreeSet<String>, &'a BytePath)>,
    /// Directories in which it made or changed something.
    written: BTreeSet<&'a [u8]>,
}

impl<'a> Run<'a> {
    fn of(record: &'a Record) -> Self {
        let files = record.files.iter().map(|file| (file.path.0.as_slice(), file)).collect();
        let absent = record.absent.iter().map(|a| (&a.path, &a.errors, &a.process));
        let used = record.files.iter().map(|file| (&file.path, &file.errors, &file.process));
        let failed = absent.chain(used).map(|(path, errors, by)| (path.0.as_slice(), (errors, by)));
        let changes = record.created.iter().chain(&record.changed).chain(&record.deleted);
        let written = changes.map(|path| parent(&path.0)).collect();
        Run { record, files, failed: failed.collect(), written }
    }

    fn errors(&self, path: &[u8], of: &[&str]) -> Vec<&'a str> {
        let errors = self.failed.get(path).map(|(errors, _)| *errors);
        let errors = errors.into_iter().flatten().map(String::as_str);
        errors.filter(|error| of.contains(error)).collect()
    }

    fn made(&self, path: &[u8]) -> bool {
        self.record.created.contains(&BytePath(path.to_vec()))
    }

    fn changed(&self, path: &[u8]) -> bool {
        let path = BytePath(path.to_vec());
        self.record.changed.contains(&path) || self.record.deleted.contains(&path)
    }
}

/// Compares `second`, the run in the bundle, with `first`.
pub(super) fn compare(first: &Record, second: &Record, places: &impl Places) -> Comparison {
    let mut found = Comparison::default();
    let (one, two) = (Run::of(first), Run::of(second));
    let mut findings = BTreeMap::new();
    absences(&one, &two, places, &mut findings, &mut found.warnings);
    refusals(&one, &two, &mut findings, &mut found.warnings);
    if findings.is_empty() {
        found.courses = newly_asked(&one, &two, places);
    }
    // What lies in a missing directory is missing with it.
    for (path, finding) in findings {
        let inside = |outer: &&Finding| {
            outer.reason == Reason::Missing && lies_in(&path, &outer.path.0) && path != outer.path.0
        };
        if !found.findings.iter().any(|outer| inside(&outer)) {
            found.findings.push(finding);
        }
    }
    let ends = first.runs.iter().zip(&second.runs).map(|(one, two)| endings(one, two));
    let ends = ends.enumerate().filter(|(_, (one, two))| one != two);
    found.ends = ends.map(|(index, (one, two))| (index, one, two)).collect();
    let heard = |port: &&Port| {
        second.ports.iter().any(|two| (&two.protocol, two.port) == (&port.protocol, port.port))
    };
    let fixed = |port: &&Port| port.port > 0 && port.port < FIRST_EPHEMERAL;
    found.ports = first.ports.iter().filter(fixed).filter(|port| !heard(port)).cloned().collect();
    let only_second =
        first.absent.iter().filter(|absent| two.files.contains_key(&absent.path.0[..]));
    found.found = only_second.map(|absent| absent.path.clone()).collect();
    found
}

type Findings = BTreeMap<Vec<u8>, Finding>;

/// What the first run found and the second does not.
fn absences(
    one: &Run<'_>,
    two: &Run<'_>,
    places: &impl Places,
    findings: &mut Findings,
    warnings: &mut Vec<String>,
) {
    for (path, file) in &one.files {
        let is_found = two.files.contains_key(path);
        let errors = two.errors(path, &ABSENT);
        let reason = match places.held(path) {
            _ if is_runtimes(path) => continue,
            Held::LeftOut(why) => {
                if !errors.is_empty() {
                    let path = path.escape_ascii();
                    warnings.push(format!("{path} is not in the bundle, on purpose: {why}"));
                }
                continue;
            }
            Held::Absent if !is_found => Reason::Missing,
            Held::There if !is_found && !errors.is_empty() => Reason::Hidden,
            _ => continue,
        };
        let asked = two.failed.get(path).filter(|_| !errors.is_empty());
        let second = match asked {
            Some(_) => errors.join(", "),
            None => "did not come to ask for it".to_owned(),
        };
        let process = asked.map_or(&file.process, |(_, process)| *process);
        let finding = Finding {
            path: file.path.clone(),
            reason,
            first: used(file),
            second,
            is_lost: places.original(path) == Some(false),
            process: process.clone(),
        };
        findings.insert(path.to_vec(), finding);
    }
    for device in &one.record.devices {
        if !two.errors(&device.0, &["ENOENT"]).is_empty() {
            warnings.push(format!(
                "{} is a device of this machine that a container does not have: --volume gives it \
                 one",
                device.0.escape_ascii()
            ));
        }
    }
    for path in &one.record.excluded {
        if !two.errors(&path.0, &ABSENT).is_empty() {
            let path = path.0.escape_ascii();
            warnings.push(format!("{path} is not in the bundle: the trace was told to exclude it"));
        }
    }
}

/// What the first run was allowed and the second is not.
fn refusals(one: &Run<'_>, two: &Run<'_>, findings: &mut Findings, warnings: &mut Vec<String>) {
    let knows_errors = one.record.runs.iter().all(|run| run.outcomes);
    let mut unknown = 0;
    for (&path, &(_, process)) in &two.failed {
        let errors = two.errors(path, &REFUSED);
        if errors.is_empty() || is_runtimes(path) || !one.errors(path, &REFUSED).is_empty() {
            continue;
        }
        let is_read_only = errors == ["EROFS"];
        // Removing what is not there says so only where it could be removed.
        let wrote = one.made(path) || one.changed(path);
        let is_new = !one.files.contains_key(path) && !one.failed.contains_key(path);
        let is_written = wrote || is_new && one.written.contains(parent(path));
        if is_read_only && is_written {
            let directory = parent(path).to_vec();
            findings.entry(directory.clone()).or_insert_with(|| Finding {
                path: BytePath(directory),
                reason: Reason::ReadOnly,
                first: "written in".to_owned(),
                second: format!("EROFS for {}", path.escape_ascii()),
                is_lost: false,
                process: process.clone(),
            });
        } else if is_written || knows_errors && !is_read_only && one.files.contains_key(path) {
            findings.entry(path.to_vec()).or_insert_with(|| Finding {
                path: BytePath(path.to_vec()),
                reason: Reason::Denied,
                first: one.files.get(path).map_or_else(|| "made".to_owned(), |file| used(file)),
                second: errors.join(", "),
                is_lost: false,
                process: process.clone(),
            });
        } else if !knows_errors && one.files.contains_key(path) {
            unknown += 1;
        }
    }
    if unknown > 0 {
        warnings.push(format!(
            "{unknown} of the paths were refused, and the first trace does not tell whether they \
             were then: trace with --outcomes"
        ));
    }
}

/// What only the second run asked for, and the original root could have told:
/// the run took another course, as environment, time and chance may have it.
fn newly_asked(one: &Run<'_>, two: &Run<'_>, places: &impl Places) -> Vec<Finding> {
    let mut courses = Vec::new();
    for (&path, &(_, process)) in &two.failed {
        let errors = two.errors(path, &ABSENT);
        let is_known = one.files.contains_key(path) || one.failed.contains_key(path);
        let is_runs = is_runtimes(path) || one.made(path) || two.made(path);
        let is_found = two.files.contains_key(path);
        if errors.is_empty()
            || is_known
            || is_runs
            || is_found
            || places.original(path) != Some(true)
        {
            continue;
        }
        courses.push(Finding {
            path: BytePath(path.to_vec()),
            reason: Reason::Missing,
            first: "there, and not asked for".to_owned(),
            second: errors.join(", "),
            is_lost: false,
            process: process.clone(),
        });
    }
    courses
}

fn used(file: &FileUse) -> String {
    use tracer::record::Use;
    let word = |kind: &Use| match kind {
        Use::Execute => "executed",
        Use::Interpret => "used as interpreter",
        Use::Read => "read",
        Use::Write => "written",
        Use::Inspect => "looked at",
        Use::List => "listed",
        Use::Enter => "entered",
        Use::Link => "a link on the way",
        Use::Parent => "written in",
        Use::Socket => "a socket",
    };
    file.uses.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn is_runtimes(path: &[u8]) -> bool {
    RUNTIMES.iter().any(|place| lies_in(path, place))
}

/// Whether `path` is `dir` or lies below it.
fn lies_in(path: &[u8], dir: &[u8]) -> bool {
    let rest = path.strip_prefix(dir);
    rest.is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/') || dir == b"/")
}

fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&b| b == b'/') {
        None | Some(0) => b"/",
        Some(slash) => path.get(..slash).unwrap_or(b"/"),
    }
}

#[cfg(test)]
mod tests;
