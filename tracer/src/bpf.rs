//! Classic BPF as seccomp(2) runs it: instructions, the search for a number.

use libc::sock_filter;

pub(crate) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(crate) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(crate) const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub(crate) const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(crate) const ABOVE: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub(crate) const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(crate) const HAS_BITS: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
pub(crate) const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data` of <linux/seccomp.h>.
pub(crate) const NUMBER: u32 = 0;
pub(crate) const ARCH: u32 = 4;

/// `SECCOMP_RET_ALLOW` of <linux/seccomp.h>.
pub(crate) const ALLOW: u32 = 0x7fff_0000;

/// Offset of the low half of an argument; the high half follows it.
pub(crate) const fn argument(index: u8) -> u32 {
    16 + 8 * index as u32
}

pub(crate) fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

pub(crate) fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

pub(crate) fn length(program: &[sock_filter]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}

/// A program of one section for each ABI, by its audit number; the calls of all
/// others get `other`. A section ends in returns.
pub(crate) fn by_abi(sections: Vec<(u32, Vec<sock_filter>)>, other: u32) -> Vec<sock_filter> {
    let mut program = vec![op(LOAD, ARCH)];
    for (audit, section) in sections {
        program.push(branch(EQUAL, audit, 1, 0));
        program.push(op(JUMP, length(&section)));
        program.extend(section);
    }
    program.push(op(RETURN, other));
    program
}

/// Appends the search for the number in the accumulator: `ranges` has the first
/// number of each range, in order and from 0, and what belongs to it; `leaf`
/// appends what is to be done there, which ends in a return.
pub(crate) fn tree<V>(
    ranges: &[(u32, V)],
    leaf: &impl Fn(&V, &mut Vec<sock_filter>),
    program: &mut Vec<sock_filter>,
) {
    match ranges {
        [] => program.push(op(RETURN, ALLOW)),
        [(_, value)] => leaf(value, program),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let mut below = Vec::new();
            tree(low, leaf, &mut below);
            let border = high.first().map_or(0, |(first, _)| *first);
            match u8::try_from(below.len()) {
                Ok(skip) => program.push(branch(AT_LEAST, border, skip, 0)),
                Err(_) => {
                    program.push(branch(AT_LEAST, border, 0, 1));
                    program.push(op(JUMP, length(&below)));
                }
            }
            program.extend(below);
            tree(high, leaf, program);
        }
    }
}

/// A search over all numbers where most get `other` and those of `rows` their
/// own, in ranges for [`tree`].
pub(crate) fn ranges<V: Clone + PartialEq>(mut rows: Vec<(u32, V)>, other: &V) -> Vec<(u32, V)> {
    rows.sort_by_key(|(number, _)| *number);
    let mut ranges = vec![(0, other.clone())];
    for (number, value) in rows {
        if ranges.last().is_some_and(|(first, _)| *first == number) {
            ranges.pop();
        }
        ranges.push((number, value));
        if let Some(next) = number.checked_add(1) {
            ranges.push((next, other.clone()));
        }
    }
    // A range that goes on with the value before it needs no border.
    ranges.dedup_by(|next, before| next.1 == before.1);
    ranges
}

/// What the kernel has in `struct seccomp_data` for a call.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Data {
    pub(crate) number: u32,
    pub(crate) audit: u32,
    pub(crate) args: [u64; 6],
}

/// Runs a program as the kernel does, and returns what it returns.
#[cfg(test)]
pub(crate) fn run(program: &[sock_filter], data: &Data) -> u32 {
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let i = program[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
        match i.code {
            LOAD => {
                accumulator = match i.k {
                    NUMBER => data.number,
                    ARCH => data.audit,
                    16..64 => {
                        let argument = data.args[(i.k as usize - 16) / 8];
                        if i.k.is_multiple_of(8) {
                            argument as u32
                        } else {
                            (argument >> 32) as u32
                        }
                    }
                    other => panic!("load of {other}"),
                }
            }
            AND => accumulator &= i.k,
            JUMP => at += i.k as usize,
            EQUAL => at += jump(accumulator == i.k),
            ABOVE => at += jump(accumulator > i.k),
            AT_LEAST => at += jump(accumulator >= i.k),
            HAS_BITS => at += jump(accumulator & i.k != 0),
            RETURN => return i.k,
            other => panic!("code {other:#x}"),
        }
    }
}
