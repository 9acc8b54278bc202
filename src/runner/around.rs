//! The container around a traced program: the embedded runner's, entered by
//! the program's own process, while the tracer stays outside.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sched::{CloneFlags, setns, unshare};
use oci_spec::runtime::Spec;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::{self, MountFlags, MountPropagationFlags};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::seccomp::Seccomp;
use super::{embedded, identity, mounts};

/// A writable view of a root that itself stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// An empty directory, where the changes go and the view is mounted.
    pub dir: PathBuf,
    /// Directories that are to be there, as seen from the root.
    pub places: Vec<PathBuf>,
    /// Files that mounts take the place of: links there would lead the mounts
    /// elsewhere, and go.
    pub replaced: Vec<PathBuf>,
}

/// What a program to trace is put into.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Around {
    /// The container, its root by a real path.
    pub spec: Spec,
    /// Keeps the root as it is, whatever the program writes.
    pub overlay: Option<Overlay>,
    /// First process of a container that is there already: this one is joined,
    /// and only the process is taken from `spec`.
    pub join: Option<i32>,
    /// Where the program's standard output goes.
    pub stdout: PathBuf,
    /// Where its standard error goes.
    pub stderr: PathBuf,
}

impl Around {
    /// The namespaces that the program's process has to be born into.
    ///
    /// # Errors
    /// What the container asks for and this runner does not have.
    pub fn namespaces(&self) -> anyhow::Result<CloneFlags> {
        if self.join.is_some() {
            return Ok(CloneFlags::empty());
        }
        embedded::refuse_unknown(&self.spec)?;
        embedded::flags(&self.spec.linux().clone().unwrap_or_default())
    }

    /// What must happen before the program's process is there: who joins a
    /// container has its children in that container's pid namespace.
    ///
    /// # Errors
    /// When the container is gone.
    pub fn prepare(&self) -> anyhow::Result<()> {
        let Some(main) = self.join else { return Ok(()) };
        let flags = embedded::flags(&self.spec.linux().clone().unwrap_or_default())?;
        if flags.contains(CloneFlags::CLONE_NEWUSER) {
            // The first: it gives the right to join the others.
            join(main, "user", CloneFlags::CLONE_NEWUSER)?;
            // Its new rights have closed this process to tracing, and its children with it,
            // and taken back the wish to end with its maker.
            nix::sys::prctl::set_dumpable(true).context("cannot allow itself to be traced")?;
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        }
        join(main, "pid", CloneFlags::CLONE_NEWPID)
    }

    fn set_up(&self) -> anyhow::Result<()> {
        self.redirect()?;
        if let Some(main) = self.join {
            let kinds = [
                ("uts", CloneFlags::CLONE_NEWUTS),
                ("ipc", CloneFlags::CLONE_NEWIPC),
                ("cgroup", CloneFlags::CLONE_NEWCGROUP),
                ("net", CloneFlags::CLONE_NEWNET),
                // The last: the others are found in this /proc.
                ("mnt", CloneFlags::CLONE_NEWNS),
            ];
            return kinds.into_iter().try_for_each(|(name, kind)| join(main, name, kind));
        }
        let linux = self.spec.linux().clone().unwrap_or_default();
        let flags = embedded::flags(&linux)?;
        if flags.contains(CloneFlags::CLONE_NEWUSER) {
            embedded::map_ids(&linux).context("cannot map the ids of the user namespace")?;
        }
        if let Some(name) = self.spec.hostname()
            && flags.contains(CloneFlags::CLONE_NEWUTS)
        {
            nix::unistd::sethostname(name).context("cannot set the host name")?;
        }
        let mut spec = self.spec.clone();
        if let (Some(overlay), Some(root)) = (&self.overlay, spec.root_mut()) {
            let is_mapped = flags.contains(CloneFlags::CLONE_NEWUSER);
            let place = overlay.mount(root.path(), is_mapped).context("cannot mount an overlay")?;
            root.set_path(place);
        }
        mounts::enter(&spec)
    }

    /// A session and streams of its own: a program that is exercised by itself
    /// has no terminal.
    fn redirect(&self) -> anyhow::Result<()> {
        rustix::process::setsid().context("cannot make a session")?;
        let file = |path: &Path| {
            let open = File::options().append(true).create(true).open(path);
            open.with_context(|| format!("cannot write `{}`", path.display()))
        };
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        rustix::stdio::dup2_stdout(file(&self.stdout)?)?;
        rustix::stdio::dup2_stderr(file(&self.stderr)?)?;
        Ok(())
    }
}

impl tracer::Surroundings for Around {
    fn enter(&self) -> Result<Vec<String>, (String, io::Error)> {
        let cwd = self.spec.process().as_ref().map(|process| process.cwd().as_path());
        let enter = || {
            self.set_up()?;
            cwd.map_or(Ok(()), mounts::enter_directory)
        };
        enter().map(|()| Vec::new()).map_err(|error| failure(&error))
    }

    fn assume(&self) -> Result<(), (String, io::Error)> {
        let Some(process) = self.spec.process() else { return Ok(()) };
        let assume = || {
            let seccomp = Seccomp::of(&self.spec)?;
            seccomp.begin()?;
            identity::assume(process)?;
            seccomp.end()
        };
        assume().map_err(|error| failure(&error))
    }
}

impl Overlay {
    /// Mounts it above `lower`, in a mount namespace of this process's own.
    /// Returns where.
    fn mount(&self, lower: &Path, is_mapped: bool) -> anyhow::Result<PathBuf> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let lower = open(lower)?;
        let place = match self.try_mount(&lower, is_mapped) {
            // Not every file system can hold an overlay's changes; memory can.
            Err(_) => {
                let mode = Some(c"mode=0755");
                mount::mount("tmpfs", &self.dir, "tmpfs", MountFlags::empty(), mode)?;
                self.try_mount(&lower, is_mapped)?
            }
            Ok(place) => place,
        };
        let root = open(&place)?;
        for dir in &self.places {
            mounts::place(&root, dir, false)
                .with_context(|| format!("cannot make `{}`", dir.display()))?;
        }
        for file in &self.replaced {
            remove_link(&root, file)
                .with_context(|| format!("cannot replace `{}`", file.display()))?;
        }
        Ok(place)
    }

    fn try_mount(&self, lower: &OwnedFd, is_mapped: bool) -> anyhow::Result<PathBuf> {
        let [upper, work, place] = ["upper", "work", "root"].map(|name| self.dir.join(name));
        for dir in [&upper, &work, &place] {
            fs::DirBuilder::new().recursive(true).create(dir)?;
        }
        // The root of an overlay has its upper directory's owner and mode.
        let meta = fs::metadata(mounts::by_fd(lower))?;
        let _ = std::os::unix::fs::chown(&upper, Some(meta.uid()), Some(meta.gid()));
        fs::set_permissions(&upper, meta.permissions())?;
        // By descriptors: a name with a comma or a colon would be read as two.
        let (upper, work) = (open(&upper)?, open(&work)?);
        let [lower, upper, work] =
            [lower, &upper, &work].map(|fd| mounts::by_fd(fd).display().to_string());
        let mapped = if is_mapped { ",userxattr" } else { "" };
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}{mapped}");
        let options = std::ffi::CString::new(options)?;
        let flags = MountFlags::empty();
        mount::mount("overlay", &place, "overlay", flags, Some(options.as_c_str()))?;
        Ok(place)
    }
}

/// Removes `file` below `root` where it is a link.
fn remove_link(root: &OwnedFd, file: &Path) -> anyhow::Result<()> {
    let (Some(above), Some(name)) = (file.parent(), file.file_name()) else { return Ok(()) };
    let above = mounts::place(root, above, false)?;
    match rustix::fs::readlinkat(&above, name, Vec::new()) {
        Ok(_) => Ok(rustix::fs::unlinkat(&above, name, AtFlags::empty())?),
        Err(_) => Ok(()),
    }
}

fn open(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .with_context(|| format!("cannot open `{}`", path.display()))
}

fn join(main: i32, name: &str, kind: CloneFlags) -> anyhow::Result<()> {
    let file = File::open(format!("/proc/{main}/ns/{name}"));
    let file = file.with_context(|| format!("the container's {name} namespace is gone"))?;
    // The machine's own, such as the network, is no container's to join again.
    let (its, ours) = (file.metadata()?, fs::metadata(format!("/proc/self/ns/{name}"))?);
    if (its.dev(), its.ino()) == (ours.dev(), ours.ino()) {
        return Ok(());
    }
    setns(file, kind).with_context(|| format!("cannot join the container's {name} namespace"))
}

/// The failed step and the system's word, as the tracer passes them on.
fn failure(error: &anyhow::Error) -> (String, io::Error) {
    let number = error.chain().find_map(|cause| {
        let io = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        let nix = || cause.downcast_ref::<nix::Error>().map(|errno| *errno as i32);
        let rustix = || cause.downcast_ref::<rustix::io::Errno>().map(|e| e.raw_os_error());
        io.or_else(nix).or_else(rustix)
    });
    let source =
        number.map_or_else(|| io::Error::other("see before"), io::Error::from_raw_os_error);
    let mut steps: Vec<String> = error.chain().map(ToString::to_string).collect();
    if number.is_some() && steps.len() > 1 {
        steps.pop();
    }
    (steps.join(": "), source)
}
