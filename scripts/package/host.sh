# shellcheck shell=sh
# What a host gets at the installation: the daemon's user, its directories, and ids for the users in its containers. Read by
# scripts/install.sh, and part of the packages' own scripts; so it is for any POSIX shell, and may run again at each upgrade.

windlass_prepare_host() {
  systemd-sysusers windlass.conf
  systemd-tmpfiles --create windlass.conf
  for kind in uid gid; do
    grep -qs '^windlass:' "/etc/sub$kind" && continue
    # The first range behind all others.
    [ -e "/etc/sub$kind" ] || : >"/etc/sub$kind"
    first=$(awk -F: '
      BEGIN { first = 524288 }
      $2 + $3 > first { first = $2 + $3 }
      END { print first }' "/etc/sub$kind")
    usermod "--add-sub${kind}s" "$first-$((first + 65535))" windlass
  done
}

# systemd ignores a type that it does not know, so one that knows it (253) has to be asked for it.
windlass_notify_reload() {
  version=$(systemctl --version 2>/dev/null | awk 'NR == 1 { print int($2) }')
  [ "${version:-0}" -ge 253 ]
}
