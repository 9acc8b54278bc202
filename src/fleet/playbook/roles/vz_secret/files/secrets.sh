# A call of put follows.
set -eu
now=/run/vz/secrets kept=/etc/vz/secrets
line='
'

# put [kept|no]: makes the secrets of pods those of standard input, `POD/NUMBER SECRET` a line,
# and `POD/NUMBER SECRET KEY BASE64`; with `kept`, the next boot has them, too,
# encrypted, with `no` it has not, else as before. Says `changed` where one was another before.
put() {
  keep=${1:-} changed=
  wished=$line$(cat)$line
  if [ "$keep" = kept ] && ! command -v systemd-creds >/dev/null; then
    echo "this node cannot encrypt: it has no systemd-creds" >&2
    exit 1
  fi
  mkdir -p $now
  chmod 700 $now
  while read -r pod secret key value; do
    [ -n "$pod" ] || continue
    dir=$now/$pod/$secret
    # Containers see the innermost folder only, whoever they run as.
    mkdir -p "$dir"
    chmod 755 "$now/${pod%/*}" "$now/$pod" "$dir"
    [ -z "$key" ] || write "$pod" "$secret" "$key" "$value"
  done <<END
${wished#"$line"}
END
  for pod in $(echo "$wished" | cut -d ' ' -f 1 | sort -u); do
    forget "$pod"
  done
  # What was kept, or is not any more, outlives a power cut.
  if [ -n "$changed" ] && [ -d "${kept%/*}" ]; then sync -f "${kept%/*}"; fi
  [ -z "$changed" ] || echo changed
}

# keeps POD/NUMBER: whether the next boot is to have them.
keeps() {
  case $keep in
  kept) ;;
  no) return 1 ;;
  *) [ -e "$kept/${1%/*}" ] ;;
  esac
}

write() {
  aside=$dir/.$3
  rm -f "$aside"
  (umask 077 && printf %s "$4" | base64 -d >"$aside")
  chmod 444 "$aside"
  new=
  cmp -s "$aside" "$dir/$3" || new=yes changed=yes
  if keeps "$1" && { [ -n "$new" ] || [ ! -e "$kept/$1/$2/$3" ]; }; then
    (umask 077 && mkdir -p "$kept/$1/$2" &&
      systemd-creds encrypt --name="${1%/*}.$2.$3" - - <"$aside" >"$kept/$1/$2/.$3")
    mv "$kept/$1/$2/.$3" "$kept/$1/$2/$3"
    changed=yes
  fi
  mv -f "$aside" "$dir/$3"
}

# forget POD: what is not wished any more.
forget() {
  if ! keeps "$1" && [ -e "$kept/${1%/*}" ]; then
    rm -rf "${kept:?}/${1%/*}"
    changed=yes
  fi
  for top in "$now/$1" "$kept/$1"; do
    for path in "$top"/* "$top"/*/*; do
      [ -e "$path" ] || continue
      below=${path#"$top/"}
      case $below in
      */*) known="$line$1 ${below%/*} ${below#*/} " ;;
      *) known="$line$1 $below$line" ;;
      esac
      case $wished in
      *"$known"*) continue ;;
      esac
      rm -rf "$path"
      changed=yes
    done
  done
}
