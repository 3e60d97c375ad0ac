#!/usr/bin/env bash
# Writes the root file system of a small test image to stdout, as a tar made only from files of this host.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: scripts/images.sh NAME

Writes the root file system of a small image as a tar to stdout. It is made from files of this host; nothing is
fetched, and no rights are needed. NAME is one of

  busybox   static busybox and its applets, /bin/sh, no bash
  git       bash, git, git-lfs where this host has it, coreutils and setpriv with their libraries; a setuid-root setpriv as
            /usr/bin/suid-setpriv
  buildah   as git, with buildah, podman, newuidmap, and fuse-overlayfs where this host has it; root and app have
            subordinate ids
  databases as git, with PostgreSQL (in /usr/lib/postgresql/*/bin) and Redis, from this host or from the packages that
            scripts/prepare.sh --for test has put into target/packages; Debian and its like only
  scratch   one static program, /hello, and nothing else

busybox, git, buildah and databases have the users root (0) and app (1234, in the groups app 1234 and tools 4321). For example:

  scripts/images.sh busybox | podman import - localhost/windlass/busybox:latest
USAGE
}

die() {
    printf 'images.sh: %s\n' "$*" >&2
    exit 1
}

# require PROGRAM DEBIAN_PACKAGE FEDORA_PACKAGE: prints the program's path.
require() {
    command -v "$1" || die "$1 is not on PATH; install it (Debian: apt install $2, Fedora: dnf install $3)"
}

# copy_in ROOT FILE [TARGET]: copies a program or library, links resolved, to the same path below ROOT, or to TARGET.
copy_in() {
    local root=$1 file=$2 target=${3:-$2}
    mkdir -p "$root$(dirname "$target")"
    [[ -e $root$target ]] || cp -L "$file" "$root$target"
}

# add_program ROOT FILE [TARGET]: copies a program with the libraries and the loader that ldd names.
add_program() {
    local root=$1 file=$2 library
    copy_in "$@"
    while read -r library; do
        copy_in "$root" "$library"
    done < <(ldd "$file" 2>/dev/null | grep -o '/[^ )]*' || true)
}

add_users() {
    local root=$1
    mkdir -p "$root"/{etc,root,proc,sys,dev,run,var,tmp,home/app}
    chmod 1777 "$root/tmp" "$root/home/app"
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'app:x:1234:1234:app:/home/app:/bin/sh' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'app:x:1234:' 'tools:x:4321:app' >"$root/etc/group"
    printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >"$root/etc/nsswitch.conf"
}

static_busybox() {
    local busybox
    busybox=$(require busybox busybox-static busybox)
    if [[ $(ldd "$busybox" 2>/dev/null || true) == *'=>'* ]]; then
        die "$busybox is dynamically linked; install a static one (Debian: apt install busybox-static, Fedora: dnf install busybox)"
    fi
    printf '%s\n' "$busybox"
}

make_busybox() {
    local root=$1 busybox applet
    busybox=$(static_busybox)
    add_users "$root"
    mkdir -p "$root/bin" "$root/usr/bin"
    cp -L "$busybox" "$root/bin/busybox"
    # No applet may pass for bash: this is the image without one.
    for applet in $("$busybox" --list); do
        [[ $applet == busybox || $applet == bash ]] || ln -s busybox "$root/bin/$applet"
    done
    [[ -e $root/bin/sh ]] || die "$busybox has no sh applet"
}

make_git() {
    local root=$1 program path core bash git setpriv
    local wanted=(base64 basename cat chgrp chmod chown cp cut date dd df dirname du env expr false find grep gzip head
        hostname id kill ln ls md5sum mkdir mkfifo mktemp mv nohup nproc ps readlink realpath rm rmdir sed seq setsid
        sha256sum sleep sort stat stty sync tail tar tee test timeout touch tr true truncate tty uname uniq wc whoami
        xargs yes awk)
    bash=$(require bash bash bash)
    git=$(require git git git-core)
    setpriv=$(require setpriv util-linux util-linux)
    add_users "$root"
    mkdir -p "$root/usr/bin"
    ln -s usr/bin "$root/bin"
    add_program "$root" "$bash" /usr/bin/bash
    ln -s bash "$root/usr/bin/sh"
    add_program "$root" "$git" /usr/bin/git
    add_program "$root" "$setpriv" /usr/bin/setpriv
    cp "$root/usr/bin/setpriv" "$root/usr/bin/suid-setpriv"
    chmod 4755 "$root/usr/bin/suid-setpriv"
    for program in "${wanted[@]}"; do
        # `type -P` sees past the shell's own echo, test and the like.
        path=$(type -P "$program") || continue
        add_program "$root" "$path" "/usr/bin/$program"
    done
    core=$(git --exec-path)
    for program in git-remote-http git-remote-https git-submodule git-sh-setup git-sh-i18n; do
        [[ ! -e $core/$program ]] || add_program "$root" "$core/$program"
    done
    # Where it is installed: a job with large files needs it.
    if path=$(type -P git-lfs); then
        add_program "$root" "$path" /usr/bin/git-lfs
        # What `git lfs install --system` writes.
        printf '[filter "lfs"]\n\tclean = git-lfs clean -- %%f\n\tsmudge = git-lfs smudge -- %%f\n\tprocess = git-lfs filter-process\n\trequired = true\n' \
            >"$root/etc/gitconfig"
    fi
    # git starts itself under these names when it serves or fetches over a pipe.
    for program in git git-upload-pack git-receive-pack; do
        mkdir -p "$root$core"
        [[ -e $root$core/$program ]] || ln -s /usr/bin/git "$root$core/$program"
    done
    ln -sf git "$root/usr/bin/git-upload-pack"
    # Without it each clone warns that there are no templates.
    mkdir -p "$root/usr/share/git-core/templates"
}

make_buildah() {
    local root=$1 program runtime
    make_git "$root"
    add_program "$root" "$(require buildah buildah buildah)" /usr/bin/buildah
    # In a container with podman's own capabilities they work with file capabilities, not setuid; making those takes root.
    for program in uid gid; do
        add_program "$root" "$(require "new${program}map" uidmap shadow-utils)" "/usr/bin/new${program}map"
        chmod 755 "$root/usr/bin/new${program}map"
        [[ $EUID -ne 0 ]] || "$(require setcap libcap2-bin libcap)" "cap_set$program=ep" "$root/usr/bin/new${program}map"
    done
    mkdir -p "$root/etc/containers" "$root/var/tmp" "$root/usr/share/base"
    chmod 1777 "$root/var/tmp"
    add_program "$root" "$(require podman podman podman)" /usr/bin/podman
    # Never started with chroot isolation, but podman wants to see them.
    add_program "$root" "$(require conmon conmon conmon)" /usr/bin/conmon
    runtime=$(type -P runc || type -P crun) || die "neither runc nor crun is on PATH"
    add_program "$root" "$runtime" "/usr/bin/$(basename "$runtime")"
    # From podman 5 and its buildah on they want to see this too.
    for program in /usr/lib/podman/netavark /usr/libexec/podman/netavark; do
        [[ ! -x $program ]] || add_program "$root" "$program"
    done
    printf '%s\n' 'root:1:65535' 'app:1:999' 'app:1235:58766' | tee "$root/etc/subuid" >"$root/etc/subgid"
    printf '%s\n' '{"default": [{"type": "insecureAcceptAnything"}]}' >"$root/etc/containers/policy.json"
    # Where the kernel's overlay can't be had; a host without it has none of the tests of that.
    if program=$(type -P fuse-overlayfs); then add_program "$root" "$program" /usr/bin/fuse-overlayfs; fi
    # What is built on in the tests: a base without a registry.
    cp -L "$(static_busybox)" "$root/usr/share/base/busybox"
}

make_databases() {
    local root=$1 packages stage directory package file library
    packages=$(dirname "$0")/../target/packages
    make_git "$root"
    # Not into the image: packages have directories where it has links.
    stage=$work.packages
    mkdir "$stage"
    for package in "$packages"/*.deb; do
        [[ ! -e $package ]] || dpkg --extract "$package" "$stage"
    done
    for directory in /usr/lib/postgresql /usr/share/postgresql; do
        mkdir -p "$root$directory"
        if [[ -n $(find "$stage$directory" -name initdb -o -name postgres.bki 2>/dev/null) ]]; then
            cp -a "$stage$directory/." "$root$directory"
        else
            cp -a "$directory/." "$root$directory" || die "PostgreSQL is neither on this host nor in $packages"
        fi
    done
    # The compiler of queries, which brings half of LLVM.
    rm -rf "$root"/usr/lib/postgresql/*/lib/{llvmjit*,bitcode}
    for file in redis-server redis-cli; do
        if [[ -e $stage/usr/bin/$file ]]; then
            cp -L "$stage/usr/bin/$file" "$root/usr/bin/$file"
        else
            cp -L "$(require "$file" redis-server redis)" "$root/usr/bin/$file"
        fi
    done
    directory=$(find "$stage/usr/lib" -maxdepth 1 -name '*-linux-gnu' 2>/dev/null || true)
    while read -r library; do
        copy_in "$root" "$library" "${library#"$stage"}"
    done < <(LD_LIBRARY_PATH=$directory ldd "$root"/usr/lib/postgresql/*/bin/{postgres,initdb,psql} "$root"/usr/bin/redis-* \
        | grep -o '/[^ )]*' | grep -v ':$' | sort -u)
    rm -rf "$stage"
}

make_scratch() {
    cp -L "$(static_busybox)" "$1/hello"
}

main() {
    case ${1-} in
    -h | --help)
        usage
        return 0
        ;;
    busybox | git | buildah | databases | scratch) ;;
    *)
        usage >&2
        return 64
        ;;
    esac
    [[ $# -eq 1 ]] || { usage >&2; return 64; }
    [[ ! -t 1 ]] || die "stdout is a terminal; pipe the tar into podman import"
    work=$(mktemp -d)
    trap 'rm -rf "$work" "$work.packages"' EXIT
    umask 022
    "make_$1" "$work"
    chmod 755 "$work"
    tar --create --xattrs --xattrs-include=security.capability --directory "$work" --numeric-owner --owner=0 --group=0 --sort=name --file - .
}

main "$@"
