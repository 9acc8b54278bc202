//! Contents that were received, until a revision is built of them.
//!
//! ```text
//! DIGEST         a whole content
//! DIGEST.part    the beginning of one
//! DIGEST.sums    its pieces: the length of each in 4 bytes, and the first 8 of its SHA-256
//! ```
//!
//! A power cut may take what was written last and leave zeros, so nothing counts
//! before it was hashed again: of a beginning, all pieces up to the first bad one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use delta::{Digest, ReadAt};
use sha2::{Digest as _, Sha256};

use crate::push::contents::Content;
use crate::push::frame::Type;
use crate::push::link::{Link, LinkError};
use crate::push::pieces::{Joiner, PIECE};
use crate::push::verify;
use crate::tree::{FileAt, each_chunk};

/// Written bytes after which they are synced.
const SYNC: u64 = 8 << 20;
/// Bytes of a record of `DIGEST.sums`.
const SUM: usize = 12;

/// Contents by their digest, in a folder.
pub(crate) struct Objects {
    dir: PathBuf,
}

impl Objects {
    pub(crate) fn open(dir: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        Ok(Objects { dir })
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    fn part(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.part"))
    }

    fn sums(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.sums"))
    }

    /// Whether the whole content is here; it is hashed again, and removed where it
    /// is not what it should be.
    pub(crate) fn has(&self, content: &Content) -> bool {
        let path = self.path(&content.digest);
        let look = || verify::hash(&FileAt::whole(File::open(&path)?)?);
        let whole = look().is_ok_and(|found| found == content.digest);
        if !whole {
            let _ = fs::remove_file(path);
        }
        whole
    }

    /// How many bytes of a content's beginning are here: pieces that are as they came.
    pub(crate) fn begun(&self, content: &Content) -> u64 {
        self.good_pieces(content).map_or(0, |pieces| pieces.iter().map(|(len, _)| len).sum())
    }

    fn good_pieces(&self, content: &Content) -> io::Result<Vec<(u64, [u8; SUM])>> {
        let part = FileAt::whole(File::open(self.part(&content.digest))?)?;
        let sums = fs::read(self.sums(&content.digest))?;
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        let mut good = Vec::new();
        for sum in sums.as_chunks::<SUM>().0 {
            let len = u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
            let Some(piece) = buffer.get_mut(..len as usize).filter(|p| !p.is_empty()) else {
                break;
            };
            // All of a content is no beginning: its last piece would never come.
            if at + u64::from(len) >= content.size || part.read_exact_at(piece, at).is_err() {
                break;
            }
            if sum_of(piece) != *sum {
                break;
            }
            at += u64::from(len);
            good.push((u64::from(len), *sum));
        }
        Ok(good)
    }
}

fn sum_of(piece: &[u8]) -> [u8; SUM] {
    let mut sum = [0; SUM];
    let (len, check) = sum.split_at_mut(4);
    len.copy_from_slice(&(piece.len() as u32).to_le_bytes());
    check.copy_from_slice(&Digest::of(piece).0[..8]);
    sum
}

/// Receives contents, each from its offset on, into `objects`. What was received of
/// them before is hashed too: a content is kept only whole and proved.
///
/// # Errors
/// When something else comes, or it cannot be kept.
pub(crate) fn receive_contents(
    link: &mut Link,
    objects: &Objects,
    wanted: &[(Content, u64)],
) -> anyhow::Result<()> {
    let counters = Arc::clone(&link.counters);
    let mut joiner = Joiner::new()?;
    let mut pending: &[u8] = &[];
    let mut piece;
    let mut unsynced = 0;
    for (content, offset) in wanted {
        let mut part = Part::begin(objects, content, *offset)?;
        while part.left > 0 {
            if pending.is_empty() {
                let frame = link.receive()?;
                if frame.kind != Type::Piece {
                    return Err(LinkError::Unexpected(frame.kind).into());
                }
                piece = joiner.open(&frame.payload)?.to_vec();
                pending = &piece;
            }
            let now = pending.len().min(usize::try_from(part.left).unwrap_or(usize::MAX));
            let (bytes, rest) = pending.split_at(now);
            part.write(bytes, &mut unsynced)
                .with_context(|| format!("cannot keep content {}", content.digest))?;
            pending = rest;
            counters.verified.fetch_add(now as u64, Ordering::Relaxed);
        }
        part.end()?;
    }
    match pending {
        [] => Ok(()),
        _ => bail!("more content came than was asked for"),
    }
}

/// A content on its way to the disk.
struct Part<'a> {
    objects: &'a Objects,
    content: Content,
    file: File,
    /// Only where it does not come in one piece.
    sums: Option<File>,
    hasher: Sha256,
    left: u64,
}

impl<'a> Part<'a> {
    fn begin(objects: &'a Objects, content: &Content, offset: u64) -> anyhow::Result<Self> {
        let path = objects.part(&content.digest);
        let left = content.size.checked_sub(offset).context("an offset is past its content")?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(offset == 0);
        let begin = || -> io::Result<Self> {
            let file = options.open(&path)?;
            let mut hasher = Sha256::new();
            let mut sums = None;
            if offset > 0 {
                file.set_len(offset)?;
                let mut list = File::create(objects.sums(&content.digest).with_extension("new"))?;
                let mut here = 0;
                for (len, sum) in objects.good_pieces(content)? {
                    here += len;
                    list.write_all(&sum)?;
                }
                if here != offset {
                    return Err(io::Error::other("what was here of it is not here any more"));
                }
                let aside = objects.sums(&content.digest).with_extension("new");
                fs::rename(aside, objects.sums(&content.digest))?;
                sums = Some(list);
                each_chunk(&FileAt::whole(file.try_clone()?)?, |chunk| {
                    hasher.update(chunk);
                    Ok(())
                })?;
            }
            io::Seek::seek(&mut &file, io::SeekFrom::Start(offset))?;
            Ok(Part { objects, content: *content, file, sums, hasher, left })
        };
        begin().with_context(|| format!("cannot write `{}`", path.display()))
    }

    fn write(&mut self, bytes: &[u8], unsynced: &mut u64) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.left -= bytes.len() as u64;
        if self.left > 0 {
            let sums = match &mut self.sums {
                Some(sums) => sums,
                none => none.insert(File::create(self.objects.sums(&self.content.digest))?),
            };
            sums.write_all(&sum_of(bytes))?;
        }
        *unsynced += bytes.len() as u64;
        if *unsynced >= SYNC {
            self.file.sync_data()?;
            *unsynced = 0;
        }
        Ok(())
    }

    fn end(self) -> anyhow::Result<()> {
        let part = self.objects.part(&self.content.digest);
        let remove_sums = || match self.sums {
            Some(_) => fs::remove_file(self.objects.sums(&self.content.digest)),
            None => Ok(()),
        };
        let found = Digest(self.hasher.finalize().into());
        if found != self.content.digest {
            remove_sums()?;
            fs::remove_file(&part)?;
            bail!(
                "a content came out as {found}, not as {}: did the bundle change while it was pushed?",
                self.content.digest
            );
        }
        // The sums go last: who is killed before that has a beginning or a whole.
        let path = self.objects.path(&self.content.digest);
        let whole = fs::rename(part, &path).and_then(|()| remove_sums());
        whole.with_context(|| format!("cannot write `{}`", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn noise(len: usize) -> Vec<u8> {
        (0..len as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
    }

    fn begin(objects: &Objects, bytes: &[u8], upto: usize) -> Content {
        let content = Content { digest: Digest::of(bytes), size: bytes.len() as u64, first: 0 };
        let mut part = Part::begin(objects, &content, 0).unwrap();
        for piece in bytes[..upto].chunks(PIECE) {
            part.write(piece, &mut 0).unwrap();
        }
        content
    }

    #[test]
    fn of_a_beginning_that_a_power_cut_damaged_the_good_pieces_stay() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path().to_owned()).unwrap();
        let bytes = noise(4 * PIECE + 7);
        let content = begin(&objects, &bytes, 3 * PIECE);
        assert_eq!(objects.begun(&content), 3 * PIECE as u64);
        let part = File::options().write(true).open(objects.part(&content.digest)).unwrap();
        part.write_all_at(&[0; 4096], 2 * PIECE as u64 + 100).unwrap();
        assert_eq!(objects.begun(&content), 2 * PIECE as u64);

        let mut part = Part::begin(&objects, &content, 2 * PIECE as u64).unwrap();
        for piece in bytes[2 * PIECE..].chunks(PIECE) {
            part.write(piece, &mut 0).unwrap();
        }
        part.end().unwrap();
        assert!(objects.has(&content));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_content_that_cannot_become_whole_stays_a_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path().to_owned()).unwrap();
        let bytes = noise(2 * PIECE);
        let content = Content { digest: Digest::of(&bytes), size: bytes.len() as u64, first: 0 };
        let mut part = Part::begin(&objects, &content, 0).unwrap();
        for piece in bytes.chunks(PIECE) {
            part.write(piece, &mut 0).unwrap();
        }
        fs::create_dir(objects.path(&content.digest)).unwrap();
        part.end().unwrap_err();
        assert_eq!(objects.begun(&content), PIECE as u64);
    }

    #[test]
    fn what_lost_its_sums_or_was_cut_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path().to_owned()).unwrap();
        let content = begin(&objects, &noise(3 * PIECE), 2 * PIECE);
        File::options()
            .write(true)
            .open(objects.part(&content.digest))
            .unwrap()
            .set_len(9)
            .unwrap();
        assert_eq!(objects.begun(&content), 0);
        let content = begin(&objects, &noise(3 * PIECE), 2 * PIECE);
        fs::remove_file(objects.sums(&content.digest)).unwrap();
        assert_eq!(objects.begun(&content), 0);
    }
}
