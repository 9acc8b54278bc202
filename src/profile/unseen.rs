//! Calls that a profile has, or has not, whatever the runs made, as data.

/// What one run shows and another does not, by chance or by the machine alone.
pub(super) const ALWAYS: [&str; 22] = [
    // Every program begins and ends.
    "execve",
    "exit",
    "exit_group",
    // After any signal handler; i386's without siginfo.
    "rt_sigreturn",
    "sigreturn",
    // After a stop in the middle of a wait (signal(7)).
    "restart_syscall",
    // vdso(7) answers these itself, unless the machine's clock is a slow one.
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "getcpu",
    "gettimeofday",
    "time",
    // Locks ask the kernel only when they are taken.
    "futex",
    "futex_time64",
    "sched_yield",
    // malloc(3) and its kin, depending on sizes and threads.
    "brk",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
];

/// What glibc and musl make of a call that the kernel does not have.
pub(super) const OLDER: [(&str, &[&str]); 15] = [
    ("clone3", &["clone"]),
    ("close_range", &["close", "getdents64", "openat"]),
    ("epoll_pwait2", &["epoll_pwait", "epoll_wait"]),
    ("execveat", &["execve"]),
    ("faccessat2", &["faccessat", "newfstatat", "fstatat64"]),
    ("fchmodat2", &["fchmodat"]),
    ("getrandom", &["close", "fstat", "openat", "read"]),
    ("mlock2", &["mlock"]),
    ("openat2", &["openat"]),
    ("ppoll_time64", &["ppoll"]),
    ("preadv2", &["preadv"]),
    ("pselect6_time64", &["pselect6"]),
    ("pwritev2", &["pwritev"]),
    ("renameat2", &["renameat"]),
    ("statx", &["fstat", "fstat64", "fstatat64", "lstat", "newfstatat", "stat", "stat64"]),
];

/// What runc makes between putting the filter on and execve(2), with Go's runtime
/// around it (strace of runc 1.1.5; 1.2 and later also look /proc up by openat2),
/// and crun 1.8.1 (close alone).
pub(super) const RUNTIMES: [&str; 27] = [
    "close",
    "close_range",
    "epoll_ctl",
    "epoll_pwait",
    "execve",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getdents64",
    "getpid",
    "gettid",
    "madvise",
    "mmap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "read",
    "readlinkat",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_yield",
    "sigaltstack",
    "statx",
    "tgkill",
    "write",
];

/// What they make besides, where they must put it on before they give up their
/// rights, as podman and docker do without `--security-opt no-new-privileges`. crun 1.21
/// waits then for the order to start (by pselect6(2), or select(2) where libc has that).
pub(super) const PRIVILEGED_RUNTIMES: [&str; 22] = [
    "capget",
    "capset",
    "chdir",
    "faccessat",
    "faccessat2",
    "fchdir",
    "fchown",
    "getcwd",
    "geteuid",
    "getppid",
    "lseek",
    "lstat",
    "openat2",
    "prctl",
    "pselect6",
    "select",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
    "stat",
];

/// Left out where the runs made them: a filter does not see clone3's flags, and
/// io_uring makes calls that no filter sees. Programs go on without them.
pub(super) const REFUSED: [&str; 4] =
    ["clone3", "io_uring_enter", "io_uring_register", "io_uring_setup"];

/// Those that are allowed with some arguments only.
pub(super) const GUARDED: [&str; 3] = ["clone", "personality", "socket"];
