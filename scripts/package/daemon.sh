# shellcheck shell=sh
# What the package of the daemon does beside placing files; WHEN is one of the words below. The packages' own scripts call it, after
# host.sh.

windlass_has_systemd() { [ -d /run/systemd/system ]; }

windlass_daemon() { # WHEN
  drop_in=/etc/systemd/system/windlass.service.d/50-notify-reload.conf
  case $1 in
    installed | upgraded)
      windlass_prepare_host
      if windlass_notify_reload; then
        mkdir -p "${drop_in%/*}"
        ln -sf /usr/share/windlass/notify-reload.conf "$drop_in"
      fi
      if [ "$(command -v selinuxenabled)" ] && selinuxenabled; then windlass_label; fi
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
      ! windlass_has_systemd || systemctl daemon-reload
      ;;
    purged)
      # Its containers, and the manager that they run below. The user stays, and so do its ids: nobody else shall get them.
      rm -f /var/lib/systemd/linger/windlass
      if windlass_has_systemd && id=$(id -u windlass 2>/dev/null); then systemctl stop "user@$id.service" || true; fi
      # A directory that is a file system of its own stays, empty.
      rm -rf --one-file-system /var/lib/windlass /run/windlass /etc/windlass || true
      ;;
  esac
}

# For SELinux: the daemon's own sockets may cross into containers only if it runs as podman does, and what is mounted there has to carry
# their label from its creation. podman's storage in the service's home is labelled as the one in /var/lib/containers is.
windlass_label() {
  command -v semanage >/dev/null || {
    echo "windlass: SELinux is on and semanage is missing; install policycoreutils-python-utils, then reinstall windlass" >&2
    return 0
  }
  windlass_context container_runtime_exec_t /usr/bin/windlassd
  windlass_context container_file_t '/var/lib/windlass/lanes(/.*)?'
  windlass_context container_file_t '/var/lib/windlass/work(/.*)?'
  semanage fcontext --add --equal /var/lib/containers /var/lib/windlass/.local/share/containers 2>/dev/null \
    || semanage fcontext --modify --equal /var/lib/containers /var/lib/windlass/.local/share/containers
  restorecon -R /usr/bin/windlassd /var/lib/windlass
}

windlass_context() { # TYPE PATTERN
  semanage fcontext --add --type "$1" "$2" 2>/dev/null || semanage fcontext --modify --type "$1" "$2"
}
