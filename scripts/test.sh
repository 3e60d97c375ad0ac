#!/usr/bin/env bash
# Prepares the machine, builds, and runs every test: as root rootful and rootless podman, as another user rootless alone.
#
#   scripts/test.sh [ARGUMENTS OF cargo test]
#
# WINDLASS_MACHINE=1 runs those in a virtual machine too (scripts/vm.sh): emulated, they take a quarter of an hour.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

scripts/prepare.sh --for test
echo "==> building" >&2
scripts/build.sh
# Started by tests; cargo builds it by itself only where all tests run.
cargo build --quiet --example fake-gitlab
echo "==> testing" >&2
cargo test --no-fail-fast "$@"
