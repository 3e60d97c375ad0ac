#!/usr/bin/env bash
# Makes packages of what scripts/build.sh has built, as .deb (dpkg-deb) and .rpm (rpmbuild), for this machine's architecture:
#
#   windlass-cli       the command `windlass`, its manual pages and completions
#   windlass           the daemon, the executables for gitlab-runner, units, configuration
#   windlass-update    units and configuration of `windlass update`, for hosts that run containers; needs no daemon
#
#   scripts/package.sh [--debug] [--only deb|rpm] [--version VERSION] [--out DIRECTORY]
#
#   --debug              of the programs of `scripts/build.sh`; otherwise those of `scripts/build.sh --release`
#   --only deb|rpm       the one kind alone
#   --version VERSION    instead of that in Cargo.toml
#   --out DIRECTORY      where they go (default target/dist)
#
# `scripts/prepare.sh --for package` installs what this needs. Nothing is started by an installation, and what runs is restarted by an
# upgrade, which jobs don't notice. Removal leaves what jobs and chain have kept; on Debian `apt purge` takes it away.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "package.sh: $*" >&2; exit 1; }

profile=release kinds=(deb rpm) version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1) out=target/dist
while [[ $# -gt 0 ]]; do
  case $1 in
    --debug) profile=debug; shift ;;
    --only)
      kinds=("$2")
      [[ $2 == deb || $2 == rpm ]] || fail "--only takes deb or rpm"
      shift 2
      ;;
    --version) version=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    -h | --help) sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "package.sh: unknown argument $1; see --help" >&2; exit 64 ;;
  esac
done
target=${CARGO_TARGET_DIR:-target}
[[ -x $target/$profile/windlassd ]] || fail "nothing is built in $target/$profile; scripts/build.sh does that"
for tool in dpkg-deb rpmbuild; do
  [[ " ${kinds[*]} " != *" ${tool:0:1}"* ]] || command -v "$tool" >/dev/null \
    || fail "$tool is missing; scripts/prepare.sh --for package installs it"
done
mkdir -p "$out"
out=$(realpath "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What each package is, in the words of both kinds.
summary() {
  case $1 in
    windlass-cli) echo "command to look after GitLab CI jobs and containers on podman" ;;
    windlass) echo "runs GitLab CI jobs in podman containers" ;;
    windlass-update) echo "restarts containers whose images have moved" ;;
  esac
}
description() {
  case $1 in
    windlass-cli) echo "The windlass command, with manual pages and completions." ;;
    windlass) echo "A daemon for gitlab-runner's custom executor, which also keeps chains of container images rebuilt in order." ;;
    windlass-update) echo "A bad image is rolled back, and not tried again. Needs no daemon." ;;
  esac
}

# --- the trees ---

everything=$work/everything
install=()
pack=()
if [[ $profile == debug ]]; then
  install+=(--debug)
  # The larger programs of a development build take long to pack, and nobody downloads them.
  pack=(-Zgzip -z1)
fi
scripts/install.sh "${install[@]}" --root "$everything"
scripts/install.sh "${install[@]}" --root "$work/windlass-update" --update
cargo run --quiet --example manual -- "$everything"
# Which variant a host takes is decided there.
rm -rf "$everything/usr/lib/systemd/system/windlass.service.d"
for variant in notify-reload rootful credentials; do
  install -D -m 0644 "systemd/variants/$variant/system/windlass.service.d/50-$variant.conf" "$everything/usr/share/windlass/$variant.conf"
done
find "$everything/usr/bin" "$everything/usr/libexec" -type f -exec strip {} +
find "$everything/usr/share/man" -type f -exec gzip -9n {} +

move() { # PACKAGE PATH...
  local package=$1 path
  for path in "${@:2}"; do
    mkdir -p "$work/$package/${path%/*}"
    mv "$everything/$path" "$work/$package/$path"
  done
}
move windlass-cli usr/bin/windlass usr/share/man/man1 usr/share/bash-completion usr/share/zsh usr/share/fish
mkdir -p "$work/windlass"
cp -a "$everything/." "$work/windlass/"
rm -r "$work/windlass-update/usr/bin"
mv "$work/windlass-update/usr/share/doc/windlass" "$work/windlass-update/usr/share/doc/windlass-update"
find "$work/windlass" -type d -empty ! -name conf.d -delete
packages=(windlass-cli windlass windlass-update)

# A package's own script: the functions, and behind them what calls them, which comes in.
script() { # PACKAGE
  case $1 in
    windlass) sed '/^#/d' scripts/package/host.sh scripts/package/daemon.sh ;;
    windlass-update) sed '/^#/d' scripts/package/update.sh ;;
  esac
  cat
}

# Which function it calls.
function_of() { # PACKAGE
  case $1 in windlass) echo windlass_daemon ;; windlass-update) echo windlass_update ;; esac
}

# --- .deb ---

deb_scripts() { # PACKAGE DIRECTORY
  local package=$1 control=$2 name call
  call=$(function_of "$package")
  for name in postinst prerm postrm; do
    printf '#!/bin/sh\nset -e\n' >"$control/$name"
    chmod 0755 "$control/$name"
  done
  script "$package" >>"$control/postinst" <<CALLS
case "\$1" in
  configure) if [ -z "\$2" ]; then $call installed; else $call upgraded; fi ;;
esac
CALLS
  script "$package" >>"$control/prerm" <<CALLS
[ "\$1" != remove ] || $call removing
CALLS
  script "$package" >>"$control/postrm" <<CALLS
case "\$1" in
  remove) $call removed ;;
  purge) $call purged ;;
esac
CALLS
}

# The oldest libc6 that has what these programs were linked with.
libc6() { # TREE
  local version
  version=$({ find "$1/usr" -type f -perm -u+x -exec objdump -T {} + 2>/dev/null || true; } \
    | sed -n 's/.*GLIBC_\([0-9][0-9.]*\).*/\1/p' | sort -uV | tail -n 1)
  [[ -n $version ]] || fail "objdump does not say which libc the programs in $1 need"
  echo "libc6 (>= $version)"
}

deb() { # PACKAGE
  local package=$1 tree=$work/$1 architecture depends='' recommends='' control=$work/$1/DEBIAN name
  architecture=$(dpkg --print-architecture)
  mkdir -p "$control" "$tree/usr/share/doc/$package"
  case $package in
    windlass-cli) depends=$(libc6 "$tree") ;;
    windlass)
      depends="$(libc6 "$tree"), windlass-cli (= $version), systemd, passwd"
      # Without jobs the daemon needs none of them. Which of iptables and nftables netavark calls is its release's choice.
      recommends='podman (>= 4.3), uidmap, dbus-user-session, netavark, aardvark-dns, iptables, nftables, slirp4netns | passt, gitlab-runner, git'
      deb_scripts "$package" "$control"
      mkdir -p "$tree/usr/share/lintian/overrides"
      # It runs in images that have no libraries.
      echo 'windlass: statically-linked-binary [usr/libexec/windlass/windlass-init]' >"$tree/usr/share/lintian/overrides/windlass"
      ;;
    windlass-update)
      depends="windlass-cli (= $version), systemd" recommends='podman (>= 4.3)'
      deb_scripts "$package" "$control"
      ;;
  esac
  while IFS= read -r name; do echo "/${name#"$tree"/}"; done < <(find "$tree/etc" -type f 2>/dev/null) >"$control/conffiles"
  [[ -s $control/conffiles ]] || rm "$control/conffiles"
  cat >"$tree/usr/share/doc/$package/copyright" <<COPYRIGHT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: windlass

Files: *
Copyright: 2026 the authors of Windlass
License: MIT or Apache-2.0
 On Debian systems the text of the Apache License, version 2.0, is in /usr/share/common-licenses/Apache-2.0.
COPYRIGHT
  printf 'windlass (%s) unstable; urgency=medium\n\n  * Release %s.\n\n -- The authors of Windlass <windlass@windlass.invalid>  %s\n' \
    "$version" "$version" "$(date -R -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}")" \
    | gzip -9n >"$tree/usr/share/doc/$package/changelog.gz"
  {
    echo "Package: $package"
    echo "Version: $version"
    echo "Architecture: $architecture"
    echo "Maintainer: The authors of Windlass <windlass@windlass.invalid>"
    echo "Installed-Size: $(du -sk --exclude=DEBIAN "$tree" | cut -f1)"
    echo "Depends: $depends"
    [[ -z $recommends ]] || echo "Recommends: $recommends"
    echo "Section: admin"
    echo "Priority: optional"
    echo "Description: $(summary "$package")"
    echo " $(description "$package")"
  } >"$control/control"
  (cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$control/md5sums"
  dpkg-deb --root-owner-group "${pack[@]}" --build "$tree" "$out" >/dev/null
  rm -rf "$control" "$tree/usr/share/lintian"
  echo "$out/${package}_${version}_$architecture.deb"
}

# --- .rpm ---

rpm() { # PACKAGE
  local package=$1 spec=$work/$1.spec call
  rm -rf "$work/root"
  cp -a "$work/$package" "$work/root"
  # Where zsh looks for them is decided by each distribution.
  [[ ! -d $work/root/usr/share/zsh ]] || mv "$work/root/usr/share/zsh/vendor-completions" "$work/root/usr/share/zsh/site-functions"
  {
    echo "Name: $package"
    echo "Version: ${version//[-~]/_}"
    echo "Release: 1"
    echo "Summary: $(summary "$package")"
    echo "License: MIT OR Apache-2.0"
    case $package in
      windlass)
        echo "Requires: windlass-cli = ${version//[-~]/_}-1, systemd, shadow-utils"
        echo "Recommends: podman >= 4.3, netavark, aardvark-dns, iptables-nft, nftables, (slirp4netns or passt), container-selinux, gitlab-runner, git"
        echo "Recommends: (policycoreutils-python-utils if selinux-policy)"
        ;;
      windlass-update)
        echo "Requires: windlass-cli = ${version//[-~]/_}-1, systemd"
        echo "Recommends: podman >= 4.3"
        ;;
    esac
    printf '%%description\n%s\n' "$(description "$package")"
    call=$(function_of "$package")
    if [[ -n $call ]]; then
      echo "%post"
      script "$package" <<<"if [ \"\$1\" -eq 1 ]; then $call installed; else $call upgraded; fi"
      echo "%preun"
      script "$package" <<<"[ \"\$1\" -ne 0 ] || $call removing"
      echo "%postun"
      script "$package" <<<"[ \"\$1\" -ne 0 ] || $call removed"
    fi
    echo "%files"
    # Those that are the package's alone go with it.
    (cd "$work/root" && find . -type d -path '*windlass*' -printf '%%dir /%P\n')
    (cd "$work/root" && find . -type f -printf '/%P\n') | while IFS= read -r name; do
      case $name in
        /etc/*) echo "%config(noreplace) $name" ;;
        /usr/share/man/*) echo "%doc $name" ;;
        *) echo "$name" ;;
      esac
    done
  } >"$spec"
  rpmbuild -bb --quiet --buildroot "$work/root" --define "_topdir $work/rpm" --define "_rpmdir $out" --define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' \
    --define '__os_install_post %{nil}' --define 'debug_package %{nil}' --define '_build_id_links none' \
    --define "_binary_payload $([[ $profile == release ]] && echo w19.zstdio || echo w1.gzdio)" "$spec" >&2
  echo "$out/$package-${version//[-~]/_}-1.$(uname -m).rpm"
}

for kind in "${kinds[@]}"; do
  for package in "${packages[@]}"; do "$kind" "$package"; done
done
