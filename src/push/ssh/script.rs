//! The line of `sh` that starts the receiver on a node.

use std::io::Cursor;
use std::time::Duration;

use anyhow::{Context, bail};

use super::Receiver;
use crate::push::frame::{self, MAGIC};

/// What the node prints before its architecture when it lacks the receiver.
pub(super) const NEEDS: &str = "VZPUSH-NEEDS ";

/// Bytes of the receiver that are taken at a time.
pub(super) const CHUNK: usize = 64 << 10;

/// Bytes of the line that is taken before it, whatever it has to say.
const INSTALL: usize = 768;

/// Whether a status is one with which the script says that the receiver cannot be
/// put in place: no room, damaged, cannot run.
pub(super) fn is_own(status: Option<i32>) -> bool {
    matches!(status, Some(70..=72))
}

/// Returns the command for `ssh`. It runs under any login shell, since all but
/// `exec sh -c` is between single quotes; it needs sh and id. The receiver hears
/// `hello` before all that comes over the connection, so that it can answer without
/// waiting for that. Where it is not there, or with `renew`, the line says so and does
/// what it reads then, which is to be [`install`], and whether the node has gzip.
pub(super) fn start(
    receiver: &Receiver,
    store: Option<&str>,
    hello: &str,
    silence: Duration,
    renew: bool,
) -> anyhow::Result<String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"/._-".contains(&c);
    let store = match store {
        None => "if [ $(id -u) = 0 ]; then d=/var/lib/vz; \
                 else d=${XDG_DATA_HOME:-$HOME/.local/share}/vz; fi"
            .to_owned(),
        Some(store) if store.starts_with('/') && store.bytes().all(plain) => format!("d={store}"),
        Some(store) => bail!(
            "`{}` cannot be the store: it must be an absolute path of letters, digits, `.`, `_`, `-`",
            store.escape_debug()
        ),
    };
    let (digest, silence) = (&receiver.digest, silence.as_secs_f64());
    let there = if renew { "false" } else { "[ -x \"$b\" ]" };
    let (verb, hello) = (receiver.verb, quote(hello));
    // A link that died without a word must leave no reader on the node: `dd` takes
    // exactly what it is told to, unlike `head` of busybox, and not for longer.
    let wait = (silence as u64).max(1);
    Ok(format!(
        "exec sh -c 'umask 022; {store}; b=$d/bin/vzpush-{digest}; \
         r() {{ exec \"$b\" {verb} --store \"$d\" --silence {silence} --hello \"{hello}\"; }}; \
         {there} && r; w=; timeout 9 true 2>/dev/null && w=\"timeout {wait}\"; \
         get() {{ $w dd bs=$1 count=1 iflag=fullblock status=none; }}; \
         g=; command -v gzip >/dev/null && g=gzip; \
         echo \"{NEEDS}$(uname -m) $g\"; eval \"$(get {INSTALL})\"'"
    ))
}

/// Writes text so that it means nothing to a shell, even between double quotes: what
/// is not plain as `%` and two hexadecimal digits.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "{}:,._-".contains(c);
    let mut quoted = String::new();
    for c in text.chars() {
        match plain(c) {
            true => quoted.push(c),
            false => {
                let bytes = c.to_string().into_bytes();
                quoted.extend(bytes.iter().map(|byte| format!("%{byte:02x}")));
            }
        }
    }
    quoted
}

/// Reads what [`quote`] wrote.
fn unquote(quoted: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = quoted;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = after.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

/// What the receiver is given as `--hello`, as a sender would begin with it.
///
/// # Errors
/// When it is none.
pub(crate) fn greeting(quoted: &str) -> anyhow::Result<Cursor<Vec<u8>>> {
    let hello = unquote(quoted).context("the greeting cannot be read")?;
    let mut bytes = MAGIC.to_vec();
    frame::write(&mut bytes, frame::Type::Message, hello.as_bytes())?;
    Ok(Cursor::new(bytes))
}

/// Returns the line that puts the receiver in place and starts it; `len` bytes follow,
/// and for each [`CHUNK`] of them an empty line is printed. They are the receiver, or
/// where `packed` is true what `gzip -dc` makes it of. It has its name only once a power
/// cut leaves it whole. It needs uname, mkdir, dd, sha256sum, chmod, sync, mv and rm,
/// those of busybox too.
pub(super) fn install(digest: &str, len: usize, packed: bool) -> String {
    let unpack = match packed {
        true => {
            "gzip -dc <\"$t\" >\"$t.1\" && mv -f \"$t.1\" \"$t\" || { rm -f \"$t\" \"$t.1\"; exit 70; }; "
        }
        false => "",
    };
    let line = format!(
        "mkdir -p \"$d/bin\" && t=$d/bin/.new.$$ && : >\"$t\" || exit 70; n={len}; \
         while [ $n -gt 0 ]; do c={CHUNK}; [ $n -gt $c ] || c=$n; n=$((n-c)); \
         get $c >>\"$t\" || {{ rm -f \"$t\"; exit 70; }}; echo; done; {unpack}\
         s=$(sha256sum \"$t\"); [ \"${{s%% *}}\" = {digest} ] || {{ rm -f \"$t\"; echo \"the receiver was damaged on its way\" >&2; exit 71; }}; \
         chmod 755 \"$t\" && \"$t\" --version >/dev/null || {{ rm -f \"$t\"; exit 72; }}; \
         {{ sync \"$t\" || sync; }} 2>/dev/null; mv -f \"$t\" \"$b\" && r"
    );
    format!("{line:<width$}\n", width = INSTALL - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_script_ends_its_quotes() {
        let receiver = Receiver::new(vec![0; 10], "receive");
        let start = |store| start(&receiver, store, "a\"'$b", Duration::from_millis(1500), false);
        let script = start(Some("/srv/vz")).unwrap();
        assert_eq!(script.matches('\'').count(), 2);
        assert!(script.contains("--silence 1.5 --hello \"a%22%27%24b\";"), "{script}");
        for packed in [false, true] {
            let install = install(&receiver.digest, usize::MAX, packed);
            assert_eq!((install.find('\n'), install.len()), (Some(INSTALL - 1), INSTALL));
        }
        for bad in ["/a b", "/x';rm", "/$(x)", "relative"] {
            assert!(start(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_quoted_comes_back() {
        for text in ["", "{\"name\":\"a\"}", "'; rm $(x) `y` \\ 100% \n é"] {
            let quoted = quote(text);
            assert!(!quoted.contains(['\'', '"', '$', '`', '\\', '\n', ' ']), "{quoted}");
            assert_eq!(unquote(&quoted).as_deref(), Some(text));
        }
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(unquote(bad), None, "{bad}");
        }
    }
}
