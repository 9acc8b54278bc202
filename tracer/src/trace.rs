//! A whole trace: from a command to values.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::Error;
use crate::event_loop::EventLoop;
use crate::log::Log;
use crate::observer::Observer;
use crate::originals::Originals;
use crate::record::{BytePath, End, Host, Record, Run, Syscall, VERSION};
use crate::resolve::Resolver;
use crate::selection::Selection;
use crate::start::{self, Birth, Command};
use crate::surroundings::Surroundings;
use crate::sys;
use crate::uses::Uses;

/// How to trace.
#[derive(Default)]
pub struct Options {
    /// Folder for the originals of what the run changes; made when needed.
    pub originals: Option<PathBuf>,
    /// Most bytes of originals that are kept.
    pub originals_limit: u64,
    /// Whether to stop at the end of each call and record its error.
    pub outcomes: bool,
    /// Whether to stop at every call, whatever it is about, and record it
    /// (Linux 5.3 or later).
    pub syscalls: bool,
    /// With `syscalls`: the run is ended at the first call that the kernel refuses
    /// otherwise than these, each by its name and its error's.
    pub refusals: Option<BTreeSet<(String, String)>>,
    /// Whether this process becomes the command, and the tracer a grandchild.
    pub detach: bool,
    /// Whether io_uring, whose file accesses are not seen, is allowed.
    pub allow_io_uring: bool,
    /// Where each use is written as a JSON line.
    pub log: Option<Box<dyn Write>>,
    /// When the run is ended with SIGTERM.
    pub timeout: Option<Duration>,
    /// Called in the tracer once the command is on its way.
    pub started: Option<Box<dyn FnOnce(Control)>>,
    /// Namespaces that the command's process is born into, by clone(2); not
    /// with `detach`.
    pub namespaces: Option<CloneFlags>,
    /// What sets up the command's container, in the place of its root.
    pub surroundings: Option<Box<dyn Surroundings>>,
}

/// A command that makes no call for so long has come to rest.
const MOMENT: Duration = Duration::from_millis(200);
/// How many moments are waited for that: some never rest.
const MAX_MOMENTS: u32 = 25;

/// Lets another thread end the run.
#[derive(Clone, Debug)]
pub struct Control {
    /// How many calls were taken down; nothing where only some are.
    calls: Option<Arc<AtomicU64>>,
    ready: Arc<AtomicBool>,
    requested: Arc<AtomicBool>,
    taken: Arc<AtomicBool>,
    thread: sys::Tid,
    main: sys::Tid,
}

impl Control {
    fn new(main: sys::Tid, syscalls: bool) -> Self {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        let (ready, requested, taken) = Default::default();
        let calls = syscalls.then(Arc::default);
        Control { calls, ready, requested, taken, thread, main }
    }

    /// Says that the command has started up and does from now on what it is for.
    /// Where all calls are recorded, it comes to rest before: a port answers
    /// when the server's workers are not there yet.
    pub fn ready(&self) {
        for _ in 0..MAX_MOMENTS {
            let Some(calls) = &self.calls else { break };
            let before = calls.load(Ordering::Relaxed);
            std::thread::sleep(MOMENT);
            if calls.load(Ordering::Relaxed) == before {
                break;
            }
        }
        self.ready.store(true, Ordering::SeqCst);
    }

    pub(crate) fn count_call(&self) {
        if let Some(calls) = &self.calls {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// Process id of the command, as this process sees it.
    pub fn main(&self) -> i32 {
        self.main
    }

    /// Ends the main process with SIGTERM, and all that is left 10 s later with
    /// SIGKILL. Returns when the tracer has seen the request.
    pub fn end(&self) {
        self.requested.store(true, Ordering::SeqCst);
        // The tracer sleeps in wait4; a signal that comes just before it falls
        // asleep is lost, so it gets another.
        while !self.taken.load(Ordering::SeqCst) && sys::wake_thread(self.thread) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn take_request(&self) -> bool {
        let requested = self.requested.load(Ordering::SeqCst);
        if requested {
            self.taken.store(true, Ordering::SeqCst);
        }
        requested
    }
}

/// What a run did.
#[derive(Debug)]
pub struct Trace {
    uses: Uses,
    syscalls: Vec<Syscall>,
    /// How the main process ended.
    pub end: End,
    /// Whether the tracer ended it (timeout, [`Control::end`]).
    pub was_ended: bool,
}

/// Runs `command` to its end, and all its descendants to theirs.
///
/// Call it from a process without other threads: it forks. This process's
/// standard input and output are /dev/null afterwards, unless
/// [`Options::started`] is used.
///
/// # Errors
/// Where the command cannot be started or traced.
pub fn trace(command: &Command, options: Options) -> Result<Trace, Error> {
    let namespaces = options.namespaces.unwrap_or(CloneFlags::empty());
    let in_container = namespaces.contains(CloneFlags::CLONE_NEWPID);
    let birth = Birth { detach: options.detach, namespaces, surroundings: options.surroundings };
    let mut started = start::start(command, &birth)?;
    let main = started.main;
    sys::seize(main).map_err(Error::Ptrace)?;
    sys::pass_signals_to(main);
    sys::handle_signals();
    raise_file_limit();
    if options.started.is_none() {
        let_go_of_streams();
    }
    // In isolation the originals stay where they are.
    let dir = options.originals.as_deref().filter(|_| !command.isolate);
    let originals = Originals::new(dir, options.originals_limit);
    let mut resolver = Resolver::of_task(main)
        .map_err(|error| Error::Start { step: "look at its root", source: error.into() })?;
    resolver.own_pids = in_container;
    let mut observer = Observer::new(main, resolver, originals, options.log.map(Log::new));
    observer.allow_io_uring = options.allow_io_uring;
    observer.outcomes = options.outcomes;
    observer.foreign = command.foreign.iter().map(|p| p.as_os_str().as_bytes().to_vec()).collect();
    for warning in &started.warnings {
        observer.uses.unseen("isolation", warning.as_str());
    }
    started.go()?;
    let control = options.started.map(|tell| {
        let control = Control::new(main, options.syscalls);
        tell(control.clone());
        control
    });
    let mut event_loop = EventLoop::new(observer, main, options.timeout, control.as_ref());
    if options.syscalls {
        event_loop.take_down_all_calls(options.refusals);
    }
    event_loop.is_init = in_container;
    let end = event_loop.run()?;
    let was_ended = event_loop.was_ended();
    let Some(end) = end else {
        let source = std::io::ErrorKind::UnexpectedEof.into();
        let unknown = Error::Start { step: "the new process ended early", source };
        return Err(started.failure(command).unwrap_or(unknown));
    };
    let syscalls = event_loop.syscalls();
    let Observer { uses, log, .. } = event_loop.observer;
    if let Some(log) = log {
        log.finish().map_err(Error::Log)?;
    }
    Ok(Trace { uses, syscalls, end, was_ended })
}

/// Raises the limit of open files to what is allowed: a process may cost the
/// tracer a descriptor or two. The limit as it is does too, with more work.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Takes /dev/null for standard input and output: while the tracer held them
/// too, nobody at the other end would see the command close them. Standard
/// error stays, for what is to be said.
fn let_go_of_streams() {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(null) = rustix::fs::open("/dev/null", flags, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

impl Trace {
    /// Bytes of content of the selected files.
    pub fn bytes(&self, selection: &Selection) -> u64 {
        let selected = self.uses.sizes().filter(|(path, _)| selection.takes(path));
        selected.map(|(_, bytes)| bytes).sum()
    }

    /// All that goes into `spec.json`, for the run and the host described. Its
    /// files are the spec: the paths that were used and not made by the run, as
    /// far as selected.
    pub fn record(mut self, selection: &Selection, mut run: Run, host: Host) -> Record {
        run.end = self.end;
        run.ended = self.was_ended;
        let mut files = self.uses.take_files();
        let others: Vec<_> = files.extract_if(.., |file| !selection.takes(&file.path.0)).collect();
        let paths = |set: &BTreeSet<Vec<u8>>| {
            set.iter().filter(|path| selection.takes(path)).cloned().map(BytePath).collect()
        };
        Record {
            version: VERSION,
            runs: vec![run],
            files,
            created: self.uses.created(),
            changed: paths(&self.uses.changed),
            deleted: paths(&self.uses.deleted),
            listed: paths(&self.uses.listed),
            ports: std::mem::take(&mut self.uses.ports),
            sockets: self.uses.sockets.iter().cloned().map(BytePath).collect(),
            excluded: others.into_iter().map(|file| file.path).collect(),
            unseen: self.uses.all_unseen(),
            pseudo: self.uses.pseudo.iter().cloned().map(BytePath).collect(),
            devices: self.uses.devices.iter().cloned().map(BytePath).collect(),
            absent: self
                .uses
                .absent()
                .iter()
                .map(|(path, failed)| crate::record::Absent {
                    path: BytePath(path.clone()),
                    errors: failed.errors.clone(),
                    process: BytePath(failed.process.to_vec()),
                })
                .collect(),
            syscalls: self.syscalls,
            host,
        }
    }
}
