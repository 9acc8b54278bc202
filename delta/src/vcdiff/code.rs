//! What encoder and decoder share: variable-length integers, the address cache
//! and the default table of instruction codes.

/// `VCD_SELF`: the address itself (RFC 3284 §5.3).
pub(super) const MODE_SELF: u8 = 0;
/// `VCD_HERE`: the address counted back from the current position.
pub(super) const MODE_HERE: u8 = 1;
/// Slots of the near cache (§5.1).
const NEAR: usize = 4;
/// Pages of 256 slots of the same cache (§5.1).
const SAME: usize = 3;
/// Address modes of the default code table: SELF, HERE, near and same caches.
pub(super) const MODES: u8 = 2 + NEAR as u8 + SAME as u8;

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Noop,
    /// Take bytes from the data section.
    Add,
    /// Repeat one byte of the data section.
    Run,
    /// Copy from source segment or target window, with this address mode.
    Copy(u8),
}

/// Half of an entry of the code table; a `size` of 0 follows in the
/// instruction section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) kind: Kind,
    pub(super) size: u8,
}

const NOOP: Instruction = Instruction { kind: Kind::Noop, size: 0 };

/// The default code table, by code (§5.6).
pub(super) const TABLE: [[Instruction; 2]; 256] = table();

const fn table() -> [[Instruction; 2]; 256] {
    let mut table = [[NOOP; 2]; 256];
    table[0][0] = Instruction { kind: Kind::Run, size: 0 };
    let mut code = 1;
    let mut size = 0;
    while size <= 17 {
        table[code][0] = Instruction { kind: Kind::Add, size };
        code += 1;
        size += 1;
    }
    let mut mode = 0;
    while mode < MODES {
        table[code][0] = Instruction { kind: Kind::Copy(mode), size: 0 };
        code += 1;
        size = 4;
        while size <= 18 {
            table[code][0] = Instruction { kind: Kind::Copy(mode), size };
            code += 1;
            size += 1;
        }
        mode += 1;
    }
    mode = 0;
    while mode < MODES {
        let mut add = 1;
        while add <= 4 {
            let longest = if mode < 6 { 6 } else { 4 };
            size = 4;
            while size <= longest {
                table[code][0] = Instruction { kind: Kind::Add, size: add };
                table[code][1] = Instruction { kind: Kind::Copy(mode), size };
                code += 1;
                size += 1;
            }
            add += 1;
        }
        mode += 1;
    }
    mode = 0;
    while mode < MODES {
        table[code][0] = Instruction { kind: Kind::Copy(mode), size: 4 };
        table[code][1] = Instruction { kind: Kind::Add, size: 1 };
        code += 1;
        mode += 1;
    }
    table
}

/// The code of a single instruction, and whether its size has to follow.
pub(super) fn single(kind: Kind, size: usize) -> (u8, bool) {
    let small = u8::try_from(size).unwrap_or(u8::MAX);
    match kind {
        Kind::Noop | Kind::Run => (0, true),
        Kind::Add if (1..=17).contains(&small) => (1 + small, false),
        Kind::Add => (1, true),
        Kind::Copy(mode) if (4..=18).contains(&small) => (19 + 16 * mode + small - 3, false),
        Kind::Copy(mode) => (19 + 16 * mode, true),
    }
}

/// The code that stands for `first` and `second` together, where there is one.
pub(super) fn double(first: (Kind, usize), second: (Kind, usize)) -> Option<u8> {
    match (first, second) {
        ((Kind::Add, add @ 1..=4), (Kind::Copy(mode @ 0..=5), size @ 4..=6)) => {
            Some(163 + 12 * mode + 3 * (add as u8 - 1) + (size as u8 - 4))
        }
        ((Kind::Add, add @ 1..=4), (Kind::Copy(mode @ 6..=8), 4)) => {
            Some(235 + 4 * (mode - 6) + (add as u8 - 1))
        }
        ((Kind::Copy(mode), 4), (Kind::Add, 1)) => Some(247 + mode),
        _ => None,
    }
}

/// Addresses copied from lately; both ends keep it alike (§5.1).
pub(super) struct AddressCache {
    near: [u64; NEAR],
    next: usize,
    same: Box<[u64; SAME * 256]>,
}

impl AddressCache {
    pub(super) fn new() -> Self {
        AddressCache { near: [0; NEAR], next: 0, same: Box::new([0; SAME * 256]) }
    }

    fn update(&mut self, address: u64) {
        self.near[self.next] = address;
        self.next = (self.next + 1) % NEAR;
        self.same[(address % (SAME as u64 * 256)) as usize] = address;
    }

    /// Appends `address` in the mode that takes the fewest bytes, which it returns.
    pub(super) fn encode(&mut self, address: u64, here: u64, out: &mut Vec<u8>) -> u8 {
        let slot = (address % (SAME as u64 * 256)) as usize;
        let mode = if self.same[slot] == address {
            out.push((slot % 256) as u8);
            2 + NEAR as u8 + (slot / 256) as u8
        } else {
            let mut best = (MODE_SELF, address);
            if here - address < best.1 {
                best = (MODE_HERE, here - address);
            }
            for (mode, near) in (2..).zip(self.near) {
                match address.checked_sub(near) {
                    Some(distance) if distance < best.1 => best = (mode, distance),
                    _ => {}
                }
            }
            put_varint(out, best.1);
            best.0
        };
        self.update(address);
        mode
    }

    /// Takes the address of a copy in `mode` off the front of `input`; nothing
    /// where it is cut off or does not lie before `here`.
    pub(super) fn decode(&mut self, mode: u8, here: u64, input: &mut &[u8]) -> Option<u64> {
        let address = match mode {
            MODE_SELF => take_varint(input)?,
            MODE_HERE => here.checked_sub(take_varint(input)?)?,
            _ => {
                let slot = usize::from(mode) - 2;
                match self.near.get(slot) {
                    Some(near) => near.checked_add(take_varint(input)?)?,
                    None => {
                        let (&byte, rest) = input.split_first()?;
                        *input = rest;
                        *self.same.get((slot - NEAR) * 256 + usize::from(byte))?
                    }
                }
            }
        };
        if address >= here {
            return None;
        }
        self.update(address);
        Some(address)
    }
}

/// Appends an integer, seven bits a byte, the highest first (§2).
pub(super) fn put_varint(out: &mut Vec<u8>, value: u64) {
    let bits = 64 - value.leading_zeros();
    let mut shift = bits.saturating_sub(1) / 7 * 7;
    while shift > 0 {
        out.push(0x80 | (value >> shift) as u8);
        shift -= 7;
    }
    out.push(value as u8 & 0x7f);
}

/// Takes an integer off the front of `input`; nothing where it is cut off or
/// does not fit 64 bits.
pub(super) fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    loop {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        if value >> 57 != 0 {
            return None;
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_in_the_rfc() {
        let mut out = Vec::new();
        put_varint(&mut out, 123_456_789); // the example of §2
        assert_eq!(out, [0x80 | 58, 0x80 | 111, 0x80 | 26, 21]);
        assert_eq!(take_varint(&mut &out[..]), Some(123_456_789));
    }

    #[test]
    fn integers_come_back_and_too_long_ones_are_refused() {
        for value in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut input = &out[..];
            assert_eq!(take_varint(&mut input), Some(value));
            assert!(input.is_empty());
            assert_eq!(take_varint(&mut &out[..out.len() - 1]), None);
        }
        assert_eq!(take_varint(&mut &[0xff; 11][..]), None);
    }

    #[test]
    fn every_code_of_the_table_is_found_again() {
        for (code, [first, second]) in TABLE.iter().enumerate() {
            let found = match second.kind {
                Kind::Noop => single(first.kind, first.size.into()).0,
                _ => {
                    let (a, b) = (*first, *second);
                    double((a.kind, a.size.into()), (b.kind, b.size.into())).unwrap()
                }
            };
            assert_eq!(usize::from(found), code);
        }
    }

    #[test]
    fn addresses_come_back_through_the_cache() {
        let addresses = [5, 900, 905, 5, 70_000, 69_999, 1 << 33, 905, 0];
        let (mut out, mut modes) = (Vec::new(), Vec::new());
        let mut cache = AddressCache::new();
        for address in addresses {
            modes.push(cache.encode(address, 1 << 34, &mut out));
        }
        let (mut cache, mut input) = (AddressCache::new(), &out[..]);
        for (address, mode) in addresses.into_iter().zip(modes) {
            assert_eq!(cache.decode(mode, 1 << 34, &mut input), Some(address));
        }
    }
}
