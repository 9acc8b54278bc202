# shellcheck shell=sh disable=SC2154,SC2015,SC2317
# Makes a node of a bare Debian 12 or 13, EL 8 or 9, or Fedora CoreOS. Run as root, with these set before:
#   stage     all, or keys for those of root alone
#   name      host name, or nothing to leave it
#   user      deploy user, or nothing for none
#   keys      public keys, one a line
#   runtime   crun or runc
#   firewall  yes or no
#   open      ports that are open beside ssh's, as 80/tcp 53/udp
#   guard     seconds after which sshd and the firewall are as before, unless told to
#             stay; 0 for never
# Prints a line for each thing: changed, kept or warning, and what. Run again, it changes
# nothing.
changed() { printf 'changed %s\n' "$*"; }
kept() { printf 'kept %s\n' "$*"; }
warning() { printf 'warning %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Writes standard input to a file, whole or not at all; true where that changed it.
put() { # file mode
  mkdir -p "${1%/*}" && cat >"$1.vz-new" && chmod "$2" "$1.vz-new" || fail "cannot write $1"
  if cmp -s "$1.vz-new" "$1" && [ "$(stat -c %a "$1")" = "$2" ]; then
    rm -f "$1.vz-new"
    return 1
  fi
  mv -f "$1.vz-new" "$1" || fail "cannot write $1"
}

swap_file() {
  total=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
  if [ "$total" -ge 1000000 ] || [ "$(sed -n 's/^SwapTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)" -gt 0 ]; then
    kept "swap as it is"
    return
  fi
  if have systemd-detect-virt && systemd-detect-virt -q --container; then
    warning "no swap: a container cannot have a swap file"
    return
  fi
  free=$(df -Pk / | sed -n '2p' | tr -s ' ' | cut -d' ' -f4)
  size=$((free / 4096))
  [ "$size" -le 1024 ] || size=1024
  if [ "$size" -lt 64 ]; then
    warning "no swap: the disk has no room"
    return
  fi
  rm -f /swapfile
  : >/swapfile
  chmod 600 /swapfile
  # btrfs swaps to files that it does not copy on write only.
  chattr +C /swapfile 2>/dev/null
  if dd if=/dev/zero of=/swapfile bs=1M count="$size" 2>/dev/null && mkswap /swapfile >/dev/null &&
    swapon /swapfile 2>/dev/null; then
    grep -q '^/swapfile ' /etc/fstab 2>/dev/null || echo '/swapfile none swap sw 0 0' >>/etc/fstab
    changed "swap: $size MiB in /swapfile"
  else
    rm -f /swapfile
    warning "no swap: the kernel refuses /swapfile"
  fi
}

host_name() {
  [ -n "$name" ] || return 0
  if [ "$(uname -n)" = "$name" ] && [ "$(cat /etc/hostname 2>/dev/null)" = "$name" ]; then
    kept "host name $name"
  else
    hostnamectl set-hostname "$name" 2>/dev/null || hostname "$name" 2>/dev/null
    echo "$name" >/etc/hostname
    changed "host name $name"
  fi
  grep -qw -- "$name" /etc/hosts 2>/dev/null || {
    echo "127.0.1.1 $name" >>/etc/hosts
    changed "/etc/hosts knows $name"
  }
  # Else cloud-init gives the provider's name again at the next boot.
  if [ -d /etc/cloud/cloud.cfg.d ]; then
    if echo 'preserve_hostname: true' | put /etc/cloud/cloud.cfg.d/99-vz.cfg 644; then
      changed "cloud-init leaves the host name alone"
    fi
  fi
}

packages() {
  case $family in
  # curl asks whether pods are alive over HTTPS; elsewhere it is always there.
  debian) wanted="sudo nftables iproute2 ca-certificates curl unattended-upgrades $runtime" ;;
  el) wanted="sudo nftables iproute ca-certificates dnf-automatic $runtime" ;;
  ostree) wanted="sudo nftables $runtime" ;;
  esac
  missing=
  for package in $wanted; do
    case $family in
    debian) dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' ;;
    el | ostree) rpm -q --quiet "$package" ;;
    esac || missing="$missing $package"
  done
  if [ -z "$missing" ]; then
    kept "packages $wanted"
    return
  fi
  case $family in
  debian)
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a
    # What an interrupted run left; and others may be at work after the first boot.
    dpkg --configure -a >&2
    wait=-oDPkg::Lock::Timeout=300
    apt-get $wait -qq update >&2 || fail "apt-get update does not succeed"
    # shellcheck disable=SC2086
    apt-get $wait -qq -y --no-install-recommends install $missing >&2
    ;;
  el)
    # shellcheck disable=SC2086
    dnf -q -y --setopt=install_weak_deps=False install $missing >&2
    ;;
  ostree) false ;;
  esac || fail "cannot install$missing"
  changed "packages$missing"
}

timer() {
  if [ "$(systemctl is-enabled "$1" 2>/dev/null)" = masked ]; then
    warning "security updates are not installed: $1 is masked"
  elif ! systemctl -q is-active "$1" || ! systemctl -q is-enabled "$1"; then
    systemctl -q enable --now "$1" >&2 || fail "cannot start $1"
    changed "$1"
  else
    kept "$1"
  fi
}

updates() {
  case $family in
  debian)
    if put /etc/apt/apt.conf.d/60vz 644 <<END; then
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
END
      changed "security updates, daily"
    else
      kept "security updates, daily"
    fi
    timer apt-daily.timer
    timer apt-daily-upgrade.timer
    ;;
  el)
    sed -e 's/^ *upgrade_type *=.*/upgrade_type = security/' -e 's/^ *apply_updates *=.*/apply_updates = yes/' \
      /etc/dnf/automatic.conf >/run/vz-automatic
    if put /etc/dnf/automatic.conf 644 </run/vz-automatic; then
      changed "security updates, daily"
    else
      kept "security updates, daily"
    fi
    rm -f /run/vz-automatic
    timer dnf-automatic.timer
    ;;
  ostree) kept "updates as the image has them" ;;
  esac
}

# A key that is there with options, as images have it to say "log in as debian", gives way.
authorize() { # user
  home=$(getent passwd "$1" | cut -d: -f6)
  [ -d "$home" ] || fail "$1 has no home"
  file=$home/.ssh/authorized_keys
  [ -d "$home/.ssh" ] || install -d -m 700 -o "$1" -g "$(id -g "$1")" "$home/.ssh"
  [ -e "$file" ] || : >"$file"
  printf '%s\n' "$keys" | awk '
    NR == FNR { if (NF > 1) { blob[$2] = 1; line[++n] = $0 } next }
    /^[ \t]*#/ { print; next }
    { drop = 0; for (i = 1; i <= NF; i++) if ($i in blob) { if (i == 2) there[$i] = 1; else drop = 1 } }
    !drop { print }
    END { for (i = 1; i <= n; i++) { split(line[i], word, " "); if (!(word[2] in there)) print line[i] } }
  ' - "$file" >"$file.vz-keys"
  if put "$file" 600 <"$file.vz-keys"; then
    chown "$1:$(id -g "$1")" "$file"
    if have restorecon; then restorecon -R "$home/.ssh"; fi
    changed "keys of $1"
  else
    kept "keys of $1"
  fi
  rm -f "$file.vz-keys"
}

deploy_user() {
  [ -n "$user" ] && [ "$user" != root ] || return 0
  if id "$user" >/dev/null 2>&1; then
    kept "user $user"
  else
    useradd --create-home --shell /bin/bash "$user" >&2 || fail "cannot make the user $user"
    changed "user $user"
  fi
  authorize "$user"
  printf '%s ALL=(ALL:ALL) NOPASSWD: ALL\n' "$user" >/run/vz-sudo
  visudo -qcf /run/vz-sudo >&2 || fail "sudo does not take its rule"
  if put "/etc/sudoers.d/90-vz-$user" 440 </run/vz-sudo; then changed "sudo for $user"; else kept "sudo for $user"; fi
  rm -f /run/vz-sudo
  if [ -e "/var/lib/systemd/linger/$user" ]; then
    kept "linger of $user"
  elif loginctl enable-linger "$user" 2>/dev/null; then
    changed "linger of $user"
  else
    warning "$user has no linger: logind does not answer"
  fi
}

# At a first boot nobody comes in, and no pod runs.
watch_over() { :; }
opened() { :; }
# Over ssh only:
# Undoes what may lock everybody out, unless somebody comes in and takes the undo away.
watch_over() { # line of sh
  [ "$guard" -gt 0 ] || return 0
  mkdir -p /run/vz
  guarded=yes
  rm -f /run/vz/newnode-kept
  if systemctl -q is-active vz-newnode-guard.timer; then
    echo "$1" >>/run/vz/newnode-undo
    return 0
  fi
  printf '%s\n' "mv /run/vz/newnode-undo /run/vz/newnode-undone || exit 0" "$1" >/run/vz/newnode-undo
  # One command with plain words: systemd-run of Debian 12 hands on a `;` as it should not.
  systemd-run -q --collect --unit=vz-newnode-guard --on-active="$guard" \
    --timer-property=AccuracySec=1s /bin/sh /run/vz/newnode-undo >&2 ||
    fail "cannot set a timer that undoes what locks out"
}

# Ports that pods with the node's own network have open, as `80 tcp`.
opened() {
  for record in /etc/vz/pods/*/current/pod.json; do
    pod=${record%/current/*}
    systemctl -q is-active "vz-${pod##*/}.*" 2>/dev/null || continue
    sed -n '/^  "listens": \[$/,/^  \]/s/^ *"\(host\|protocol\)": "\{0,1\}\([a-z0-9]*\).*/\2/p' "$record" |
      while read -r port && read -r protocol; do echo "$port $protocol"; done
  done
}
# Always:

sshd_binary() { if [ -x /usr/sbin/sshd ]; then /usr/sbin/sshd "$@"; else sshd "$@"; fi; }
sshd_reload() { systemctl -q reload ssh 2>/dev/null || systemctl -q reload sshd; }

harden() {
  rules='# Written by vzmaster newnode.
PasswordAuthentication no
ChallengeResponseAuthentication no
PermitRootLogin prohibit-password
X11Forwarding no'
  main=/etc/ssh/sshd_config
  if grep -Eqi '^[[:space:]]*Include[[:space:]]+"?/etc/ssh/sshd_config\.d/' $main; then
    # The first value counts, and cloud-init has a file there, too.
    file=/etc/ssh/sshd_config.d/00-vz.conf
    printf '%s\n' "$rules" >/run/vz-sshd
  else
    file=$main
    { printf '%s\n# End of vzmaster newnode.\n' "$rules"; sed '/^# Written by vzmaster newnode/,/^# End of vzmaster/d' $main; } >/run/vz-sshd
  fi
  if [ -e $file ]; then cp -p $file /run/vz-sshd-old; else rm -f /run/vz-sshd-old; fi
  if put $file 600 </run/vz-sshd; then
    if [ -e /run/vz-sshd-old ]; then back="cp -p /run/vz-sshd-old $file"; else back="rm -f $file"; fi
    if ! sshd_binary -t >&2; then
      $back
      fail "sshd does not take its settings"
    fi
    watch_over "$back; systemctl reload ssh || systemctl reload sshd"
    sshd_reload || fail "sshd does not read its settings again"
    changed "sshd takes keys only"
  else
    kept "sshd takes keys only"
  fi
  rm -f /run/vz-sshd
  sshd_binary -T -C user=root,host=any,addr=192.0.2.1 2>/dev/null | grep -qx 'passwordauthentication no' ||
    warning "passwords are still taken: another file of sshd says so first"
}

ports() { # protocol; those that are to be open
  [ "$1" = udp ] || sshd_binary -T 2>/dev/null | sed -n 's/^port //p'
  for port in $open; do case $port in */"$1") echo "${port%/*}" ;; esac; done
}

# Accepted is what is asked for; pods with the node's own network open theirs in the sets.
filter() {
  cat <<END
# Written by vzmaster newnode.
table inet vz_node {
  set fixed_tcp { type inet_service; }
  set fixed_udp { type inet_service; }
  set open_tcp { type inet_service; }
  set open_udp { type inet_service; }
  chain input { type filter hook input priority 0; policy drop; }
}
flush chain inet vz_node input
flush set inet vz_node fixed_tcp
flush set inet vz_node fixed_udp
table inet vz_node {
  chain input {
    ct state established,related accept
    ct state invalid drop
    iif lo accept
    meta l4proto { icmp, ipv6-icmp } accept
    ip6 saddr fe80::/10 udp dport 546 accept
    # From pods with a network of their own.
    iifname "vz*" ip saddr 198.18.0.0/16 accept
    iifname "vz*" ip6 saddr fdc9:a024:e64e::/64 accept
    tcp dport @fixed_tcp accept
    udp dport @fixed_udp accept
    tcp dport @open_tcp accept
    udp dport @open_udp accept
  }
}
END
  for protocol in tcp udp; do
    for port in $(ports $protocol); do echo "add element inet vz_node fixed_$protocol { $port }"; done
  done
}

fire_wall() {
  [ "$firewall" = yes ] || return 0
  if systemctl -q is-active firewalld; then
    for port in $(ports tcp | sed 's|$|/tcp|') $(ports udp | sed 's|$|/udp|'); do
      if firewall-cmd -q --permanent --query-port="$port"; then continue; fi
      firewall-cmd -q --permanent --add-port="$port" && firewall-cmd -q --add-port="$port" ||
        fail "firewalld does not open $port"
      changed "firewalld opens $port"
    done
    kept "firewalld"
    return
  fi
  if have ufw && ufw status 2>/dev/null | grep -q 'Status: active'; then
    warning "ufw is active, and left as it is"
    return
  fi
  nft=$(command -v nft)
  filter >/run/vz-filter
  if [ -z "$(ports tcp)" ] || ! "$nft" -c -f /run/vz-filter >&2; then
    rm -f /run/vz-filter
    warning "no firewall: the kernel has no nftables, or sshd does not tell its port"
    return
  fi
  new=no
  back="systemctl disable --now vz-firewall"
  if [ -e /etc/vz/firewall.nft ] && systemctl -q is-active vz-firewall; then
    cp -p /etc/vz/firewall.nft /run/vz-firewall-old
    back="cp -p /run/vz-firewall-old /etc/vz/firewall.nft; systemctl reload vz-firewall || $back"
  fi
  if put /etc/vz/firewall.nft 644 </run/vz-filter; then new=yes; fi
  rm -f /run/vz-filter
  # Early, as cloud-init waits for the network, and sysinit.target waits for cloud-init.
  if put /etc/systemd/system/vz-firewall.service 644 <<END; then new=yes; fi
# Written by vzmaster newnode.
[Unit]
Description=Firewall of vz
DefaultDependencies=no
Conflicts=shutdown.target
Wants=network-pre.target
Before=network-pre.target shutdown.target
After=local-fs.target nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$nft -f /etc/vz/firewall.nft
ExecReload=$nft -f /etc/vz/firewall.nft
ExecStop=$nft delete table inet vz_node

[Install]
WantedBy=sysinit.target
END
  if [ $new = no ] && systemctl -q is-active vz-firewall && "$nft" list table inet vz_node >/dev/null 2>&1; then
    kept "firewall"
    return
  fi
  watch_over "$back"
  # Before anything is closed.
  {
    echo 'table inet vz_node { set open_tcp { type inet_service; }; set open_udp { type inet_service; }; }'
    opened | while read -r port protocol; do echo "add element inet vz_node open_$protocol { $port }"; done
  } | "$nft" -f - >&2
  systemctl daemon-reload && systemctl -q reenable vz-firewall >&2 && systemctl reload-or-restart vz-firewall >&2 ||
    fail "the firewall does not start"
  changed "firewall: open are $(ports tcp | sed 's|$|/tcp|' | tr '\n' ' ')$(ports udp | sed 's|$|/udp|' | tr '\n' ' ')"
}

main() {
  LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  export LC_ALL PATH
  umask 022
  [ "$(id -u)" = 0 ] || fail "it has to be root"
  [ "$(cat /proc/1/comm)" = systemd ] || fail "the machine is not run by systemd"
  family=
  # shellcheck disable=SC1091
  system=$(. /etc/os-release && echo "$ID ${VERSION_ID%%.*}")
  case $system in
  "debian 12" | "debian 13") family=debian ;;
  "rhel 8" | "rhel 9" | "centos 8" | "centos 9" | "almalinux 8" | "almalinux 9" | "rocky 8" | "rocky 9" | "ol 8" | "ol 9") family=el ;;
  "fedora "*) [ -e /run/ostree-booted ] && family=ostree ;;
  esac
  [ -n "$family" ] || fail "it is $system; known are Debian 12 and 13, EL 8 and 9"
  if [ "$stage" = keys ]; then
    authorize root
    echo end
    exit
  fi
  # Before any package manager runs, which takes more than small machines have.
  swap_file
  host_name
  packages
  updates
  authorize root
  deploy_user
  guarded=no
  fire_wall
  harden
  [ $guarded = no ] || echo guarded
  echo end
}
main </dev/null
