#!/usr/bin/env bash
# Runs a command in a virtual machine with a kernel of its own: as box.sh, but with cgroups of version 2 and their controllers (all but
# cpuset), so that limits hold, and users' managers may pass them on. The kernel is Linux for user mode, a program: it needs no help of
# this machine's processor, and is several times slower than it.
#
#   scripts/vm.sh [--timeout SECONDS] [--boots NUMBER] [--share DIRECTORY]... [--root DIRECTORY] -- COMMAND [ARGUMENT...]
#
#   --timeout SECONDS   end the machine, or each boot of it, after so long (default 600)
#   --boots NUMBER      boot it so often, one time after the other on the same disk (default 1), and run COMMAND in each, with WINDLASS_BOOT
#                       set to 1, 2, ...; what ends all but the last is an orderly shutdown, or COMMAND with `systemctl poweroff --force --force`
#   --share DIRECTORY   is seen in it as it is here, read-only; for directories below /tmp, which is its own, and with --root
#   --root DIRECTORY    its files, such as another release of a distribution that was unpacked there (default: this machine's own)
#
# COMMAND is run by root in / once it has booted. Its output comes out here, and its exit code is this script's, or 124 when the time was
# over, or 125 when there was no machine. There is no network but loopback. All other files are as here, and what is written is thrown away.
# WINDLASS_VM_OPTIONS has further words for the kernel's command line. Needs root, and what scripts/prepare.sh --for test installs.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "vm.sh: $*" >&2; exit 125; }

usage() { sed -n '2,17s/^# \{0,1\}//p' "$0"; }
# shellcheck source=scripts/lib/machine.sh
source scripts/lib/machine.sh
machine_arguments "$@"
[[ -z $over ]] || fail "there is no --over for a virtual machine"
[[ $EUID -eq 0 ]] || fail "only root can make a machine that sees this one's files"
missing=()
for program in linux.uml busybox cpio mkfs.ext4; do command -v "$program" >/dev/null || missing+=("$program"); done
[[ ${#missing[@]} -eq 0 ]] || fail "missing: ${missing[*]}; scripts/prepare.sh --for test installs them"
modules=/usr/lib/uml/modules
release=$(linux.uml --version)
overlay=$(find "$modules/$release" -name 'overlay.ko*' -print -quit 2>/dev/null || true)
[[ -n $overlay ]] || fail "the kernel of linux.uml, $release, has no modules in $modules"

work=$(mktemp -d /var/tmp/windlass-vm.XXXXXX)
machine=
# shellcheck disable=SC2317 # it is a trap
remove() {
  # The machine may have a process group of its own, and with it the memory that it uses.
  [[ -z $machine ]] || kill "$machine" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap remove EXIT
first=$work/first talk=$work/talk
mkdir -p "$talk/root/etc/containers/containers.conf.d" "$first"/{bin,dev,proc,sys,host,modules,disk,talk,new}

# Written into the machine's files at each boot.
machine_unit "$talk/root" "$talk"
[[ ! -e $root/usr/sbin/runc && ! -e $root/usr/bin/runc ]] || printf '[engine]\nruntime = "runc"\n' >"$talk/root/etc/containers/containers.conf.d/90-vm.conf"
cat >"$talk/prepare" <<'PREPARE'
modprobe --all tun fuse overlay
chmod 0666 /dev/net/tun /dev/fuse
# podman asks which package brought each of its parts, which is a look into thousands of files.
[[ ! -d /var/lib/dpkg/info ]] || mount -t tmpfs none /var/lib/dpkg/info
PREPARE

# What is written in it. Where images are lies beside the overlay: the kernel's overlay can't lie on another one.
truncate --size=20G "$work/disk"
mkdir -p "$work/empty"/{changes,work,containers,state}
mkfs.ext4 -q -E root_owner=0:0 -d "$work/empty" "$work/disk"

# The first program: it puts the root file system together.
cp "$(command -v busybox)" "$first/bin/busybox"
for name in sh mount insmod mkdir switch_root cp rm poweroff; do ln -s busybox "$first/bin/$name"; done
cp "$overlay" "$first/${overlay##*/}"
here() { # DIRECTORY PLACE: mounts this machine's directory there
  printf 'mkdir -p %q\nmount -t hostfs -o ro,%q none %q\n' "$2" "$1" "$2"
}
{
  cat <<'INIT'
#!/bin/sh
set -e
trap 'echo "vm.sh: no root file system"; poweroff -f' EXIT
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
insmod /overlay.ko*
mount -t ext4 /dev/ubda /disk
INIT
  here "$root" /host
  printf 'mount -t hostfs -o %q none /talk\n' "$talk"
  cat <<'INIT'
mount -t overlay -o lowerdir=/host,upperdir=/disk/changes,workdir=/disk/work none /new
# What the host starts when it boots is none of this machine's business.
[ -e /disk/booted ] || rm -rf /new/etc/systemd/system/*.wants /new/etc/fstab
>/disk/booted
cp -af /talk/root/. /new/
mkdir -p /new/var/lib/containers /new/var/lib/windlass /new/usr/lib/modules
mount --bind /disk/containers /new/var/lib/containers
mount --bind /disk/state /new/var/lib/windlass
mount -t tmpfs none /new/tmp
mount -t tmpfs -o mode=0755 none /new/run
mkdir /new/run/box
mount --bind /talk /new/run/box
INIT
  here "$modules" /new/usr/lib/modules
  for directory in "${shared[@]}"; do here "$directory" "/new$directory"; done
  echo 'exec switch_root /new /lib/systemd/systemd'
} >"$first/init"
chmod 0755 "$first/init"
(cd "$first" && find . | cpio --create --format=newc --quiet | gzip --fast) >"$work/first.gz"

# Its memory is a file, which takes the room that it uses: rather in this machine's memory than on its disk.
memory=$work
[[ ! -w /dev/shm ]] || [[ $(df --output=avail --block-size=1M /dev/shm | tail -n 1) -lt 4096 ]] || memory=/dev/shm
read -ra options <<<"${WINDLASS_VM_OPTIONS:-}"
# The kernel of linux.uml does not know these, and would end with its first process.
preload=
if grep -q '^flags.* amx_tile' /proc/cpuinfo; then
  cc -O2 -shared -fPIC -o "$work/xstate.so" scripts/vm/xstate.c || fail "this processor has AMX, for which scripts/vm/xstate.c has to be compiled"
  preload=$work/xstate.so
fi

ended=0
boot() { # NUMBER: true when COMMAND has come to its end
  machine_next_boot "$talk/root" "$talk" "$1" poweroff poweroff-force
  : >"$talk/output"
  ended=0
  TMPDIR=$memory LD_PRELOAD=$preload timeout --kill-after=10 "$limit" linux.uml mem=4G "ubd0=$work/disk" "initrd=$work/first.gz" rdinit=/init \
    "uml_dir=$work" umid=kernel con=null con0=null,fd:1 ssl=null panic=-1 quiet "${options[@]}" </dev/null >"$work/console" 2>&1 &
  machine=$!
  tail --quiet --bytes=+1 --follow --sleep-interval=0.5 --pid="$machine" "$talk/output"
  wait "$machine" || ended=$?
  machine=
  [[ -s $talk/result ]]
}

machine_boots "$talk" "$work/console"
