#!/usr/bin/env bash
# Installs what building, trying and testing Windlass needs: podman and its parts, and for tests a registry and a user
# for rootless podman. Does nothing, and uses no network, where all is there.
#
#   scripts/prepare.sh [--for quickstart|test|bench|package]
#
# As root it installs packages (Debian, Ubuntu, Fedora, RHEL and their like); as another user it says which are missing
# and exits with 1.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=quickstart
while [[ $# -gt 0 ]]; do
  case $1 in
    --for) purpose=${2:-}; shift 2 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "prepare.sh: unknown argument $1; see --help" >&2; exit 64 ;;
  esac
done
case $purpose in quickstart | test | bench | package) ;; *) echo "prepare.sh: --for takes quickstart, test, bench or package" >&2; exit 64 ;; esac

say() { echo "==> $*" >&2; }

# Which package brings which program, by family.
if command -v apt-get >/dev/null; then
  family=debian
elif command -v dnf >/dev/null; then
  family=fedora
else
  family=other
fi

missing=()
need() { # PROGRAM-OR-PATH DEBIAN-PACKAGE FEDORA-PACKAGE
  local where=$1
  if [[ $where == /* ]]; then
    [[ -e $where ]] && return
  else
    command -v "$where" >/dev/null && return
  fi
  case $family in
    debian) missing+=("$2") ;;
    fedora) missing+=("$3") ;;
    other) missing+=("$where") ;;
  esac
}
any_of() { # the first that is there, or the first
  local path
  for path; do [[ -e $path ]] && { echo "$path"; return; }; done
  echo "$1"
}

need git git git
need cc gcc gcc
need podman podman podman
need busybox busybox-static busybox
need "$(any_of /usr/lib/podman/netavark /usr/libexec/podman/netavark)" netavark netavark
need "$(any_of /usr/lib/podman/aardvark-dns /usr/libexec/podman/aardvark-dns)" aardvark-dns aardvark-dns
need newuidmap uidmap shadow-utils
# netavark makes no network without it.
need iptables iptables iptables-nft
need slirp4netns slirp4netns slirp4netns
need setpriv util-linux util-linux
if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
  need "$(command -v runc || command -v crun || echo crun)" crun crun
else
  # crun refuses the hybrid of cgroup v1 and v2.
  need runc runc runc
fi
if [[ $purpose == test || $purpose == package ]]; then
  need dpkg-deb dpkg dpkg
  need rpmbuild rpm rpm-build
  need strip binutils binutils
fi
if [[ $purpose == bench || $purpose == test ]]; then
  need curl curl curl
fi
if [[ $purpose == test ]]; then
  [[ $family != debian ]] || need lintian lintian lintian
  need buildah buildah buildah
  need setcap libcap2-bin libcap
  need fuse-overlayfs fuse-overlayfs fuse-overlayfs
  # File systems for podman's storage in a file.
  need mkfs.btrfs btrfs-progs btrfs-progs
  need mkfs.xfs xfsprogs xfsprogs
  need docker-registry docker-registry docker-distribution
  need xz xz-utils xz
  need zstd zstd zstd
  need openssl openssl openssl
  need git-lfs git-lfs git-lfs
  need mkfs.ext4 e2fsprogs e2fsprogs
  need htpasswd apache2-utils httpd-tools
  need shellcheck shellcheck ShellCheck
  # The process that holds a pod together.
  need "$(any_of /usr/bin/catatonit /usr/libexec/podman/catatonit /usr/libexec/catatonit/catatonit)" catatonit catatonit
  # For the tests of the page, in a real browser.
  need "$(command -v chromium || command -v chromium-browser || echo chromium)" chromium chromium
  need chromedriver chromium-driver chromedriver
  # For the box in which the service is tried as systemd runs it (scripts/box.sh). It is root's.
  if [[ $EUID -eq 0 ]]; then
    need systemd-nspawn systemd-container systemd-container
    need "$(any_of /usr/lib/systemd/systemd /lib/systemd/systemd)" systemd systemd
    need dbus-daemon dbus dbus-daemon
    # A user's manager has a runtime directory and a bus of its own.
    need "$(any_of /usr/lib/*/security/pam_systemd.so /usr/lib64/security/pam_systemd.so)" libpam-systemd systemd-pam
    need /usr/lib/systemd/user/dbus.socket dbus-user-session dbus-common
    # For the virtual machine with a kernel of its own (scripts/vm.sh), which Debian alone has as a program.
    if [[ $family == debian && $(uname -m) == x86_64 ]]; then
      need linux.uml user-mode-linux user-mode-linux
      need modprobe kmod kmod
      need cpio cpio cpio
    fi
  fi
fi

if [[ ${#missing[@]} -gt 0 ]]; then
  if [[ $EUID -ne 0 || $family == other ]]; then
    echo "Missing on this machine: ${missing[*]}" >&2
    case $family in
      debian) echo "Install them with: sudo apt-get install ${missing[*]}" >&2 ;;
      fedora) echo "Install them with: sudo dnf install ${missing[*]}" >&2 ;;
      other) echo "Install them with this system's package manager." >&2 ;;
    esac
    exit 1
  fi
  say "installing ${missing[*]}"
  log=$(mktemp)
  if [[ $family == debian ]]; then
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 \
      || { cat "$log" >&2; echo "prepare.sh: the packages could not be installed" >&2; exit 1; }
  else
    dnf install -y -q "${missing[@]}" >"$log" 2>&1 || { cat "$log" >&2; echo "prepare.sh: the packages could not be installed" >&2; exit 1; }
  fi
  rm -f "$log"
fi

if [[ $purpose == test && $family == debian && $EUID -eq 0 && ! -e target/packages/complete ]]; then
  # For images of tests: unpacked into them, never installed.
  say "fetching the packages of PostgreSQL and Redis into target/packages"
  mkdir -p target/packages/partial
  if apt-get install --download-only -y -qq --no-install-recommends -o "Dir::Cache::archives=$PWD/target/packages" \
    postgresql redis-server >target/packages/log 2>&1 \
    || { apt-get update -qq && apt-get install --download-only -y -qq --no-install-recommends \
      -o "Dir::Cache::archives=$PWD/target/packages" postgresql redis-server; } >target/packages/log 2>&1; then
    touch target/packages/complete
  else
    echo "prepare.sh: no packages of PostgreSQL and Redis; the test with both will skip itself" >&2
  fi
fi

# For a box with a systemd that waits for a reload (253 and later), where this machine's does not: Debian's backport, unpacked and never
# installed, from lists of its own, so that this machine takes nothing else from there.
newer=target/newer-systemd
newer_systemd() {
  local here=$PWD/$newer directory file
  local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$here/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$here/lists"
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Acquire::Retries=3 -o APT::Sandbox::User=root)
  rm -rf "$here" && mkdir -p "$here"/{lists/partial,archives,root} || return
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $(. /etc/os-release; echo "$VERSION_CODENAME")-backports main" \
    >"$here/sources.list"
  "${apt[@]}" update && (cd "$here/archives" && "${apt[@]}" download systemd libsystemd0 libsystemd-shared libpam-systemd) || return
  for directory in bin sbin lib lib64; do
    mkdir -p "$here/root/usr/$directory" && ln -s "usr/$directory" "$here/root/$directory" || return
  done
  for file in "$here"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$file" | tar -x --keep-directory-symlink -C "$here/root" || return
  done
  touch "$here/complete"
}
if [[ $purpose == test && $family == debian && $EUID -eq 0 && ! -e $newer/complete ]] \
  && [[ $(systemctl --version | awk 'NR == 1 { print int($2) }') -lt 253 ]]; then
  say "fetching a newer systemd into $newer"
  newer_systemd || echo "prepare.sh: no newer systemd; the test with it will skip itself" >&2
fi

if ! command -v cargo >/dev/null; then
  echo "Rust is missing: install rustup (https://rustup.rs), then run this again." >&2
  exit 1
fi
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
found=$(rustc --version | awk '{print $2}')
if [[ $(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1) != "$wanted" ]]; then
  echo "Rust $found is too old: $wanted or later is needed (rustup update)." >&2
  exit 1
fi

if [[ $EUID -ne 0 ]]; then
  name=$(id -un)
  if ! grep -q "^$name:" /etc/subuid || ! grep -q "^$name:" /etc/subgid; then
    echo "User $name has no subordinate ids, which rootless podman needs." >&2
    echo "Give it some with: sudo usermod --add-subuids 200000-265535 --add-subgids 200000-265535 $name" >&2
    exit 1
  fi
elif [[ $purpose == test ]] && ! id windlass-test >/dev/null 2>&1; then
  say "adding the user windlass-test, as whom the tests run rootless podman"
  useradd --system --create-home --shell /usr/sbin/nologin windlass-test
  usermod --add-subuids 2000000-2065535 --add-subgids 2000000-2065535 windlass-test
fi
