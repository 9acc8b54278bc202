//! Stanzas of `Field: value` lines, as deb822(5) and Python's METADATA have them.

/// The stanzas of a text: runs of lines that are not empty.
pub(super) fn stanzas(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let mut end = 0;
            for line in rest.split_inclusive(|&b| b == b'\n') {
                if line.trim_ascii().is_empty() {
                    break;
                }
                end += line.len();
            }
            let (stanza, after) = rest.split_at_checked(end)?;
            // The empty line itself goes too.
            let skip = after.iter().position(|&b| b == b'\n').map_or(after.len(), |at| at + 1);
            rest = after.get(skip..).unwrap_or_default();
            if !stanza.is_empty() {
                return Some(stanza);
            }
        }
    })
}

/// The first line of a field's value; names are compared without case.
pub(super) fn field<'a>(stanza: &'a [u8], name: &str) -> Option<&'a [u8]> {
    stanza.split(|&b| b == b'\n').find_map(|line| {
        let (head, value) = line.split_at_checked(name.len())?;
        let value = head.eq_ignore_ascii_case(name.as_bytes()).then_some(value)?;
        Some(value.strip_prefix(b":")?.trim_ascii())
    })
}

/// As [`field`], as text without control characters; nothing where it is empty.
pub(super) fn text(stanza: &[u8], name: &str) -> Option<String> {
    field(stanza, name).map(super::deb822::plain).filter(|text| !text.is_empty())
}

/// Bytes of a database as text: no control characters, and at most 1 KiB.
pub(super) fn plain(bytes: &[u8]) -> String {
    let bytes = bytes.get(..1024).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect()
}
