//! The file system of a container: its mounts, made in a new mount namespace,
//! and the change into it.
//!
//! Every place is looked up below the bundle's root with RESOLVE_IN_ROOT, so a
//! link in the bundle leads nowhere else, and mounted on by descriptor.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bundler::{Planner, RootPath, Rootfs, Sinks};
use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{self, MountFlags, MountPropagationFlags, UnmountFlags};

/// Devices of every container (config-linux.md, "Default Devices"), taken from
/// the host: a user namespace cannot make any.
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
/// Links of every /dev (the same chapter).
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];

/// Makes a mount namespace with the mounts of `spec`, and changes into its root.
///
/// # Errors
/// The first mount that cannot be made.
pub fn enter(spec: &Spec) -> anyhow::Result<()> {
    let root = spec.root().as_ref().context("config.json has no root")?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .context("cannot make a mount namespace")?;
    mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot make the mounts private")?;
    // pivot_root(2) wants a mount.
    mount::mount_bind_recursive(root.path(), root.path())
        .with_context(|| format!("cannot bind `{}`", root.path().display()))?;
    // There are no device rules, so that a node of a disk, unpacked or made by the program
    // itself, would be the disk. What of the machine's is bound has a mount of its own.
    remount(root.path(), MountFlags::NODEV).context("cannot bar devices from the root")?;
    let dir = open(CWD, root.path(), OFlags::DIRECTORY)?;
    for mount in spec.mounts().iter().flatten() {
        make(&dir, mount)
            .with_context(|| format!("cannot mount `{}`", mount.destination().display()))?;
    }

    rustix::process::fchdir(&dir)?;
    rustix::process::pivot_root(".", ".").context("cannot change the root")?;
    mount::unmount(".", UnmountFlags::DETACH).context("cannot unmount the old root")?;
    rustix::process::chdir("/")?;

    let linux = spec.linux().clone().unwrap_or_default();
    for (name, value) in linux.sysctl().iter().flatten() {
        std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value)
            .with_context(|| format!("cannot set `{name}`"))?;
    }
    for path in linux.readonly_paths().iter().flatten() {
        make_readonly(path).with_context(|| format!("cannot make `{path}` read-only"))?;
    }
    for path in linux.masked_paths().iter().flatten() {
        mask(path).with_context(|| format!("cannot mask `{path}`"))?;
    }
    if root.readonly() == Some(true) {
        remount(Path::new("/"), MountFlags::RDONLY).context("cannot make the root read-only")?;
    }
    Ok(())
}

/// Changes into `cwd` of the container that this process has entered.
///
/// # Errors
/// A directory that is not there, or that a descriptor from outside leads to.
pub fn enter_directory(cwd: &Path) -> anyhow::Result<()> {
    std::env::set_current_dir(cwd)
        .with_context(|| format!("cannot enter the working directory `{}`", cwd.display()))?;
    // getcwd(2) says so by a path without a slash, and the C library by an error.
    if !std::env::current_dir().is_ok_and(|path| path.is_absolute()) {
        let cwd = cwd.display();
        return Err(Errno::NOENT).with_context(|| {
            format!("the working directory `{cwd}` is refused: it lies outside of the container")
        });
    }
    Ok(())
}

/// Closes all but the standard streams, as runc does: a directory of the host's
/// left open by the caller would be a way out.
///
/// # Errors
/// A /proc that cannot be read.
pub fn close_inherited() -> anyhow::Result<()> {
    let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<std::io::Result<Vec<_>>>()?;
    for fd in names.iter().filter_map(|name| name.to_str()?.parse::<i32>().ok()) {
        if fd > 2 {
            // The listing's own is closed by now.
            let _ = nix::unistd::close(fd);
        }
    }
    Ok(())
}

fn open(dir: impl AsFd, path: &Path, flags: OFlags) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
    rustix::fs::openat(dir, path, flags, Mode::empty())
        .with_context(|| format!("cannot open `{}`", path.display()))
}

/// A descriptor as a path that mount(2) takes.
pub(super) fn by_fd(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Opens `path` as seen from `root`, links included; makes what is not there,
/// in the end a directory or a file.
pub(super) fn place(root: &OwnedFd, path: &Path, is_file: bool) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let inside =
        |path: &Path| rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    match inside(path) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(inside(path)?);
    };
    let above = place(root, above, false)?;
    if is_file {
        let make = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&above, name, make, Mode::from_raw_mode(0o644))?;
    } else {
        rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(inside(path)?)
}

/// The options of a mount, read.
#[derive(Debug)]
struct Options {
    flags: MountFlags,
    recursive: bool,
    copy_up: bool,
    propagation: Option<MountPropagationFlags>,
    /// What only the file system itself understands.
    data: String,
}

fn read_options(mount: &Mount) -> Options {
    let mut options = Options {
        flags: MountFlags::empty(),
        recursive: false,
        copy_up: false,
        propagation: None,
        data: String::new(),
    };
    for option in mount.options().iter().flatten() {
        use MountPropagationFlags as P;
        match option.as_str() {
            "ro" => options.flags |= MountFlags::RDONLY,
            "nosuid" => options.flags |= MountFlags::NOSUID,
            "nodev" => options.flags |= MountFlags::NODEV,
            "noexec" => options.flags |= MountFlags::NOEXEC,
            "noatime" => options.flags |= MountFlags::NOATIME,
            "nodiratime" => options.flags |= MountFlags::NODIRATIME,
            "relatime" => options.flags |= MountFlags::RELATIME,
            "strictatime" => options.flags |= MountFlags::STRICTATIME,
            "sync" => options.flags |= MountFlags::SYNCHRONOUS,
            "rw" | "suid" | "dev" | "exec" | "bind" | "defaults" => {}
            "rbind" => options.recursive = true,
            "tmpcopyup" => options.copy_up = true,
            "private" => options.propagation = Some(P::PRIVATE),
            "rprivate" => options.propagation = Some(P::PRIVATE | P::REC),
            "slave" => options.propagation = Some(P::DOWNSTREAM),
            "rslave" => options.propagation = Some(P::DOWNSTREAM | P::REC),
            data => {
                if !options.data.is_empty() {
                    options.data.push(',');
                }
                options.data.push_str(data);
            }
        }
    }
    options
}

fn make(root: &OwnedFd, mount: &Mount) -> anyhow::Result<()> {
    let options = read_options(mount);
    let is_bind = options.recursive
        || mount.typ().as_deref() == Some("bind")
        || mount.options().iter().flatten().any(|option| option == "bind");
    if is_bind {
        return bind(root, mount, &options);
    }
    let kind = mount.typ().as_deref().context("it has no type")?;
    let source = mount.source().clone().unwrap_or_else(|| kind.into());
    let below = place(root, mount.destination(), false)?;
    let data = std::ffi::CString::new(options.data)?;
    // The copy is made before the mount becomes read-only.
    let flags =
        options.flags - if options.copy_up { MountFlags::RDONLY } else { MountFlags::empty() };
    let is_dev = kind == "tmpfs" && mount.destination() == Path::new("/dev");
    // config.json cannot say it: runc and crun make nodes there.
    let flags = flags | if is_dev { MountFlags::NODEV } else { MountFlags::empty() };
    mount::mount(&source, by_fd(&below), kind, flags, Some(data.as_c_str()))?;
    let made = place(root, mount.destination(), false)?;
    if options.copy_up {
        copy_up(&below, &made).context("cannot copy what the bundle has there")?;
        if options.flags.contains(MountFlags::RDONLY) {
            remount(&by_fd(&made), options.flags)?;
        }
    }
    if is_dev {
        fill_dev(&made).context("cannot fill /dev")?;
    }
    Ok(())
}

fn bind(root: &OwnedFd, mount: &Mount, options: &Options) -> anyhow::Result<()> {
    let source = mount.source().as_ref().context("it has no source")?;
    let source = open(CWD, source, OFlags::empty())?;
    let is_file =
        !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode).is_dir();
    let below = place(root, mount.destination(), is_file)?;
    if options.recursive {
        mount::mount_bind_recursive(by_fd(&source), by_fd(&below))?;
    } else {
        mount::mount_bind(by_fd(&source), by_fd(&below))?;
    }
    let made = place(root, mount.destination(), is_file)?;
    if !options.flags.is_empty() {
        remount(&by_fd(&made), options.flags)?;
    }
    if let Some(propagation) = options.propagation {
        mount::mount_change(by_fd(&made), propagation)?;
    }
    Ok(())
}

/// Adds `flags` to a mount, beside those that it has: a user namespace may not
/// take any away.
fn remount(path: &Path, flags: MountFlags) -> anyhow::Result<()> {
    let present = rustix::fs::statvfs(path)?.f_flag;
    let mut all = flags | MountFlags::BIND;
    for (has, flag) in [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if present.contains(has) {
            all |= flag;
        }
    }
    Ok(mount::mount_remount(path, all, c"")?)
}

/// Copies the directory under a mount into it, by the writer of bundles, which
/// keeps owners, modes, attributes and links.
fn copy_up(below: &OwnedFd, made: &OwnedFd) -> anyhow::Result<()> {
    let rootfs = Rootfs::open(&by_fd(below))?;
    let mut planner = Planner::new(&rootfs, None);
    let mut directories = vec![RootPath::root()];
    while let Some(directory) = directories.pop() {
        for name in rootfs.read_dir(&directory)? {
            let path = directory.join(&name)?;
            planner.add(&path)?;
            if rootfs.lstat(&path)?.kind == bundler::Kind::Directory {
                directories.push(path);
            }
        }
    }
    bundler::assemble(&planner.finish()?, &rootfs, Some(&by_fd(made)), Sinks::default())?;
    Ok(())
}

fn fill_dev(dev: &OwnedFd) -> anyhow::Result<()> {
    for name in DEVICES {
        let host = open(CWD, &Path::new("/dev").join(name), OFlags::empty())?;
        let place = place(dev, &Path::new("/").join(name), true)?;
        mount::mount_bind(by_fd(&host), by_fd(&place)).with_context(|| format!("/dev/{name}"))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name)?;
    }
    Ok(())
}

fn make_readonly(path: &str) -> anyhow::Result<()> {
    match mount::mount_bind_recursive(path, path) {
        Err(Errno::NOENT) => Ok(()),
        other => {
            other?;
            remount(Path::new(path), MountFlags::RDONLY)
        }
    }
}

fn mask(path: &str) -> anyhow::Result<()> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if meta.is_dir() {
        mount::mount("tmpfs", path, "tmpfs", MountFlags::RDONLY, c"size=0k")?;
        return Ok(());
    }
    // Opened, since /dev may be anything in a bundle of someone else's.
    let null = File::open("/dev/null")?;
    mount::mount_bind(by_fd(&null.into()), path)?;
    Ok(())
}
