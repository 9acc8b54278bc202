# The steps in which a revision of a pod is put in place. Calls of them follow. Units start
# where their revision is the current one, or is tried: so a node that loses power
# meanwhile comes back with the old one.
set -eu
units=/etc/systemd/system wants=/etc/systemd/system/multi-user.target.wants

fail() {
  echo "$*" >&2
  exit 1
}

# begin STORE POD ID: what all others are about.
begin() {
  store=$1 pod=$2 id=$3
  dir=/etc/vz/pods/$pod
}

# revision LINK: where it leads.
revision() {
  to=$(readlink "$dir/$1" || :)
  if [ -d "$dir/revs/${to##*/}" ]; then echo "${to##*/}"; fi
}

units_of() {
  if [ -n "$1" ]; then ls "$dir/revs/$1/units"; fi
}

# All units of a revision have its tag in their names.
tag_of() {
  for unit in $(units_of "$1"); do
    unit=${unit%.service}
    echo "${unit##*.}"
    return
  done
}

has_network() {
  [ -n "$1" ] && [ -e "$dir/revs/$1/ports.nft" ]
}

# others UNIT...: units of the pod that systemd has beside these.
others() {
  for link in "$units/vz-$pod".*.service; do
    case " $* " in
    *" ${link##*/} "*) ;;
    *) [ ! -h "$link" ] || echo "${link##*/}" ;;
    esac
  done
}

link_units() {
  mkdir -p $wants
  for unit in $(units_of "$1"); do
    ln -sfn "$dir/tags/$(tag_of "$1")/units/$unit" "$units/$unit"
    ln -sfn "../$unit" "$wants/$unit"
  done
}

# end UNIT...: stops units, and takes their links away.
end() {
  [ $# != 0 ] || return 0
  systemctl stop -- "$@"
  systemctl reset-failed -- "$@" 2>/dev/null || :
  for unit; do
    rm -f "$wants/$unit" "$units/$unit"
  done
}

# switch LINK ID
switch() {
  ln -sfn "revs/$2" "$dir/.$1"
  # Whatever a link leads to outlives a power cut sooner than the link.
  sync -f "$dir"
  mv -fT "$dir/.$1" "$dir/$1"
  sync "$dir"
}

# lead ID: makes the node's ports lead to a revision, or to none.
lead() {
  if has_network "$1"; then
    sh "$dir/tags/$(tag_of "$1")/net.sh" publish
    # An earlier revision may know of IPv4 only.
    [ -e "$dir/revs/$1/ports6.nft" ] || withdraw ip6
  elif command -v nft >/dev/null; then
    withdraw 'ip6\{0,1\}'
  fi
}

# withdraw FAMILIES: makes no port of the node lead to the pod.
withdraw() {
  nft list tables | sed -n "s/^table $1 vz-$pod\$/delete &/p" | nft -f -
}

note() {
  printf '{"time":%s,"revision":"%s","outcome":"%s","by":"ansible"}\n' \
    "$(date +%s)" "$id" "$1" >>"$dir/history"
}

# Tells the store which bundles revisions need.
pin() {
  cat /etc/vz/pods/*/revs/*/pod.json 2>/dev/null | awk -F '"' '
    $2 == "bundle" { name = $4 }
    /^ *"bundle_id": "[0-9a-f]+",?$/ { print name, $4 }' | LC_ALL=C sort -u >"$store/.pinned.new"
  # A power cut must not leave it empty.
  sync "$store/.pinned.new"
  mv "$store/.pinned.new" "$store/.pinned"
}

# Five revisions are kept beside the current and the previous one.
sweep() {
  count=0 current=$(revision current) previous=$(revision previous)
  # shellcheck disable=SC2045 # their names are digests
  for old in $(ls -t "$dir/revs"); do
    if [ "$old" = "$current" ] || [ "$old" = "$previous" ]; then continue; fi
    count=$((count + 1))
    [ $count -le 5 ] || rm -rf "$dir/revs/$old"
  done
  for tag in "$dir"/tags/*; do
    [ -e "$tag" ] || rm -f "$tag" "$tag.address"
  done
  pin
  sync -f /etc/systemd/system
}

sum() {
  (cd "$1" && find . -type f ! -name '.*' | LC_ALL=C sort | xargs sha256sum | sha256sum) |
    cut -c -64
}

# write SUM: the revision's files, a tar in base64 on standard input.
write() {
  mkdir -p "$store" "$dir/revs" "$dir/tags"
  # Environments may have what is nobody else's business.
  chmod 700 /etc/vz/pods
  new=$dir/revs/.new
  rm -rf "$new"
  mkdir "$new"
  base64 -d | tar -x -m --no-same-owner -C "$new"
  chmod -R u=rwX,go=rX "$new"
  [ "$(sum "$new")" = "$1" ] || fail "the revision did not arrive whole"
  if [ ! -d "$dir/revs/$id" ] || [ "$(sum "$dir/revs/$id")" != "$1" ]; then
    sync -f "$new"
    # One that was changed gives way by a rename: it may be the current one.
    rm -rf "$dir/revs/.old"
    [ ! -d "$dir/revs/$id" ] || mv "$dir/revs/$id" "$dir/revs/.old"
    mv "$new" "$dir/revs/$id"
    rm -rf "$dir/revs/.old"
  fi
  rm -rf "$new"
  ln -sfn "../revs/$id" "$dir/tags/$(tag_of "$id")"
  pin
}

# directory MODE PATH: a volume.
directory() {
  [ -d "$2" ] || install -d -m "$1" "$2"
}

# start UPDATE: starts the revision beside the old one or in its place; prints its address.
start() {
  old=$(revision current) tag=$(tag_of "$id")
  old_tag=$(tag_of "$old") beside=no
  if [ "$1" = start-first ] && has_network "$old" && [ "$old_tag" != "$tag" ]; then beside=yes; fi
  # Without its secrets it would not start.
  if [ -e "$dir/tags/$tag/secrets.sh" ]; then sh "$dir/tags/$tag/secrets.sh"; fi
  address=127.0.0.1
  if has_network "$id"; then
    address=$(choose_address "$(cat "$dir/tags/$tag.address" 2>/dev/null || :)" \
      "$(cat "$dir/tags/${old_tag:--}.address" 2>/dev/null || :)")
    printf %s "$address" >"$dir/tags/$tag.address"
  fi
  mine=$(units_of "$id") his=$(units_of "$old")
  # shellcheck disable=SC2046,SC2086 # names of units have no spaces
  if [ $beside = yes ]; then end $(others $mine $his); else end $(others); fi
  link_units "$id"
  if [ -n "$old" ]; then link_units "$old"; fi
  mkdir -p /run/vz/try
  for unit in $mine; do : >"/run/vz/try/$unit"; done
  systemctl daemon-reload
  # shellcheck disable=SC2086
  systemctl start -- $mine
  echo "$address"
}

# choose_address OWN OLD: another one beside the old revision, else the same, since packets of
# UDP go on to where they went.
choose_address() {
  if [ "$beside" = no ] && [ -n "$2" ]; then
    echo "$2"
  elif [ -n "$1" ] && [ "$1" != "$2" ]; then
    echo "$1"
  else
    n=1
    while address=198.18.$((n / 256)).$((n % 256)) &&
      grep -qsxF "$address" /etc/vz/pods/*/tags/*.address; do n=$((n + 1)); done
    echo "$address"
  fi
}

# judge RESTART: whether it runs still, after five seconds.
judge() {
  sleep 5
  # shellcheck disable=SC2046
  systemctl show --property=Id,ActiveState,Result,NRestarts -- $(units_of "$id") |
    awk -v always="$([ "$1" != Always ] || echo yes)" 'BEGIN { RS = ""; FS = "\n" } {
      for (i = 1; i <= NF; i++) { split($i, field, "="); is[field[1]] = field[2] }
      ended = is["ActiveState"] == "inactive" && is["Result"] == "success" && !always
      if ((is["ActiveState"] != "active" && !ended) || is["NRestarts"] > 2) {
        print is["Id"], "is", is["ActiveState"] ", started again", is["NRestarts"] + 0, "times"
        bad = 1
      }
    } END { exit bad }' >&2
}

# keep: makes it the current one, and ends the one before.
keep() {
  old=$(revision current)
  lead "$id"
  if [ -n "$old" ] && [ "$old" != "$id" ]; then switch previous "$old"; fi
  switch current "$id"
  note runs
  # shellcheck disable=SC2046
  gone=$(others $(units_of "$id"))
  if [ -n "$gone" ] && has_network "$id" && has_network "$old"; then drain "$old"; fi
  # shellcheck disable=SC2086
  end $gone
  rm -f "/run/vz/try/vz-$pod."*
  systemctl daemon-reload
  sweep
}

# drain ID: waits for connections to a revision to end, for as long as its time of grace.
drain() {
  grace=$(sed -n 's/^TimeoutStopSec=//p' "$dir/revs/$1/units"/* | sort -n | tail -n 1)
  timeout "${grace:-0}" sh -c "while ip netns exec vz-$(tag_of "$1") ss -Htn state established |
    grep -q .; do sleep 0.2; done" || :
}

# back: runs the current one again, or nothing; prints what the one that failed logged.
back() {
  # shellcheck disable=SC2046
  journalctl --no-pager --output=cat --lines=15 $(units_of "$id" | sed 's/^/--unit=/') || :
  # A repair that fails leaves what is wished, as vzmaster does.
  old=$(revision current)
  # Where it runs still, it has its ports again at once.
  lead "$old" || :
  rm -f "/run/vz/try/vz-$pod."*
  # shellcheck disable=SC2046
  end $(others $(units_of "$old")) || :
  if [ -n "$old" ]; then
    switch current "$old"
    ln -sfn "../revs/$old" "$dir/tags/$(tag_of "$old")"
    link_units "$old"
    systemctl daemon-reload
    # shellcheck disable=SC2046
    systemctl start -- $(units_of "$old") || :
    lead "$old"
    if [ "$old" = "$id" ]; then
      note "was repaired, and failed"
    else
      note "failed, and the one before was started again"
    fi
  else
    rm -f "$dir/current"
    systemctl daemon-reload
    note failed
  fi
  sweep
}

# remove: the pod, its units, revisions, secrets and history; volumes stay.
remove() {
  # shellcheck disable=SC2046
  end $(others)
  lead ''
  rm -f "/run/vz/try/vz-$pod."*
  systemctl daemon-reload
  rm -rf "/run/vz/secrets/$pod" "/etc/vz/secrets/$pod" "$dir"
  pin
  sync -f /etc/systemd/system
}
