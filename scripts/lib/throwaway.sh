# shellcheck shell=bash
# A windlassd for the occasion, in a directory of its own, with a podman storage of its own: nothing of the host's is
# touched, and nothing is left. Sourced by quickstart.sh and bench.sh, which set `programs` (where the programs are).
: "${programs:?where the programs are}"

say() {
  if [[ -t 2 ]]; then printf '\033[36m==>\033[0m %s\n' "$*" >&2; else printf '==> %s\n' "$*" >&2; fi
}
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Makes the directory $work and settings for podman and windlassd in it. Arguments: lines for the [job] section.
throwaway_setup() {
  # Short: the path of a unix socket has at most 107 bytes.
  work=$(mktemp -d /tmp/wl.XXXXXX)
  chmod 755 "$work"
  daemons=()
  trap throwaway_remove EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  unset TMPDIR
  if [[ $EUID -ne 0 ]]; then
    # podman's process that holds the namespaces notes itself there, and only in a directory that it finds.
    mkdir -p "$work/xdg/libpod/tmp"
    chmod 0700 "$work/xdg"
    export XDG_RUNTIME_DIR=$work/xdg
  fi
  throwaway_containers_conf >"$work/containers.conf"
  export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf
  local driver
  for driver in overlay vfs; do
    printf '[storage]\ndriver = "%s"\ngraphroot = "%s"\nrootless_storage_path = "%s"\nrunroot = "%s"\n' \
      "$driver" "$work/storage" "$work/storage" "$work/containers" >"$work/storage.conf"
    podman info >/dev/null 2>"$work/podman.log" && break
    rm -rf "$work/storage" "$work/containers"
  done
  podman info >/dev/null 2>&1 || { cat "$work/podman.log" >&2; die "podman does not work on this machine; its words are above"; }

  {
    printf 'run_dir = "%s/run"\nstate_dir = "%s/state"\n' "$work" "$work"
    printf '[socket]\nallowed_users = ["%s"]\n' "$(id -un)"
    printf '[podman]\ninit = "%s/libexec/windlass-init"\n' "$programs"
    printf 'environment = { CONTAINERS_CONF = "%s", CONTAINERS_STORAGE_CONF = "%s" }\n' "$CONTAINERS_CONF" "$CONTAINERS_STORAGE_CONF"
    printf '[job]\n'
    printf '%s\n' "$@"
  } >"$work/windlass.toml"
  # Read by the scripts that source this file.
  # shellcheck disable=SC2034
  socket=$work/run/windlass.sock
}

# Settings that work on any host: with systemd or without, with cgroup v2, v1 or the hybrid of both.
throwaway_containers_conf() {
  local most
  most=$(ulimit -Hu)
  [[ $most != unlimited && $most -lt 4096 ]] || most=4096
  echo '[containers]'
  # podman's own limits may be above what this host allows to pass on.
  echo "default_ulimits = [\"nofile=1024:1024\", \"nproc=$most:$most\"]"
  echo 'pids_limit = 0'
  echo '[engine]'
  echo 'events_logger = "none"'
  # Beside the storage, also for an ordinary user.
  echo "static_dir = \"$work/storage/libpod\""
  # crun refuses the hybrid of cgroup v1 and v2.
  [[ -e /sys/fs/cgroup/cgroup.controllers ]] || echo 'runtime = "runc"'
  [[ $EUID -eq 0 && -d /run/systemd/system ]] || echo 'cgroup_manager = "cgroupfs"'
  echo '[network]'
  echo 'network_backend = "netavark"'
  # Else a container here could get the address of one elsewhere on the host.
  echo "network_config_dir = \"$work/networks\""
}

# Makes image NAME of this host's files.
throwaway_image() {
  scripts/images.sh "$1" | podman import --quiet --change 'USER app' - "localhost/windlass/$1:latest" >/dev/null
}

# Starts windlassd with the configuration in a directory and waits until it answers.
throwaway_start() {
  local directory=$1 started
  "$programs/windlassd" --config "$directory/windlass.toml" >"$directory/windlassd.log" 2>&1 &
  started=$!
  daemons+=("$started")
  until "$programs/windlass" status --socket "$directory/run/windlass.sock" >/dev/null 2>&1; do
    kill -0 "$started" 2>/dev/null || { cat "$directory/windlassd.log" >&2; die "windlassd did not start; its words are above"; }
    sleep 0.05
  done
}

throwaway_remove() {
  local status=$? mount
  trap - EXIT
  trap '' INT TERM HUP
  set +e
  if [[ ${#daemons[@]} -gt 0 ]]; then
    kill "${daemons[@]}" 2>/dev/null
    wait "${daemons[@]}"
  fi
  # All that this storage holds was made here.
  podman rm --all --force --time 0 >/dev/null 2>&1 || podman rm --all --force --time 0 >/dev/null
  if [[ $EUID -ne 0 ]]; then
    # Files of the containers belong to subordinate ids.
    podman unshare sh -c 'umount "$1/overlay" 2>/dev/null; rm -rf "$@"' sh "$work/storage" "$work/containers" "$work/state"
    [[ -s $work/xdg/libpod/tmp/pause.pid ]] && kill "$(cat "$work/xdg/libpod/tmp/pause.pid")"
  fi
  # podman mounts its storage onto itself; the last mount goes first.
  while read -r mount; do umount "$mount"; done < <(awk -v below="$work/" 'index($2, below) == 1 { print $2 }' /proc/mounts | tac)
  rm -rf --one-file-system "$work" || echo "${0##*/}: $work could not be removed" >&2
  exit "$status"
}
