//! Applies layers to a tree (OCI layer.md): entries, whiteouts, attributes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::inside::{self, Inside, Made, is_directory, look};
use super::late::Late;
use super::layers::{Owners, UnpackOptions, Unpacked};
use super::losses::Losses;
use super::room::Room;
use crate::attributes::{Attributes, owner, times};
use crate::image::error::{EntryError, ImageError};
use crate::path::{PathError, RootPath};
use crate::tar_header::Xattrs;
use crate::tar_reader::{Member, MemberKind, TarError, TarReader};
use crate::tree::Lost;
use crate::xattr;

/// Marks what a layer removes: the name of a file after it.
const WHITEOUT: &[u8] = b".wh.";
/// Marks names that are about the layer itself.
const META: &[u8] = b".wh..wh.";
/// Removes all that lower layers have in the directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Bytes of content that are read at a time.
const CHUNK: usize = 256 << 10;
/// The mode of a root that no layer speaks of.
const ROOT_MODE: u32 = 0o755;

/// Puts layers into a directory, one over the other.
pub struct Unpacker<'a> {
    inside: Inside,
    options: &'a UnpackOptions<'a>,
    room: Room,
    /// What the present layer made.
    made: Made,
    layers: usize,
    late: Late,
    losses: Losses,
    /// For an ordinary user: what is not root's.
    owners: Option<Owners>,
    buffer: Vec<u8>,
}

/// Why an entry could not be applied.
enum Failure {
    Entry(EntryError),
    Tar(TarError),
    Image(ImageError),
}

impl From<EntryError> for Failure {
    fn from(error: EntryError) -> Self {
        Failure::Entry(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Entry(error.into())
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Failure::Entry(error.into())
    }
}

impl From<TarError> for Failure {
    fn from(error: TarError) -> Self {
        Failure::Tar(error)
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Failure::Image(error)
    }
}

impl<'a> Unpacker<'a> {
    /// Takes the empty directory `dir`.
    ///
    /// # Errors
    /// Where it cannot be used.
    pub fn new(dir: &Path, options: &'a UnpackOptions<'a>) -> Result<Self, ImageError> {
        let target = |source| ImageError::Target { dir: dir.to_owned(), source };
        let inside = Inside::new(dir).map_err(target)?;
        let prepare = || -> io::Result<()> {
            match rustix::fs::fremovexattr(&inside.root, "system.posix_acl_default") {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(e) => return Err(e.into()),
            }
            rustix::fs::fchmod(&inside.root, Mode::from_raw_mode(ROOT_MODE))?;
            Ok(rustix::fs::futimens(&inside.root, &times((0, 0)))?)
        };
        prepare().map_err(target)?;
        let room = Room::new(dir, options.max_bytes);
        Ok(Unpacker {
            inside,
            options,
            room,
            made: Made::new(true),
            layers: 0,
            late: Late::default(),
            losses: Losses::default(),
            owners: (!nix::unistd::geteuid().is_root()).then(Owners::new),
            buffer: vec![0; CHUNK],
        })
    }

    /// Applies the layer `tar`, and reads it to its end; `what` is its digest, for
    /// errors.
    ///
    /// # Errors
    /// Where it cannot be read, or has an entry that is refused or does not fit.
    pub fn layer(&mut self, tar: impl Read, what: &str) -> Result<(), ImageError> {
        self.layers += 1;
        self.made = Made::new(self.layers == 1);
        let number = self.layers;
        let broken = |source| ImageError::Layer { number, digest: what.to_owned(), source };
        let mut tar = TarReader::new(io::BufReader::with_capacity(CHUNK, tar));
        while let Some(member) = tar.next_member().map_err(broken)? {
            self.check_stop()?;
            self.room.add_entry()?;
            let name = &member.name;
            self.entry(&mut tar, &member).map_err(|failure| match failure {
                Failure::Image(error) => error,
                Failure::Tar(source) => broken(source),
                Failure::Entry(source) => {
                    ImageError::Entry { number, name: name.escape_ascii().to_string(), source }
                }
            })?;
        }
        self.inside.leave().map_err(|e| broken(TarError::Read(e)))?;
        // What follows the tar counts in its digest.
        let mut rest = tar.into_inner();
        loop {
            self.check_stop()?;
            match rest.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(broken(TarError::Read(e))),
            }
        }
    }

    /// Sets what could not be set earlier.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn finish(mut self) -> Result<Unpacked, ImageError> {
        self.late.set(&self.inside.root, &mut self.losses)?;
        let (entries, bytes) = self.room.taken();
        let (unkept_count, unkept_owners) = self.losses.counts();
        let unkept = self.losses.into_named();
        let owners = self.owners;
        Ok(Unpacked { entries, bytes, unkept, unkept_count, unkept_owners, owners })
    }

    fn check_stop(&self) -> Result<(), ImageError> {
        match self.options.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            true => Err(ImageError::Interrupted),
            false => Ok(()),
        }
    }

    fn entry<R: Read>(&mut self, tar: &mut TarReader<R>, member: &Member) -> Result<(), Failure> {
        let path = inner_path(&member.name)?;
        let Some(parent) = path.parent() else {
            if member.kind != MemberKind::Directory {
                return Err(EntryError::Root.into());
            }
            self.inside.leave()?;
            let root = self.inside.root.try_clone()?;
            return self.finish_directory(root, &path, member);
        };
        // What aufs kept of itself in layers of its time.
        if path.components().next().is_some_and(|first| first.starts_with(META) && first != OPAQUE)
        {
            return Ok(());
        }
        if parent.components().any(|name| name.starts_with(WHITEOUT)) {
            return Err(EntryError::BelowWhiteout.into());
        }
        let name = path.file_name();
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&parent, name, hidden);
        }
        match &member.kind {
            MemberKind::HardLink(target) => self.hard_link(&parent, name, &inner_path(target)?),
            _ => self.make(tar, &parent, name, member),
        }
    }

    /// Removes what lower layers have at `hidden`, or all of `parent`.
    fn whiteout(&mut self, parent: &RootPath, name: &[u8], hidden: &[u8]) -> Result<(), Failure> {
        let all = name == OPAQUE;
        if !all && matches!(hidden, b"" | b"." | b"..") {
            return Err(EntryError::Whiteout.into());
        }
        if !all && name.starts_with(META) {
            return Ok(());
        }
        if self.made.is_everything() {
            return Ok(());
        }
        let Some(place) = self.inside.visit(parent, &mut self.made)? else { return Ok(()) };
        let path = match all {
            true => place.path.clone(),
            false => inside::below(&place.path, hidden)?,
        };
        // A second time there is nothing of lower layers, but all of this one to walk.
        if !self.made.is_first(&inside::below(&place.path, name)?) {
            return Ok(());
        }
        if all {
            let dir = rustix::fs::openat(&place.fd, ".", OPEN_DIRECTORY, Mode::empty())?;
            inside::empty(Dir::new(dir)?, &path, Some(&self.made))?;
        } else {
            inside::remove(place.fd.as_fd(), &place.path, hidden, Some(&self.made))?;
        }
        self.late.forget(&path, Some(&self.made));
        // What was removed may have been on the way here.
        Ok(self.inside.leave()?)
    }

    fn hard_link(
        &mut self,
        parent: &RootPath,
        name: &[u8],
        target: &RootPath,
    ) -> Result<(), Failure> {
        let missing = || EntryError::NoTarget(target.as_bytes().to_vec());
        let above = target
            .parent()
            .ok_or_else(|| EntryError::LinkToDirectory(target.as_bytes().to_vec()))?;
        let (found, from) = self.inside.find(&above, None)?.ok_or_else(missing)?;
        let Some(there) = look(&from, target.file_name())? else {
            // A device that this user cannot make has no second name either.
            let real = inside::below(&found, target.file_name())?;
            if !self.losses.has_device(&real) {
                return Err(missing().into());
            }
            let path = self.clear(parent, name)?;
            self.losses.add(&path, Lost::Device);
            return Ok(());
        };
        if is_directory(&there) {
            return Err(EntryError::LinkToDirectory(target.as_bytes().to_vec()).into());
        }
        let place = self.inside.enter(parent, &mut self.made)?;
        let same = look(&place.fd, name)?
            .is_some_and(|stat| (stat.st_dev, stat.st_ino) == (there.st_dev, there.st_ino));
        if same {
            let path = inside::below(&place.path, name)?;
            self.made.insert(&path);
            return Ok(());
        }
        self.clear(parent, name)?;
        let place = self.inside.enter(parent, &mut self.made)?;
        match rustix::fs::linkat(&from, target.file_name(), &place.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Err(missing().into()),
            other => Ok(other?),
        }
    }

    /// Makes room for an entry at `name` in `parent`; returns where that really is.
    fn clear(&mut self, parent: &RootPath, name: &[u8]) -> Result<RootPath, Failure> {
        let place = self.inside.enter(parent, &mut self.made)?;
        let path = inside::below(&place.path, name)?;
        if let Some(there) = look(&place.fd, name)? {
            inside::remove(place.fd.as_fd(), &place.path, name, None)?;
            self.late.forget(&path, None);
            let kind = FileType::from_raw_mode(there.st_mode);
            if kind.is_dir() || kind.is_symlink() {
                // It may have been on the way here.
                self.inside.leave()?;
                self.inside.enter(parent, &mut self.made)?;
            }
        }
        self.made.insert(&path);
        Ok(path)
    }

    fn make<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        parent: &RootPath,
        name: &[u8],
        member: &Member,
    ) -> Result<(), Failure> {
        if member.kind == MemberKind::Directory {
            return self.directory(parent, name, member);
        }
        self.room.add_bytes(member.size)?;
        let path = self.clear(parent, name)?;
        let place = self.inside.enter(parent, &mut self.made)?;
        let dir = &place.fd;
        let node = |kind, major, minor| {
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(dir, name, kind, Mode::RUSR, device)
        };
        let made = match &member.kind {
            MemberKind::File => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
                let file = File::from(file);
                self.fill(tar, &file, member)?;
                return self.set(&file, &path, member, &member.xattrs);
            }
            MemberKind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), dir, name),
            MemberKind::Fifo => node(FileType::Fifo, 0, 0),
            MemberKind::CharDevice(major, minor) => node(FileType::CharacterDevice, *major, *minor),
            MemberKind::BlockDevice(major, minor) => node(FileType::BlockDevice, *major, *minor),
            MemberKind::Directory | MemberKind::HardLink(_) => Ok(()),
        };
        let is_device =
            matches!(member.kind, MemberKind::CharDevice(..) | MemberKind::BlockDevice(..));
        match made {
            Err(Errno::PERM) if is_device => {
                self.losses.add(&path, Lost::Device);
                return Ok(());
            }
            other => other?,
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        note_owner(&mut self.owners, &stat, member);
        let (uid, gid) = owner(member.uid, member.gid);
        match rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::PERM | Errno::INVAL) if is_roots(member) => {}
            Err(Errno::PERM | Errno::INVAL) => self.losses.add(&path, Lost::Owner),
            other => other?,
        }
        if !matches!(member.kind, MemberKind::Symlink(_)) {
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(member.mode), AtFlags::empty())?;
        }
        let kept = member.xattrs.iter().filter(|(name, _)| xattr::is_kept(name));
        kept.for_each(|(name, _)| self.losses.add(&path, Lost::Xattr(name.clone())));
        Ok(rustix::fs::utimensat(dir, name, &times(member.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn directory(
        &mut self,
        parent: &RootPath,
        name: &[u8],
        member: &Member,
    ) -> Result<(), Failure> {
        let place = self.inside.enter(parent, &mut self.made)?;
        let there = look(&place.fd, name)?.is_some_and(|stat| is_directory(&stat));
        let path = match there {
            true => inside::below(&place.path, name)?,
            false => self.clear(parent, name)?,
        };
        let place = self.inside.enter(parent, &mut self.made)?;
        if !there {
            rustix::fs::mkdirat(&place.fd, name, Mode::RWXU)?;
        }
        let dir = rustix::fs::openat(&place.fd, name, OPEN_DIRECTORY, Mode::empty())?;
        self.made.insert(&path);
        if there {
            xattr::clear(&dir, &member.xattrs)?;
        }
        self.finish_directory(dir, &path, member)
    }

    /// Gives a directory its attributes, but for those that would get in the way of
    /// what is to come into it.
    fn finish_directory(
        &mut self,
        dir: OwnedFd,
        path: &RootPath,
        member: &Member,
    ) -> Result<(), Failure> {
        let (mode, xattrs) = self.late.keep(path, member)?;
        let now = Member { mode, ..member.clone() };
        self.set(&dir.into(), path, &now, &xattrs)
    }

    fn set(
        &mut self,
        file: &File,
        path: &RootPath,
        member: &Member,
        xattrs: &Xattrs,
    ) -> Result<(), Failure> {
        let xattrs = xattrs.iter().filter(|(name, _)| xattr::is_kept(name)).cloned().collect();
        let attributes = Attributes {
            uid: member.uid,
            gid: member.gid,
            mode: member.mode,
            mtime: member.mtime,
            xattrs: &xattrs,
            is_file: member.kind == MemberKind::File,
        };
        note_owner(&mut self.owners, &rustix::fs::fstat(file)?, member);
        let lost = attributes.set(file)?;
        let lost = lost.into_iter().filter(|what| *what != Lost::Owner || !is_roots(member));
        lost.for_each(|what| self.losses.add(path, what));
        if member.textual_acl {
            self.losses.add(path, Lost::Xattr(b"SCHILY.acl".to_vec()));
        }
        Ok(())
    }

    fn fill<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        file: &File,
        member: &Member,
    ) -> Result<(), Failure> {
        let mut end = 0;
        while let Some((offset, count)) = tar.content(&mut self.buffer)? {
            file.write_all_at(self.buffer.get(..count).unwrap_or_default(), offset)?;
            end = offset + count as u64;
            self.check_stop()?;
        }
        if end < member.size {
            file.set_len(member.size)?;
        }
        Ok(())
    }
}

const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Notes whose a new file is; another one may have had its inode.
fn note_owner(owners: &mut Option<Owners>, stat: &Stat, member: &Member) {
    let Some(owners) = owners else { return };
    let inode = (stat.st_dev, stat.st_ino);
    match is_roots(member) {
        true => owners.remove(&inode),
        false => owners.insert(inode, (member.uid, member.gid)),
    };
}

/// Whether it belongs to root, for whom an ordinary user stands.
fn is_roots(member: &Member) -> bool {
    (member.uid, member.gid) == (0, 0)
}

/// Where `name` lies in the root: absolute names and others are taken alike.
fn inner_path(name: &[u8]) -> Result<RootPath, EntryError> {
    let mut absolute = b"/".to_vec();
    absolute.extend_from_slice(name);
    RootPath::new(&absolute).map_err(|error| match error {
        PathError::Nul(_) => EntryError::Nul(name.to_vec()),
        _ => EntryError::DotDot(name.to_vec()),
    })
}

#[cfg(test)]
mod tests;
