//! A container as a file of Quadlet's: what Podman is to run of the same `config.json`.
//! Pure.
//!
//! Podman puts files of its own into a root file system (`/etc/hosts`, mount points), so it
//! is given an overlay of the revision's, which it removes with the container.

use std::fmt::Write as _;

use serde_json::Value;

use super::config;
use super::preflight::Runtime;
use super::root_directory::{list, quoted};

/// The file of a container with its filter of system calls.
pub const SECCOMP: &str = "seccomp.json";
/// Seconds that Podman has to remove a container that has ended.
pub const STOP: u32 = 30;

/// Returns the lines of `[Service]`, to which Quadlet adds its type and how it starts and
/// stops: Podman's own tmpfs cannot be somebody's, so such ones are mounted for it.
pub fn service(config: &Value, id: &str) -> String {
    // Of one whose conmon was killed, Podman says so once before it removes it.
    let mut lines = format!(
        "RuntimeDirectory=vz\nRuntimeDirectoryPreserve=yes\nExecStartPre=-{} rm -f -i {id}\n",
        Runtime::podman().path
    );
    let root = config.pointer("/root/path").and_then(Value::as_str).unwrap_or_default();
    for mount in list(config, "/mounts").filter(|mount| is_owned(mount)) {
        let to = mount["destination"].as_str().unwrap_or_default();
        let dir = word(&owned(id, to));
        let options = of(mount, &["nosuid", "nodev", "noexec", "mode=", "size=", "uid=", "gid="]);
        let copies = of(mount, &["tmpcopyup"]) == "tmpcopyup";
        let copy = if copies { " && cp -a \"$$3/.\" \"$$1\"" } else { "" };
        let _ = writeln!(
            lines,
            "ExecStartPre=/bin/sh -c 'umount -l \"$$1\" 2>/dev/null; mkdir -p \"$$1\" && mount -t tmpfs -o \"$$2\" tmpfs \"$$1\"{copy}' sh {dir} {} {}\n\
             ExecStopPost=-/bin/sh -c 'umount -l \"$$1\"; rmdir \"$$1\"' sh {dir}",
            word(&options),
            word(&format!("{root}{to}")),
        );
    }
    lines
}

/// Where a tmpfs that is somebody's is mounted.
fn owned(id: &str, to: &str) -> String {
    format!("/run/vz/memory/{id}{to}")
}

/// Whether a mount is a tmpfs that is not root's.
fn is_owned(mount: &Value) -> bool {
    let owner = |option: &str| {
        option
            .strip_prefix("uid=")
            .or_else(|| option.strip_prefix("gid="))
            .is_some_and(|id| id != "0")
    };
    let owned = list(mount, "/options").filter_map(Value::as_str).any(owner);
    owned && mount["type"] == "tmpfs" && !is_kernels(mount)
}

/// Whether a mount is where the kernel itself shows something.
fn is_kernels(mount: &Value) -> bool {
    let to = mount["destination"].as_str().unwrap_or_default();
    let within = |rest: &str| rest.is_empty() || rest.starts_with('/');
    ["/proc", "/dev", "/sys"].iter().any(|top| to.strip_prefix(top).is_some_and(within))
}

/// The options of a mount that are among `known`, of which some have a value.
fn of(mount: &Value, known: &[&str]) -> String {
    let is = |option: &str, known: &str| {
        option == known || known.ends_with('=') && option.starts_with(known)
    };
    let options = list(mount, "/options").filter_map(Value::as_str);
    let kept = options.filter(|option| known.iter().any(|known| is(option, known)));
    kept.collect::<Vec<_>>().join(",")
}

/// Returns the lines of `[Container]` for the container that `config`, an OCI
/// `config.json`, describes; `stop` is its stop signal and seconds of grace, `own` the
/// folder of its files.
pub fn container(config: &Value, id: &str, stop: (&str, u32), own: &str) -> String {
    let (signal, grace) = stop;
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let number = |pointer: &str| config.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let uid = number("/process/user/uid");
    let mut namespaces = list(config, "/linux/namespaces");
    let network = namespaces.find(|namespace| namespace["type"] == "network");
    let network = network.and_then(|network| network["path"].as_str());
    // The program writes to the journal itself, and Podman tells its process.
    let mut lines = format!(
        "ContainerName={id}\n\
         Rootfs={}:O\n\
         ReadOnly=yes\n\
         Network={}\n\
         LogDriver=passthrough\n\
         User={uid}\n\
         Group={}\n\
         DropCapability=all\n\
         PodmanArgs=--pidfile=/run/vz/{id}.pid --read-only-tmpfs=false --systemd=false --passwd=false --no-hosts --dns=none\n\
         PodmanArgs=--stop-signal={signal} --stop-timeout={grace}\n",
        raw(text("/root/path")),
        network.map_or_else(|| "host".to_owned(), |path| format!("ns:{path}")),
        number("/process/user/gid"),
    );
    if config.pointer(config::SECCOMP).is_some_and(|filter| !filter.is_null()) {
        let _ = writeln!(lines, "SeccompProfile={own}/{SECCOMP}");
    }
    for group in list(config, "/process/user/additionalGids") {
        let _ = writeln!(lines, "PodmanArgs=--group-add={group}");
    }
    let cwd = text("/process/cwd");
    if !cwd.is_empty() {
        let _ = writeln!(lines, "PodmanArgs={}", word(&format!("--workdir={cwd}")));
    }
    // Podman makes what it adds for a user ambient, as his alone pass through execve(2).
    let set = if uid == 0 { "bounding" } else { "ambient" };
    let names = list(config, &format!("/process/capabilities/{set}")).filter_map(Value::as_str);
    for name in names {
        let _ = writeln!(lines, "AddCapability={name}");
    }
    if config.pointer("/process/noNewPrivileges") == Some(&Value::Bool(true)) {
        lines.push_str("NoNewPrivileges=yes\n");
    }
    for variable in list(config, "/process/env").filter_map(Value::as_str) {
        let _ = writeln!(lines, "Environment={}", word(variable));
    }
    for mount in list(config, "/mounts") {
        mounted(&mut lines, mount, id);
    }
    let args = list(config, "/process/args").filter_map(Value::as_str).map(word);
    let _ = writeln!(lines, "Exec={}", args.collect::<Vec<_>>().join(" "));
    lines
}

/// One mount; what the kernel itself shows is Podman's.
fn mounted(lines: &mut String, mount: &Value, id: &str) {
    let text = |key: &str| mount[key].as_str().unwrap_or_default();
    let (to, from) = (raw(text("destination")), raw(text("source")));
    match text("type") {
        "bind" => {
            let options = of(mount, &["rbind", "ro", "rw", "nosuid", "nodev", "noexec"]);
            let _ = writeln!(lines, "Volume={from}:{to}:{options}");
        }
        "tmpfs" if is_owned(mount) => {
            let from = raw(&owned(id, text("destination")));
            let options = of(mount, &["ro"]);
            let options = if options.is_empty() { "rw" } else { &options };
            let _ = writeln!(lines, "Volume={from}:{to}:{options}");
        }
        "tmpfs" if !is_kernels(mount) => {
            let known = ["ro", "nosuid", "nodev", "noexec", "mode=", "size=", "tmpcopyup"];
            let mut options = of(mount, &known);
            // Podman does both unless told otherwise.
            for (option, other) in [("noexec", "exec"), ("tmpcopyup", "notmpcopyup")] {
                if !options.split(',').any(|o| o == option) {
                    let _ = write!(options, ",{other}");
                }
            }
            let _ = writeln!(lines, "Tmpfs={to}:{}", options.trim_start_matches(','));
        }
        _ => {}
    }
}

/// A word as Quadlet takes it, and hands it on to systemd, which would look for
/// specifiers and variables in it.
fn word(word: &str) -> String {
    quoted(word).replace('$', "$$")
}

/// A value that Quadlet takes as it is.
fn raw(value: &str) -> String {
    value.replace('%', "%%").replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_becomes_lines_of_quadlet() {
        let config = json!({
            "root": { "path": "/var/lib/vz/revs/app/1/rootfs", "readonly": true },
            "process": {
                "args": ["/bin/app", "$HOME is 5%"], "env": ["A=b c"], "cwd": "/srv",
                "user": { "uid": 33, "gid": 34, "additionalGids": [4, 5] },
                "capabilities": { "bounding": ["CAP_CHOWN"], "ambient": ["CAP_NET_BIND_SERVICE"] },
                "noNewPrivileges": true,
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev/shm", "type": "tmpfs", "source": "shm" },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777", "nosuid", "uid=0", "gid=0"] },
                { "destination": "/var/lib/app", "type": "tmpfs", "source": "tmpfs", "options": ["mode=750", "uid=33", "gid=33", "size=9k", "tmpcopyup"] },
                { "destination": "/data", "type": "bind", "source": "/srv/100%", "options": ["rbind", "rw"] },
                { "destination": "/dev/log", "type": "bind", "source": "/dev/log", "options": ["rbind", "ro"] },
            ],
            "linux": { "seccomp": {}, "namespaces": [{ "type": "pid" }, { "type": "network", "path": "/run/netns/vz-1" }] },
        });
        let expected = "\
ContainerName=web.app.1
Rootfs=/var/lib/vz/revs/app/1/rootfs:O
ReadOnly=yes
Network=ns:/run/netns/vz-1
LogDriver=passthrough
User=33
Group=34
DropCapability=all
PodmanArgs=--pidfile=/run/vz/web.app.1.pid --read-only-tmpfs=false --systemd=false --passwd=false --no-hosts --dns=none
PodmanArgs=--stop-signal=SIGTERM --stop-timeout=9
SeccompProfile=/etc/own/seccomp.json
PodmanArgs=--group-add=4
PodmanArgs=--group-add=5
PodmanArgs=\"--workdir=/srv\"
AddCapability=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
Environment=\"A=b c\"
Tmpfs=/tmp:mode=1777,nosuid,exec,notmpcopyup
Volume=/run/vz/memory/web.app.1/var/lib/app:/var/lib/app:rw
Volume=/srv/100%%:/data:rbind,rw
Volume=/dev/log:/dev/log:rbind,ro
Exec=\"/bin/app\" \"$$HOME is 5%%\"
";
        assert_eq!(container(&config, "web.app.1", ("SIGTERM", 9), "/etc/own"), expected);
        let expected = "\
RuntimeDirectory=vz
RuntimeDirectoryPreserve=yes
ExecStartPre=-/usr/bin/podman rm -f -i web.app.1
ExecStartPre=/bin/sh -c 'umount -l \"$$1\" 2>/dev/null; mkdir -p \"$$1\" && mount -t tmpfs -o \"$$2\" tmpfs \"$$1\" && cp -a \"$$3/.\" \"$$1\"' sh \"/run/vz/memory/web.app.1/var/lib/app\" \"mode=750,uid=33,gid=33,size=9k\" \"/var/lib/vz/revs/app/1/rootfs/var/lib/app\"
ExecStopPost=-/bin/sh -c 'umount -l \"$$1\"; rmdir \"$$1\"' sh \"/run/vz/memory/web.app.1/var/lib/app\"
";
        assert_eq!(service(&config, "web.app.1"), expected);
    }
}
