//! Reading a root file system without ever leaving it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use crate::path::RootPath;

/// A directory taken as the root of a file system.
///
/// Every call takes a path whose directories are no symbolic links (what the
/// resolver returns) and fails with `ELOOP` otherwise, so that no link can lead
/// out of it. A link itself can be looked at and read.
#[derive(Debug)]
pub struct Rootfs {
    dir: PathBuf,
    fd: OwnedFd,
    originals: Vec<Originals>,
}

/// Files as they were before a traced run changed or deleted them.
#[derive(Debug)]
struct Originals {
    fd: OwnedFd,
    paths: BTreeSet<RootPath>,
}

impl Originals {
    fn has_below(&self, dir: &RootPath) -> bool {
        self.paths.range(dir..).next().is_some_and(|path| path.starts_with(dir))
    }
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the file types of inode(7)")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// What `lstat` says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its type.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: `st_mode & 0o7777`.
    pub mode: u32,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// Bytes of content; for a symbolic link the length of its target.
    pub size: u64,
    /// Last modification, whole seconds since 1970 (may be negative).
    pub mtime: i64,
    /// Number of names that this file has.
    pub links: u64,
    /// Device and inode: two names with equal pairs are the same file.
    pub inode: (u64, u64),
    /// For a device node, what it stands for: major and minor.
    pub device: (u32, u32),
}

impl Rootfs {
    /// Opens `dir` as a root file system.
    ///
    /// # Errors
    /// When `dir` is not a directory that can be opened.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Ok(Rootfs { dir: dir.to_owned(), fd: open_dir(dir)?, originals: Vec::new() })
    }

    /// Reads `paths` from below `dir` instead: the originals that the tracer
    /// kept of files which the run changed, replaced or deleted. May be called
    /// again, for another run; where both have a path, the first one counts.
    ///
    /// # Errors
    /// When `dir` is not a directory that can be opened.
    pub fn with_originals(mut self, dir: &Path, paths: BTreeSet<RootPath>) -> io::Result<Self> {
        self.originals.push(Originals { fd: open_dir(dir)?, paths });
        Ok(self)
    }

    /// The directory on this machine that is the root.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether `path` is read from the originals.
    pub fn is_original(&self, path: &RootPath) -> bool {
        self.originals.iter().any(|o| o.paths.contains(path))
    }

    /// Looks at `path` itself, not at what a link points to.
    ///
    /// # Errors
    /// As `fstatat`; `ELOOP` where a directory of the path is a link.
    pub fn lstat(&self, path: &RootPath) -> io::Result<Meta> {
        let file = self.open_with(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = rustix::fs::fstat(&file)?;
        Ok(Meta {
            kind: Kind::of(FileType::from_raw_mode(stat.st_mode)),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: stat.st_mtime,
            links: stat.st_nlink,
            inode: (stat.st_dev, stat.st_ino),
            device: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        })
    }

    /// Returns the target of the symbolic link `path`, as it is written there.
    ///
    /// # Errors
    /// As `readlinkat`; `EINVAL` where `path` is no link.
    pub fn read_link(&self, path: &RootPath) -> io::Result<Vec<u8>> {
        let link = self.open_with(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        Ok(rustix::fs::readlinkat(&link, "", Vec::new())?.into_bytes())
    }

    /// Opens the regular file or directory `path` for reading.
    ///
    /// # Errors
    /// As `open`; `ELOOP` where `path` or a directory of it is a link. A fifo
    /// or device is opened without waiting, so look at its kind first.
    pub fn open_file(&self, path: &RootPath) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(File::from(self.open_with(path, flags)?))
    }

    /// Returns the whole content of the regular file `path`.
    ///
    /// # Errors
    /// As [`Rootfs::open_file`] and `read`.
    pub fn read(&self, path: &RootPath) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        io::Read::read_to_end(&mut self.open_file(path)?, &mut content)?;
        Ok(content)
    }

    /// Returns the names in the directory `path`, sorted, without `.` and `..`.
    ///
    /// # Errors
    /// As `open` and `getdents64`.
    pub fn read_dir(&self, path: &RootPath) -> io::Result<Vec<Vec<u8>>> {
        let dir = self.open_with(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open_with(&self, path: &RootPath, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if let Some(originals) = self.originals.iter().find(|o| o.paths.contains(path)) {
            return open_beneath(&originals.fd, path, flags);
        }
        match open_beneath(&self.fd, path, flags) {
            // A directory that the run deleted, with what was in it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                match self.originals.iter().find(|o| o.has_below(path)) {
                    Some(originals) => open_beneath(&originals.fd, path, flags),
                    None => Err(e),
                }
            }
            other => other,
        }
    }
}

impl Kind {
    fn of(raw: FileType) -> Kind {
        match raw {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            _ => Kind::File,
        }
    }
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(dir, flags, Mode::empty())?)
}

/// Opens `path` below `root` through no symbolic link; openat2(2), or component
/// by component where the kernel (before 5.6) or a sandbox has no openat2.
pub(crate) fn open_beneath(root: impl AsFd, path: &RootPath, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(&root, path.relative(), flags, Mode::empty(), resolve) {
        // NO_SYMLINKS also refuses a link as the last component, even with O_PATH|O_NOFOLLOW.
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
            open_by_components(root, path, flags)
        }
        other => Ok(other?),
    }
}

fn open_by_components(root: impl AsFd, path: &RootPath, flags: OFlags) -> io::Result<OwnedFd> {
    let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = root.as_fd().try_clone_to_owned()?;
    let mut names = path.components().peekable();
    if names.peek().is_none() {
        return Ok(rustix::fs::openat(&dir, ".", flags, Mode::empty())?);
    }
    while let Some(name) = names.next() {
        let last = names.peek().is_none();
        let next = rustix::fs::openat(&dir, name, if last { flags } else { step }, Mode::empty())?;
        let is_link =
            !last && FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode).is_symlink();
        if is_link {
            return Err(rustix::io::Errno::LOOP.into());
        }
        dir = next;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> RootPath {
        RootPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn no_link_leads_through_or_out() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        let rootfs = Rootfs::open(dir.path()).unwrap();
        assert!(rootfs.lstat(&path("/out/passwd")).is_err());
        assert!(rootfs.read(&path("/out")).is_err());
        assert_eq!(rootfs.lstat(&path("/out")).unwrap().kind, Kind::Symlink);
        assert_eq!(rootfs.read_link(&path("/out")).unwrap(), b"/etc");
    }

    #[test]
    fn originals_hide_what_is_there_now() {
        let now = tempfile::tempdir().unwrap();
        let before = tempfile::tempdir().unwrap();
        std::fs::write(now.path().join("db"), "changed").unwrap();
        std::fs::write(before.path().join("db"), "original").unwrap();
        let rootfs = Rootfs::open(now.path()).unwrap();
        let rootfs = rootfs.with_originals(before.path(), [path("/db")].into()).unwrap();
        assert_eq!(rootfs.read(&path("/db")).unwrap(), b"original");
    }

    #[test]
    fn a_directory_that_the_run_deleted_is_there() {
        let now = tempfile::tempdir().unwrap();
        let before = tempfile::tempdir().unwrap();
        std::fs::create_dir(before.path().join("d")).unwrap();
        std::fs::write(before.path().join("d/f"), "original").unwrap();
        let rootfs = Rootfs::open(now.path()).unwrap();
        let rootfs = rootfs.with_originals(before.path(), [path("/d/f")].into()).unwrap();
        assert_eq!(rootfs.lstat(&path("/d")).unwrap().kind, Kind::Directory);
        assert!(rootfs.lstat(&path("/e")).is_err());
    }

    #[test]
    fn the_fallback_answers_like_openat2() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/f"), "x").unwrap();
        symlink("d", dir.path().join("l")).unwrap();
        let root = open_dir(dir.path()).unwrap();
        assert!(open_by_components(&root, &path("/d/f"), OFlags::RDONLY).is_ok());
        assert!(open_by_components(&root, &path("/"), OFlags::RDONLY).is_ok());
        let through = open_by_components(&root, &path("/l/f"), OFlags::RDONLY);
        assert_eq!(through.unwrap_err().raw_os_error(), Some(libc_eloop()));
    }

    fn libc_eloop() -> i32 {
        rustix::io::Errno::LOOP.raw_os_error()
    }
}
