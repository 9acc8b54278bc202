# Functions that say what is to be done on this node, a line each: `bundle NAME ID`,
# `pod NAME`, `stray NAME`. Calls of them follow.
pods=/etc/vz/pods units=/etc/systemd/system

fail() {
  echo "$*" >&2
  exit 1
}

leads() {
  [ "$(readlink "$1")" = "$2" ] || wrong=yes
}

has_ipv6() {
  [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null)" = 0 ] &&
    nft -c 'table ip6 vz { chain postrouting { type nat hook postrouting priority 100; masquerade; }; }' 2>/dev/null
}

# node RUNTIME BACK_OFF: units were written for this runtime, and for a systemd that knows
# back-off or does not. Looks at the node's ports once for all pods.
node() {
  version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
  back_off=no
  [ "$version" -lt 254 ] || back_off=yes
  if [ ! -x "$1" ] || [ $back_off != "$2" ]; then
    fail "the node's runtime or systemd is another one: run vzmaster playbook again"
  fi
  ruleset=$(nft list ruleset 2>/dev/null)
  led=$(echo "$ruleset" | awk '
    $1 == "table" { pod = $2 ~ /^ip6?$/ && sub(/^vz-/, "", $3) ? $3 : "" }
    $1 == "chain" { chain = $2 }
    pod != "" && / dnat to / { sub(/^.* local /, ""); print pod, chain, $0 }' | LC_ALL=C sort -u)
  if has_ipv6; then ipv6=yes; else ipv6=no; fi
}

# bundle STORE NAME ID: a revision is named by the SHA-256 of its listing.
bundle() {
  sum=$(sha256sum "$1/revs/$2/$3/manifest" 2>/dev/null)
  [ "${sum%% *}" = "$3" ] || echo "bundle $2 $3"
}

# pod NAME ID TAG SUM: begins with a pod, of whose files this is the sum.
pod() {
  pod=$1 tag=$3 dir=$pods/$1 wrong=
  if [ -e "/run/vz/pending/$pod" ]; then
    fail "vzmaster is at work on $pod, or was broken off and goes back by itself"
  fi
  leads "$dir/current" "revs/$2"
  leads "$dir/tags/$tag" "../revs/$2"
  sum=$(cd "$dir/revs/$2" 2>/dev/null &&
    find . -type f ! -name '.*' | LC_ALL=C sort | xargs sha256sum | sha256sum)
  [ "${sum%% *}" = "$4" ] || wrong=yes
}

# units RESTART UNIT...: it has these, and no others.
units() {
  restart=$1
  shift
  for unit; do
    leads "$units/$unit" "$dir/tags/$tag/units/$unit"
    [ -h "$units/multi-user.target.wants/$unit" ] || wrong=yes
  done
  for link in "$units/vz-$pod".*.service; do
    case " $* " in
    *" ${link##*/} "*) ;;
    *) [ ! -h "$link" ] || wrong=yes ;;
    esac
  done
  fine=$(systemctl show --property=ActiveState,NeedDaemonReload -- "$@" |
    grep -c -e '^ActiveState=active$' -e '^NeedDaemonReload=no$')
  [ "$fine" = $(($# * 2)) ] || [ "$restart" != Always ] || wrong=yes
}

dirs() {
  for path; do
    [ -d "$path" ] || wrong=yes
  done
}

# lead HOST/PROTOCOL:PORT...: ports of the node that lead to its own network.
lead() {
  address=$(cat "$dir/tags/$tag.address" 2>/dev/null)
  addresses=$address n=${address#198.18.}
  [ "$ipv6" = no ] || [ -z "$n" ] ||
    addresses="$address [fdc9:a024:e64e::$(printf %x $((${n%.*} * 256 + ${n#*.})))]"
  wished=$(for port; do
    protocol=${port#*/}
    for address in ${addresses:-none}; do
      for chain in prerouting output; do
        echo "$pod $chain ${protocol%:*} dport ${port%%/*} dnat to $address:${port##*:}"
      done
    done
  done | LC_ALL=C sort -u)
  [ "$wished" = "$(echo "$led" | grep "^$pod ")" ] || wrong=yes
}

# open PORT/PROTOCOL...: ports that are open in the node's firewall, where it has ours.
open() {
  case $ruleset in
  *'table inet vz_node {'*) ;;
  *) return ;;
  esac
  for port; do
    nft get element inet vz_node "open_${port#*/}" "{ ${port%/*} }" >/dev/null 2>&1 || wrong=yes
  done
}

# say: ends with the pod.
say() {
  [ -z "$wrong" ] || echo "pod $pod"
}

# strays POD...: the node is to have these only.
strays() {
  for dir in "$pods"/*; do
    name=${dir##*/}
    case " $* " in
    *" $name "*) continue ;;
    esac
    [ ! -e "/run/vz/pending/$name" ] || fail "vzmaster is at work on $name"
    [ ! -h "$dir/current" ] || echo "stray $name"
  done
}
