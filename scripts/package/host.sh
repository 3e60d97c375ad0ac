# shellcheck shell=sh
# What a host gets at the installation: the daemon's user, its directories, ids for the users in its containers, and labels. Read by
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

# Where SELinux is on: the daemon's own sockets may cross into containers only if it runs as podman does. What containers mount, the daemon
# itself makes with the label for that, and podman its own storage; the rules are for whoever relabels the host.
windlass_label() {
  if ! command -v selinuxenabled >/dev/null || ! selinuxenabled; then return 0; fi
  command -v semanage >/dev/null || {
    echo "windlass: SELinux is on and semanage is missing; install policycoreutils-python-utils, then install windlass again" >&2
    return 0
  }
  storage=/var/lib/windlass/.local/share/containers
  kind=$(windlass_type_by_rule /var/lib/containers)
  { [ "$kind" ] && [ "$(windlass_type_by_rule "$storage")" = "$kind" ]; } \
    || semanage fcontext --add --equal /var/lib/containers "$storage" 2>/dev/null \
    || semanage fcontext --modify --equal /var/lib/containers "$storage" || windlass_unlabelled "$storage"
  windlass_context container_file_t /var/lib/windlass/lanes '(/.*)?'
  windlass_context container_file_t /var/lib/windlass/work '(/.*)?'
  windlass_context container_ro_file_t /var/lib/windlass/bin '(/.*)?'
  windlass_context container_ro_file_t /var/lib/windlass/mounted '(/.*)?'
  windlass_context container_runtime_exec_t /usr/bin/windlassd
}

# Neither what an upgrade finds done is done again, since a rule takes seconds and what jobs have kept may be a terabyte.
windlass_context() { # TYPE PATH [PATTERN OF WHAT IS BELOW]
  [ "$(windlass_type_by_rule "$2")" = "$1" ] \
    || semanage fcontext --add --type "$1" "$2${3:-}" 2>/dev/null || semanage fcontext --modify --type "$1" "$2${3:-}" \
    || windlass_unlabelled "$2"
  [ ! -e "$2" ] || [ "$(stat --format=%C "$2" | cut -d: -f3)" = "$1" ] || restorecon -R "$2" || windlass_unlabelled "$2"
}

# No reason to leave an installation half done.
windlass_unlabelled() { # PATH
  echo "windlass: SELinux has no rule or label for $1; windlass doctor --only selinux says what is missing" >&2
}

# Takes rules away again.
windlass_without_rules() { # PATH AND PATTERN...
  if ! command -v selinuxenabled >/dev/null || ! selinuxenabled || ! command -v semanage >/dev/null; then return 0; fi
  for rule in "$@"; do semanage fcontext --delete "$rule" 2>/dev/null || true; done
}

# The type that the rules have for a path; nothing where nobody can say.
windlass_type_by_rule() { # PATH
  matchpathcon -n "$1" 2>/dev/null | cut -d: -f3
}
