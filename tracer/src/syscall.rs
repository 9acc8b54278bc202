//! The system calls that name files, as data: one line each, for both ABIs.
//!
//! Numbers are those of `arch/x86/entry/syscalls/syscall_{64,32}.tbl` in the
//! kernel's source; argument positions those of section 2 of the manual.

/// Where a path argument lies: the number of the directory descriptor's
/// argument, where there is one, and of the path's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) dirfd: Option<u8>,
    pub(crate) path: u8,
}

/// Whether a symbolic link as last component is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    Always,
    Never,
    /// Not if this argument has one of these bits.
    Unless(u8, u64),
    /// Only if this argument has one of these bits.
    If(u8, u64),
}

/// What a call does with its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// open(2): the argument with the flags.
    Open(u8),
    /// openat2(2): the argument with the address of `struct open_how`.
    OpenHow(u8),
    /// creat(2): write, make or cut.
    Creat,
    /// Runs it; with an empty path, the descriptor.
    Execute,
    /// Looks at it.
    Inspect,
    /// Makes it the working directory.
    Enter,
    /// Changes its content or metadata.
    Change,
    /// Takes the name away.
    Remove,
    /// Makes the name, as a directory.
    MakeDir,
    /// Makes the name, as a symbolic link: other paths may lead elsewhere now.
    MakeLink,
    /// Makes the name, as a fifo, device, socket or file.
    MakeNode,
}

/// What a call does with a file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FdRole {
    List,
    Enter,
    Change,
}

/// What a call means to the tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Path(At, Follow, Role),
    Fd(u8, FdRole),
    Rename {
        from: At,
        to: At,
        flags: Option<u8>,
    },
    Link {
        from: At,
        to: At,
        flags: Option<u8>,
    },
    /// mount(2) and its kin: a path that is looked at, and every other path
    /// may lead elsewhere afterwards.
    Mount(At),
    /// mount(2) itself: source 0, target 1, flags 3.
    MountAt,
    MoveMount,
    PivotRoot,
    Chroot,
    Unshare,
    Setns,
    /// bind(2), connect(2): the arguments are descriptor, address, length.
    Bind,
    Connect,
    /// sendto(2): the address is argument 4, its length 5.
    SendTo,
    /// i386's bind, connect and all others in one: call number, address of arguments.
    SocketCall,
    /// open_by_handle_at(2): only the result has a path.
    OpenHandle,
    /// Traced only where CLONE_UNTRACED is set.
    Clone,
    Clone3,
    IoUring,
    Ptrace,
    Seccomp,
    Prctl,
}

/// One system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Number in the x86-64 ABI.
    pub(crate) x86_64: Option<u32>,
    /// Number in the i386 ABI.
    pub(crate) i386: Option<u32>,
    pub(crate) shape: Shape,
}

/// `AT_SYMLINK_NOFOLLOW`, `AT_SYMLINK_FOLLOW` of <linux/fcntl.h>.
const NOFOLLOW: u64 = 0x100;
const FOLLOW: u64 = 0x400;
/// `IN_DONT_FOLLOW` of <linux/inotify.h>, `FAN_MARK_DONT_FOLLOW` of <linux/fanotify.h>.
const IN_DONT_FOLLOW: u64 = 0x0200_0000;
const FAN_DONT_FOLLOW: u64 = 0x4;

const fn row(name: &'static str, x86_64: u32, i386: u32, shape: Shape) -> Row {
    Row { name, x86_64: Some(x86_64), i386: Some(i386), shape }
}

const fn on_x86_64(name: &'static str, number: u32, shape: Shape) -> Row {
    Row { name, x86_64: Some(number), i386: None, shape }
}

const fn on_i386(name: &'static str, number: u32, shape: Shape) -> Row {
    Row { name, x86_64: None, i386: Some(number), shape }
}

/// A path argument that is relative to the working directory.
const fn p(path: u8) -> At {
    At { dirfd: None, path }
}

/// A path argument that is relative to a descriptor.
const fn at(dirfd: u8, path: u8) -> At {
    At { dirfd: Some(dirfd), path }
}

const fn path(at: At, follow: Follow, role: Role) -> Shape {
    Shape::Path(at, follow, role)
}

use Follow::{Always, If, Never, Unless};
use Role::{Change, Inspect, Remove};

/// Every call that names a file or changes what a name means.
pub(crate) const TABLE: &[Row] = &[
    row("open", 2, 5, path(p(0), Always, Role::Open(1))),
    row("openat", 257, 295, path(at(0, 1), Always, Role::Open(2))),
    row("openat2", 437, 437, path(at(0, 1), Always, Role::OpenHow(2))),
    row("creat", 85, 8, path(p(0), Always, Role::Creat)),
    row("execve", 59, 11, path(p(0), Always, Role::Execute)),
    row("execveat", 322, 358, path(at(0, 1), Unless(4, NOFOLLOW), Role::Execute)),
    // The two that x32 has of its own; its other numbers are those of x86-64.
    on_x86_64("execve#x32", 520, path(p(0), Always, Role::Execute)),
    on_x86_64("execveat#x32", 545, path(at(0, 1), Unless(4, NOFOLLOW), Role::Execute)),
    row("stat", 4, 106, path(p(0), Always, Inspect)),
    row("lstat", 6, 107, path(p(0), Never, Inspect)),
    on_i386("oldstat", 18, path(p(0), Always, Inspect)),
    on_i386("oldlstat", 84, path(p(0), Never, Inspect)),
    on_i386("stat64", 195, path(p(0), Always, Inspect)),
    on_i386("lstat64", 196, path(p(0), Never, Inspect)),
    on_x86_64("newfstatat", 262, path(at(0, 1), Unless(3, NOFOLLOW), Inspect)),
    on_i386("fstatat64", 300, path(at(0, 1), Unless(3, NOFOLLOW), Inspect)),
    row("statx", 332, 383, path(at(0, 1), Unless(2, NOFOLLOW), Inspect)),
    row("access", 21, 33, path(p(0), Always, Inspect)),
    row("faccessat", 269, 307, path(at(0, 1), Always, Inspect)),
    row("faccessat2", 439, 439, path(at(0, 1), Unless(3, NOFOLLOW), Inspect)),
    row("readlink", 89, 85, path(p(0), Never, Inspect)),
    row("readlinkat", 267, 305, path(at(0, 1), Never, Inspect)),
    row("statfs", 137, 99, path(p(0), Always, Inspect)),
    on_i386("statfs64", 268, path(p(0), Always, Inspect)),
    row("getxattr", 191, 229, path(p(0), Always, Inspect)),
    row("lgetxattr", 192, 230, path(p(0), Never, Inspect)),
    row("getxattrat", 464, 464, path(at(0, 1), Unless(2, NOFOLLOW), Inspect)),
    row("listxattr", 194, 232, path(p(0), Always, Inspect)),
    row("llistxattr", 195, 233, path(p(0), Never, Inspect)),
    row("listxattrat", 465, 465, path(at(0, 1), Unless(2, NOFOLLOW), Inspect)),
    row("file_getattr", 468, 468, path(at(0, 1), Unless(4, NOFOLLOW), Inspect)),
    row("name_to_handle_at", 303, 341, path(at(0, 1), If(4, FOLLOW), Inspect)),
    row("open_by_handle_at", 304, 342, Shape::OpenHandle),
    row("inotify_add_watch", 254, 292, path(p(1), Unless(2, IN_DONT_FOLLOW), Inspect)),
    on_x86_64("fanotify_mark", 301, path(at(3, 4), Unless(1, FAN_DONT_FOLLOW), Inspect)),
    // Its 64-bit mask takes two of the six arguments.
    on_i386("fanotify_mark", 339, path(at(4, 5), Unless(1, FAN_DONT_FOLLOW), Inspect)),
    row("quotactl", 179, 131, path(p(1), Always, Inspect)),
    row("uselib", 134, 86, path(p(0), Always, Inspect)),
    row("swapon", 167, 87, path(p(0), Always, Inspect)),
    row("swapoff", 168, 115, path(p(0), Always, Inspect)),
    row("acct", 163, 51, path(p(0), Always, Change)),
    row("chdir", 80, 12, path(p(0), Always, Role::Enter)),
    row("fchdir", 81, 133, Shape::Fd(0, FdRole::Enter)),
    row("getdents", 78, 141, Shape::Fd(0, FdRole::List)),
    row("getdents64", 217, 220, Shape::Fd(0, FdRole::List)),
    on_i386("readdir", 89, Shape::Fd(0, FdRole::List)),
    row("truncate", 76, 92, path(p(0), Always, Change)),
    on_i386("truncate64", 193, path(p(0), Always, Change)),
    row("utime", 132, 30, path(p(0), Always, Change)),
    row("utimes", 235, 271, path(p(0), Always, Change)),
    row("futimesat", 261, 299, path(at(0, 1), Always, Change)),
    row("utimensat", 280, 320, path(at(0, 1), Unless(3, NOFOLLOW), Change)),
    on_i386("utimensat_time64", 412, path(at(0, 1), Unless(3, NOFOLLOW), Change)),
    row("chmod", 90, 15, path(p(0), Always, Change)),
    row("fchmod", 91, 94, Shape::Fd(0, FdRole::Change)),
    row("fchmodat", 268, 306, path(at(0, 1), Always, Change)),
    row("fchmodat2", 452, 452, path(at(0, 1), Unless(3, NOFOLLOW), Change)),
    row("chown", 92, 182, path(p(0), Always, Change)),
    row("lchown", 94, 16, path(p(0), Never, Change)),
    row("fchown", 93, 95, Shape::Fd(0, FdRole::Change)),
    on_i386("chown32", 212, path(p(0), Always, Change)),
    on_i386("lchown32", 198, path(p(0), Never, Change)),
    on_i386("fchown32", 207, Shape::Fd(0, FdRole::Change)),
    row("fchownat", 260, 298, path(at(0, 1), Unless(4, NOFOLLOW), Change)),
    row("setxattr", 188, 226, path(p(0), Always, Change)),
    row("lsetxattr", 189, 227, path(p(0), Never, Change)),
    row("fsetxattr", 190, 228, Shape::Fd(0, FdRole::Change)),
    row("setxattrat", 463, 463, path(at(0, 1), Unless(2, NOFOLLOW), Change)),
    row("removexattr", 197, 235, path(p(0), Always, Change)),
    row("lremovexattr", 198, 236, path(p(0), Never, Change)),
    row("fremovexattr", 199, 237, Shape::Fd(0, FdRole::Change)),
    row("removexattrat", 466, 466, path(at(0, 1), Unless(2, NOFOLLOW), Change)),
    row("file_setattr", 469, 469, path(at(0, 1), Unless(4, NOFOLLOW), Change)),
    row("unlink", 87, 10, path(p(0), Never, Remove)),
    row("unlinkat", 263, 301, path(at(0, 1), Never, Remove)),
    row("rmdir", 84, 40, path(p(0), Never, Remove)),
    row("mkdir", 83, 39, path(p(0), Never, Role::MakeDir)),
    row("mkdirat", 258, 296, path(at(0, 1), Never, Role::MakeDir)),
    row("mknod", 133, 14, path(p(0), Never, Role::MakeNode)),
    row("mknodat", 259, 297, path(at(0, 1), Never, Role::MakeNode)),
    row("symlink", 88, 83, path(p(1), Never, Role::MakeLink)),
    row("symlinkat", 266, 304, path(at(1, 2), Never, Role::MakeLink)),
    row("link", 86, 9, Shape::Link { from: p(0), to: p(1), flags: None }),
    row("linkat", 265, 303, Shape::Link { from: at(0, 1), to: at(2, 3), flags: Some(4) }),
    row("rename", 82, 38, Shape::Rename { from: p(0), to: p(1), flags: None }),
    row("renameat", 264, 302, Shape::Rename { from: at(0, 1), to: at(2, 3), flags: None }),
    row("renameat2", 316, 353, Shape::Rename { from: at(0, 1), to: at(2, 3), flags: Some(4) }),
    row("chroot", 161, 61, Shape::Chroot),
    row("pivot_root", 155, 217, Shape::PivotRoot),
    row("mount", 165, 21, Shape::MountAt),
    on_i386("umount", 22, Shape::Mount(p(0))),
    row("umount2", 166, 52, Shape::Mount(p(0))),
    row("open_tree", 428, 428, Shape::Mount(at(0, 1))),
    row("open_tree_attr", 467, 467, Shape::Mount(at(0, 1))),
    row("move_mount", 429, 429, Shape::MoveMount),
    row("fspick", 433, 433, Shape::Mount(at(0, 1))),
    row("mount_setattr", 442, 442, Shape::Mount(at(0, 1))),
    row("unshare", 272, 310, Shape::Unshare),
    row("setns", 308, 346, Shape::Setns),
    row("bind", 49, 361, Shape::Bind),
    row("connect", 42, 362, Shape::Connect),
    row("sendto", 44, 369, Shape::SendTo),
    on_i386("socketcall", 102, Shape::SocketCall),
    row("clone", 56, 120, Shape::Clone),
    row("clone3", 435, 435, Shape::Clone3),
    row("io_uring_setup", 425, 425, Shape::IoUring),
    row("ptrace", 101, 26, Shape::Ptrace),
    row("seccomp", 317, 354, Shape::Seccomp),
    row("prctl", 157, 172, Shape::Prctl),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_number_is_given_twice() {
        for numbers in [
            TABLE.iter().filter_map(|r| r.x86_64).collect::<Vec<_>>(),
            TABLE.iter().filter_map(|r| r.i386).collect::<Vec<_>>(),
        ] {
            let unique: BTreeSet<_> = numbers.iter().collect();
            assert_eq!(unique.len(), numbers.len());
        }
    }

    #[test]
    fn numbers_are_those_of_the_headers() {
        for (name, number) in [
            ("openat2", libc::SYS_openat2),
            ("execve", libc::SYS_execve),
            ("statx", libc::SYS_statx),
            ("renameat2", libc::SYS_renameat2),
            ("name_to_handle_at", libc::SYS_name_to_handle_at),
            ("clone3", libc::SYS_clone3),
            ("prctl", libc::SYS_prctl),
            ("fchmodat2", libc::SYS_fchmodat2),
        ] {
            let found = TABLE.iter().find(|r| r.name == name).and_then(|r| r.x86_64);
            assert_eq!(found.map(i64::from), Some(number), "{name}");
        }
    }

    #[test]
    fn arguments_are_among_the_six() {
        for row in TABLE {
            if let Shape::Path(at, follow, _) = row.shape {
                assert!(at.path < 6 && at.dirfd.is_none_or(|d| d < 6), "{}", row.name);
                if let Unless(arg, _) | If(arg, _) = follow {
                    assert!(arg < 6, "{}", row.name);
                }
            }
        }
    }
}
