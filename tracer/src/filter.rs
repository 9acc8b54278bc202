//! The seccomp filter: a range tree over system call numbers, for each ABI.
//!
//! Only the loads, jumps and the AND that the kernel's own emulator knows
//! (`seccomp_is_const_allow` in kernel/seccomp.c) lie on the way of an
//! untraced call, so that the kernel answers those from its bitmap and never
//! runs the filter for them.

use crate::arch;
use crate::bpf::{self, ALLOW, AND, EQUAL, HAS_BITS, LOAD, NUMBER, RETURN};
use crate::bpf::{argument, branch, op};
use crate::syscall::{Row, Shape, TABLE};
use libc::sock_filter;

/// `CLONE_UNTRACED` of <linux/sched.h>.
pub(crate) const CLONE_UNTRACED: u64 = 0x0080_0000;

/// `PR_SET_SECCOMP` of <linux/prctl.h>, the only traced prctl(2).
const PR_SET_SECCOMP: u32 = 22;

/// Sizes of `sockaddr_in` and `sockaddr_in6`.
const SIZE_INET: u32 = 16;
const SIZE_INET6: u32 = 28;

const TRACE: u32 = 0x7ff0_0000 | MARK as u32; // SECCOMP_RET_TRACE

/// Tells stops by this filter from those by a filter of the program's own.
pub(crate) const MARK: u16 = 0x565a;

/// What becomes of the numbers from `first` up to the next range's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Trace,
    /// Traced where the low half of argument 0 has one of these bits.
    IfBits(u32),
    /// Traced where the low half of argument 0 is this.
    IfEqual(u32),
    /// Traced where argument 4 is an address (not null) of a length, argument
    /// 5, that is not that of an IP address.
    IfNamed,
}

/// Returns the program to install. A foreign ABI's calls are allowed untraced.
pub(crate) fn program() -> Vec<sock_filter> {
    let section = |ranges: Vec<_>, mask: Option<u32>| {
        let mut section = vec![op(LOAD, NUMBER)];
        section.extend(mask.map(|mask| op(AND, mask)));
        bpf::tree(&ranges, &leaf, &mut section);
        section
    };
    let x86_64 = section(ranges(|row| row.x86_64), Some(!arch::X32_BIT));
    let i386 = section(ranges(|row| row.i386), None);
    bpf::by_abi(vec![(arch::AUDIT_X86_64, x86_64), (arch::AUDIT_I386, i386)], ALLOW)
}

fn verdict(row: &Row) -> Verdict {
    match row.shape {
        Shape::Clone => Verdict::IfBits(CLONE_UNTRACED as u32),
        Shape::Prctl => Verdict::IfEqual(PR_SET_SECCOMP),
        Shape::SendTo => Verdict::IfNamed,
        _ => Verdict::Trace,
    }
}

/// The verdicts as ranges that cover all numbers, in order.
fn ranges(number: impl Fn(&Row) -> Option<u32>) -> Vec<(u32, Verdict)> {
    let rows = TABLE.iter().filter_map(|row| Some((number(row)?, verdict(row))));
    bpf::ranges(rows.collect(), &Verdict::Allow)
}

fn leaf(verdict: &Verdict, program: &mut Vec<sock_filter>) {
    let test = match *verdict {
        Verdict::Allow => return program.push(op(RETURN, ALLOW)),
        Verdict::Trace => return program.push(op(RETURN, TRACE)),
        Verdict::IfBits(bits) => branch(HAS_BITS, bits, 0, 1),
        Verdict::IfEqual(value) => branch(EQUAL, value, 0, 1),
        Verdict::IfNamed => {
            return program.extend([
                op(LOAD, argument(5)),
                branch(EQUAL, SIZE_INET, 6, 0),
                branch(EQUAL, SIZE_INET6, 5, 0),
                op(LOAD, argument(4)),
                branch(HAS_BITS, u32::MAX, 2, 0),
                op(LOAD, argument(4) + 4),
                branch(HAS_BITS, u32::MAX, 0, 1),
                op(RETURN, TRACE),
                op(RETURN, ALLOW),
            ]);
        }
    };
    program.extend([op(LOAD, argument(0)), test, op(RETURN, TRACE), op(RETURN, ALLOW)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Whether a call is traced whose arguments all have one value.
    fn traced(program: &[sock_filter], audit: u32, number: u32, argument: u64) -> bool {
        let data = bpf::Data { number, audit, args: [argument; 6] };
        bpf::run(program, &data) == TRACE
    }

    fn check_abi(audit: u32, number: impl Fn(&Row) -> Option<u32>) {
        let program = program();
        let rows: BTreeMap<u32, &Row> =
            TABLE.iter().filter_map(|r| Some((number(r)?, r))).collect();
        for nr in (0..2000).chain([u32::MAX, 0x4000_0000 - 1]) {
            let expected = rows.get(&nr).is_some_and(|r| verdict(r) == Verdict::Trace);
            assert_eq!(traced(&program, audit, nr, 0), expected, "number {nr} of {audit:#x}");
        }
    }

    #[test]
    fn every_number_of_x86_64_gets_its_verdict() {
        check_abi(arch::AUDIT_X86_64, |row| row.x86_64);
    }

    #[test]
    fn every_number_of_i386_gets_its_verdict() {
        check_abi(arch::AUDIT_I386, |row| row.i386);
    }

    #[test]
    fn an_x32_call_is_found_under_its_plain_number() {
        assert!(traced(&program(), arch::AUDIT_X86_64, arch::X32_BIT | 257, 0));
        assert!(traced(&program(), arch::AUDIT_X86_64, arch::X32_BIT | 520, 0));
        assert!(!traced(&program(), arch::AUDIT_X86_64, arch::X32_BIT, 0));
    }

    #[test]
    fn clone_is_traced_only_where_it_would_escape() {
        let untraced = CLONE_UNTRACED;
        assert!(!traced(&program(), arch::AUDIT_X86_64, 56, 0x0011));
        assert!(traced(&program(), arch::AUDIT_X86_64, 56, untraced | 0x0011));
        assert!(traced(&program(), arch::AUDIT_I386, 120, untraced));
    }

    #[test]
    fn a_datagram_is_traced_only_to_a_named_socket() {
        // The test gives all arguments one value: as address and as length.
        assert!(!traced(&program(), arch::AUDIT_X86_64, 44, 0));
        assert!(!traced(&program(), arch::AUDIT_X86_64, 44, u64::from(SIZE_INET)));
        assert!(!traced(&program(), arch::AUDIT_X86_64, 44, u64::from(SIZE_INET6)));
        assert!(traced(&program(), arch::AUDIT_X86_64, 44, 110));
        assert!(traced(&program(), arch::AUDIT_I386, 369, 110));
    }

    #[test]
    fn a_foreign_abi_is_left_alone() {
        assert!(!traced(&program(), 0xC000_00B7, 56, 0));
    }
}
