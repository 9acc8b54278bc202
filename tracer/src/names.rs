//! Names of system calls, for the ABIs of this machine.

use crate::arch::X32_BIT;
use crate::record::Abi;

/// The first of the numbers that x32 has of its own.
const X32_FIRST: u32 = 512;

/// Those numbers' names (`arch/x86/entry/syscalls/syscall_64.tbl`); all other
/// numbers of x32 are those of x86-64.
const OF_X32: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// The name of a call by its number, without the x32 bit; nothing for one that
/// is newer than this program.
pub(crate) fn name(abi: Abi, number: u32) -> Option<&'static str> {
    let index = number as usize;
    match abi {
        Abi::I386 => syscalls::x86::Sysno::new(index).map(|call| call.name()),
        Abi::X32 if number >= X32_FIRST => OF_X32.get(index - X32_FIRST as usize).copied(),
        Abi::X86_64 | Abi::X32 => syscalls::x86_64::Sysno::new(index).map(|call| call.name()),
    }
}

/// The number that `struct seccomp_data` has for a call of that name; nothing
/// where the ABI has none.
pub fn number(abi: Abi, name: &str) -> Option<u32> {
    let x86_64 = || Some(name.parse::<syscalls::x86_64::Sysno>().ok()?.id() as u32);
    match abi {
        Abi::I386 => Some(name.parse::<syscalls::x86::Sysno>().ok()?.id() as u32),
        Abi::X86_64 => x86_64(),
        Abi::X32 => {
            let own = OF_X32.iter().position(|own| *own == name);
            let number = own.map(|place| X32_FIRST + place as u32).or_else(x86_64)?;
            Some(number | X32_BIT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_the_tracer_s_table() {
        for row in crate::syscall::TABLE.iter().filter(|row| !row.name.ends_with("#x32")) {
            for (abi, expected) in [(Abi::X86_64, row.x86_64), (Abi::I386, row.i386)] {
                let Some(expected) = expected else { continue };
                // The table keeps 32-bit variants with the name of what they vary.
                let Some(name) = name(abi, expected) else { panic!("{expected} of {abi:?}") };
                assert_eq!(number(abi, name), Some(expected), "{name} of {abi:?}");
            }
        }
        assert_eq!(name(Abi::X86_64, 257), Some("openat"));
        assert_eq!(name(Abi::I386, 295), Some("openat"));
        assert_eq!(name(Abi::X32, 520), Some("execve"));
        assert_eq!(number(Abi::X32, "execve"), Some(X32_BIT | 520));
        assert_eq!(number(Abi::X32, "openat"), Some(X32_BIT | 257));
        assert_eq!(number(Abi::X86_64, "socketcall"), None);
        assert_eq!(name(Abi::X86_64, 100_000), None);
    }
}
