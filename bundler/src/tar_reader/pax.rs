//! The records of a pax header (POSIX.1-2017, pax, "pax Extended Header").

use std::collections::BTreeMap;

use super::Time;

/// The longest name and value of an extended attribute (<linux/limits.h>).
const XATTR_NAME_MAX: usize = 255;
const XATTR_SIZE_MAX: usize = 64 << 10;

/// What a pax header says that matters for a layer.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<Vec<u8>>,
    pub(super) uid: Option<Vec<u8>>,
    pub(super) gid: Option<Vec<u8>>,
    pub(super) mtime: Option<Vec<u8>>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) textual_acl: bool,
    pub(super) sparse: Sparse,
}

/// What GNU tar says of a sparse file in a pax header (GNU tar manual, "Storing
/// Sparse Files"), in the versions 0.0, 0.1 and 1.0 of it.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    major: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Nothing where the map is malformed or lies in the content.
    pub(super) map: Option<Vec<(u64, u64)>>,
    offset: Option<u64>,
}

impl Sparse {
    pub(super) fn is_version_1(&self) -> bool {
        self.major == Some(1)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => {
                self.size = Some(decimal(value)?);
                self.map.get_or_insert_default();
            }
            b"map" => {
                let numbers: Option<Vec<u64>> = value.split(|&b| b == b',').map(decimal).collect();
                let numbers = numbers.unwrap_or_default();
                let (pairs, rest) = numbers.as_chunks::<2>();
                let map = pairs.iter().map(|[offset, length]| (*offset, *length));
                if !rest.is_empty() {
                    return None;
                }
                self.map = Some(map.collect());
            }
            b"offset" => self.offset = Some(decimal(value)?),
            b"numbytes" => {
                let part = (self.offset.take()?, decimal(value)?);
                self.map.get_or_insert_default().push(part);
            }
            // The number of parts is seen from the map; others are unknown.
            _ => {}
        }
        Some(())
    }
}

impl Records {
    /// Reads `LENGTH KEY=VALUE\n` after `LENGTH KEY=VALUE\n`; nothing where the
    /// text does not have the form.
    pub(super) fn parse(mut text: &[u8]) -> Option<Records> {
        let mut records = Records::default();
        while !text.is_empty() {
            let blank = text.iter().take(20).position(|&b| b == b' ')?;
            let length = usize::try_from(decimal(text.get(..blank)?)?).ok()?;
            let (record, rest) = text.split_at_checked(length)?;
            let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&b| b == b'=')?;
            let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
            records.take(key, value)?;
            text = rest;
        }
        Some(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            let is_long = name.len() > XATTR_NAME_MAX || value.len() > XATTR_SIZE_MAX;
            if name.is_empty() || name.contains(&0) || is_long {
                return None;
            }
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Some(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.take(key, value);
        }
        let field = match key {
            b"path" => &mut self.path,
            b"linkpath" => &mut self.linkpath,
            b"size" => &mut self.size,
            b"uid" => &mut self.uid,
            b"gid" => &mut self.gid,
            b"mtime" => &mut self.mtime,
            b"SCHILY.acl.access" | b"SCHILY.acl.default" => {
                self.textual_acl |= !value.is_empty();
                return Some(());
            }
            _ => return Some(()),
        };
        // An empty value takes back what was said before.
        *field = Some(value.to_vec()).filter(|value| !value.is_empty());
        Some(())
    }
}

/// A number in decimal digits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// Seconds with a fraction, as `1700000000.25` or `-1.5`.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = match whole {
        "" | "-" => 0,
        whole => whole.parse().ok()?,
    };
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    match (text.starts_with('-'), nanos) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((seconds, nanos)),
    }
}
