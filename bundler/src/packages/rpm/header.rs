//! A package's header, as rpm's database has it (rpm.org, "RPM v4 header format"): an
//! index of tags, each with its type, offset and count, then the values.

use std::collections::{BTreeMap, HashMap};

use super::DatabaseError;

/// The most tags of a header (`HEADER_TAGS_MAX` of rpm).
const MAX_TAGS: usize = 0xffff;
/// The most values that are looked at of one tag, such as files of a package.
const MAX_VALUES: usize = 1_000_000;
/// The region that all tags of a package belong to, and its size.
const REGION: u32 = 63;
const REGION_SIZE: u32 = 16;

// Types of values (`rpmTagType_e`).
const CHAR: u32 = 1;
const INT8: u32 = 2;
const INT16: u32 = 3;
const INT32: u32 = 4;
const INT64: u32 = 5;
const STRING: u32 = 6;
const BINARY: u32 = 7;
const STRINGS: u32 = 8;
const TRANSLATED: u32 = 9;

// Tags (`rpmTag_e`, rpm.org, "Tags").
pub(super) const SIGMD5: u32 = 261;
pub(super) const NAME: u32 = 1000;
pub(super) const VERSION: u32 = 1001;
pub(super) const RELEASE: u32 = 1002;
pub(super) const EPOCH: u32 = 1003;
/// Without it rpm takes a header for damaged.
pub(super) const BUILDTIME: u32 = 1006;
pub(super) const SIZE: u32 = 1009;
pub(super) const VENDOR: u32 = 1011;
pub(super) const LICENSE: u32 = 1014;
pub(super) const ARCH: u32 = 1022;
pub(super) const FILESIZES: u32 = 1028;
pub(super) const FILESTATES: u32 = 1029;
pub(super) const FILEMODES: u32 = 1030;
pub(super) const FILEDIGESTS: u32 = 1035;
pub(super) const FILEFLAGS: u32 = 1037;
pub(super) const FILEUSERNAME: u32 = 1039;
pub(super) const FILEGROUPNAME: u32 = 1040;
pub(super) const SOURCERPM: u32 = 1044;
pub(super) const DIRINDEXES: u32 = 1116;
pub(super) const BASENAMES: u32 = 1117;
pub(super) const DIRNAMES: u32 = 1118;
pub(super) const FILEDIGESTALGO: u32 = 5011;
pub(super) const MODULARITYLABEL: u32 = 5096;

/// What scanners read of a package itself.
const OF_PACKAGE: [u32; 13] = [
    SIGMD5,
    NAME,
    VERSION,
    RELEASE,
    EPOCH,
    BUILDTIME,
    SIZE,
    VENDOR,
    LICENSE,
    ARCH,
    SOURCERPM,
    FILEDIGESTALGO,
    MODULARITYLABEL,
];
/// What they read of each of its files, with a value for each.
const OF_FILES: [u32; 7] =
    [FILESIZES, FILEMODES, FILEDIGESTS, FILEFLAGS, FILEUSERNAME, FILEGROUPNAME, BASENAMES];

/// A header, of which only the index has been looked at.
#[derive(Clone, Debug)]
pub struct Header<'a> {
    tags: BTreeMap<u32, Value<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Value<'a> {
    kind: u32,
    count: usize,
    /// From its first byte to the end of the header.
    data: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the index of `blob`.
    ///
    /// # Errors
    /// Where it does not fit into the blob.
    pub fn parse(blob: &'a [u8]) -> Result<Self, DatabaseError> {
        let damaged = DatabaseError::Damaged("header of a package");
        let length = |at| word(blob, at).and_then(|length| usize::try_from(length).ok());
        let (Some(count), Some(size)) = (length(0), length(4)) else { return Err(damaged) };
        let rest = blob.get(8..).unwrap_or_default();
        let parts = rest.split_at_checked(count.min(MAX_TAGS + 1) * 16);
        let Some((index, data)) = parts.filter(|(_, data)| data.len() >= size) else {
            return Err(damaged);
        };
        let data = data.get(..size).unwrap_or_default();
        let mut tags = BTreeMap::new();
        for entry in index.chunks_exact(16) {
            let field = |at| word(entry, at).unwrap_or_default();
            let at = usize::try_from(field(8)).unwrap_or(usize::MAX);
            let Some(data) = data.get(at..) else { return Err(damaged) };
            let count = usize::try_from(field(12)).unwrap_or(usize::MAX);
            // What comes after the region stands for what is in it.
            tags.insert(field(0), Value { kind: field(4), count, data });
        }
        Ok(Header { tags })
    }

    /// The text of a tag, the one that is not translated; nothing where it is absent.
    pub(super) fn text(&self, tag: u32) -> Option<&'a [u8]> {
        self.strings(tag).next()
    }

    /// The first number of a tag.
    pub(super) fn number(&self, tag: u32) -> Option<u32> {
        self.numbers(tag).next()
    }

    /// The texts of a tag.
    pub(super) fn strings(&self, tag: u32) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let value = self.tags.get(&tag).filter(|value| is_text(value.kind));
        let (mut rest, count) = value.map_or((&[][..], 0), |value| (value.data, value.count));
        let next = move || {
            let end = rest.iter().position(|&byte| byte == 0)?;
            let (text, after) = rest.split_at_checked(end)?;
            rest = after.get(1..).unwrap_or_default();
            Some(text)
        };
        std::iter::from_fn(next).take(count.min(MAX_VALUES))
    }

    /// The numbers of a tag of up to 32 bits.
    pub(super) fn numbers(&self, tag: u32) -> impl Iterator<Item = u32> + use<'a> {
        let value = self.tags.get(&tag).filter(|value| !is_text(value.kind));
        let size = value.and_then(|value| width(value.kind)).filter(|&size| size <= 4);
        let bytes = value.zip(size).and_then(|(value, _)| value.bytes()).unwrap_or_default();
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte));
        bytes.chunks_exact(size.unwrap_or(1)).take(MAX_VALUES).map(number)
    }

    /// The paths of its files with the place of each in the lists, as far as their names
    /// and directories are there.
    pub fn files(&self) -> impl Iterator<Item = (usize, Vec<u8>)> {
        let directories: Vec<&[u8]> = self.strings(DIRNAMES).collect();
        let names = self.strings(BASENAMES).zip(self.numbers(DIRINDEXES)).enumerate();
        names.filter_map(move |(place, (name, directory))| {
            let directory = directories.get(usize::try_from(directory).ok()?)?;
            Some((place, [directory, name].concat()))
        })
    }

    /// A header that says of the package what scanners ask, and has only those files
    /// that are kept.
    pub fn cut(&self, mut is_kept: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        let files = self.files().filter(|(_, path)| is_kept(path));
        let kept: Vec<usize> = files.map(|(place, _)| place).collect();
        let mut tags = BTreeMap::new();
        for tag in OF_PACKAGE {
            let value = self.tags.get(&tag);
            if let Some((value, bytes)) = value.and_then(|value| Some((value, value.bytes()?))) {
                tags.insert(tag, (value.kind, value.count, bytes.to_vec()));
            }
        }
        for tag in OF_FILES {
            if let Some(value) = self.tags.get(&tag)
                && let Some(bytes) = value.only(&kept)
            {
                tags.insert(tag, (value.kind, kept.len(), bytes));
            }
        }
        if !kept.is_empty() {
            let (directories, indexes) = self.directories(&kept);
            tags.insert(DIRINDEXES, (INT32, kept.len(), indexes));
            tags.insert(DIRNAMES, directories);
        }
        write(&tags)
    }

    /// The directories of these files, and for each file which of them it lies in.
    fn directories(&self, kept: &[usize]) -> ((u32, usize, Vec<u8>), Vec<u8>) {
        let names: Vec<&[u8]> = self.strings(DIRNAMES).collect();
        let of_files: Vec<u32> = self.numbers(DIRINDEXES).collect();
        let mut new: HashMap<u32, u32> = HashMap::new();
        let (mut texts, mut indexes) = (Vec::new(), Vec::new());
        for old in kept.iter().filter_map(|&place| of_files.get(place)) {
            let next = u32::try_from(new.len()).unwrap_or(u32::MAX);
            let place = *new.entry(*old).or_insert_with(|| {
                let name = usize::try_from(*old).ok().and_then(|old| names.get(old));
                texts.extend_from_slice(name.copied().unwrap_or_default());
                texts.push(0);
                next
            });
            indexes.extend(place.to_be_bytes());
        }
        ((STRINGS, new.len(), texts), indexes)
    }
}

impl<'a> Value<'a> {
    /// All of its bytes; nothing where they end too early, or its type is unknown.
    fn bytes(self) -> Option<&'a [u8]> {
        let count = Some(self.count).filter(|&count| (1..=MAX_VALUES).contains(&count))?;
        let length = match width(self.kind) {
            Some(width) => count.checked_mul(width)?,
            None if is_text(self.kind) => {
                let ends = self.data.iter().enumerate().filter(|(_, byte)| **byte == 0);
                ends.map(|(at, _)| at + 1).nth(count - 1)?
            }
            None => return None,
        };
        self.data.get(..length)
    }

    /// The values of these places; nothing where one of them is not there.
    fn only(self, places: &[usize]) -> Option<Vec<u8>> {
        let bytes = self.bytes().filter(|_| !places.is_empty())?;
        let values: Vec<&[u8]> = match width(self.kind) {
            Some(width) => bytes.chunks_exact(width).collect(),
            None => bytes.split_inclusive(|&byte| byte == 0).collect(),
        };
        let mut only = Vec::new();
        for &place in places {
            only.extend_from_slice(values.get(place)?);
        }
        Some(only)
    }
}

/// Bytes of a value of a type that has a fixed number of them.
fn width(kind: u32) -> Option<usize> {
    match kind {
        CHAR | INT8 | BINARY => Some(1),
        INT16 => Some(2),
        INT32 => Some(4),
        INT64 => Some(8),
        _ => None,
    }
}

fn is_text(kind: u32) -> bool {
    matches!(kind, STRING | STRINGS | TRANSLATED)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Writes a header of these tags: type, count and bytes of each.
fn write(tags: &BTreeMap<u32, (u32, usize, Vec<u8>)>) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let entry = |tag: u32, kind: u32, at: [u8; 4], count: [u8; 4]| {
        [tag.to_be_bytes(), kind.to_be_bytes(), at, count].concat()
    };
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (&tag, (kind, count, bytes)) in tags {
        let align = width(*kind).unwrap_or(1);
        data.resize(data.len().next_multiple_of(align), 0);
        index.extend(entry(tag, *kind, number(data.len()), number(*count)));
        data.extend_from_slice(bytes);
    }
    // The region begins with its own entry, and ends with one that leads back to the first.
    let region = entry(REGION, BINARY, number(data.len()), REGION_SIZE.to_be_bytes());
    let length = u32::try_from(16 * (tags.len() + 1)).unwrap_or_default();
    let back = length.wrapping_neg().to_be_bytes();
    data.extend(entry(REGION, BINARY, back, REGION_SIZE.to_be_bytes()));
    [&number(tags.len() + 1)[..], &number(data.len()), &region, &index, &data].concat()
}
