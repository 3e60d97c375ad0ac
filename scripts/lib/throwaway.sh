# shellcheck shell=bash
: "${programs:?where the programs are}"
# A windlassd for the occasion, in a directory of its own, with a podman storage of its own: nothing of the host's is
# touched, and nothing is left. Sourced by quickstart.sh and bench.sh, which set `programs` (where the programs are).

say() { printf '\033[36m==>\033[0m %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Makes the directory $work and settings for podman and windlassd in it. Arguments: lines for the [job] section.
throwaway_setup() {
  # Short: the path of a unix socket has at most 107 bytes.
  work=$(mktemp -d /tmp/wl.XXXXXX)
  chmod 755 "$work"
  daemon=
  trap throwaway_remove EXIT
  trap 'exit 130' INT TERM
  unset TMPDIR
  if [[ $EUID -ne 0 && -z ${XDG_RUNTIME_DIR:-} ]]; then
    mkdir -m 0700 "$work/xdg"
    export XDG_RUNTIME_DIR=$work/xdg
  fi

  if [[ ! -e /sys/fs/cgroup/cgroup.controllers || ! -d /run/systemd/system ]]; then
    # Without systemd, or on a host with cgroup v1 in part: what podman would choose by itself does not work there.
    local runtime=runc
    [[ -e /sys/fs/cgroup/cgroup.controllers ]] && command -v crun >/dev/null && runtime=crun
    cat >"$work/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
pids_limit = 0
[engine]
runtime = "$runtime"
cgroup_manager = "cgroupfs"
events_logger = "none"
[network]
network_backend = "netavark"
CONF
    export CONTAINERS_CONF=$work/containers.conf
  fi
  local driver
  for driver in overlay vfs; do
    printf '[storage]\ndriver = "%s"\ngraphroot = "%s/storage"\nrunroot = "%s/containers"\n' "$driver" "$work" "$work" >"$work/storage.conf"
    export CONTAINERS_STORAGE_CONF=$work/storage.conf
    podman info >/dev/null 2>"$work/podman.log" && break
    rm -rf "$work/storage" "$work/containers"
  done
  podman info >/dev/null 2>&1 || { cat "$work/podman.log" >&2; die "podman does not work on this machine; its words are above"; }

  {
    printf 'run_dir = "%s/run"\nstate_dir = "%s/state"\n' "$work" "$work"
    printf '[socket]\nallowed_users = []\n'
    printf '[podman]\ninit = "%s/libexec/windlass-init"\n[podman.environment]\n' "$programs"
    local name
    for name in CONTAINERS_CONF CONTAINERS_STORAGE_CONF; do
      [[ -n ${!name:-} ]] && printf '%s = "%s"\n' "$name" "${!name}"
    done
    printf '[job]\n'
    printf '%s\n' "$@"
  } >"$work/windlass.toml"
  # Read by the scripts that source this file.
  # shellcheck disable=SC2034
  socket=$work/run/windlass.sock
}

# Makes image NAME of this host's files.
throwaway_image() {
  scripts/images.sh "$1" | podman import --quiet --change 'USER app' - "localhost/windlass/$1:latest" >/dev/null
}

# Starts windlassd and waits until it answers.
throwaway_start() {
  "$programs/windlassd" --config "$work/windlass.toml" >"$work/windlassd.log" 2>&1 &
  daemon=$!
  until "$programs/windlass" status --socket "$socket" >/dev/null 2>&1; do
    kill -0 "$daemon" 2>/dev/null || { cat "$work/windlassd.log" >&2; daemon=; die "windlassd did not start; its words are above"; }
    sleep 0.05
  done
}

throwaway_remove() {
  local status=$?
  trap '' INT TERM
  if [[ -n $daemon ]]; then
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" || true
  fi
  # All that this storage holds was made here.
  podman rm --all --force --time 0 >/dev/null 2>&1 || true
  if [[ $EUID -ne 0 ]]; then
    podman unshare rm -rf "$work/storage" >/dev/null 2>&1 || true
    podman system migrate >/dev/null 2>&1 || true
  fi
  umount "$work/storage/overlay" 2>/dev/null || true
  rm -rf "$work"
  exit "$status"
}
