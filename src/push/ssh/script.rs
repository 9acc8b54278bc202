//! The line of `sh` that starts the receiver on a node.

use std::time::Duration;

use anyhow::bail;

use super::Receiver;

/// What the node prints before its architecture when it lacks the receiver.
pub(super) const NEEDS: &str = "VZPUSH-NEEDS ";

/// Whether a status is one with which the script says that the receiver cannot be
/// put in place: no room, damaged, cannot run.
pub(super) fn is_own(status: Option<i32>) -> bool {
    matches!(status, Some(70..=72))
}

/// Returns the command for `ssh`. It runs under any login shell, since all but
/// `exec sh -c` is between single quotes; it needs sh, and for putting the receiver
/// in place id, uname, head, sha256sum, chmod, mv.
pub(super) fn start(
    receiver: &Receiver,
    store: Option<&str>,
    greeting: usize,
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
    let (digest, size) = (&receiver.digest, receiver.program.len());
    let there = if renew { "false" } else { "[ -x \"$b\" ]" };
    let run =
        format!("exec \"$b\" {} --store \"$d\" --silence {}", receiver.verb, silence.as_secs_f64());
    Ok(format!(
        "exec sh -c 'umask 022; d={store}; \
         if [ -z \"$d\" ]; then if [ \"$(id -u)\" = 0 ]; then d=/var/lib/vz; \
         else d=${{XDG_DATA_HOME:-$HOME/.local/share}}/vz; fi; fi; \
         b=$d/bin/vzpush-{digest}; if {there}; then {run}; fi; \
         head -c {greeting} >/dev/null; echo \"{NEEDS}$(uname -m)\"; \
         mkdir -p \"$d/bin\" && t=$d/bin/.new.$$ && head -c {size} >\"$t\" || {{ rm -f \"$t\"; exit 70; }}; \
         s=$(sha256sum \"$t\"); [ \"${{s%% *}}\" = {digest} ] || {{ rm -f \"$t\"; echo \"the receiver was damaged on its way\" >&2; exit 71; }}; \
         chmod 755 \"$t\" && \"$t\" --version >/dev/null || {{ rm -f \"$t\"; exit 72; }}; \
         mv -f \"$t\" \"$b\" && {run}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_script_ends_its_quotes() {
        let receiver = Receiver { program: vec![0; 10], digest: "ab".repeat(32), verb: "receive" };
        let start = |store| start(&receiver, store, 99, Duration::from_millis(1500), false);
        let script = start(Some("/srv/vz")).unwrap();
        assert_eq!(script.matches('\'').count(), 2);
        assert!(script.contains("--silence 1.5"));
        for bad in ["/a b", "/x';rm", "/$(x)", "relative"] {
            assert!(start(Some(bad)).is_err(), "{bad}");
        }
    }
}
