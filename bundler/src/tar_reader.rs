//! Reads tars from strangers, member by member: V7, ustar, pax and GNU's, with
//! long names, extended attributes and sparse files.
//!
//! The `tar` crate gives the header blocks. Its own iteration keeps headers of
//! any length in memory, knows no sparse files in the pax format, and gives no
//! sizes of pax headers where it is asked for raw members.
//!
//! Where readers differ, this one does as Go's `archive/tar`, which podman and
//! docker read layers with: global pax headers do not count, links and
//! directories have no content whatever their size says, and a GNU long name
//! wins over a pax one.

mod pax;
mod sparse;
#[cfg(test)]
mod tests;

use std::io::{self, Read};

use crate::tar_header::{BLOCK, Xattrs, padding};
use pax::Records;

/// Longest pax header, long name or map of a sparse file in bytes, as in Go's
/// `archive/tar`. Longer ones would only serve to fill our memory.
const MAX_SPECIAL: u64 = 1 << 20;

/// Why a tar cannot be read on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The bytes did not come.
    #[error("cannot read the tar")]
    Read(#[source] io::Error),
    /// The bytes end in the middle of a member.
    #[error("the tar ends in the middle of a member")]
    Truncated,
    /// What should be a header is none.
    #[error("there is no header of a tar at byte {0}")]
    Header(u64),
    /// A number in a header is none or makes no sense.
    #[error("the {field} of `{}` is no such number", name.escape_ascii())]
    Number {
        /// The member.
        name: Vec<u8>,
        /// What the number should say.
        field: &'static str,
    },
    /// A pax header does not have the form.
    #[error("the pax header at byte {0} is malformed")]
    Pax(u64),
    /// A pax header, a long name or a sparse map is over 1 MiB.
    #[error("the header at byte {0} is over 1 MiB")]
    TooLong(u64),
    /// The map of a sparse file is wrong.
    #[error("`{}` has a wrong map of its holes", .0.escape_ascii())]
    Sparse(Vec<u8>),
    /// A member of a type that no layer can have.
    #[error("`{}` is of the unknown type `{}`", name.escape_ascii(), kind.escape_ascii())]
    Kind {
        /// The member.
        name: Vec<u8>,
        /// Its type flag.
        kind: u8,
    },
}

/// Seconds since 1970 and nanoseconds on top of them.
pub type Time = (i64, u32);

/// A file, link or directory in a tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name as it stands there.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// Last modification.
    pub mtime: Time,
    /// Bytes of content, holes included; 0 of what is no file.
    pub size: u64,
    /// The `SCHILY.xattr.` records, sorted.
    pub xattrs: Xattrs,
    /// Whether it comes with access control lists in star's textual form, which
    /// are not read.
    pub textual_acl: bool,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with this target.
    Symlink(Vec<u8>),
    /// Another name of the member with this name.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device with its major and minor number.
    CharDevice(u32, u32),
    /// A block device with its major and minor number.
    BlockDevice(u32, u32),
}

/// Reads a tar front to back.
#[derive(Debug)]
pub struct TarReader<R> {
    inner: R,
    skip: fn(&mut R, u64) -> io::Result<()>,
    /// Bytes that were read or skipped.
    position: u64,
    /// Bytes up to the next header.
    left: u64,
    /// Where the content that is still to come belongs: offset and length; the
    /// next one last.
    parts: Vec<(u64, u64)>,
    sparse: bool,
}

/// What special headers said of the member that follows them.
#[derive(Default)]
struct Ahead {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Records,
}

impl<R: Read> TarReader<R> {
    /// Starts at the beginning of a tar.
    pub fn new(inner: R) -> Self {
        TarReader::with_skip(inner, |inner, count| {
            let skipped = io::copy(&mut inner.by_ref().take(count), &mut io::sink())?;
            if skipped < count { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
        })
    }

    /// As [`TarReader::new`]; `skip` passes over bytes that are not wanted.
    pub fn with_skip(inner: R, skip: fn(&mut R, u64) -> io::Result<()>) -> Self {
        TarReader { inner, skip, position: 0, left: 0, parts: Vec::new(), sparse: false }
    }

    /// What it reads from, wherever it stands in it.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Bytes from the beginning of the tar to where it stands: after
    /// [`TarReader::next_member`] the start of the member's content.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the member has holes, so that its content is not one piece.
    pub fn is_sparse(&self) -> bool {
        self.sparse
    }

    /// Goes to the next member, past what was not read of this one's content;
    /// nothing at the end of the tar.
    ///
    /// # Errors
    /// Where the tar is broken off or malformed.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        let mut ahead = Ahead::default();
        loop {
            self.pass(self.left)?;
            let at = self.position;
            let Some(header) = self.header()? else { return Ok(None) };
            let name = header.path_bytes().into_owned();
            let size = number(&header.as_old().size)
                .and_then(|size| u64::try_from(size).ok())
                .ok_or_else(|| TarError::Number { name: name.clone(), field: "size" })?;
            match header.as_old().linkflag[0] {
                b'x' => {
                    let text = self.special(size, at)?;
                    ahead.records = Records::parse(&text).ok_or(TarError::Pax(at))?;
                }
                b'L' => ahead.name = Some(until_nul(&self.special(size, at)?)),
                b'K' => ahead.link = Some(until_nul(&self.special(size, at)?)),
                b'g' => self.left = padded(size).ok_or(TarError::Header(at))?,
                kind => return self.member(&header, kind, name, size, ahead).map(Some),
            }
        }
    }

    /// Reads on in the member's content: where in the file the bytes belong, and
    /// how many of `buf` they fill; nothing at its end. What no bytes come for
    /// is a hole.
    ///
    /// # Errors
    /// When the tar is broken off.
    pub fn content(&mut self, buf: &mut [u8]) -> Result<Option<(u64, usize)>, TarError> {
        loop {
            let Some((offset, length)) = self.parts.pop() else { return Ok(None) };
            if length == 0 {
                continue;
            }
            let limit = usize::try_from(length).unwrap_or(usize::MAX).min(buf.len());
            let buf = buf.get_mut(..limit).unwrap_or_default();
            let count = self.read(buf)?;
            if count == 0 {
                return Err(TarError::Truncated);
            }
            self.left = self.left.saturating_sub(count as u64);
            self.parts.push((offset + count as u64, length - count as u64));
            return Ok(Some((offset, count)));
        }
    }

    fn member(
        &mut self,
        header: &tar::Header,
        flag: u8,
        name: Vec<u8>,
        size: u64,
        mut ahead: Ahead,
    ) -> Result<Member, TarError> {
        let pax = &mut ahead.records;
        let sparse_name = pax.sparse.name.take();
        let name = ahead.name.or(sparse_name).or(pax.path.take()).unwrap_or(name);
        let wrong = |field| TarError::Number { name: name.clone(), field };
        let link = || {
            let there = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
            ahead.link.or(pax.linkpath.take()).or_else(there).unwrap_or_default()
        };
        let device = || {
            let field = |field: &[u8]| number(field).and_then(|n| u32::try_from(n).ok());
            let ustar = header.as_ustar().map(|h| (field(&h.dev_major), field(&h.dev_minor)));
            let gnu = || header.as_gnu().map(|h| (field(&h.dev_major), field(&h.dev_minor)));
            match ustar.or_else(gnu) {
                Some((Some(major), Some(minor))) => Ok((major, minor)),
                _ => Err(wrong("device")),
            }
        };
        let kind = match flag {
            0 if name.last() == Some(&b'/') => MemberKind::Directory,
            0 | b'0' | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::HardLink(link()),
            b'2' => MemberKind::Symlink(link()),
            b'3' => device().map(|(major, minor)| MemberKind::CharDevice(major, minor))?,
            b'4' => device().map(|(major, minor)| MemberKind::BlockDevice(major, minor))?,
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            kind => return Err(TarError::Kind { name, kind }),
        };
        let old = header.as_old();
        let id = |said: &Option<Vec<u8>>, field: &[u8], what| {
            let id = match said {
                Some(said) => pax::decimal(said),
                None => number(field).and_then(|id| u64::try_from(id).ok()),
            };
            // The highest one stands for "no id" in chown(2).
            let id = id.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX);
            id.ok_or_else(|| wrong(what))
        };
        let (uid, gid) = (id(&pax.uid, &old.uid, "owner")?, id(&pax.gid, &old.gid, "group")?);
        let mode = number(&old.mode).ok_or_else(|| wrong("mode"))?;
        let mtime = match &pax.mtime {
            Some(said) => pax::time(said),
            None => number(&old.mtime).map(|seconds| (seconds, 0)),
        };
        let mtime = mtime.ok_or_else(|| wrong("modification time"))?;
        let size = match &pax.size {
            Some(said) => pax::decimal(said).ok_or_else(|| wrong("size"))?,
            None => size,
        };
        let mut member = Member {
            kind,
            mode: (mode & 0o7777) as u32,
            uid,
            gid,
            mtime,
            size: 0,
            xattrs: std::mem::take(&mut pax.xattrs).into_iter().collect(),
            textual_acl: pax.textual_acl,
            name,
        };
        (self.left, self.sparse) = (0, false);
        self.parts.clear();
        if member.kind == MemberKind::File {
            self.left = padded(size).ok_or(TarError::Header(self.position))?;
            self.lay_out(header, size, &ahead.records.sparse, &mut member)?;
        }
        Ok(member)
    }

    /// Finds where the `size` bytes that the tar has of `member` belong in it.
    fn lay_out(
        &mut self,
        header: &tar::Header,
        size: u64,
        said: &pax::Sparse,
        member: &mut Member,
    ) -> Result<(), TarError> {
        let wrong = || TarError::Sparse(member.name.clone());
        let gnu = header.as_gnu().filter(|_| header.as_old().linkflag[0] == b'S');
        let (real, stored, map) = if let Some(gnu) = gnu {
            let real = number(&gnu.realsize).and_then(|real| u64::try_from(real).ok());
            let map = self.gnu_map(gnu)?.ok_or_else(wrong)?;
            (real.ok_or_else(wrong)?, size, map)
        } else if said.is_version_1() {
            let (map, length) = self.map_in_content(size)?.ok_or_else(wrong)?;
            (said.size.ok_or_else(wrong)?, size.checked_sub(length).ok_or_else(wrong)?, map)
        } else if let Some(real) = said.size {
            (real, size, said.map.clone().ok_or_else(wrong)?)
        } else {
            member.size = size;
            self.parts.push((0, size));
            return Ok(());
        };
        if !sparse::is_sound(&map, real, stored) {
            return Err(wrong());
        }
        member.size = real;
        self.sparse = true;
        self.parts = map;
        self.parts.reverse();
        Ok(())
    }

    /// The next header that is no block of zeros.
    fn header(&mut self) -> Result<Option<tar::Header>, TarError> {
        let at = self.position;
        let mut header = tar::Header::new_old();
        let mut filled = 0;
        while filled < BLOCK {
            let count = self.read(header.as_mut_bytes().get_mut(filled..).unwrap_or_default())?;
            match count {
                0 if filled == 0 => return Ok(None),
                0 => return Err(TarError::Truncated),
                count => filled += count,
            }
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // POSIX.1-2017, pax, "ustar Interchange Format": the sum of all bytes,
        // those of the sum itself taken as blanks.
        let (front, back) = (bytes.get(..148), bytes.get(156..));
        let all = front.into_iter().chain(back).flatten();
        let sum = all.map(|byte| i64::from(*byte)).sum::<i64>() + 8 * i64::from(b' ');
        match number(&header.as_old().cksum) == Some(sum) {
            true => Ok(Some(header)),
            false => Err(TarError::Header(at)),
        }
    }

    /// The content of a header that speaks of the next member.
    fn special(&mut self, size: u64, at: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_SPECIAL {
            return Err(TarError::TooLong(at));
        }
        let text = self.exactly(size as usize)?;
        self.pass(padding(size) as u64)?;
        Ok(text)
    }

    fn exactly(&mut self, count: usize) -> Result<Vec<u8>, TarError> {
        let mut bytes = Vec::new();
        let read = self.inner.by_ref().take(count as u64).read_to_end(&mut bytes);
        self.position += read.map_err(TarError::Read)? as u64;
        if bytes.len() < count { Err(TarError::Truncated) } else { Ok(bytes) }
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, TarError> {
        loop {
            match self.inner.read(buf) {
                Ok(count) => {
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(TarError::Read(e)),
            }
        }
    }

    fn pass(&mut self, count: u64) -> Result<(), TarError> {
        if count > 0 {
            (self.skip)(&mut self.inner, count).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof if e.get_ref().is_none() => TarError::Truncated,
                _ => TarError::Read(e),
            })?;
            self.position += count;
        }
        self.left = 0;
        Ok(())
    }
}

/// `size` with what fills its last block.
fn padded(size: u64) -> Option<u64> {
    // A tar cannot be longer than a file can.
    size.checked_add(padding(size) as u64).filter(|size| i64::try_from(*size).is_ok())
}

fn until_nul(text: &[u8]) -> Vec<u8> {
    text.split(|&b| b == 0).next().unwrap_or_default().to_vec()
}

/// A number of a header: octal digits between blanks, none of them meaning 0, or,
/// as GNU has it, two's complement where the first bit is set.
fn number(field: &[u8]) -> Option<i64> {
    match field.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => {
            // The next bit is the sign.
            let negative = first & 0x40 != 0;
            let first = i64::from(*first & 0x3f) - if negative { 0x40 } else { 0 };
            rest.iter().try_fold(first, |sum, byte| {
                sum.checked_mul(256).and_then(|sum| sum.checked_add(i64::from(*byte)))
            })
        }
        _ => {
            let digits = until_nul(field);
            let digits = digits.trim_ascii();
            digits.iter().try_fold(0_i64, |sum, digit| match digit {
                b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
                _ => None,
            })
        }
    }
}
