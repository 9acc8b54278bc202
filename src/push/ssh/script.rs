//! The line of `sh` that starts the receiver on a node.

use std::time::Duration;

use anyhow::bail;

use super::Receiver;

/// What the node prints before its architecture when it lacks the receiver.
pub(super) const NEEDS: &str = "VZPUSH-NEEDS ";

/// Bytes of the receiver that are taken at a time.
pub(super) const CHUNK: usize = 64 << 10;

/// Whether a status is one with which the script says that the receiver cannot be
/// put in place: no room, damaged, cannot run.
pub(super) fn is_own(status: Option<i32>) -> bool {
    matches!(status, Some(70..=72))
}

/// Returns the command for `ssh`. It runs under any login shell, since all but
/// `exec sh -c` is between single quotes; it needs sh and id. The receiver hears
/// `greeting` before all that comes over the connection, so that it can answer without
/// waiting for that. Where it is not there, or with `renew`, the line says so and does
/// what it reads then, which is to be [`install`].
pub(super) fn start(
    receiver: &Receiver,
    store: Option<&str>,
    greeting: &[u8],
    silence: Duration,
    renew: bool,
) -> anyhow::Result<String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"/._-".contains(&c);
    let store = store.unwrap_or_default();
    if !store.bytes().all(plain) || !(store.is_empty() || store.starts_with('/')) {
        bail!(
            "`{}` cannot be the store: it must be an absolute path of letters, digits, `.`, `_`, `-`",
            store.escape_debug()
        );
    }
    let (digest, silence) = (&receiver.digest, silence.as_secs_f64());
    let there = if renew { "false" } else { "[ -x \"$b\" ]" };
    // In hexadecimal, since names that users give are in it.
    let greeting: String = greeting.iter().map(|byte| format!("{byte:02x}")).collect();
    // A link that died without a word must leave no reader on the node: `dd` takes
    // exactly what it is told to, unlike `head` of busybox, and not for longer.
    let (wait, line) = ((silence as u64).max(1), install(receiver).len());
    Ok(format!(
        "exec sh -c 'umask 022; d={store}; \
         if [ -z \"$d\" ]; then if [ \"$(id -u)\" = 0 ]; then d=/var/lib/vz; \
         else d=${{XDG_DATA_HOME:-$HOME/.local/share}}/vz; fi; fi; b=$d/bin/vzpush-{digest}; \
         r() {{ exec \"$b\" receive --store \"$d\" --silence {silence} --greeting {greeting}; }}; \
         {there} && r; w=; timeout 9 true 2>/dev/null && w=\"timeout {wait}\"; \
         get() {{ $w dd bs=$1 count=1 iflag=fullblock status=none; }}; \
         echo \"{NEEDS}$(uname -m)\"; eval \"$(get {line})\"'"
    ))
}

/// Returns the line that puts the receiver in place and starts it; its bytes follow,
/// and for each [`CHUNK`] of them an empty line is printed. It needs uname, mkdir, dd,
/// sha256sum, chmod, mv and rm, those of busybox too.
pub(super) fn install(receiver: &Receiver) -> String {
    let (digest, size) = (&receiver.digest, receiver.program.len());
    format!(
        "mkdir -p \"$d/bin\" && t=$d/bin/.new.$$ && : >\"$t\" || exit 70; n={size}; \
         while [ $n -gt 0 ]; do c={CHUNK}; [ $n -gt $c ] || c=$n; n=$((n-c)); \
         get $c >>\"$t\" || {{ rm -f \"$t\"; exit 70; }}; echo; done; \
         s=$(sha256sum \"$t\"); [ \"${{s%% *}}\" = {digest} ] || {{ rm -f \"$t\"; echo \"the receiver was damaged on its way\" >&2; exit 71; }}; \
         chmod 755 \"$t\" && \"$t\" --version >/dev/null || {{ rm -f \"$t\"; exit 72; }}; \
         mv -f \"$t\" \"$b\" && r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_script_ends_its_quotes() {
        let receiver = Receiver { program: vec![0; 10], digest: "ab".repeat(32) };
        let start = |store| start(&receiver, store, b"\x0f'", Duration::from_millis(1500), false);
        let script = start(Some("/srv/vz")).unwrap();
        assert_eq!(script.matches('\'').count(), 2);
        assert!(script.contains("--silence 1.5 --greeting 0f27;"), "{script}");
        assert_eq!(install(&receiver).find('\n'), Some(install(&receiver).len() - 1));
        for bad in ["/a b", "/x';rm", "/$(x)", "relative"] {
            assert!(start(Some(bad)).is_err(), "{bad}");
        }
    }
}
