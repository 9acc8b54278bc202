//! The records of a container: the target's manifest coded against the base's, and
//! how each file travels.
//!
//! The `Manifest` stream has the number of records (LEB128, as all integers here)
//! and then the records, which go through base and target side by side, both in
//! order. The low two bits of a record's first byte say what it does:
//!
//! | bits | record  | the six bits above, and what follows                        |
//! |-----:|---------|-------------------------------------------------------------|
//! |    0 | keep    | how many entries are as in the base; 0: the number follows  |
//! |    1 | drop    | how many entries of the base are gone; 0: the number follows |
//! |    2 | change  | the next entry of the base with other fields: by bit 1 mode, 2 uid and gid, 4 mtime (signed difference), 8 mtime as in the last record that had one, 16 name and content, 32 extended attributes |
//! |    2 | touch   | 8 alone: a number of entries follows, the regular files among which get the mtime of the last record that had one |
//! |    3 | new     | bits 1–4 kind, 8: same mode, uid, gid as the last new entry of its kind, 16 extended attributes; name; mode, uid, gid; then file: mtime (signed difference to the last record that had one), content; link: target; device: major, minor |
//!
//! A name is how many bytes it shares with the start of the one before, how many
//! follow, and those. Extended attributes are their number, then names and values,
//! each with its length. Content is:
//!
//! | bytes | what                                                               |
//! |------:|--------------------------------------------------------------------|
//! |     1 | codec: 0 copy, 1 full, 2 split, 3 elf, 4 vcdiff, 5 again; 128 added: the base is another entry than the changed one |
//! |  1..9 | that other base: its number in the base's order (for again: in the target's), its name |
//! |  1..9 | size                                                               |
//! |  1..9 | about how many bytes it takes in this container (not for copy, again) |
//! |     4 | first bytes of the SHA-256 of the content (not for copy, again)    |
//!
//! Those four bytes tell which file came out wrong; that all is right, the digest of
//! the tree tells.

use crate::manifest::MAX_PATH;
use crate::plan::PLANNED;
use crate::{Error, Stream, StreamReader, Streams};

/// How the content of a file travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Codec {
    /// It is the content of another file of the base.
    Copy = 0,
    /// As it is.
    Full = 1,
    /// As copied stretches with small differences.
    Split = 2,
    /// As an executable, by what it refers to.
    Elf = 3,
    /// As a VCDIFF file.
    Vcdiff = 4,
    /// It is the content of an earlier file of the target.
    Again = 5,
}

impl Codec {
    /// What it is called in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Codec::Copy => "copy",
            Codec::Full => "full",
            Codec::Split => "split",
            Codec::Elf => "elf",
            Codec::Vcdiff => "vcdiff",
            Codec::Again => "again",
        }
    }

    /// Whether nothing of the content travels.
    fn is_copy(self) -> bool {
        matches!(self, Codec::Copy | Codec::Again)
    }

    fn of(number: u8) -> Option<Self> {
        let all = [Codec::Copy, Codec::Full, Codec::Split, Codec::Elf, Codec::Vcdiff, Codec::Again];
        all.into_iter().find(|codec| *codec as u8 == number)
    }
}

/// The content of a file that is not as it was at its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// How it travels.
    pub codec: Codec,
    /// Number and path of the entry of the base that it is made from, where that
    /// is not the entry it changes; for [`Codec::Again`] of the target.
    pub base: Option<(u64, Vec<u8>)>,
    /// Bytes of content.
    pub size: u64,
    /// About how many bytes of the container are its own.
    pub cost: u64,
    /// First bytes of its SHA-256.
    pub check: [u8; 4],
}

/// Mode, uid and gid.
pub(crate) type Access = (u32, u32, u32);
/// Names and values of extended attributes.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// So many entries are as in the base.
    Keep(u64),
    /// So many entries of the base are gone.
    Drop(u64),
    /// So many entries are as in the base, but the files among them have the mtime
    /// of the last record that had one.
    Touch(u64),
    /// An entry of the base with other fields.
    Change(Change),
    /// An entry that the base has not.
    New(New),
}

/// The fields in which an entry differs from the base's; the rest stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Its path, told only with content, and else empty.
    pub path: Vec<u8>,
    /// Its mode.
    pub mode: Option<u32>,
    /// Its uid and gid.
    pub owner: Option<(u32, u32)>,
    /// Its mtime.
    pub mtime: Option<Mtime>,
    /// Its content.
    pub content: Option<Content>,
    /// Its extended attributes.
    pub xattrs: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// How a changed mtime is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtime {
    /// Seconds after the base's.
    After(i64),
    /// The same as in the last record that had one.
    Last,
}

/// An entry that the base has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    /// Its path.
    pub path: Vec<u8>,
    /// Mode, uid and gid; `None`: those of the last new entry of its kind.
    pub access: Option<(u32, u32, u32)>,
    /// What it is.
    pub kind: NewKind,
    /// Its extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a new entry is; the numbers are [`crate::Kind::number`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewKind {
    /// A file: its mtime less that of the last record that had one, and its content.
    File(i64, Content),
    /// A symbolic (2) or hard (3) link and its target.
    Link(u8, Vec<u8>),
    /// A character (6) or block (7) device, major and minor.
    Device(u8, u32, u32),
    /// A directory (1), fifo (4) or socket (5).
    Plain(u8),
}

/// Bit of a change: mtime as in the last record that had one.
const LAST_MTIME: u8 = 8;
const STREAM: Stream = Stream::Manifest;
const IMPOSSIBLE: Error = Error::Impossible(STREAM);

/// Appends `records` to their stream.
pub(crate) fn write(records: &[Record], streams: &mut Streams) {
    streams.put_u64(STREAM, records.len() as u64);
    let mut out = Writer { streams, name: Vec::new() };
    for record in records {
        match record {
            Record::Keep(n) => out.count(0, *n),
            Record::Drop(n) => out.count(1, *n),
            Record::Touch(n) => {
                out.streams.put_byte(STREAM, 2 | LAST_MTIME << 2);
                out.number(*n);
            }
            Record::Change(change) => out.change(change),
            Record::New(new) => out.new_entry(new),
        }
    }
}

struct Writer<'a> {
    streams: &'a mut Streams,
    name: Vec<u8>,
}

impl Writer<'_> {
    fn count(&mut self, tag: u8, n: u64) {
        match u8::try_from(n) {
            Ok(small @ 1..=63) => self.streams.put_byte(STREAM, tag | small << 2),
            _ => {
                self.streams.put_byte(STREAM, tag);
                self.number(n);
            }
        }
    }

    fn change(&mut self, change: &Change) {
        let bits = [
            change.mode.is_some(),
            change.owner.is_some(),
            matches!(change.mtime, Some(Mtime::After(_))),
            matches!(change.mtime, Some(Mtime::Last)),
            change.content.is_some(),
            change.xattrs.is_some(),
        ];
        let mask = bits.iter().rev().fold(0, |mask, bit| mask << 1 | u8::from(*bit));
        self.streams.put_byte(STREAM, 2 | mask << 2);
        if let Some(mode) = change.mode {
            self.number(mode.into());
        }
        if let Some((uid, gid)) = change.owner {
            self.number(uid.into());
            self.number(gid.into());
        }
        if let Some(Mtime::After(seconds)) = change.mtime {
            self.streams.put_i64(STREAM, seconds);
        }
        if let Some(content) = &change.content {
            self.path(&change.path);
            self.content(content);
        }
        if let Some(xattrs) = &change.xattrs {
            self.xattrs(xattrs);
        }
    }

    fn new_entry(&mut self, new: &New) {
        let kind = match new.kind {
            NewKind::File(..) => 0,
            NewKind::Link(kind, _) | NewKind::Device(kind, ..) | NewKind::Plain(kind) => kind,
        };
        let (same, xattrs) = (u8::from(new.access.is_none()), u8::from(!new.xattrs.is_empty()));
        self.streams.put_byte(STREAM, 3 | (kind | same << 3 | xattrs << 4) << 2);
        self.path(&new.path);
        if let Some((mode, uid, gid)) = new.access {
            [mode, uid, gid].into_iter().for_each(|n| self.number(n.into()));
        }
        match &new.kind {
            NewKind::File(mtime, content) => {
                self.streams.put_i64(STREAM, *mtime);
                self.content(content);
            }
            NewKind::Link(_, target) => self.bytes(target),
            NewKind::Device(_, major, minor) => {
                self.number((*major).into());
                self.number((*minor).into());
            }
            NewKind::Plain(_) => {}
        }
        if !new.xattrs.is_empty() {
            self.xattrs(&new.xattrs);
        }
    }

    fn content(&mut self, content: &Content) {
        let other = if content.base.is_some() { 0x80 } else { 0 };
        self.streams.put_byte(STREAM, content.codec as u8 | other);
        if let Some((number, path)) = &content.base {
            self.number(*number);
            self.path(path);
        }
        self.number(content.size);
        if !content.codec.is_copy() {
            self.number(content.cost);
            self.streams.put(STREAM, &content.check);
        }
    }

    fn path(&mut self, path: &[u8]) {
        let shared = self.name.iter().zip(path).take_while(|(a, b)| a == b).count();
        self.number(shared as u64);
        self.bytes(&path[shared..]);
        self.name = path.to_vec();
    }

    fn xattrs(&mut self, xattrs: &[(Vec<u8>, Vec<u8>)]) {
        self.number(xattrs.len() as u64);
        for (name, value) in xattrs {
            self.bytes(name);
            self.bytes(value);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.streams.put(STREAM, bytes);
    }

    fn number(&mut self, value: u64) {
        self.streams.put_u64(STREAM, value);
    }
}

/// Reads the records one by one.
pub(crate) struct Reader<'r, 'a> {
    input: &'r mut StreamReader<'a>,
    /// How many are left.
    left: u64,
    name: Vec<u8>,
    room: u64,
    limit: u64,
}

/// What one record takes, as it is or as the entry that it becomes, without its strings.
const HELD: usize = if size_of::<Record>() > PLANNED { size_of::<Record>() } else { PLANNED };

/// What an allocation takes besides its bytes: glibc's malloc has a head of 8 bytes
/// and rounds up to 16.
const ALLOCATION: usize = 24;

impl<'r, 'a> Reader<'r, 'a> {
    /// Begins with the number of records; `limit` bounds the bytes of memory that they
    /// and what becomes of them take together.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Impossible`], [`Error::ReadStreams`].
    pub(crate) fn open(input: &'r mut StreamReader<'a>, limit: u64) -> Result<Self, Error> {
        let left = input.u64(STREAM)?;
        Ok(Self { input, left, name: Vec::new(), room: limit, limit })
    }

    /// The most records that can still come.
    pub(crate) fn most(&self) -> usize {
        usize::try_from(self.left.min(self.room / HELD as u64)).unwrap_or(0)
    }

    /// The next record; nothing behind the last.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Impossible`], [`Error::TooLarge`], [`Error::ReadStreams`].
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.spend(HELD)?;
        self.record().map(Some)
    }

    fn record(&mut self) -> Result<Record, Error> {
        let first = self.input.byte(STREAM)?;
        let bits = first >> 2;
        Ok(match first & 3 {
            0 => Record::Keep(self.count(bits)?),
            1 => Record::Drop(self.count(bits)?),
            2 if bits == LAST_MTIME => Record::Touch(self.input.u64(STREAM)?),
            2 => Record::Change(self.change(bits)?),
            _ => Record::New(self.new_entry(bits)?),
        })
    }

    fn count(&mut self, small: u8) -> Result<u64, Error> {
        if small > 0 { Ok(small.into()) } else { self.input.u64(STREAM) }
    }

    fn change(&mut self, mask: u8) -> Result<Change, Error> {
        let bit = |n: u8| mask >> n & 1 == 1;
        if bit(2) && bit(3) {
            return Err(IMPOSSIBLE);
        }
        let mut path = Vec::new();
        Ok(Change {
            mode: bit(0).then(|| self.number()).transpose()?,
            owner: bit(1).then(|| Ok((self.number()?, self.number()?))).transpose()?,
            mtime: match (bit(2), bit(3)) {
                (true, _) => Some(Mtime::After(self.input.i64(STREAM)?)),
                (_, true) => Some(Mtime::Last),
                _ => None,
            },
            content: match bit(4) {
                true => {
                    path = self.path()?;
                    Some(self.content()?)
                }
                false => None,
            },
            xattrs: bit(5).then(|| self.xattrs()).transpose()?,
            path,
        })
    }

    fn new_entry(&mut self, bits: u8) -> Result<New, Error> {
        let path = self.path()?;
        let access = match bits >> 3 & 1 {
            1 => None,
            _ => Some((self.number()?, self.number()?, self.number()?)),
        };
        let kind = match bits & 7 {
            0 => NewKind::File(self.input.i64(STREAM)?, self.content()?),
            kind @ (2 | 3) => NewKind::Link(kind, self.bytes(MAX_PATH)?),
            kind @ (6 | 7) => NewKind::Device(kind, self.number()?, self.number()?),
            kind => NewKind::Plain(kind),
        };
        let xattrs = if bits >> 4 & 1 == 1 { self.xattrs()? } else { Vec::new() };
        match bits >> 5 {
            0 => Ok(New { path, access, kind, xattrs }),
            _ => Err(IMPOSSIBLE),
        }
    }

    fn content(&mut self) -> Result<Content, Error> {
        let first = self.input.byte(STREAM)?;
        let codec = Codec::of(first & 0x7f).ok_or(IMPOSSIBLE)?;
        let base = match first & 0x80 {
            0 => None,
            _ => Some((self.input.u64(STREAM)?, self.path()?)),
        };
        let size = self.input.u64(STREAM)?;
        let (mut cost, mut check) = (0, [0; 4]);
        if !codec.is_copy() {
            cost = self.input.u64(STREAM)?;
            self.input.take(STREAM, &mut check)?;
        }
        Ok(Content { codec, base, size, cost, check })
    }

    fn path(&mut self) -> Result<Vec<u8>, Error> {
        let shared = usize::try_from(self.input.u64(STREAM)?).ok();
        let shared = shared.filter(|n| *n <= self.name.len()).ok_or(IMPOSSIBLE)?;
        let rest = self.bytes(MAX_PATH - shared)?;
        if rest.is_empty() && shared > 0 {
            self.spend(ALLOCATION)?;
        }
        self.spend(shared)?;
        self.name.truncate(shared);
        self.name.extend_from_slice(&rest);
        Ok(self.name.clone())
    }

    fn xattrs(&mut self) -> Result<Xattrs, Error> {
        let count = self.input.u64(STREAM)?;
        let mut xattrs = Vec::new();
        for _ in 0..count {
            // The list of them grows by doubling.
            self.spend(2 * size_of::<(Vec<u8>, Vec<u8>)>() + ALLOCATION)?;
            xattrs.push((self.bytes(MAX_PATH)?, self.bytes(MAX_PATH)?));
        }
        Ok(xattrs)
    }

    fn bytes(&mut self, longest: usize) -> Result<Vec<u8>, Error> {
        let len = usize::try_from(self.input.u64(STREAM)?).ok();
        let len = len.filter(|n| *n <= longest).ok_or(IMPOSSIBLE)?;
        if len > 0 {
            self.spend(len + ALLOCATION)?;
        }
        let mut bytes = vec![0; len];
        self.input.take(STREAM, &mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, Error> {
        u32::try_from(self.input.u64(STREAM)?).map_err(|_| IMPOSSIBLE)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Error> {
        let (size, limit) = (bytes as u64, self.limit);
        let too_large =
            || Error::TooLarge { what: "records", size: limit.saturating_add(size), limit };
        self.room = self.room.checked_sub(size).ok_or_else(too_large)?;
        Ok(())
    }
}
