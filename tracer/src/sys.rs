//! All unsafe code of the tracer: ptrace(2), wait4(2), fork, signals.
//!
//! nix is not used for ptrace and wait, since its `Signal` has no real-time
//! signals and a tracee's status may hold one.
#![allow(unsafe_code, reason = "the one file for it")]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::CloneFlags;

/// A task's id: what gettid(2) says, in the tracer's pid namespace.
pub(crate) type Tid = libc::pid_t;

/// Bits 0–2: descriptor 0–2 was open when this process started; bit 3: SIGPIPE
/// was ignored; bit 4: the constructor ran.
static AT_START: AtomicU32 = AtomicU32::new(0);
const SIGPIPE_IGNORED: u32 = 8;
const SEEN: u32 = 16;

/// Looks at what the process was given, before Rust's runtime opens closed
/// descriptors as /dev/null and ignores SIGPIPE.
extern "C" fn look_at_start() {
    let mut seen = SEEN;
    for fd in 0..3 {
        // SAFETY: F_GETFD takes no pointer; a closed descriptor is an error value.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0 {
            seen |= 1 << fd;
        }
    }
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with a null new action sigaction only writes the old one to `action`.
    if unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) } == 0 {
        // SAFETY: the call above succeeded and has filled `action`.
        if unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN {
            seen |= SIGPIPE_IGNORED;
        }
    }
    AT_START.store(seen, Ordering::Relaxed);
}

// SAFETY: the loader calls the functions of .init_array with C's convention;
// this one only makes system calls and stores to an atomic.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = look_at_start;

/// Undoes, in the tracee before its exec, what Rust's runtime did at start.
pub(crate) fn restore_start() {
    let seen = AT_START.load(Ordering::Relaxed);
    if seen & SEEN == 0 {
        return;
    }
    let pipe = if seen & SIGPIPE_IGNORED == 0 { libc::SIG_DFL } else { libc::SIG_IGN };
    // SAFETY: SIG_DFL and SIG_IGN run no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, pipe) };
    for fd in 0..3 {
        if seen & (1 << fd) == 0 {
            // SAFETY: 0–2 belong to std's streams, which this process does not
            // use again: it execs or exits.
            unsafe { libc::close(fd) };
        }
    }
}

fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret == -1 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

fn request(request: libc::c_uint, tid: Tid, addr: usize, data: usize) -> io::Result<()> {
    // SAFETY: the callers below pass only requests that take `addr` and `data`
    // as integers, so that no memory of this process is read or written.
    check(unsafe { libc::ptrace(request, tid, addr, data) }).map(drop)
}

/// PTRACE_SEIZE with the options that every tracee gets.
pub(crate) fn seize(tid: Tid) -> io::Result<()> {
    let options = libc::PTRACE_O_EXITKILL
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEVFORK;
    request(libc::PTRACE_SEIZE, tid, 0, options as usize)
}

/// PTRACE_CONT. `signal` is raw because nix's `Signal` has no real-time signals.
pub(crate) fn resume(tid: Tid, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_CONT, tid, 0, signal as usize)
}

/// PTRACE_SYSCALL: as [`resume`], up to the next entry or exit of a call.
pub(crate) fn resume_to_syscall(tid: Tid, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_SYSCALL, tid, 0, signal as usize)
}

/// PTRACE_LISTEN: leaves a group-stopped task stopped until SIGCONT.
pub(crate) fn listen(tid: Tid) -> io::Result<()> {
    request(libc::PTRACE_LISTEN, tid, 0, 0)
}

/// PTRACE_POKEUSER.
pub(crate) fn poke_user(tid: Tid, offset: usize, value: u64) -> io::Result<()> {
    request(libc::PTRACE_POKEUSER, tid, offset, value as usize)
}

/// PTRACE_POKEDATA: writes a word to the tracee's memory, even read-only.
pub(crate) fn poke(tid: Tid, address: u64, word: u64) -> io::Result<()> {
    request(libc::PTRACE_POKEDATA, tid, address as usize, word as usize)
}

/// PTRACE_PEEKDATA: a word of the tracee's memory.
pub(crate) fn peek(tid: Tid, address: u64) -> io::Result<u64> {
    let mut word: libc::c_long = 0;
    // SAFETY: the raw call (unlike glibc's wrapper) stores the word at `data`,
    // which is a local of the right size; `addr` is the tracee's address.
    let ret = unsafe {
        libc::syscall(libc::SYS_ptrace, libc::PTRACE_PEEKDATA, tid, address, &raw mut word)
    };
    check(ret).map(|_| word as u64)
}

/// PTRACE_GETEVENTMSG: the new task's id at a fork, the former id at an exec.
pub(crate) fn event_message(tid: Tid) -> io::Result<u64> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel stores one unsigned long at `data`, a local.
    check(unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, tid, 0usize, &raw mut message) })?;
    Ok(message)
}

/// PTRACE_GETREGS.
pub(crate) fn registers(tid: Tid) -> io::Result<libc::user_regs_struct> {
    let mut registers = MaybeUninit::<libc::user_regs_struct>::uninit();
    // SAFETY: the kernel fills one user_regs_struct at `data`.
    check(unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0usize, registers.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so all of it is filled.
    Ok(unsafe { registers.assume_init() })
}

/// `struct ptrace_syscall_info` of <linux/ptrace.h>, its union as words: number
/// and arguments at an entry or a seccomp stop, the result first at an exit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SyscallInfo {
    pub(crate) op: u8,
    reserved: [u8; 3],
    pub(crate) arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    pub(crate) words: [u64; 8],
}

/// PTRACE_GET_SYSCALL_INFO (Linux 5.3).
///
/// # Errors
/// `EIO` on older kernels, `ESRCH` where the task is gone.
pub(crate) fn syscall_info(tid: Tid) -> io::Result<SyscallInfo> {
    const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
    let mut info = SyscallInfo::default();
    // SAFETY: the kernel writes at most `addr` bytes, the size of `info`, which
    // is plain integers and so valid whatever is written.
    check(unsafe { libc::ptrace(GET_SYSCALL_INFO, tid, size_of::<SyscallInfo>(), &raw mut info) })?;
    Ok(info)
}

/// `si_code` of the signal that a task is about to get (PTRACE_GETSIGINFO).
pub(crate) fn signal_code(tid: Tid) -> io::Result<i32> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the kernel fills one siginfo_t at `data`.
    check(unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, tid, 0usize, info.as_mut_ptr()) })?;
    // SAFETY: siginfo_t is plain data; it was zeroed and then filled.
    Ok(unsafe { info.assume_init() }.si_code)
}

/// wait4(2) for a tracee of this thread: `any` is -1. Returns the id (0 where
/// `WNOHANG` found none) and the raw status.
///
/// # Errors
/// `ECHILD` where there is none left, `EINTR` after a signal.
pub(crate) fn wait(any: Tid, flags: i32) -> io::Result<(Tid, i32)> {
    let mut status = 0;
    // SAFETY: the kernel writes the status to a local; the usage is not asked for.
    let tid = unsafe {
        let flags = flags | libc::__WALL | libc::__WNOTHREAD;
        libc::wait4(any, &raw mut status, flags, ptr::null_mut())
    };
    if tid < 0 { Err(io::Error::last_os_error()) } else { Ok((tid, status)) }
}

/// Blocks SIGCHLD in this thread, or lets it through (and be ignored) again.
pub(crate) fn block_child_signal(block: bool) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    let how = if block { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    // SAFETY: sigemptyset initialises the local set, the others use it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        libc::pthread_sigmask(how, set.as_ptr(), ptr::null_mut());
    }
}

/// Takes a pending SIGCHLD, waiting for at most `patience`, and returns the
/// task that it tells of. The signal must be blocked.
///
/// # Errors
/// `EINTR` after another signal.
pub(crate) fn child_signal(patience: Duration) -> io::Result<Option<Tid>> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let time = libc::timespec {
        tv_sec: patience.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(patience.subsec_nanos()),
    };
    // SAFETY: the set is initialised, `info` is written by the kernel, and
    // si_pid is a field of every SIGCHLD.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        if libc::sigtimedwait(set.as_ptr(), info.as_mut_ptr(), &raw const time) >= 0 {
            return Ok(Some(info.assume_init().si_pid()));
        }
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EAGAIN) { Ok(None) } else { Err(error) }
}

/// fork(2). Returns the child's id, nothing in the child.
///
/// The child has one thread and a copy of this memory. The caller makes sure
/// that no other thread holds a lock that the child needs: trace from a
/// process that has no other threads yet.
pub(crate) fn fork() -> io::Result<Option<Tid>> {
    // SAFETY: glibc's fork leaves its own locks usable in the child; for other
    // locks see above. No Rust value is invalid in the copy.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        child => Ok(Some(child)),
    }
}

/// As [`fork`], the child being the first process in each of `namespaces`.
pub(crate) fn fork_into(namespaces: CloneFlags) -> io::Result<Option<Tid>> {
    if namespaces.is_empty() {
        return fork();
    }
    let flags = namespaces.bits() | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and a stack of its own, clone(2) is fork(2). The
    // handlers of glibc's fork are not run; they guard against other threads,
    // of which there are none.
    match check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })? {
        0 => Ok(None),
        child => Ok(Some(child as Tid)),
    }
}

/// Ends this process at once, as _exit(2): no destructor, no flush.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit only ends the process.
    unsafe { libc::_exit(status) }
}

/// Waits for a child by its id, whatever becomes of it.
pub(crate) fn reap(child: Tid) {
    // SAFETY: a null status pointer means that the status is not wanted.
    while unsafe { libc::waitpid(child, ptr::null_mut(), 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// Installs a seccomp filter for this thread.
///
/// # Errors
/// `EACCES` without CAP_SYS_ADMIN and `no_new_privs`, `EINVAL` on a kernel
/// without filters.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    // The kernel only reads the program.
    let fprog = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let set = |flags: libc::c_ulong| {
        // SAFETY: `fprog` points to `len` instructions that outlive the call.
        check(unsafe {
            let mode = libc::SECCOMP_SET_MODE_FILTER;
            libc::syscall(libc::SYS_seccomp, mode, flags, &raw const fprog)
        })
    };
    match set(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
        // Kernels before 4.17 do not know the flag.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => set(0),
        other => other,
    }
    .map(drop)
}

/// prctl(2) with one number.
///
/// # Errors
/// As prctl.
pub(crate) fn prctl(option: i32, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: used for PR_SET_NO_NEW_PRIVS and PR_SET_PTRACER, which take no pointer.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }.into()).map(drop)
}

/// execve(2) with the environment `env`, else this process's own, byte for byte.
///
/// Returns only an error.
pub(crate) fn exec(path: &CStr, args: &[&CStr], env: Option<&[&CStr]>) -> io::Error {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    let pointers = |words: &[&CStr]| -> Vec<*const libc::c_char> {
        words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(args), env.map(pointers));
    // SAFETY: `path` and each word are NUL-terminated and outlive the call, both
    // lists end in null; `environ` is libc's, and nothing sets variables in
    // this child of one thread.
    unsafe {
        let envp = envp.as_ref().map_or(environ, Vec::as_ptr);
        libc::execve(path.as_ptr(), argv.as_ptr(), envp)
    };
    io::Error::last_os_error()
}

/// The tracee's main process, for the signal handler; 0 when it has ended.
static MAIN: AtomicI32 = AtomicI32::new(0);
/// The tracer was asked to end.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Names the process that signals are passed on to; 0 for none.
pub(crate) fn pass_signals_to(main: Tid) {
    MAIN.store(main, Ordering::SeqCst);
}

/// Whether a TERM, HUP or INT asked the tracer itself to end.
pub(crate) fn asked_to_end() -> bool {
    ASKED.load(Ordering::SeqCst)
}

extern "C" fn pass_on(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t.
    let from_terminal = unsafe { (*info).si_code } == libc::SI_KERNEL;
    let main = MAIN.load(Ordering::SeqCst);
    // The terminal sends its signals to the whole group: the tracee got its own.
    if !(from_terminal && main != 0) {
        // SAFETY: kill, and errno's address in this thread, are fine in a handler.
        unsafe {
            let errno = *libc::__errno_location();
            if main != 0 {
                libc::kill(main, signal);
            }
            *libc::__errno_location() = errno;
        }
        ASKED.store(true, Ordering::SeqCst);
        wake_after(Duration::from_millis(20));
    }
}

extern "C" fn only_wake(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

/// How a signal is taken.
#[derive(Clone, Copy)]
enum Taking {
    By(Handler),
    Ignored,
    Default,
}

fn handle(signal: i32, taking: Taking) {
    // SAFETY: sigaction is plain data; zero is a valid one (empty mask, no flags,
    // so that a signal interrupts wait4).
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    match taking {
        Taking::By(handler) => {
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
        }
        Taking::Ignored => action.sa_sigaction = libc::SIG_IGN,
        Taking::Default => action.sa_sigaction = libc::SIG_DFL,
    }
    // SAFETY: `action` is filled; the handlers only use async-signal-safe calls.
    unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
}

/// Sets the tracer's own signals, once the tracee is started: the terminal's
/// stop signals are ignored, those that end a program are passed on.
pub(crate) fn handle_signals() {
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        handle(signal, Taking::Ignored);
    }
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        handle(signal, Taking::By(pass_on));
    }
    handle(libc::SIGALRM, Taking::By(only_wake));
    // Given as ignored, it would reap the tracees unseen.
    handle(libc::SIGCHLD, Taking::Default);
}

/// Stops this process by a terminal's stop signal until it is continued.
pub(crate) fn stop_by(signal: i32) {
    handle(signal, Taking::Default);
    kill(std::process::id() as Tid, signal);
    handle(signal, Taking::Ignored);
}

/// Interrupts a blocking [`wait`] after `delay` and then every 50 ms, so that
/// no wake-up is lost between a look at the flags and the wait.
pub(crate) fn wake_after(delay: Duration) {
    let time = |d: Duration| libc::timeval {
        tv_sec: d.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(d.subsec_micros().max(1)),
    };
    let timer =
        libc::itimerval { it_interval: time(Duration::from_millis(50)), it_value: time(delay) };
    // SAFETY: the kernel reads one itimerval; the old one is not asked for.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
}

/// Takes the wake-ups of [`wake_after`] back.
pub(crate) fn no_wake() {
    // SAFETY: as in `wake_after`; zero stops the timer.
    unsafe {
        let timer: libc::itimerval = MaybeUninit::zeroed().assume_init();
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut())
    };
}

/// Sends a signal to a process.
pub(crate) fn kill(process: Tid, signal: i32) {
    // SAFETY: kill takes integers. A process that is gone is no error here.
    unsafe { libc::kill(process, signal) };
}

/// Whether a process is in this process's group.
pub(crate) fn same_group(process: Tid) -> bool {
    // SAFETY: both take and return integers.
    unsafe { libc::getpgid(process) == libc::getpgrp() }
}

/// Interrupts a blocking [`wait`] of a thread of this process; false where
/// the thread is gone.
pub(crate) fn wake_thread(thread: Tid) -> bool {
    // SAFETY: tgkill takes integers; SIGALRM has the handler `only_wake`.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGALRM) == 0 }
}

/// Ends this process by `signal`, without a core file, as the tracee ended.
///
/// Returns where the signal does not end a process.
pub fn die_by(signal: i32) {
    /// `struct sigaction` of the kernel, <asm/signal.h>: libc's own function
    /// refuses signals 32 and 33, which it keeps for itself.
    #[repr(C)]
    struct Action {
        handler: usize,
        flags: libc::c_ulong,
        restorer: usize,
        mask: u64,
    }
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let action = Action { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    let Some(mask) = u32::try_from(signal - 1).ok().and_then(|bit| 1u64.checked_shl(bit)) else {
        return;
    };
    let null = ptr::null::<Action>();
    // SAFETY: the calls read locals of the size that they are told (8 bytes of
    // mask); the default action runs no code of ours.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, null, size_of::<u64>());
        let how = libc::SIG_UNBLOCK;
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const mask, null, size_of::<u64>());
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal);
    }
}
