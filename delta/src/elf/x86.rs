//! Lengths of x86-64 instructions, and where in them an address is.
//!
//! Only what a linear sweep needs: how long an instruction is, and which of its
//! fields can hold a reference (Intel SDM volume 2, chapter 2 and appendix A). A
//! byte that begins no instruction counts as one of length 1, so a sweep through
//! data goes on and falls into step again soon after.

/// What a field of an instruction refers to, if it refers to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// Target of a call or jump: relative to the end of the field.
    Branch,
    /// RIP-relative memory: relative to this many bytes behind the end of the field.
    Rip(u8),
    /// An absolute address of 32 bits, sign-extended.
    Absolute,
    /// An absolute address of 64 bits.
    Absolute64,
}

/// One instruction, as far as it is understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) len: u8,
    /// Up to two fields: where each begins, and what it is.
    pub(super) fields: [Option<(u8, Operand)>; 2],
    /// Whether it is `lea` with a RIP-relative operand.
    pub(super) lea: bool,
}

/// No instruction is longer.
pub(super) const LONGEST: usize = 15;

/// Has a ModRM byte.
const M: u8 = 0x10;
/// Immediate of 1 byte.
const B: u8 = 1;
/// Immediate of 2 bytes.
const W: u8 = 2;
/// Immediate of 4 bytes, 2 with prefix 66.
const Z: u8 = 4;
/// A branch of 32 bits.
const J: u8 = 5;
/// Immediate of 3 bytes (`enter`).
const E: u8 = 3;
/// 8 bytes: an address with the accumulator, 4 with prefix 67.
const O: u8 = 6;
/// 4 bytes, 8 with REX.W, 2 with prefix 66.
const V: u8 = 7;
const MB: u8 = M | B;
const MZ: u8 = M | Z;

#[rustfmt::skip]
const ONE: [u8; 256] = [
    M,M,M,M,B,Z,0,0, M,M,M,M,B,Z,0,0, M,M,M,M,B,Z,0,0, M,M,M,M,B,Z,0,0,
    M,M,M,M,B,Z,0,0, M,M,M,M,B,Z,0,0, M,M,M,M,B,Z,0,0, M,M,M,M,B,Z,0,0,
    0,0,0,0,0,0,0,0, 0,0,0,0,0,0,0,0, 0,0,0,0,0,0,0,0, 0,0,0,0,0,0,0,0,
    0,0,0,M,0,0,0,0, Z,MZ,B,MB,0,0,0,0, B,B,B,B,B,B,B,B, B,B,B,B,B,B,B,B,
    MB,MZ,MB,MB,M,M,M,M, M,M,M,M,M,M,M,M, 0,0,0,0,0,0,0,0, 0,0,0,0,0,0,0,0,
    O,O,O,O,0,0,0,0, B,Z,0,0,0,0,0,0, B,B,B,B,B,B,B,B, V,V,V,V,V,V,V,V,
    MB,MB,W,0,0,0,MB,MZ, E,0,W,0,0,B,0,0, M,M,M,M,0,0,0,0, M,M,M,M,M,M,M,M,
    B,B,B,B,B,B,B,B, J,J,0,B,0,0,0,0, 0,0,0,0,0,0,M,M, 0,0,0,0,0,0,M,M,
];

#[rustfmt::skip]
const TWO: [u8; 256] = [
    M,M,M,M,0,0,0,0, 0,0,0,0,0,M,0,0, M,M,M,M,M,M,M,M, M,M,M,M,M,M,M,M,
    M,M,M,M,0,0,0,0, M,M,M,M,M,M,M,M, 0,0,0,0,0,0,0,0, 0,0,0,0,0,0,0,0,
    M,M,M,M,M,M,M,M, M,M,M,M,M,M,M,M, M,M,M,M,M,M,M,M, M,M,M,M,M,M,M,M,
    M,M,M,M,M,M,M,M, M,M,M,M,M,M,M,M, MB,MB,MB,MB,M,M,M,0, M,M,0,0,M,M,M,M,
    J,J,J,J,J,J,J,J, J,J,J,J,J,J,J,J, M,M,M,M,M,M,M,M, M,M,M,M,M,M,M,M,
    0,0,0,M,MB,M,0,0, 0,0,0,M,MB,M,M,M, M,M,M,M,M,M,M,M, M,M,MB,M,M,M,M,M,
    M,M,MB,M,MB,MB,MB,M, 0,0,0,0,0,0,0,0, M,M,M,M,M,M,M,M, M,M,M,M,M,M,M,M,
    M,M,M,M,M,M,M,M, M,M,M,M,M,M,M,M, M,M,M,M,M,M,M,M, M,M,M,M,M,M,M,M,
];

/// Decodes the instruction that `code` begins with; what is behind its end counts
/// as zeros. The length is at least 1 and at most [`LONGEST`].
pub(super) fn decode(code: &[u8; LONGEST + 1]) -> Instruction {
    let at = |i: usize| code.get(i).copied().unwrap_or(0);
    let unknown = Instruction { len: 1, ..Instruction::default() };
    let (mut i, mut short, mut narrow, mut wide) = (0, false, false, false);
    loop {
        match at(i) {
            0x66 => short = true,
            0x67 => narrow = true,
            0x26 | 0x2E | 0x36 | 0x3E | 0x64 | 0x65 | 0xF0 | 0xF2 | 0xF3 => {}
            _ => break,
        }
        i += 1;
        if i > 8 {
            return unknown;
        }
    }
    if at(i) & 0xF0 == 0x40 {
        wide = at(i) & 8 != 0;
        i += 1;
    }
    let opcode = at(i);
    i += 1;
    let mut lea = false;
    let mut compare_like = false;
    let mut shape = match opcode {
        0x0F => {
            let second = at(i);
            i += 1;
            match second {
                0x38 => (M, i += 1).0,
                0x3A => (MB, i += 1).0,
                _ => TWO[usize::from(second)],
            }
        }
        0xC5 => {
            let second = at(i + 1);
            i += 2;
            vex(1, second)
        }
        0xC4 => {
            let (map, second) = (at(i) & 0x1F, at(i + 2));
            i += 3;
            vex(map, second)
        }
        0x62 => {
            let (map, second) = (at(i) & 7, at(i + 3));
            i += 4;
            vex(map, second)
        }
        _ => {
            lea = opcode == 0x8D;
            compare_like = matches!(opcode, 0x68 | 0x81 | 0xC7 | 0xB8..=0xBF | 0x05 | 0x3D | 0x2D);
            ONE[usize::from(opcode)]
        }
    };
    let mut memory = None;
    if shape & M != 0 {
        let modrm = at(i);
        i += 1;
        if matches!(opcode, 0xF6 | 0xF7) && modrm >> 3 & 7 < 2 {
            shape |= if opcode == 0xF6 { B } else { Z };
        }
        let (mode, mut base) = (modrm >> 6, modrm & 7);
        if mode != 3 {
            let indexed = base == 4;
            if indexed {
                base = at(i) & 7;
                i += 1;
            }
            match (mode, base) {
                (0, 5) if !indexed => memory = Some((i, true)),
                (0, 5) | (2, _) => memory = Some((i, false)),
                (1, _) => i += 1,
                _ => {}
            }
            if memory.is_some() {
                i += 4;
            }
        }
    }
    let immediate = match shape & 0xF {
        Z if short => 2,
        J => 4,
        O => {
            if narrow {
                4
            } else {
                8
            }
        }
        V => match (wide, short) {
            (true, _) => 8,
            (_, true) => 2,
            _ => 4,
        },
        n => usize::from(n),
    };
    let end = i + immediate;
    if end > LONGEST {
        return unknown;
    }
    let byte = |n: usize| u8::try_from(n).unwrap_or(0);
    let mut fields = [None; 2];
    if let Some((at, rip)) = memory {
        let operand = if rip { Operand::Rip(byte(immediate)) } else { Operand::Absolute };
        fields[0] = Some((byte(at), operand));
    }
    if shape & 0xF == J {
        fields[1] = Some((byte(i), Operand::Branch));
    } else if immediate == 4 && compare_like {
        fields[1] = Some((byte(i), Operand::Absolute));
    } else if immediate == 8 && shape & 0xF == V {
        fields[1] = Some((byte(i), Operand::Absolute64));
    }
    let lea = lea && matches!(fields[0], Some((_, Operand::Rip(_))));
    Instruction { len: byte(end), fields, lea }
}

/// The shape of an instruction of VEX or EVEX coding.
fn vex(map: u8, opcode: u8) -> u8 {
    match (map, opcode) {
        (3, _) | (1, 0x70..=0x73 | 0xC2 | 0xC4..=0xC6) => MB,
        (1, 0x77) => 0,
        _ => M,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &[u8], len: u8, fields: &[(u8, Operand)]) {
        let mut padded = [0x90; LONGEST + 1];
        padded[..code.len()].copy_from_slice(code);
        let found = decode(&padded);
        let found_fields: Vec<_> = found.fields.into_iter().flatten().collect();
        assert_eq!((found.len, found_fields.as_slice()), (len, fields), "{code:02x?}");
    }

    #[test]
    fn calls_and_jumps_refer_relative_to_their_end() {
        check(&[0xE8, 1, 2, 3, 4], 5, &[(1, Operand::Branch)]);
        check(&[0xF2, 0xE9, 1, 2, 3, 4], 6, &[(2, Operand::Branch)]);
        check(&[0x0F, 0x84, 1, 2, 3, 4], 6, &[(2, Operand::Branch)]);
        check(&[0x74, 0x10], 2, &[]);
    }

    #[test]
    fn a_rip_relative_operand_knows_the_immediate_behind_it() {
        check(&[0x48, 0x8D, 0x05, 1, 2, 3, 4], 7, &[(3, Operand::Rip(0))]);
        check(&[0x83, 0x3D, 1, 2, 3, 4, 0], 7, &[(2, Operand::Rip(1))]);
        check(&[0x66, 0xC7, 0x05, 1, 2, 3, 4, 9, 9], 9, &[(3, Operand::Rip(2))]);
        let both = [(3, Operand::Rip(4)), (7, Operand::Absolute)];
        check(&[0x48, 0xC7, 0x05, 1, 2, 3, 4, 5, 6, 7, 8], 11, &both);
        check(&[0xC5, 0xF9, 0x6F, 0x05, 1, 2, 3, 4], 8, &[(4, Operand::Rip(0))]);
        check(&[0x62, 0xF1, 0x7C, 0x48, 0x28, 0x05, 1, 2, 3, 4], 10, &[(6, Operand::Rip(0))]);
    }

    #[test]
    fn absolute_addresses_are_immediates_or_displacements() {
        check(&[0xBF, 1, 2, 3, 4], 5, &[(1, Operand::Absolute)]);
        check(&[0xFF, 0x24, 0xC5, 1, 2, 3, 4], 7, &[(3, Operand::Absolute)]);
        check(&[0x48, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8], 10, &[(2, Operand::Absolute64)]);
    }

    #[test]
    fn lengths_follow_prefixes_and_groups() {
        check(&[0xF6, 0xC1, 1], 3, &[]);
        check(&[0xF7, 0xD1], 2, &[]);
        check(&[0x66, 0xF7, 0xC1, 1, 2], 5, &[]);
        check(&[0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00], 6, &[]);
        check(&[0x66, 0x0F, 0x3A, 0x0F, 0xC1, 4], 6, &[]);
        check(&[0xC4, 0xE3, 0x75, 0x06, 0xC1, 0x20], 6, &[]);
        check(&[0xC5, 0xF8, 0x77], 3, &[]);
        check(&[0xF3, 0x0F, 0x1E, 0xFA], 4, &[]);
        check(&[0x66; 16], 1, &[]);
    }
}
