#!/bin/sh
# Prints what vzmaster wants to know of a machine, as key=value lines.
# It changes nothing: what it tries, it tries in namespaces of its own and in a
# folder that it removes. Best run as root, as deployments are.
LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
export LC_ALL PATH
unset XDG_RUNTIME_DIR

fact() { printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr '\n\r' '  ' | cut -c1-300)"; }
have() { command -v "$1" >/dev/null 2>&1; }
within() { if have timeout; then timeout 10 "$@"; else "$@"; fi; }
yes_no() { if within "$@" >/dev/null 2>&1 </dev/null; then echo yes; else echo no; fi; }

fact vz-facts 1
fact clock "$(date +%s)"
fact arch "$(uname -m)"
fact kernel "$(uname -r)"
# shellcheck disable=SC1091
(. /etc/os-release 2>/dev/null && fact os "$ID $VERSION_ID" && fact os.name "$PRETTY_NAME")
fact uid "$(id -u)"
[ "$(id -u)" = 0 ] || fact sudo "$(yes_no sudo -n true)"

# What kind of machine it is.
container=none
if have systemd-detect-virt; then
  container=$(systemd-detect-virt --container 2>/dev/null)
  fact vm "$(systemd-detect-virt --vm 2>/dev/null)"
elif [ -d /proc/vz ] && [ ! -d /proc/bc ]; then container=openvz
elif [ -e /.dockerenv ]; then container=docker
elif [ -e /run/.containerenv ]; then container=podman
elif tr '\0' '\n' </proc/1/environ 2>/dev/null | grep -q '^container=lxc'; then container=lxc
fi
fact container "$container"
[ ! -r /sys/class/dmi/id/sys_vendor ] || fact vendor "$(cat /sys/class/dmi/id/sys_vendor)"
fact pid1 "$(cat /proc/1/comm)"
if have systemctl; then
  fact systemd "$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
  fact systemd.state "$(systemctl is-system-running 2>/dev/null)"
  fact firewalld "$(systemctl is-active firewalld 2>/dev/null)"
fi

# Control groups.
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  fact cgroup v2
  fact cgroup.controllers "$(cat /sys/fs/cgroup/cgroup.controllers)"
elif [ -d /sys/fs/cgroup/memory ] || [ -d /sys/fs/cgroup/systemd ]; then
  if [ -d /sys/fs/cgroup/unified ]; then fact cgroup hybrid; else fact cgroup v1; fi
  fact cgroup.controllers "$(for c in /sys/fs/cgroup/*; do [ -L "$c" ] || echo "${c##*/}"; done | tr ',' '\n')"
else
  fact cgroup none
fi

fact memory.kb "$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
fact memory.free.kb "$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
fact swap.kb "$(sed -n 's/^SwapTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
fact disk.free.kb "$(df -Pk /var/lib 2>/dev/null | sed -n '2p' | tr -s ' ' | cut -d' ' -f4)"
fact inodes.free "$(df -Pi /var/lib 2>/dev/null | sed -n '2p' | tr -s ' ' | cut -d' ' -f4)"
if have findmnt; then fact disk.options "$(findmnt -no OPTIONS -T /var/lib 2>/dev/null)"; fi
if [ -r /sys/fs/selinux/enforce ]; then
  if [ "$(cat /sys/fs/selinux/enforce)" = 1 ]; then fact selinux enforcing; else fact selinux permissive; fi
else
  fact selinux none
fi
# Whether it has IPv6, and a way out over it.
if [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null)" != 0 ]; then fact ipv6 off
elif ip -6 route show default 2>/dev/null | grep -q .; then fact ipv6 yes
else fact ipv6 local; fi
missing=
for tool in sh id uname head sha256sum chmod mkdir mv rm tr cut; do have "$tool" || missing="$missing $tool"; done
fact tools.missing "$missing"

# The numbers of the secrets that its pods have.
for pod in /etc/vz/pods/*/current/pod.json; do
  number=$(sed -n 's/^  "secrets": "\([0-9]*\)",$/\1/p' "$pod" 2>/dev/null)
  pod=${pod#/etc/vz/pods/}
  [ -z "$number" ] || fact "secrets.${pod%%/*}" "$number"
done

# Things that are tried, in namespaces of their own.
t=$(mktemp -d "${TMPDIR:-/tmp}/vz-preflight.XXXXXX") || exit 1
clean() { rm -rf "$t"; }
trap clean EXIT
trap 'exit 1' INT TERM HUP
# What others leave (podman, as an ordinary user) goes with it.
TMPDIR=$t
export TMPDIR
fact try.userns "$(yes_no unshare -U true)"
fact try.overlay "$(mkdir "$t/l" "$t/u" "$t/w" "$t/m" && yes_no unshare -m mount -t overlay -o "lowerdir=$t/l,upperdir=$t/u,workdir=$t/w" overlay "$t/m")"
fact try.nftables "$(yes_no unshare -n nft add table inet vz-preflight)"
fact try.nat6 "$(yes_no unshare -n nft 'table ip6 vz { chain postrouting { type nat hook postrouting priority 100; masquerade; }; }')"
fact try.veth "$(yes_no unshare -n ip link add vz0 type veth peer name vz1)"
fact try.tun "$(yes_no sh -c ': <>/dev/net/tun')"
fact try.wireguard "$(yes_no unshare -n ip link add vz0 type wireguard)"
fact try.vxlan "$(yes_no unshare -n ip link add vz0 type vxlan id 1 dstport 4789)"

# A container that runs `true`, over the machine's own programs.
trial() { # name, options
  name=$1; shift
  # Others may try theirs just now.
  id=vz-preflight-$$
  run() { within "$name" "$@" --root "$t/$name/state" run --bundle "$t/$name" "$id" >"$t/$name/said" 2>&1 </dev/null; }
  remove() { within "$name" "$@" --root "$t/$name/state" delete -f "$id" >/dev/null 2>&1; }
  fact "$name" "$("$name" --version 2>/dev/null | sed -n '1s/.* //p')"
  fact "$name.path" "$(command -v "$name")"
  mkdir -p "$t/$name/rootfs/proc" "$t/$name/rootfs/dev"
  mounts='{"destination":"/proc","type":"proc","source":"proc"},{"destination":"/dev","type":"tmpfs","source":"tmpfs"}'
  for dir in usr bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$dir" ]; then ln -s "$(readlink "/$dir")" "$t/$name/rootfs/$dir"
    elif [ -d "/$dir" ]; then
      mkdir "$t/$name/rootfs/$dir"
      mounts="$mounts,{\"destination\":\"/$dir\",\"type\":\"bind\",\"source\":\"/$dir\",\"options\":[\"rbind\",\"ro\"]}"
    fi
  done
  if [ -x /usr/bin/true ]; then true=/usr/bin/true; else true=/bin/true; fi
  cat >"$t/$name/config.json" <<END
{"ociVersion":"1.0.2","process":{"terminal":false,"user":{"uid":0,"gid":0},"args":["$true"],
"env":["PATH=/usr/bin:/bin"],"cwd":"/","noNewPrivileges":true},"root":{"path":"$t/$name/rootfs","readonly":true},
"mounts":[$mounts],"linux":{"cgroupsPath":"/$id","namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"}]}}
END
  # A busy machine may be too slow once.
  if run "$@" || { remove "$@"; sleep 1; run "$@"; }; then
    fact "$name.trial" yes
  else
    fact "$name.trial" "no: $(tail -n 1 "$t/$name/said" | tr '"' "'")"
  fi
  remove "$@"
}
if have crun; then trial crun --cgroup-manager=disabled; fi
if have runc; then trial runc; fi
# What stands in for containers where they do not run.
if [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ]; then
  mkdir -p "$t/r/usr" "$t/r/proc" "$t/r/sys" "$t/r/dev" "$t/r/run" "$t/r/tmp"
  for dir in bin sbin lib lib64; do [ ! -L "/$dir" ] || ln -s "$(readlink "/$dir")" "$t/r/$dir"; done
  # Not `/` itself, which systemd 252 takes for a loop of links.
  fact try.rootdirectory "$(yes_no systemd-run --quiet --collect --wait -p "RootDirectory=$t/r" -p BindReadOnlyPaths=/usr -p MountAPIVFS=yes -p PrivateDevices=yes -p ProtectSystem=strict -p TemporaryFileSystem=/tmp true)"
fi
if have podman; then
  fact podman "$(within podman --version 2>/dev/null | sed 's/.* //')"
  mkdir "$t/quadlet"
  printf '[Container]\nRootfs=/:O\nReadOnly=yes\nLogDriver=passthrough\nExec=true\n' >"$t/quadlet/vz.container"
  quadlet() { within env QUADLET_UNIT_DIRS="$t/quadlet" /usr/lib/systemd/system-generators/podman-system-generator --dryrun; }
  fact try.quadlet "$(if quadlet 2>/dev/null | grep -q -- --rootfs; then echo yes; else echo no; fi)"
fi
clean
fact end 1
