#!/usr/bin/env bash
# Runs a command in a box: a system of its own with systemd as process 1, on a view of this machine's files that can be written and is
# thrown away. For tests that install services, restart them, and have users; this machine sees nothing of it.
#
#   scripts/box.sh [--timeout SECONDS] [--boots NUMBER] [--share DIRECTORY]... [--root DIRECTORY] [--over DIRECTORY] -- COMMAND [ARGUMENT...]
#
#   --timeout SECONDS   end the box, or each boot of it, after so long (default 600)
#   --boots NUMBER      boot it so often, one time after the other on the same files (default 1), and run COMMAND in each, with WINDLASS_BOOT
#                       set to 1, 2, ...; what ends all but the last is an orderly shutdown, or COMMAND with `systemctl poweroff --force --force`
#   --share DIRECTORY   is seen in the box as it is here, read-only; for directories on file systems of their own, and with --root
#   --root DIRECTORY    its files, such as another release of a distribution that was unpacked there (default: this machine's own)
#   --over DIRECTORY    files that lie over those, such as packages that were unpacked there
#
# COMMAND is run by root in / once the box has booted. Its output comes out here, and its exit code is this script's, or 124 when the
# time was over, or 125 when there was no box. There is no network but loopback. Needs root and systemd-nspawn.
set -euo pipefail

fail() { echo "box.sh: $*" >&2; exit 125; }

usage() { sed -n '2,15s/^# \{0,1\}//p' "$0"; }
# shellcheck source=scripts/lib/machine.sh
source "${BASH_SOURCE[0]%/*}/lib/machine.sh"
machine_arguments "$@"
[[ $EUID -eq 0 ]] || fail "only root can make a box"
command -v systemd-nspawn >/dev/null || fail "systemd-nspawn is missing; scripts/prepare.sh --for test installs it"

again=(bash "$0" --timeout "$limit" --boots "$boots" --root "$root")
[[ -z $over ]] || again+=(--over "$over")
for directory in "${shared[@]}"; do again+=(--share "$directory"); done
# Where systemd is process 1, cgroups are its own but for those of a unit that it has given away.
if [[ -z ${WINDLASS_BOX:-} && -d /run/systemd/system ]]; then
  WINDLASS_BOX=scope exec systemd-run --quiet --scope --collect --property=Delegate=yes -- "${again[@]}" -- "${command[@]}"
fi
# In a mount namespace of its own, so that nothing mounted here is seen elsewhere or outlives this.
if [[ ${WINDLASS_BOX:-} != "$$" ]]; then
  WINDLASS_BOX=$$ exec unshare --mount --propagation private -- "${again[@]}" -- "${command[@]}"
fi
unset WINDLASS_BOX

box=$(mktemp -d /var/tmp/windlass-box.XXXXXX)
name=${box##*/}
remove_cgroup() { # the innermost first; none of them holds a process any more
  find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
}
# shellcheck disable=SC2317 # it is a trap
remove() {
  remove_cgroup
  umount -R "$box" 2>/dev/null || true
  rmdir "$box"
}

# systemd wants version 2 alone. Where this machine mixes it with version 1, it is mounted in its place.
if [[ $(stat --file-system --format %T /sys/fs/cgroup) != cgroup2fs ]]; then
  umount --recursive /sys/fs/cgroup
  mount -t cgroup2 none /sys/fs/cgroup
fi
unit=''
if [[ -d /run/systemd/system ]]; then
  unit=$(sed -n 's/^0:://p' /proc/self/cgroup)
  unit=${unit%/}
fi
# A systemd that has none of its units in version 2 has no say there.
if [[ -n $unit ]]; then
  # A cgroup that passes controllers on has no processes of its own.
  mkdir -p "/sys/fs/cgroup$unit/script"
  echo "$$" >"/sys/fs/cgroup$unit/script/cgroup.procs"
  for controller in $(<"/sys/fs/cgroup$unit/cgroup.controllers"); do
    echo "+$controller" >"/sys/fs/cgroup$unit/cgroup.subtree_control" || true
  done
fi
cgroup=/sys/fs/cgroup$unit/$name
trap remove EXIT

mount -t tmpfs -o mode=0755 none "$box"
mkdir "$box"/{changes,work,root,talk,containers,state}
# File systems of their own, which can be made small, and are still there in the next boot.
for part in containers state; do mount -t tmpfs -o mode=0755 none "$box/$part"; done
layers=$root
# A layer may not lie within another.
[[ -z $over ]] || { cp -a "$over" "$box/over" && layers=$box/over:$root; }
mount -t overlay none -o "lowerdir=$layers,upperdir=$box/changes,workdir=$box/work" "$box/root"
mkfifo "$box/talk/output"

# podman in the box: what this machine's kernel may not offer it is not asked for.
mkdir -p "$box/root/etc/containers/containers.conf.d"
{
  printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\npids_limit = 0\n'
  [[ ! -e $root/usr/sbin/runc && ! -e $root/usr/bin/runc ]] || printf '[engine]\nruntime = "runc"\n'
} >"$box/root/etc/containers/containers.conf.d/90-box.conf"

# What this machine starts when it boots is none of the box's business.
rm -rf "$box/root/etc/systemd/system"/*.wants "$box/root/etc/fstab"
machine_unit "$box/root" "$box/talk"

# What podman misses in a box of systemd-nspawn, which puts /sys together of several mounts: root's podman insists on
# taking away those below /sys/kernel.
cat >"$box/talk/prepare" <<'PREPARE'
set -e
mkdir /run/cgroups
mount --bind /sys/fs/cgroup /run/cgroups
umount --recursive --lazy /sys
mount -t sysfs -o ro,nosuid,nodev,noexec none /sys
mount --bind /run/cgroups /sys/fs/cgroup
umount /run/cgroups
# As hosts have them: for everybody.
mkdir -p /dev/net
rm -f /dev/net/tun /dev/fuse
mknod -m 0666 /dev/net/tun c 10 200
mknod -m 0666 /dev/fuse c 10 229
PREPARE

nspawn=(--quiet --register=no --keep-unit --directory="$box/root" --machine="${name//./-}" --private-network --capability=all
  --bind="$box/talk:/run/box" --boot)
# Where images are: the kernel's overlay can't lie on another one.
nspawn+=(--bind="$box/containers:/var/lib/containers" --bind="$box/state:/var/lib/windlass")
for directory in "${shared[@]}"; do nspawn+=(--bind-ro="$directory"); done

ended=0
boot() { # NUMBER: true when COMMAND has come to its end
  local reader
  machine_next_boot "$box/root" "$box/talk" "$1" exit exit-force
  # What the last boot has left of it would be in the way.
  remove_cgroup
  mkdir "$cgroup"
  cat "$box/talk/output" &
  reader=$!
  ended=0
  # Its own filter of system calls would be everybody's in it.
  (
    echo "$BASHPID" >"$cgroup/cgroup.procs"
    SYSTEMD_SECCOMP=0 exec timeout --kill-after=10 "$limit" systemd-nspawn "${nspawn[@]}" </dev/null >"$box/console" 2>&1
  ) || ended=$?
  # The reader of a box that has never written would wait for ever.
  true <>"$box/talk/output"
  wait "$reader"
  [[ -s $box/talk/result ]]
}

machine_boots "$box/talk" "$box/console"
