#!/usr/bin/env bash
# Installs what scripts/build.sh has built: the programs, the configuration where there is none, and the units of systemd.
#
#   scripts/install.sh [--debug] [--rootful | --rootless] [--credentials | --no-credentials] [--root DIRECTORY]
#   scripts/install.sh --update [--debug] [--root DIRECTORY]
#
#   --debug            the programs of `scripts/build.sh`; otherwise those of `scripts/build.sh --release`
#   --rootful          for root's podman instead of that of a user of its own
#   --credentials      secrets come from /etc/windlass/gitlab-token, webhook-secret, webhook-signing-secret and feed-token, through
#                      systemd
#   --rootless, --no-credentials
#                      end these again; where neither is said, the units stay of the kind that was installed before
#   --update           only `windlass` and the units of `windlass update`, which are a package of their own
#   --root DIRECTORY   below this directory, and nothing else is done: for packages and images of hosts
#
# Then: systemctl enable --now windlass.socket windlass.service, or after an upgrade: windlass check && systemctl restart windlass
# Or:   systemctl [--user] enable --now windlass-update.timer
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "install.sh: $*" >&2; exit 1; }

profile=release root='' update=no
declare -A wanted=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --debug) profile=debug; shift ;;
    --rootful | --credentials) wanted[${1#--}]=yes; shift ;;
    --rootless) wanted[rootful]=no; shift ;;
    --no-credentials) wanted[credentials]=no; shift ;;
    --update) update=yes; shift ;;
    --root) root=$2; shift 2 ;;
    -h | --help) sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "install.sh: unknown argument $1; see --help" >&2; exit 64 ;;
  esac
done
built=${CARGO_TARGET_DIR:-target}/$profile
[[ -x $built/windlass && ($update == yes || -x $built/windlassd && -x $built/libexec/windlass-init) ]] || fail "nothing is built in $built; scripts/build.sh does that"

# shellcheck source=scripts/package/host.sh
. scripts/package/host.sh
drop_ins=$root/usr/lib/systemd/system/windlass.service.d
for variant in rootful credentials; do
  [[ -n ${wanted[$variant]:-} || ! -e $drop_ins/50-$variant.conf ]] || wanted[$variant]=yes
done
! windlass_notify_reload || wanted[notify-reload]=yes

program() { # FROM TO: in one step, since gitlab-runner may be about to start it; what runs keeps the file that it has
  install -D -m 0755 "$1" "$2.new"
  mv -f "$2.new" "$2"
}
put() { # FROM TO: all files of a tree, in the same places
  local file
  while IFS= read -r file; do install -D -m 0644 "$1/$file" "$2/$file"; done < <(cd "$1" && find . -type f)
}
if [[ $update == yes ]]; then
  program "$built/windlass" "$root/usr/bin/windlass"
  install -D -m 0644 -t "$root/usr/share/doc/windlass" config/update.toml docs/updates.md
  [[ -e $root/etc/windlass/update.toml ]] || install -D -m 0644 config/update.toml "$root/etc/windlass/update.toml"
  put systemd/update "$root/usr/lib/systemd"
  [[ -n $root ]] || systemctl daemon-reload
  exit 0
fi
for name in windlassd windlass; do program "$built/$name" "$root/usr/bin/$name"; done
for file in "$built"/libexec/*; do program "$file" "$root/usr/libexec/windlass/${file##*/}"; done
install -D -m 0644 -t "$root/usr/share/doc/windlass" config/windlass.toml README.md
put docs "$root/usr/share/doc/windlass/docs"
[[ -d $root/etc/windlass/conf.d ]] || install -d -m 0755 "$root/etc/windlass/conf.d"
[[ -e $root/etc/windlass/windlass.toml ]] || install -D -m 0644 config/windlass.toml "$root/etc/windlass/windlass.toml"

put systemd/system "$root/usr/lib/systemd/system"
put systemd/sysusers.d "$root/usr/lib/sysusers.d"
put systemd/tmpfiles.d "$root/usr/lib/tmpfiles.d"
# A variant that is not chosen any more.
rm -f "$drop_ins"/50-{rootful,credentials,notify-reload}.conf
for variant in "${!wanted[@]}"; do
  [[ ${wanted[$variant]} == no ]] || put "systemd/variants/$variant/system" "$root/usr/lib/systemd/system"
done

[[ -z $root ]] || exit 0
windlass_prepare_host
windlass_label
systemctl daemon-reload
