//! The root file system that the tracee sees: this machine's, another
//! directory's, or a throw-away overlay above either.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::mounts::{FsKind, Mounts, below};

/// A step that failed, and why.
type Failure = (String, io::Error);

/// What could not be done and does not stop the run.
pub(crate) type Warnings = Vec<String>;

const NO_PATH: Option<&Path> = None;

/// Brings the calling process, the tracee to be, into its root.
///
/// # Errors
/// The step that failed, and why.
pub(crate) fn enter(
    root: Option<&Path>,
    isolate: bool,
    foreign: &[PathBuf],
) -> Result<Warnings, Failure> {
    if root.is_none() && !isolate {
        return Ok(Vec::new());
    }
    let base = root.unwrap_or(Path::new("/"));
    let base = fs::canonicalize(base).map_err(|e| ("find the directory".to_owned(), e))?;
    // A run in another root begins there; one above this root stays where it is.
    let cwd = match root {
        None => {
            std::env::current_dir().map_err(|e| ("find the working directory".to_owned(), e))?
        }
        Some(_) => PathBuf::from("/"),
    };
    let owner = own_namespaces()?;
    let mut warnings = Vec::new();
    let new = if isolate {
        overlay(&base, &cwd, owner, &mut warnings)?
    } else {
        bind(&base, &base, true)?;
        base.clone()
    };
    if root.is_some() {
        for name in ["proc", "sys", "dev"] {
            let (from, to) = (Path::new("/").join(name), new.join(name));
            if !to.is_dir() {
                warnings.push(format!("the root has no /{name}: programs that need it will fail"));
            } else if fs::metadata(&to).map(|m| m.dev()).ok()
                == fs::metadata(&new).map(|m| m.dev()).ok()
                || isolate
            {
                bind(&from, &to, true)?;
            }
        }
    }
    if root.is_some() && isolate {
        for file in foreign {
            bind_file(file, &new)
                .map_err(|e| (format!("put this machine's `{}` there", file.display()), e))?;
        }
    }
    switch_root(&new)?;
    std::env::set_current_dir(&cwd)
        .map_err(|e| (format!("enter `{}` in the new root", cwd.display()), e))?;
    Ok(warnings)
}

/// Binds a file of this machine to its own name below `new`, an overlay; what
/// is there, a link too, gives way.
fn bind_file(file: &Path, new: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else { return Ok(()) };
    let Ok(source) = open(file) else { return Ok(()) };
    let new = open(new)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Links of the root lead on in the root.
    let inside = ResolveFlags::IN_ROOT;
    let dir = match rustix::fs::openat2(&new, parent, flags, Mode::empty(), inside) {
        Err(rustix::io::Errno::NOENT) => {
            let mode = Mode::from_raw_mode(0o755);
            rustix::fs::mkdirat(&new, parent.strip_prefix("/").unwrap_or(parent), mode)?;
            rustix::fs::openat2(&new, parent, flags, Mode::empty(), inside)?
        }
        other => other?,
    };
    let place = proc_path(&dir).join(name);
    match fs::remove_file(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::File::create(&place)?;
    bind(&proc_path(&source), &place, false).map_err(|(_, error)| error)
}

/// How much the process may do in its own mount namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// It owns the mounts that it sees.
    Privileged,
    /// They belong to a more privileged namespace and are locked together.
    User,
}

/// A mount namespace that nobody else sees, in a user namespace where not root.
fn own_namespaces() -> Result<Owner, Failure> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let owner = match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => Owner::Privileged,
        Err(nix::Error::EPERM) => {
            let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
                .map_err(|e| failed("make a user and mount namespace", e))?;
            for (file, text) in [
                ("setgroups", "deny".to_owned()),
                ("uid_map", format!("{uid} {uid} 1")),
                ("gid_map", format!("{gid} {gid} 1")),
            ] {
                fs::write(format!("/proc/self/{file}"), text)
                    .map_err(|e| (format!("write /proc/self/{file}"), e))?;
            }
            Owner::User
        }
        Err(error) => return Err(failed("make a mount namespace", error)),
    };
    mount(NO_PATH, "/", NO_PATH, private, NO_PATH)
        .map_err(|e| failed("make the mounts private", e))?;
    Ok(owner)
}

/// Builds the overlay of everything below `base`. Returns where it is mounted:
/// in a tmpfs of its own, so that all of it vanishes with the last process.
fn overlay(
    base: &Path,
    cwd: &Path,
    owner: Owner,
    warnings: &mut Warnings,
) -> Result<PathBuf, Failure> {
    let mounts = Mounts::of(std::process::id() as i32);
    let stage = ["/tmp", "/var/tmp", "/run", "/mnt"].iter().map(Path::new).find(|p| p.is_dir());
    let stage = stage.ok_or_else(|| missing("find a directory to mount a tmpfs on"))?;
    // What lies below the stage is still reached through descriptors.
    let mut points = Vec::new();
    for mount in mounts.visible() {
        let Some(inside) = below(&mount.point, base.as_os_str().as_bytes()) else { continue };
        let path = Path::new(std::ffi::OsStr::from_bytes(&mount.point));
        if let Ok(fd) = open(path) {
            let inside = PathBuf::from(std::ffi::OsStr::from_bytes(inside));
            points.push(Point { inside, kind: mount.kind, read_only: mount.read_only, fd });
        }
    }
    let lower = open(base).map_err(|e| ("open the root".to_owned(), e))?;
    let beneath = Beneath {
        inside: stage.strip_prefix(base).unwrap_or(stage).to_owned(),
        fd: open(stage).map_err(|e| ("open the stage".to_owned(), e))?,
    };
    mount(Some("tmpfs"), stage, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .map_err(|e| failed("mount a tmpfs", e))?;
    let cwd = cwd.strip_prefix("/").unwrap_or(cwd);
    let mut build = Build { stage, beneath, cwd, count: 0, owner, points, warnings };
    let new = stage.join("root");
    make_dir(&new)?;
    if owner == Owner::User {
        // A root has to be a mount; made of single entries it is none yet.
        bind(&new, &new, false)?;
    }
    build.tree(Path::new(""), &lower, &new)?;
    build.mount_points(&new)?;
    if owner == Owner::User {
        build
            .warnings
            .push("without root, isolation cannot change what belongs to other users".to_owned());
    }
    Ok(new)
}

/// A mount below the base.
struct Point {
    /// Its path below the base.
    inside: PathBuf,
    kind: FsKind,
    read_only: bool,
    fd: OwnedFd,
}

/// The directory that the tmpfs hides while the overlay is built.
struct Beneath {
    inside: PathBuf,
    fd: OwnedFd,
}

struct Build<'a> {
    stage: &'a Path,
    beneath: Beneath,
    /// The working directory of the run, below the base.
    cwd: &'a Path,
    count: u32,
    owner: Owner,
    points: Vec<Point>,
    warnings: &'a mut Warnings,
}

impl Build<'_> {
    /// An overlay of the directory `lower`, which lies at `inside`, on `new`.
    fn tree(&mut self, inside: &Path, lower: &OwnedFd, new: &Path) -> Result<(), Failure> {
        let has_mounts =
            self.points.iter().any(|p| p.inside != inside && p.inside.starts_with(inside));
        if self.owner == Owner::Privileged || !has_mounts {
            match self.mount_overlay(inside, lower, new) {
                Ok(()) => return Ok(()),
                Err(error) if self.owner == Owner::Privileged && inside == Path::new("") => {
                    return Err(failed("mount an overlay", error));
                }
                Err(_) => {}
            }
        }
        self.by_entries(inside, lower, new)
    }

    fn mount_overlay(&mut self, inside: &Path, lower: &OwnedFd, new: &Path) -> nix::Result<()> {
        self.count += 1;
        let [upper, work] =
            ["upper", "work"].map(|d| self.stage.join(format!("{d}{}", self.count)));
        let meta = fs::metadata(proc_path(lower)).map_err(|e| errno(&e))?;
        for dir in [&upper, &work] {
            fs::DirBuilder::new().mode(0o755).create(dir).map_err(|e| errno(&e))?;
        }
        // The root of an overlay has its upper directory's owner and mode.
        let _ = std::os::unix::fs::chown(&upper, Some(meta.uid()), Some(meta.gid()));
        fs::set_permissions(&upper, fs::Permissions::from_mode(meta.mode() & 0o7777))
            .map_err(|e| errno(&e))?;
        if self.owner == Owner::User
            && let Ok(way) = self.cwd.strip_prefix(inside)
        {
            make_way(&proc_path(lower), &upper, way);
        }
        let extra = if self.owner == Owner::User { ",userxattr" } else { "" };
        let options = format!(
            "lowerdir={},upperdir={},workdir={}{extra}",
            proc_path(lower).display(),
            upper.display(),
            work.display()
        );
        mount(Some("overlay"), new, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
    }

    /// Without privilege a directory with mounts below it cannot be a lower
    /// layer (they are locked to it): its entries are, one by one.
    fn by_entries(&mut self, inside: &Path, lower: &OwnedFd, new: &Path) -> Result<(), Failure> {
        let list = |e| (format!("list `/{}`", inside.display()), e);
        let entries = match fs::read_dir(proc_path(lower)) {
            // What is closed to the run is closed to it in isolation.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && inside != Path::new("") => {
                return fs::set_permissions(new, fs::Permissions::from_mode(0o000)).map_err(list);
            }
            other => other.map_err(list)?,
        };
        for entry in entries {
            let entry = entry.map_err(list)?;
            let (path, to) = (inside.join(entry.file_name()), new.join(entry.file_name()));
            if self.points.iter().any(|p| p.inside == path) {
                continue;
            }
            let kind = entry.file_type().map_err(list)?;
            if kind.is_dir() {
                make_dir(&to)?;
                let beneath = path == self.beneath.inside;
                let fd = if beneath { self.beneath.fd.try_clone() } else { open(&entry.path()) };
                match fd {
                    Ok(fd) => self.tree(&path, &fd, &to)?,
                    Err(_) => continue,
                }
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path()).map_err(list)?;
                std::os::unix::fs::symlink(target, &to).map_err(list)?;
            } else if kind.is_file() {
                // Not every file may be read; it may not be read in the run either.
                let _ = fs::copy(entry.path(), &to);
            } else if kind.is_socket() || kind.is_fifo() {
                self.warnings.push(format!("`/{}` is not there in isolation", path.display()));
            }
        }
        if let Ok(meta) = fs::metadata(proc_path(lower)) {
            let _ = std::os::unix::fs::chown(new, Some(meta.uid()), Some(meta.gid()));
            let _ = fs::set_permissions(new, fs::Permissions::from_mode(meta.mode() & 0o7777));
        }
        Ok(())
    }

    /// The other mounts: pseudo file systems as they are, files below overlays
    /// of their own.
    fn mount_points(&mut self, new: &Path) -> Result<(), Failure> {
        let mut points = std::mem::take(&mut self.points);
        points.sort_by(|a, b| a.inside.cmp(&b.inside));
        let mut bound: Vec<PathBuf> = Vec::new();
        for point in &points {
            if point.inside == Path::new("") || bound.iter().any(|b| point.inside.starts_with(b)) {
                continue;
            }
            let to = new.join(&point.inside);
            let source = proc_path(&point.fd);
            let Ok(meta) = fs::metadata(&source) else { continue };
            if self.owner == Owner::User {
                let made = if meta.is_dir() { fs::create_dir_all(&to) } else { touch(&to) };
                made.map_err(|e| (format!("make `/{}`", point.inside.display()), e))?;
            }
            if meta.is_dir() && point.kind == FsKind::Plain && !point.read_only {
                if self.mount_overlay(&point.inside, &point.fd, &to).is_ok() {
                    continue;
                }
            } else if meta.is_file() && fs::copy(&source, &to).is_ok() {
                continue;
            } else if point.kind != FsKind::Plain {
                // What is mounted below it comes by itself where it is locked to
                // it; else it may need an overlay, as /dev/shm does.
                bind(&source, &to, self.owner == Owner::User)?;
                if self.owner == Owner::User {
                    bound.push(point.inside.clone());
                }
                continue;
            }
            bind(&source, &to, self.owner == Owner::User)?;
            if self.owner == Owner::User {
                bound.push(point.inside.clone());
            }
            if !point.read_only {
                let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                mount(NO_PATH, &to, NO_PATH, flags, NO_PATH)
                    .map_err(|e| failed("make a mount read-only", e))?;
                let path = point.inside.display();
                self.warnings
                    .push(format!("`/{path}` is read-only in isolation: no overlay there"));
            }
        }
        Ok(())
    }
}

/// Makes the directories of `way` in the upper layer. Copying them up later
/// would fail where they belong to a user that this namespace does not know.
fn make_way(lower: &Path, upper: &Path, way: &Path) {
    let (mut from, mut to) = (lower.to_owned(), upper.to_owned());
    for name in way {
        from.push(name);
        to.push(name);
        let Ok(meta) = fs::metadata(&from) else { return };
        if fs::create_dir(&to).is_err() {
            return;
        }
        let _ = fs::set_permissions(&to, fs::Permissions::from_mode(meta.mode() & 0o7777));
    }
}

/// Makes `new`, a mount, the root of this namespace and lets the old one go.
fn switch_root(new: &Path) -> Result<(), Failure> {
    std::env::set_current_dir(new).map_err(|e| ("enter the new root".to_owned(), e))?;
    nix::unistd::pivot_root(".", ".").map_err(|e| failed("switch to the new root", e))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(|e| failed("let the old root go", e))?;
    std::env::set_current_dir("/").map_err(|e| ("enter the new root".to_owned(), e))
}

fn bind(from: &Path, to: &Path, recursive: bool) -> Result<(), Failure> {
    let flags = if recursive { MsFlags::MS_BIND | MsFlags::MS_REC } else { MsFlags::MS_BIND };
    mount(Some(from), to, NO_PATH, flags, NO_PATH)
        .map_err(|e| failed(&format!("bind `{}`", to.display()), e))
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn proc_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn make_dir(path: &Path) -> Result<(), Failure> {
    fs::create_dir(path).map_err(|e| (format!("make `{}`", path.display()), e))
}

fn touch(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::create(path).map(drop)
}

fn failed(step: &str, error: nix::Error) -> Failure {
    (step.to_owned(), error.into())
}

fn missing(step: &str) -> Failure {
    (step.to_owned(), io::ErrorKind::NotFound.into())
}

fn errno(error: &io::Error) -> nix::Error {
    error.raw_os_error().map_or(nix::Error::EIO, nix::Error::from_raw)
}
