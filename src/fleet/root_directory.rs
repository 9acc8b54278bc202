//! A container as a unit of systemd alone, for machines on which neither crun nor runc
//! works: RootDirectory= and what else systemd.exec(5) has. Pure.
//!
//! Its processes see those of the node, and have its host name and IPC.

use std::fmt::Write as _;

use serde_json::Value;

/// A shell where mounts are the node's own: systemd gives each process of a unit like
/// this one its own, those with full privileges, too.
pub(super) const OUTSIDE: &str = "/usr/bin/nsenter --target 1 --mount -- /bin/sh -c";

/// Returns the lines of the unit's `[Service]` for the container that `config`, an
/// OCI `config.json`, describes.
pub fn service(config: &Value, id: &str, systemd: u64) -> String {
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let number = |pointer: &str| config.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let root = text("/root/path");
    // systemd 240 is the first that waits until the program is executed.
    let kind = if systemd >= 240 { "exec" } else { "simple" };
    let over = format!("/run/vz/roots/{id}");
    let gone = format!("umount -l {over}/root 2>/dev/null; rm -rf {over}");
    // systemd makes the directories that it misses, and a revision is never written to.
    let mut unit = format!(
        "Type={kind}\n\
         ExecStartPre=+{OUTSIDE} '{gone}; mkdir -p {over}/root {over}/up {over}/work && mount -t overlay -o lowerdir={root},upperdir={over}/up,workdir={over}/work overlay {over}/root'\n\
         ExecStopPost=-+{OUTSIDE} '{gone}'\n\
         RootDirectory={over}/root\n\
         RootDirectoryStartOnly=yes\n\
         MountAPIVFS=yes\n\
         PrivateDevices=yes\n\
         ProtectSystem=strict\n\
         ReadWritePaths=-/proc -/dev\n\
         WorkingDirectory=-{}\n",
        plain(text("/process/cwd")),
    );
    // Root is the default; said, it loses capabilities of the bounding set (systemd 257).
    for (key, id) in [("User", "uid"), ("Group", "gid")] {
        let id = number(&format!("/process/user/{id}"));
        if id != 0 || number("/process/user/uid") != 0 {
            let _ = writeln!(unit, "{key}={id}");
        }
    }
    let env = || list(config, "/process/env").filter_map(Value::as_str);
    let program = list(config, "/process/args").next().and_then(Value::as_str);
    if program.is_some_and(|program| !program.contains('/'))
        && let Some(path) = env().find_map(|variable| variable.strip_prefix("PATH="))
    {
        // From systemd 250 on; else its own search path.
        let _ = writeln!(unit, "ExecSearchPath={path}");
    }
    let groups: Vec<String> =
        list(config, "/process/user/additionalGids").map(ToString::to_string).collect();
    if !groups.is_empty() {
        let _ = writeln!(unit, "SupplementaryGroups={}", groups.join(" "));
    }
    for word in env() {
        let _ = writeln!(unit, "Environment={}", quoted(word));
    }
    for (key, set) in [("CapabilityBoundingSet", "bounding"), ("AmbientCapabilities", "ambient")] {
        let names = list(config, &format!("/process/capabilities/{set}"));
        let names: Vec<&str> = names.filter_map(Value::as_str).collect();
        let _ = writeln!(unit, "{key}={}", names.join(" "));
    }
    if config.pointer("/process/noNewPrivileges") == Some(&Value::Bool(true)) {
        unit.push_str("NoNewPrivileges=yes\n");
    }
    let mut namespaces = list(config, "/linux/namespaces");
    let network = namespaces.find(|namespace| namespace["type"] == "network");
    if let Some(path) = network.and_then(|network| network["path"].as_str()) {
        let _ = writeln!(unit, "NetworkNamespacePath={path}");
    }
    for mount in list(config, "/mounts") {
        mounted(&mut unit, mount, root, id);
    }
    let args: Vec<String> = list(config, "/process/args")
        .filter_map(Value::as_str)
        // Variables are expanded in the command line only.
        .map(|word| quoted(word).replace('$', "$$"))
        .collect();
    let _ = writeln!(unit, "ExecStart={}", args.join(" "));
    unit
}

/// The beginning of a shell's line that runs a command beside the unit's process, as its user
/// and with its environment, which no other process is to see in a command line.
pub fn exec(unit: &str) -> String {
    format!(
        "exec env -i PATH=\"$PATH\" bash -c 'enter=$(command -v nsenter) pid=$(systemctl show --property=MainPID --value {unit}); \
         id() {{ sed -n \"s/^$1:[[:space:]]*\\([0-9]*\\).*/\\1/p\" /proc/$pid/status; }}; uid=$(id Uid) gid=$(id Gid); \
         while IFS= read -r -d \"\" word; do export \"$word\"; done </proc/$pid/environ; \
         exec \"$enter\" --target $pid --mount --net --root --setgid $gid --setuid $uid -- \"$@\"' bash"
    )
}

pub(super) fn list<'a>(
    config: &'a Value,
    pointer: &str,
) -> impl Iterator<Item = &'a Value> + use<'a> {
    config.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// One mount; what the kernel itself shows is there already.
fn mounted(unit: &mut String, mount: &Value, root: &str, id: &str) {
    let text = |key: &str| mount[key].as_str().unwrap_or_default();
    let (to, from) = (text("destination"), text("source"));
    let options: Vec<&str> = list(mount, "/options").filter_map(Value::as_str).collect();
    let kernels = ["/proc", "/dev", "/sys"]
        .iter()
        .any(|top| to == *top || to.starts_with(&format!("{top}/")));
    match text("type") {
        "bind" => {
            let key = if options.contains(&"ro") { "BindReadOnlyPaths" } else { "BindPaths" };
            let _ = writeln!(unit, "{key}={}:{}:rbind", plain(from), plain(to));
        }
        _ if kernels => return,
        "tmpfs" if options.contains(&"tmpcopyup") => {
            let copy = format!("/run/vz/copies/{id}{to}");
            let _ = writeln!(
                unit,
                "ExecStartPre=+/bin/sh -c 'rm -rf \"$$2\" && mkdir -p \"$${{2%%/*}}\" && cp -a \"$$1\" \"$$2\"' sh {} {}\n\
                 BindPaths=-{}:{}:rbind",
                quoted(&format!("{root}{to}")),
                quoted(&copy),
                plain(&copy),
                plain(to),
            );
        }
        "tmpfs" => {
            let kinds = ["mode=", "size=", "uid=", "gid="];
            let known = |option: &&str| kinds.iter().any(|kind| option.starts_with(kind));
            let kept: Vec<&str> = options.iter().copied().filter(known).collect();
            let _ = writeln!(unit, "TemporaryFileSystem={}:{}", plain(to), kept.join(","));
        }
        _ => return,
    }
    if !options.contains(&"ro") {
        let _ = writeln!(unit, "ReadWritePaths=-{}", plain(to));
    }
}

/// A path as systemd reads it: `%` begins a specifier.
fn plain(path: &str) -> String {
    match path.bytes().all(|c| c.is_ascii_alphanumeric() || b"/._-+@".contains(&c)) {
        true => path.to_owned(),
        false => quoted(path),
    }
}

/// A word in quotes, by the rules of systemd.syntax(7).
pub(super) fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            '%' => text.push_str("%%"),
            '\n' => text.push_str("\\n"),
            c if c.is_control() => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "\\x{byte:02x}");
                }
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_are_what_they_are() {
        assert_eq!(quoted("100% \"of\" $A\n\t\\"), "\"100%% \\\"of\\\" $A\\n\\x09\\\\\"");
        assert_eq!(plain("/srv/a b"), "\"/srv/a b\"");
    }

    #[test]
    fn a_container_becomes_lines_of_a_unit() {
        let config = json!({
            "root": { "path": "/var/lib/vz/revs/app/1/rootfs", "readonly": true },
            "process": {
                "args": ["/bin/app", "$HOME is 5%"], "env": ["A=b c"], "cwd": "/srv",
                "user": { "uid": 33, "gid": 34, "additionalGids": [4, 5] },
                "capabilities": { "bounding": ["CAP_CHOWN"], "ambient": [] },
                "noNewPrivileges": true,
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev/shm", "type": "tmpfs", "source": "shm" },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777", "nosuid", "uid=33"] },
                { "destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "rw"] },
                { "destination": "/conf", "type": "bind", "source": "/srv/conf", "options": ["rbind", "ro"] },
            ],
            "linux": { "namespaces": [{ "type": "pid" }, { "type": "network", "path": "/run/netns/vz-1" }] },
        });
        let expected = "\
Type=exec
ExecStartPre=+/usr/bin/nsenter --target 1 --mount -- /bin/sh -c 'umount -l /run/vz/roots/web.app.1/root 2>/dev/null; rm -rf /run/vz/roots/web.app.1; mkdir -p /run/vz/roots/web.app.1/root /run/vz/roots/web.app.1/up /run/vz/roots/web.app.1/work && mount -t overlay -o lowerdir=/var/lib/vz/revs/app/1/rootfs,upperdir=/run/vz/roots/web.app.1/up,workdir=/run/vz/roots/web.app.1/work overlay /run/vz/roots/web.app.1/root'
ExecStopPost=-+/usr/bin/nsenter --target 1 --mount -- /bin/sh -c 'umount -l /run/vz/roots/web.app.1/root 2>/dev/null; rm -rf /run/vz/roots/web.app.1'
RootDirectory=/run/vz/roots/web.app.1/root
RootDirectoryStartOnly=yes
MountAPIVFS=yes
PrivateDevices=yes
ProtectSystem=strict
ReadWritePaths=-/proc -/dev
WorkingDirectory=-/srv
User=33
Group=34
SupplementaryGroups=4 5
Environment=\"A=b c\"
CapabilityBoundingSet=CAP_CHOWN
AmbientCapabilities=
NoNewPrivileges=yes
NetworkNamespacePath=/run/netns/vz-1
TemporaryFileSystem=/tmp:mode=1777,uid=33
ReadWritePaths=-/tmp
BindPaths=/srv/data:/data:rbind
ReadWritePaths=-/data
BindReadOnlyPaths=/srv/conf:/conf:rbind
ExecStart=\"/bin/app\" \"$$HOME is 5%%\"
";
        assert_eq!(service(&config, "web.app.1", 257), expected);
        assert!(service(&config, "web.app.1", 239).starts_with("Type=simple\n"));
        // What is copied is there when the program starts, and not yet for the copying itself.
        let memory = json!({ "mounts": [{ "destination": "/tmp", "type": "tmpfs", "options": ["tmpcopyup"] }] });
        let unit = service(&memory, "web.app.1", 257);
        assert!(unit.contains("\nBindPaths=-/run/vz/copies/web.app.1/tmp:/tmp:rbind\n"), "{unit}");
        // A name is looked for where the program's own PATH says, and root is not said.
        let bare = json!({ "process": { "args": ["nginx"], "env": ["PATH=/usr/sbin:/bin"] } });
        let unit = service(&bare, "web.app.1", 257);
        assert!(unit.contains("\nExecSearchPath=/usr/sbin:/bin\n"), "{unit}");
        assert!(!unit.contains("User=") && !unit.contains("Group="), "{unit}");
    }
}
