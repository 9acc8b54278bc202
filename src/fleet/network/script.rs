//! The script of a revision that makes its network.

use super::rules::wall;
use super::{Family, GATEWAY, GATEWAY6, PREFIX6, RULES, RULES6, namespace, table, unit};
use crate::fleet::unit::PODS;

/// A function of sh: whether the node has IPv6, and its nftables translate it.
pub const HAS_IPV6: &str = "\
has_ipv6() {
  [ \"$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null)\" = 0 ] &&
    nft -c 'table ip6 vz { chain postrouting { type nat hook postrouting priority 100; masquerade; }; }' 2>/dev/null
}
";

/// Returns the script of the unit of a revision's network. `up` passes the node's ports on
/// only where the revision is the pod's current one: that of a deployment that was not
/// confirmed is passed on by the deployment itself.
pub fn render_script(pod: &str, tag: &str) -> String {
    let (namespace, table, unit) = (namespace(tag), table(pod), unit(pod, tag));
    let [wall, wall6] = [Family::Ip, Family::Ip6].map(wall);
    format!(
        "\
# sh net.sh up|down|publish
set -e
dir={PODS}/{pod}/tags
conf=/proc/sys/net/ipv6/conf
ADDRESS=$(cat $dir/{tag}.address)
n=${{ADDRESS#198.18.}}
ADDRESS6={PREFIX6}$(printf %x $((${{n%.*}} * 256 + ${{n#*.}})))
IPV6=no
{HAS_IPV6}
wall() {{
  nft -f - <<'END'
{wall}END
}}
wall6() {{
  nft -f - <<'END'
{wall6}END
}}
# To forward makes a router of each interface (ip-sysctl), which forgets the default routes that
# it heard of, and hears of no more: a node without an address. Newer kernels forward
# without; in others the interfaces are hosts again.
forward6() (
  cd $conf
  [ \"$(cat all/forwarding)\" = 0 ] || exit 0
  if [ -e all/force_forwarding ]; then
    # Each, since what is 1 for all may have been taken back from some.
    for file in */force_forwarding; do echo 1 >$file; done
    exit
  fi
  hosts=$(grep -lx 0 -- */forwarding) heard=$(grep -lx 1 -- */accept_ra)
  # What is 2 hears as a router, too.
  for file in $heard; do echo 2 >$file; done
  echo 1 >all/forwarding
  for file in $hosts; do [ $file = all/forwarding ] || echo 0 >$file; done
  for file in $heard; do echo 1 >$file; done
  [ \"$(cat all/forwarding)\" = 1 ]
)
# Gives the network IPv6 where the node has it, by now perhaps.
network6() {{
  if has_ipv6 && wall6 && forward6 &&
    echo 0 >$conf/vz{tag}/disable_ipv6 &&
    ip -n {namespace} -6 addr replace $ADDRESS6/128 dev eth0 nodad &&
    ip -n {namespace} -6 route replace {GATEWAY6} dev eth0 &&
    ip -n {namespace} -6 route replace default via {GATEWAY6} dev eth0 &&
    ip -6 addr replace {GATEWAY6}/128 dev vz{tag} nodad &&
    ip -6 route replace $ADDRESS6/128 dev vz{tag}
  then IPV6=yes; fi
}}
# What pods may is in the wall; firewalld would let nothing of theirs out.
firewalld() {{
  if systemctl -q is-active firewalld; then firewall-cmd -q --zone=trusted $1; fi
}}
# Docker and ufw forward for nobody else; what pods may is in the wall here, too.
let_pass() {{
  if [ \"$(command -v dockerd || command -v ufw)\" ]; then others=yes; else others=no; fi
  for tables in iptables ip6tables; do
    [ $others = yes ] || $tables -w 5 -S FORWARD 2>/dev/null | grep -qx -e '-P FORWARD DROP' || continue
    for way in -i -o; do
      $tables -w 5 -C FORWARD $way vz+ -j ACCEPT || $tables -w 5 -I FORWARD $way vz+ -j ACCEPT || :
    done 2>/dev/null
  done
}}
publish() {{
  {{
    echo \"define address = $ADDRESS\"
    cat $dir/{tag}/{RULES}
    if [ $IPV6 = yes ]; then
      echo \"define address6 = $ADDRESS6\"
      cat $dir/{tag}/{RULES6}
    elif nft list table ip6 {table} >/dev/null 2>&1; then
      echo delete table ip6 {table}
    fi
  }} | nft -f -
}}
case $1 in
publish)
  wall
  let_pass
  network6
  publish
  ;;
down)
  ip link del vz{tag} 2>/dev/null || :
  ip netns del {namespace} 2>/dev/null || :
  firewalld --remove-interface=vz{tag} 2>/dev/null || :
  ;;
up)
  ip netns add {namespace}
  ip link add vz{tag} type veth peer name eth0 netns {namespace}
  # Neither end is told of routers by the other, or waits to hear that its address is another's.
  quiet='cd /proc/sys/net/ipv6/conf/$0 && echo 0 >accept_ra && echo 0 >accept_dad'
  sh -c \"$quiet\" vz{tag} 2>/dev/null || :
  ip netns exec {namespace} sh -c \"$quiet\" eth0 2>/dev/null || :
  ip -n {namespace} link set lo up
  ip -n {namespace} addr add $ADDRESS/32 dev eth0
  ip -n {namespace} link set eth0 up
  ip -n {namespace} route add {GATEWAY} dev eth0
  ip -n {namespace} route add default via {GATEWAY}
  # As containerd has it: who is not root may listen on port 80.
  ip netns exec {namespace} sh -c 'echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start' || :
  ip addr add {GATEWAY}/32 dev vz{tag}
  ip link set vz{tag} up
  ip route replace $ADDRESS/32 dev vz{tag}
  wall
  let_pass
  network6
  if [ $IPV6 = no ]; then echo 1 >$conf/vz{tag}/disable_ipv6; fi 2>/dev/null || :
  firewalld --change-interface=vz{tag}
  # So that the node's own 127.0.0.1 reaches its ports, too.
  echo 1 >/proc/sys/net/ipv4/conf/vz{tag}/route_localnet
  echo 1 >/proc/sys/net/ipv4/ip_forward
  if [ -e {PODS}/{pod}/current/units/{unit} ]; then publish; fi
  ;;
esac
"
    )
}
