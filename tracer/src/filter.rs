//! The seccomp filter: a range tree over system call numbers, for each ABI.
//!
//! Only the loads, jumps and the AND that the kernel's own emulator knows
//! (`seccomp_is_const_allow` in kernel/seccomp.c) lie on the way of an
//! untraced call, so that the kernel answers those from its bitmap and never
//! runs the filter for them.

use crate::arch;
use crate::syscall::{Row, Shape, TABLE};
use libc::sock_filter;

/// `CLONE_UNTRACED` of <linux/sched.h>.
pub(crate) const CLONE_UNTRACED: u64 = 0x0080_0000;

/// `PR_SET_SECCOMP` of <linux/prctl.h>, the only traced prctl(2).
const PR_SET_SECCOMP: u32 = 22;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const HAS_BITS: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data` of <linux/seccomp.h>.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENT_0: u32 = 16;
const ARGUMENT_4: u32 = 48;
const ARGUMENT_5: u32 = 56;

/// Sizes of `sockaddr_in` and `sockaddr_in6`.
const SIZE_INET: u32 = 16;
const SIZE_INET6: u32 = 28;

const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
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
    let mut program = vec![op(LOAD, ARCH)];
    let sections = [
        (arch::AUDIT_X86_64, ranges(|row| row.x86_64), Some(!arch::X32_BIT)),
        (arch::AUDIT_I386, ranges(|row| row.i386), None),
    ];
    for (audit, ranges, mask) in sections {
        let mut section = vec![op(LOAD, NUMBER)];
        section.extend(mask.map(|mask| op(AND, mask)));
        tree(&ranges, &mut section);
        program.push(branch(EQUAL, audit, 1, 0));
        program.push(op(JUMP, length(&section)));
        program.extend(section);
    }
    program.push(op(RETURN, ALLOW));
    program
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
    let mut rows: Vec<(u32, Verdict)> =
        TABLE.iter().filter_map(|row| Some((number(row)?, verdict(row)))).collect();
    rows.sort_by_key(|(number, _)| *number);
    let mut ranges = vec![(0, Verdict::Allow)];
    for (number, verdict) in rows {
        let open = ranges.last().copied().unwrap_or((0, Verdict::Allow));
        if open.0 == number {
            ranges.pop();
        }
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((number, verdict));
        }
        ranges.push((number + 1, Verdict::Allow));
    }
    // A range that goes on with the verdict before it needs no border.
    ranges.dedup_by(|next, before| next.1 == before.1);
    ranges
}

/// Appends the search for the number in the accumulator.
fn tree(ranges: &[(u32, Verdict)], program: &mut Vec<sock_filter>) {
    match ranges {
        [] => program.push(op(RETURN, ALLOW)),
        [(_, verdict)] => leaf(*verdict, program),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let mut below = Vec::new();
            tree(low, &mut below);
            let border = high.first().map_or(0, |(first, _)| *first);
            match u8::try_from(below.len()) {
                Ok(skip) => program.push(branch(AT_LEAST, border, skip, 0)),
                Err(_) => {
                    program.push(branch(AT_LEAST, border, 0, 1));
                    program.push(op(JUMP, length(&below)));
                }
            }
            program.extend(below);
            tree(high, program);
        }
    }
}

fn leaf(verdict: Verdict, program: &mut Vec<sock_filter>) {
    let test = match verdict {
        Verdict::Allow => return program.push(op(RETURN, ALLOW)),
        Verdict::Trace => return program.push(op(RETURN, TRACE)),
        Verdict::IfBits(bits) => branch(HAS_BITS, bits, 0, 1),
        Verdict::IfEqual(value) => branch(EQUAL, value, 0, 1),
        Verdict::IfNamed => {
            return program.extend([
                op(LOAD, ARGUMENT_5),
                branch(EQUAL, SIZE_INET, 6, 0),
                branch(EQUAL, SIZE_INET6, 5, 0),
                op(LOAD, ARGUMENT_4),
                branch(HAS_BITS, u32::MAX, 2, 0),
                op(LOAD, ARGUMENT_4 + 4),
                branch(HAS_BITS, u32::MAX, 0, 1),
                op(RETURN, TRACE),
                op(RETURN, ALLOW),
            ]);
        }
    };
    program.extend([op(LOAD, ARGUMENT_0), test, op(RETURN, TRACE), op(RETURN, ALLOW)]);
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn length(program: &[sock_filter]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Runs the filter as the kernel does and says whether the call is traced.
    fn traced(program: &[sock_filter], audit: u32, number: u32, argument: u32) -> bool {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let i = program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
            match i.code {
                LOAD => {
                    accumulator = match i.k {
                        NUMBER => number,
                        ARCH => audit,
                        ARGUMENT_0 | ARGUMENT_4 | ARGUMENT_5 => argument,
                        52 => 0,
                        other => panic!("load of {other}"),
                    }
                }
                AND => accumulator &= i.k,
                JUMP => at += i.k as usize,
                EQUAL => at += jump(accumulator == i.k),
                AT_LEAST => at += jump(accumulator >= i.k),
                HAS_BITS => at += jump(accumulator & i.k != 0),
                RETURN => return i.k == TRACE,
                other => panic!("code {other:#x}"),
            }
        }
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
        let untraced = CLONE_UNTRACED as u32;
        assert!(!traced(&program(), arch::AUDIT_X86_64, 56, 0x0011));
        assert!(traced(&program(), arch::AUDIT_X86_64, 56, untraced | 0x0011));
        assert!(traced(&program(), arch::AUDIT_I386, 120, untraced));
    }

    #[test]
    fn a_datagram_is_traced_only_to_a_named_socket() {
        // The test gives all arguments one value: as address and as length.
        assert!(!traced(&program(), arch::AUDIT_X86_64, 44, 0));
        assert!(!traced(&program(), arch::AUDIT_X86_64, 44, SIZE_INET));
        assert!(!traced(&program(), arch::AUDIT_X86_64, 44, SIZE_INET6));
        assert!(traced(&program(), arch::AUDIT_X86_64, 44, 110));
        assert!(traced(&program(), arch::AUDIT_I386, 369, 110));
    }

    #[test]
    fn a_foreign_abi_is_left_alone() {
        assert!(!traced(&program(), 0xC000_00B7, 56, 0));
    }
}
