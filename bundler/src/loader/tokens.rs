//! `$ORIGIN` and its kin in library paths, ld.so(8) "Dynamic string tokens".

/// What the tokens stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens<'a> {
    /// Directory of the file that has the path.
    pub(super) origin: &'a [u8],
    /// Directory name of this ABI's libraries, such as `lib/x86_64-linux-gnu`.
    pub(super) lib: &'a [u8],
    /// Name of the processor (AT_PLATFORM), such as `x86_64`.
    pub(super) platform: &'a [u8],
}

/// Replaces every token in `text`; a `$` that begins none stays.
pub(super) fn expand(text: &[u8], tokens: Tokens<'_>) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let known: [(&[u8], &[u8]); 3] =
            [(b"ORIGIN", tokens.origin), (b"LIB", tokens.lib), (b"PLATFORM", tokens.platform)];
        let found = (first == b'$')
            .then(|| known.iter().find_map(|(name, value)| Some((skip(after, name)?, value))))
            .flatten();
        match found {
            Some((after, value)) => {
                expanded.extend_from_slice(value);
                rest = after;
            }
            None => expanded.push(first),
        }
    }
    expanded
}

/// What follows `name` or `{name}`; nothing where it is another name.
fn skip<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match text.strip_prefix(b"{") {
        Some(braced) => braced.strip_prefix(name)?.strip_prefix(b"}"),
        None => {
            let after = text.strip_prefix(name)?;
            let goes_on = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
            if after.first().is_some_and(goes_on) { None } else { Some(after) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let tokens = Tokens { origin: b"/o", lib: b"lib/a", platform: b"p" };
        assert_eq!(String::from_utf8(expand(text.as_bytes(), tokens)).unwrap(), expected);
    }

    #[test]
    fn tokens_are_replaced_with_and_without_braces() {
        check("$ORIGIN/../$LIB:${PLATFORM}/x", "/o/../lib/a:p/x");
        check("/opt/${ORIGIN}${LIB}", "/opt//olib/a");
    }

    #[test]
    fn what_is_no_token_stays() {
        check("$ORIGINS/$HOME/${LIB", "$ORIGINS/$HOME/${LIB");
        check("a$", "a$");
    }
}
