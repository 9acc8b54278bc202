//! A tar that is read in place: what lies in it, and where.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::tar_reader::{MemberKind, TarError, TarReader};

/// More members than any image has; an index of them takes some 20 MB.
const MAX_MEMBERS: usize = 100_000;
/// Longest name in the index; those of images have some 80 bytes.
const MAX_NAME: usize = 1024;
/// Links that a member may lead over; `docker save` needs one.
const MAX_LINKS: usize = 8;

/// Why a file cannot be used as an archive.
#[derive(Debug, thiserror::Error)]
pub(in crate::image) enum ArchiveError {
    #[error("it is compressed with {0}: decompress it first")]
    Compressed(&'static str),
    #[error("it is no tar")]
    NotTar,
    #[error("it has more than {MAX_MEMBERS} members")]
    TooMany,
    #[error("{0}")]
    Read(io::Error),
    #[error("{0}")]
    Tar(TarError),
}

/// An open archive and an index of it.
#[derive(Debug)]
pub(in crate::image) struct Archive {
    file: Arc<File>,
    members: BTreeMap<Vec<u8>, Member>,
}

#[derive(Debug)]
enum Member {
    /// Where the content starts, and its length.
    Content(u64, u64),
    /// The name that it leads to.
    Link(Vec<u8>),
}

impl Archive {
    /// Reads the headers of the tar `file`, and none of its contents.
    pub(in crate::image) fn open(file: File) -> Result<Archive, ArchiveError> {
        let mut magic = [0; 8];
        let seen = file.read_at(&mut magic, 0).map_err(ArchiveError::Read)?;
        if let Some(name) = super::blob::compression(magic.get(..seen).unwrap_or_default()) {
            return Err(ArchiveError::Compressed(name.name()));
        }
        let file = Arc::new(file);
        let cursor = BufReader::with_capacity(4096, Part::new(&file, 0, u64::MAX));
        let mut tar = TarReader::with_skip(cursor, |cursor, count| {
            let buffered = cursor.buffer().len();
            let now = usize::try_from(count).unwrap_or(usize::MAX).min(buffered);
            cursor.consume(now);
            let at = cursor.get_ref().at.checked_add(count - now as u64);
            cursor.get_mut().at = at.ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok(())
        });
        let mut members = BTreeMap::new();
        loop {
            let member = match tar.next_member() {
                Ok(Some(member)) => member,
                Ok(None) if members.is_empty() => return Err(ArchiveError::NotTar),
                Ok(None) => break,
                Err(TarError::Header(0) | TarError::Truncated) if members.is_empty() => {
                    return Err(ArchiveError::NotTar);
                }
                Err(error) => return Err(ArchiveError::Tar(error)),
            };
            if member.name.len() > MAX_NAME {
                continue;
            }
            let name = normal(&member.name);
            let found = match member.kind {
                MemberKind::File if !tar.is_sparse() => {
                    Member::Content(tar.position(), member.size)
                }
                MemberKind::HardLink(target) if target.len() <= MAX_NAME => {
                    Member::Link(normal(&target))
                }
                MemberKind::Symlink(target) if target.len() <= MAX_NAME => {
                    Member::Link(beside(&name, &target))
                }
                _ => continue,
            };
            members.insert(name, found);
            if members.len() > MAX_MEMBERS {
                return Err(ArchiveError::TooMany);
            }
        }
        Ok(Archive { file, members })
    }

    /// Whether there is a file or link called `name`.
    pub(in crate::image) fn has(&self, name: &[u8]) -> bool {
        self.members.contains_key(name)
    }

    /// The content of the file `name`, over links.
    pub(super) fn read(&self, name: &[u8]) -> io::Result<Part> {
        let mut name = normal(name);
        for _ in 0..MAX_LINKS {
            match self.members.get(&name) {
                Some(Member::Content(start, length)) => {
                    let part = Part::new(&self.file, *start, *length);
                    // The index was made without looking at the contents.
                    let end = start.checked_add(*length);
                    let there = self.file.metadata()?.len();
                    return match end.is_some_and(|end| end <= there) {
                        true => Ok(part),
                        false => Err(io::ErrorKind::UnexpectedEof.into()),
                    };
                }
                Some(Member::Link(target)) => name.clone_from(target),
                None => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Err(io::Error::other("too many links"))
    }
}

/// A stretch of an open file.
#[derive(Debug)]
pub(super) struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Part {
    pub(super) fn new(file: &Arc<File>, at: u64, left: u64) -> Self {
        Part { file: Arc::clone(file), at, left }
    }

    /// Bytes that are still to be read.
    pub(super) fn len(&self) -> u64 {
        self.left
    }
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let read = self.file.read_at(buf.get_mut(..limit).unwrap_or_default(), self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Members are `a`, `./a`, `/a` or `a/`, as their writers like it.
fn normal(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|&b| b == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}

/// What the link `name` leads to, as text: there are no links to directories in
/// these archives.
fn beside(name: &[u8], target: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = name.split(|&b| b == b'/').collect();
    parts.pop();
    for part in target.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}
