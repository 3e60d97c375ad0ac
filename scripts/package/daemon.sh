# shellcheck shell=sh
# What the package of the daemon does beside placing files; WHEN is one of the words below. The packages' own scripts call it, after
# host.sh.

windlass_has_systemd() { [ -d /run/systemd/system ]; }

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
  case $1 in
    installed | upgraded)
      windlass_prepare_host
      if windlass_notify_reload; then
        mkdir -p "${drop_in%/*}"
        ln -sf /usr/share/windlass/notify-reload.conf "$drop_in"
      fi
      windlass_label
      if windlass_has_systemd; then
        systemctl daemon-reload
        # Jobs don't notice. What does not run, or was never configured, stays as it is.
        [ "$1" = installed ] || systemctl try-restart windlass.service || true
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
      rm -f "$drop_in"
      rmdir "${drop_in%/*}" 2>/dev/null || true
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
      rm -rf --one-file-system /var/lib/windlass /run/windlass /etc/windlass || true
      ;;
  esac
}
