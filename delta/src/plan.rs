//! Records and manifests: what it takes to get from one tree to another, and back.

use crate::manifest::{Digest, Entry, FileInfo, Kind, Manifest, compare};
use crate::record::{self, Access, Change, Codec, Content, Mtime, New, NewKind, Record};
use crate::tree::TreeError;

/// The entries of the target and how each comes about. The digest of a file whose
/// content travels is not known yet, and zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) entries: Vec<Entry>,
    pub(crate) ways: Vec<How>,
}

/// Bytes of one entry, without its strings.
pub(crate) const PLANNED: usize = size_of::<Entry>() + size_of::<How>();

/// How an entry of the target comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It is no regular file: there is nothing more to it.
    Special,
    /// It has the content of this entry of the base.
    Keep(usize),
    /// It has the content of this entry of the target, which comes earlier.
    Again(usize),
    /// Its content travels.
    Travel { codec: Codec, base: Option<usize>, check: [u8; 4] },
}

const UNKNOWN: Digest = Digest([0; 32]);

/// Writes down how `target` comes from `base`; `content` has, for each entry of the
/// target, how its content travels, where it does.
pub(crate) fn records(
    base: &Manifest,
    target: &Manifest,
    content: impl Fn(usize) -> Option<Content>,
) -> Vec<Record> {
    let mut out = Vec::new();
    let mut state = State::default();
    let mut olds = base.entries().iter().peekable();
    for (number, entry) in target.entries().iter().enumerate() {
        while olds.next_if(|old| compare(&old.path, &entry.path).is_lt()).is_some() {
            push(&mut out, Record::Drop(1));
        }
        if let Some(old) = olds.next_if(|old| old.path == entry.path) {
            if old == entry {
                let touching =
                    entry.file().is_none() && matches!(out.last(), Some(Record::Touch(_)));
                push(&mut out, if touching { Record::Touch(1) } else { Record::Keep(1) });
                continue;
            }
            let same_kind = match (&old.kind, &entry.kind) {
                (Kind::File(_), Kind::File(_)) => true,
                (old, new) => old == new,
            };
            if same_kind {
                let change = state.change(old, entry, content(number));
                let touch = Change { mtime: Some(Mtime::Last), ..Change::default() };
                push(
                    &mut out,
                    if change == touch { Record::Touch(1) } else { Record::Change(change) },
                );
                continue;
            }
            push(&mut out, Record::Drop(1));
        }
        out.push(Record::New(state.new_entry(entry, content(number))));
    }
    olds.for_each(|_| push(&mut out, Record::Drop(1)));
    out
}

/// Adds a record, and counts on where it only repeats the last.
fn push(records: &mut Vec<Record>, record: Record) {
    match (records.last_mut(), record) {
        (Some(Record::Keep(n)), Record::Keep(more)) => *n += more,
        (Some(Record::Drop(n)), Record::Drop(more)) => *n += more,
        (Some(Record::Touch(n)), Record::Touch(more)) => *n += more,
        (_, record) => records.push(record),
    }
}

/// What both ends remember from record to record.
#[derive(Default)]
struct State {
    mtime: i64,
    access: [Access; 8],
}

impl State {
    fn change(&mut self, old: &Entry, new: &Entry, content: Option<Content>) -> Change {
        let mtime = match (old.file(), new.file()) {
            (Some(old), Some(new)) if old.mtime != new.mtime => {
                let known = new.mtime == self.mtime;
                self.mtime = new.mtime;
                Some(if known {
                    Mtime::Last
                } else {
                    Mtime::After(new.mtime.wrapping_sub(old.mtime))
                })
            }
            _ => None,
        };
        Change {
            path: if content.is_some() { new.path.clone() } else { Vec::new() },
            mode: (old.mode != new.mode).then_some(new.mode),
            owner: ((old.uid, old.gid) != (new.uid, new.gid)).then_some((new.uid, new.gid)),
            mtime,
            content,
            xattrs: (old.xattrs != new.xattrs).then(|| new.xattrs.clone()),
        }
    }

    fn new_entry(&mut self, new: &Entry, content: Option<Content>) -> New {
        let number = new.kind.number();
        let access = (new.mode, new.uid, new.gid);
        let last = std::mem::replace(&mut self.access[usize::from(number)], access);
        let kind = match &new.kind {
            Kind::File(info) => {
                let mtime = info.mtime.wrapping_sub(self.mtime);
                self.mtime = info.mtime;
                let (codec, base) = (Codec::Full, None);
                let nothing = Content { codec, base, size: info.size, cost: 0, check: [0; 4] };
                NewKind::File(mtime, content.unwrap_or(nothing))
            }
            Kind::Symlink(target) | Kind::HardLink(target) => NewKind::Link(number, target.clone()),
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                NewKind::Device(number, *major, *minor)
            }
            Kind::Directory | Kind::Fifo | Kind::Socket => NewKind::Plain(number),
        };
        let access = (access != last).then_some(access);
        New { path: new.path.clone(), access, kind, xattrs: new.xattrs.clone() }
    }
}

/// Carries the records out over `base`, each as it is read.
///
/// # Errors
/// [`TreeError::Record`] where they do not go with it, [`TreeError::Records`].
pub(crate) fn resolve(
    base: &Manifest,
    records: &mut record::Reader<'_, '_>,
) -> Result<Planned, TreeError> {
    let mut plan = Plan { base, next: 0, state: State::default(), planned: Planned::default() };
    // At once, since a list that grows is in memory twice for a moment.
    let most = base.entries().len().saturating_add(records.most());
    plan.planned.entries.reserve_exact(most);
    plan.planned.ways.reserve_exact(most);
    while let Some(record) = records.next().map_err(TreeError::Records)? {
        match record {
            Record::Keep(n) => plan.keep(n, false)?,
            Record::Touch(n) => plan.keep(n, true)?,
            Record::Drop(n) => drop(plan.advance(n)?),
            Record::Change(change) => plan.change(change)?,
            Record::New(new) => plan.new_entry(new)?,
        }
    }
    match plan.next == base.entries().len() {
        true => Ok(plan.planned),
        false => Err(plan.impossible()),
    }
}

struct Plan<'a> {
    base: &'a Manifest,
    next: usize,
    state: State,
    planned: Planned,
}

impl<'a> Plan<'a> {
    /// The error of a record that goes with nothing, naming the entry after which it comes.
    fn impossible(&self) -> TreeError {
        let path = self.planned.entries.last().map(|entry| entry.path.clone()).unwrap_or_default();
        TreeError::Record { path }
    }

    fn push(&mut self, entry: Entry, how: How) {
        self.planned.entries.push(entry);
        self.planned.ways.push(how);
    }

    fn advance(&mut self, n: u64) -> Result<&'a [Entry], TreeError> {
        let rest = self.base.entries().get(self.next..).unwrap_or_default();
        let n = usize::try_from(n).ok().filter(|n| *n > 0);
        let passed = n.and_then(|n| rest.get(..n)).ok_or_else(|| self.impossible())?;
        self.next += passed.len();
        Ok(passed)
    }

    fn keep(&mut self, n: u64, touch: bool) -> Result<(), TreeError> {
        let first = self.next;
        for (number, entry) in (first..).zip(self.advance(n)?) {
            let mut entry = entry.clone();
            let mut how = How::Special;
            if let Kind::File(info) = &mut entry.kind {
                how = How::Keep(number);
                info.mtime = if touch { self.state.mtime } else { info.mtime };
            }
            self.push(entry, how);
        }
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), TreeError> {
        let number = self.next;
        let named = change.content.is_some();
        let old = self.advance(1)?.first();
        let Some(old) = old.filter(|old| old.path == change.path || !named) else {
            return Err(TreeError::Record { path: change.path });
        };
        let impossible = TreeError::Record { path: old.path.clone() };
        let mut entry = old.clone();
        entry.mode = change.mode.unwrap_or(old.mode);
        (entry.uid, entry.gid) = change.owner.unwrap_or((old.uid, old.gid));
        if let Some(xattrs) = change.xattrs {
            entry.xattrs = xattrs;
        }
        let mut how = How::Special;
        if let Kind::File(info) = &mut entry.kind {
            how = How::Keep(number);
            info.mtime = match change.mtime {
                None => info.mtime,
                Some(Mtime::Last) => self.state.mtime,
                Some(Mtime::After(seconds)) => info.mtime.wrapping_add(seconds),
            };
            if change.mtime.is_some() {
                self.state.mtime = info.mtime;
            }
            if let Some(content) = change.content {
                (*info, how) = self.travel(&content, Some(number), info.mtime).ok_or(impossible)?;
            }
        } else if change.mtime.is_some() || change.content.is_some() {
            return Err(impossible);
        }
        self.push(entry, how);
        Ok(())
    }

    fn new_entry(&mut self, new: New) -> Result<(), TreeError> {
        let impossible = TreeError::Record { path: new.path.clone() };
        let mut how = How::Special;
        let kind = match new.kind {
            NewKind::File(mtime, content) => {
                self.state.mtime = self.state.mtime.wrapping_add(mtime);
                let travel = self.travel(&content, None, self.state.mtime);
                let (info, found) = travel.ok_or(impossible)?;
                how = found;
                Kind::File(info)
            }
            NewKind::Link(2, target) => Kind::Symlink(target),
            NewKind::Link(_, target) => Kind::HardLink(target),
            NewKind::Device(6, major, minor) => Kind::CharDevice(major, minor),
            NewKind::Device(_, major, minor) => Kind::BlockDevice(major, minor),
            NewKind::Plain(1) => Kind::Directory,
            NewKind::Plain(4) => Kind::Fifo,
            NewKind::Plain(_) => Kind::Socket,
        };
        let last = &mut self.state.access[usize::from(kind.number())];
        let (mode, uid, gid) = new.access.unwrap_or(*last);
        *last = (mode, uid, gid);
        let entry = Entry { path: new.path, mode, uid, gid, kind, xattrs: new.xattrs };
        self.push(entry, how);
        Ok(())
    }

    /// Where the content comes from; nothing where the base has no such file.
    fn travel(&self, content: &Content, own: Option<usize>, mtime: i64) -> Option<(FileInfo, How)> {
        if content.codec == Codec::Again {
            let (number, path) = content.base.as_ref()?;
            let number = usize::try_from(*number).ok()?;
            let earlier = self.planned.entries.get(number).filter(|entry| entry.path == *path)?;
            let from = earlier.file()?;
            return Some((FileInfo { mtime, ..*from }, How::Again(number)));
        }
        let base = match &content.base {
            None => own,
            Some((number, path)) => {
                let number = usize::try_from(*number).ok()?;
                self.base.entries().get(number).filter(|entry| entry.path == *path)?;
                Some(number)
            }
        };
        let from =
            base.map(|number| self.base.entries()[number].file().map(|info| (number, *info)));
        let info = FileInfo { size: content.size, mtime, digest: UNKNOWN };
        match (content.codec, from) {
            (Codec::Copy, Some(Some((number, old)))) if content.base.is_some() => {
                Some((FileInfo { size: old.size, mtime, digest: old.digest }, How::Keep(number)))
            }
            (Codec::Copy | Codec::Again, _) | (_, Some(None)) => None,
            (Codec::Full, _) => {
                let (codec, check) = (Codec::Full, content.check);
                Some((info, How::Travel { codec, base: None, check }))
            }
            (codec, Some(Some((number, _)))) => {
                Some((info, How::Travel { codec, base: Some(number), check: content.check }))
            }
            (_, None) => None,
        }
    }
}
