//! What is special to the architecture: x86-64 with i386 tracees. To port the
//! tracer, this file and the numbers of [`crate::syscall`] get a sibling.

use std::io;

use crate::sys::{self, Tid};

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_I386` of <linux/audit.h>.
pub(crate) const AUDIT_X86_64: u32 = 0xC000_003E;
pub(crate) const AUDIT_I386: u32 = 0x4000_0003;
/// `__X32_SYSCALL_BIT` of <asm/unistd.h>.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// The calling convention of a stopped call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    X86_64,
    I386,
}

/// A system call at its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) abi: Abi,
    /// Whether it is one of x32, which is x86-64 with other numbers.
    pub(crate) is_x32: bool,
    /// Its number, without the x32 bit.
    pub(crate) number: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    /// Makes a call of what the kernel says; nothing for a foreign ABI.
    pub(crate) fn new(audit: u32, number: u64, args: [u64; 6]) -> Option<Call> {
        let number = u32::try_from(number).ok()?;
        match audit {
            AUDIT_X86_64 => Some(Call::of_64_bit(number, args)),
            AUDIT_I386 => Some(Call { abi: Abi::I386, is_x32: false, number, args }),
            _ => None,
        }
    }

    fn of_64_bit(number: u32, args: [u64; 6]) -> Call {
        // -1 is no call.
        let is_x32 = number & X32_BIT != 0 && number != u32::MAX;
        Call { abi: Abi::X86_64, is_x32, number: number & !X32_BIT, args }
    }

    /// Argument `index` as a file descriptor or other `int`.
    pub(crate) fn int(&self, index: u8) -> i32 {
        self.arg(index) as i32
    }

    /// Argument `index`, zero-extended.
    pub(crate) fn arg(&self, index: u8) -> u64 {
        self.args.get(usize::from(index)).copied().unwrap_or(0)
    }
}

/// Offsets of registers in `struct user` of <sys/user.h>, for PTRACE_POKEUSER.
const ORIG_RAX: usize = 15 * 8;
const RAX: usize = 10 * 8;
const RDI: usize = 14 * 8;
const RBX: usize = 5 * 8;

/// Selector of 32-bit user code, `__USER32_CS` of <asm/segment.h>.
const USER32_CS: u64 = 0x23;

/// Reads the call from the registers: for kernels before 5.3, which have no
/// PTRACE_GET_SYSCALL_INFO, and for stops that are no syscall stops.
///
/// # Errors
/// As PTRACE_GETREGS: `ESRCH` where the task is gone.
pub(crate) fn call_of_registers(tid: Tid) -> io::Result<Call> {
    let regs = sys::registers(tid)?;
    let low = |value: u64| value & 0xffff_ffff;
    let number = low(regs.orig_rax) as u32;
    if regs.cs == USER32_CS || made_by_int_80(tid, regs.rip) {
        let args = [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp].map(low);
        return Ok(Call { abi: Abi::I386, is_x32: false, number, args });
    }
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    Ok(Call::of_64_bit(number, args))
}

/// Whether the instruction just executed is `int $0x80`, which 64-bit code may
/// use too and then means the i386 ABI.
fn made_by_int_80(tid: Tid, rip: u64) -> bool {
    let word = sys::peek(tid, rip.wrapping_sub(2));
    word.is_ok_and(|word| word & 0xffff == 0x80cd)
}

/// The result of the call at a syscall-exit stop, from the registers.
///
/// # Errors
/// As PTRACE_GETREGS.
pub(crate) fn result_of_registers(tid: Tid) -> io::Result<i64> {
    Ok(sys::registers(tid)?.rax as i64)
}

/// Lets the call at its entry not happen, and answer `-errno`.
///
/// # Errors
/// As PTRACE_POKEUSER.
pub(crate) fn refuse(tid: Tid, errno: i32) -> io::Result<()> {
    sys::poke_user(tid, ORIG_RAX, u64::MAX)?;
    sys::poke_user(tid, RAX, i64::from(-errno) as u64)
}

/// Sets the first argument of a call, at its entry or its exit.
///
/// # Errors
/// As PTRACE_POKEUSER.
pub(crate) fn set_first_argument(tid: Tid, abi: Abi, value: u64) -> io::Result<()> {
    match abi {
        Abi::X86_64 => sys::poke_user(tid, RDI, value),
        Abi::I386 => sys::poke_user(tid, RBX, value),
    }
}

/// Highest x86-64 psABI level of this CPU, as glibc-hwcaps names it.
pub fn cpu_level() -> &'static str {
    let v2 = is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("cmpxchg16b");
    let v3 = v2
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("movbe");
    let v4 = v3
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (v2, v3, v4) {
        (_, _, true) => "x86-64-v4",
        (_, true, _) => "x86-64-v3",
        (true, ..) => "x86-64-v2",
        _ => "x86-64-v1",
    }
}
