#!/usr/bin/env bash
# Runs a command in a virtual machine with a kernel of its own: as box.sh, but with cgroups of version 2 and all their controllers, so
# that limits hold, and users' managers may pass them on. Emulated, and so several times slower than this machine.
#
#   scripts/vm.sh [--timeout SECONDS] [--boots NUMBER] [--share DIRECTORY]... -- COMMAND [ARGUMENT...]
#
#   --timeout SECONDS   end the machine, or each boot of it, after so long (default 600)
#   --boots NUMBER      boot it so often, one time after the other on the same disk (default 1), and run COMMAND in each, with WINDLASS_BOOT
#                       set to 1, 2, ...; what ends all but the last is an orderly shutdown, or COMMAND with `systemctl poweroff --force --force`
#   --share DIRECTORY   is seen in it as it is here, read-only; for directories below /tmp, which is its own
#
# COMMAND is run by root in / once it has booted. Its output comes out here, and its exit code is this script's, or 124 when the time was
# over, or 125 when there was no machine. There is no network but loopback. All other files are as here, and what is written is thrown away.
# Needs root, and what WINDLASS_MACHINE=1 scripts/prepare.sh --for test installs; the kernel is in target/kernel. WINDLASS_KVM=1 has it run by KVM.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "vm.sh: $*" >&2; exit 125; }

usage() { sed -n '2,15s/^# \{0,1\}//p' "$0"; }
# shellcheck source=scripts/lib/machine.sh
source scripts/lib/machine.sh
machine_arguments "$@"
[[ $EUID -eq 0 ]] || fail "only root can make a machine that sees this one's files"
server='' missing=()
for path in /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd; do [[ ! -x $path ]] || server=$path; done
[[ -n $server ]] || missing+=(virtiofsd)
for program in qemu-system-x86_64 busybox modprobe cpio mkfs.ext4; do command -v "$program" >/dev/null || missing+=("$program"); done
[[ ${#missing[@]} -eq 0 ]] || fail "missing: ${missing[*]}; WINDLASS_MACHINE=1 scripts/prepare.sh --for test installs them"
kernel=$PWD/${CARGO_TARGET_DIR:-target}/kernel
[[ -z ${CARGO_TARGET_DIR:-} || $CARGO_TARGET_DIR != /* ]] || kernel=$CARGO_TARGET_DIR/kernel
[[ -e $kernel/complete ]] || fail "there is no kernel in $kernel; WINDLASS_MACHINE=1 scripts/prepare.sh --for test brings one"
release=$(ls "$kernel/lib/modules")

work=$(mktemp -d /var/tmp/windlass-vm.XXXXXX)
servers=()
# shellcheck disable=SC2317 # it is a trap
remove() {
  [[ ${#servers[@]} -eq 0 ]] || kill "${servers[@]}" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap remove EXIT
first=$work/first talk=$work/talk
mkdir -p "$talk/root/etc/containers/containers.conf.d" "$first"/{bin,modules,dev,proc,sys,host,disk,talk,new}

# Written into the machine's files at each boot.
machine_unit "$talk/root" "$talk"
! command -v runc >/dev/null || printf '[engine]\nruntime = "runc"\n' >"$talk/root/etc/containers/containers.conf.d/90-vm.conf"
cat >"$talk/prepare" <<'PREPARE'
modprobe --all tun fuse overlay
chmod 0666 /dev/net/tun /dev/fuse
PREPARE

# What is written in it. Where images are lies beside the overlay: the kernel's overlay can't lie on another one.
truncate --size=20G "$work/disk"
mkdir -p "$work/empty"/{changes,work,containers,state}
mkfs.ext4 -q -E root_owner=0:0 -d "$work/empty" "$work/disk"

# The first program: it puts the root file system together.
cp "$(command -v busybox)" "$first/bin/busybox"
for name in sh mount insmod mkdir switch_root cp rm poweroff; do ln -s busybox "$first/bin/$name"; done
number=10
while read -r _ module _; do
  cp "$module" "$first/modules/$number-${module##*/}"
  number=$((number + 1))
done < <(modprobe --dirname="$kernel" --set-version="$release" --show-depends --all virtio_pci virtio_blk virtiofs overlay | awk '!seen[$2]++')
{
  cat <<'INIT'
#!/bin/sh
set -e
trap 'echo "vm.sh: no root file system"; poweroff -f' EXIT
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in /modules/*; do insmod "$module"; done
mount -t virtiofs -o ro host /host
mount -t virtiofs talk /talk
mount -t ext4 /dev/vda /disk
mount -t overlay -o lowerdir=/host,upperdir=/disk/changes,workdir=/disk/work none /new
# What the host starts when it boots is none of this machine's business.
[ -e /disk/booted ] || rm -rf /new/etc/systemd/system/*.wants /new/etc/fstab
>/disk/booted
cp -a /talk/root/. /new/
mkdir -p /new/var/lib/containers /new/var/lib/windlass /new/usr/lib/modules
mount --bind /disk/containers /new/var/lib/containers
mount --bind /disk/state /new/var/lib/windlass
mount -t tmpfs none /new/tmp
mount -t tmpfs -o mode=0755 none /new/run
mkdir /new/run/box
mount --bind /talk /new/run/box
INIT
  printf 'mount --bind %q /new/usr/lib/modules\n' "/host$kernel/lib/modules"
  for directory in "${shared[@]}"; do
    printf 'mkdir -p %q\nmount -o bind,ro %q %q\n' "/new$directory" "/host$directory" "/new$directory"
  done
  echo 'exec switch_root /new /lib/systemd/systemd'
} >"$first/init"
chmod 0755 "$first/init"
(cd "$first" && find . | cpio --create --format=newc --quiet | gzip --fast) >"$work/first.gz"

accelerator=tcg,thread=multi
[[ ${WINDLASS_KVM:-} != 1 ]] || accelerator=kvm
serve() { # TAG DIRECTORY CACHE: files of this machine for that one, which asks once
  "$server" --socket-path="$work/$1.sock" -o "source=$2,cache=$3,sandbox=chroot" >"$work/$1.log" 2>&1 &
  servers+=("$!")
  devices+=(-chardev "socket,id=$1,path=$work/$1.sock" -device "vhost-user-fs-pci,chardev=$1,tag=$1")
  for _ in {1..500}; do
    [[ ! -S $work/$1.sock ]] || return 0
    sleep 0.02
  done
  fail "$server does not start: $(<"$work/$1.log")"
}

ended=0
boot() { # NUMBER: true when COMMAND has come to its end
  machine_next_boot "$talk/root" "$talk" "$1" poweroff poweroff-force
  servers=() devices=()
  serve host / always
  serve talk "$talk" none
  : >"$talk/output"
  ended=0
  timeout --kill-after=10 "$limit" qemu-system-x86_64 -accel "$accelerator" -cpu max -smp 2 -m 4G \
    -object memory-backend-memfd,id=memory,size=4G,share=on -numa node,memdev=memory \
    -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" \
    -kernel "$kernel"/boot/vmlinuz-* -initrd "$work/first.gz" -append "console=ttyS0 panic=-1 quiet" \
    -nodefaults -nographic -no-reboot -serial "file:$work/console" "${devices[@]}" </dev/null >"$work/qemu.log" 2>&1 &
  local machine=$!
  tail --quiet --bytes=+1 --follow --sleep-interval=0.5 --pid="$machine" "$talk/output"
  wait "$machine" || ended=$?
  cat "$work/qemu.log" >>"$work/console"
  kill "${servers[@]}" 2>/dev/null || true
  wait
  [[ -s $talk/result ]]
}

machine_boots "$talk" "$work/console"
