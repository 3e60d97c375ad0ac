# shellcheck shell=sh
# What the package of the daemon does beside placing files; WHEN is one of the words below. The packages' own scripts call it, after
# host.sh.

windlass_has_systemd() { [ -d /run/systemd/system ]; }

# Once on a host: what somebody puts in its place, or takes away, stays so.
windlass_link_notify_reload() { # LINK NOTE-THAT-IT-WAS-THERE
  [ ! -e "$2" ] || return 0
  mkdir -p "${1%/*}" "${2%/*}"
  [ -e "$1" ] || [ -L "$1" ] || ln -s /usr/share/windlass/notify-reload.conf "$1"
  : >"$2"
}
windlass_unlink_notify_reload() { # LINK NOTE
  [ "$(readlink "$1")" != /usr/share/windlass/notify-reload.conf ] || rm -f "$1"
  rm -f "$2"
  rmdir "${1%/*}" 2>/dev/null || true
}

# What does not run, or was never configured, stays as it is; so does what would not come back.
windlass_restart() {
  systemctl --quiet is-active windlass.service || return 0
  if refused=$(windlass check 2>&1); then
    # Jobs don't notice.
    systemctl try-restart windlass.service || true
  else
    printf '%s\n' "$refused" "windlass: this release refuses the configuration, so the daemon of the last one runs on; mend it, then" \
      "  windlass check && systemctl restart windlass" >&2
  fi
}

# Those of a daemon that ran as root, in root's podman; nobody else has their label.
windlass_without_rootful_containers() {
  # A podman that never ran would make itself a storage.
  { command -v podman >/dev/null && [ -d /var/lib/containers/storage ]; } || return 0
  label=label=io.windlass.daemon=/run/windlass
  podman ps --all --quiet --filter "$label" | xargs --no-run-if-empty podman rm --force --time 0 >/dev/null || true
  podman network ls --quiet --filter "$label" | xargs --no-run-if-empty podman network rm >/dev/null || true
}

windlass_daemon() { # WHEN
  drop_in=/etc/systemd/system/windlass.service.d/50-notify-reload.conf
  linked=/var/lib/misc/windlass-notify-reload
  case $1 in
    installed | upgraded)
      windlass_prepare_host
      ! windlass_notify_reload || windlass_link_notify_reload "$drop_in" "$linked"
      windlass_label
      if windlass_has_systemd; then
        systemctl daemon-reload
        [ "$1" = installed ] || windlass_restart
      fi
      ;;
    removing)
      for lease in /run/windlass/leases/*; do
        [ -e "$lease" ] || continue
        echo "windlass: jobs are running, and nobody looks after them from now on; next time run \`windlass drain --wait\` first" >&2
        break
      done
      if windlass_has_systemd; then
        systemctl disable --now --quiet windlass.socket windlass.service || true
      fi
      ;;
    removed)
      windlass_unlink_notify_reload "$drop_in" "$linked"
      windlass_without_rules /usr/bin/windlassd
      ! windlass_has_systemd || systemctl daemon-reload
      ;;
    purged)
      # Its containers, and the manager that they run below. The user stays, and so do its ids: nobody else shall get them.
      rm -f /var/lib/systemd/linger/windlass
      if windlass_has_systemd && id=$(id -u windlass 2>/dev/null); then systemctl stop "user@$id.service" || true; fi
      windlass_without_rootful_containers
      # Variants that somebody has linked (docs/service.md): they would be in effect again when the package comes back.
      find "${drop_in%/*}" -maxdepth 1 -lname '/usr/share/windlass/*' -delete 2>/dev/null || true
      rmdir "${drop_in%/*}" 2>/dev/null || true
      ! windlass_has_systemd || systemctl daemon-reload
      windlass_without_rules /var/lib/windlass/.local/share/containers '/var/lib/windlass/lanes(/.*)?' '/var/lib/windlass/work(/.*)?' \
        '/var/lib/windlass/bin(/.*)?' '/var/lib/windlass/mounted(/.*)?'
      # A directory that is a file system of its own stays, empty.
      rm -rf --one-file-system /var/lib/windlass /run/windlass || true
      # windlass-update has files in the same directory, and so may others.
      rm -rf /etc/windlass/conf.d
      for secret in gitlab-token webhook-secret webhook-signing-secret page-token; do rm -f "/etc/windlass/$secret"; done
      [ -e /etc/windlass/update.toml ] || rm -f /etc/windlass/feed-token
      rmdir /etc/windlass 2>/dev/null || true
      ;;
  esac
}
