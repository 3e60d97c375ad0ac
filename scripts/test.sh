#!/usr/bin/env bash
# Prepares the machine, builds, and runs every test: as root rootful and rootless podman, as another user rootless alone.
#
#   scripts/test.sh [ARGUMENTS OF cargo test]
#
# Without arguments the tests in boxes (scripts/box.sh), which mostly wait, run beside the others; what they print comes after those.
# WINDLASS_MACHINE=1 runs those in a virtual machine too (scripts/vm.sh): emulated, they take a quarter of an hour.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

scripts/prepare.sh --for test
echo "==> building" >&2
scripts/build.sh
# Started by tests; cargo builds it by itself only where all tests run.
cargo build --quiet --example fake-gitlab
if [[ $# -gt 0 ]]; then
  echo "==> testing" >&2
  exec cargo test --no-fail-fast "$@"
fi
cargo test --quiet --no-run

boxes=(packages story systemd update)
in_boxes=() others=()
for file in tests/*.rs tests/*/main.rs; do
  name=${file#tests/}
  name=${name%/main.rs}
  name=${name%.rs}
  if [[ " ${boxes[*]} " == *" $name "* ]]; then in_boxes+=(--test "$name"); else others+=(--test "$name"); fi
done
echo "==> testing" >&2
printed=$(mktemp)
beside=''
# shellcheck disable=SC2317 # it is a trap
end() {
  [[ -z $beside ]] || kill -- "-$beside" 2>/dev/null || true
  rm -f "$printed"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# In a process group of its own, so that all of it can be ended.
set -m
cargo test --no-fail-fast "${in_boxes[@]}" >"$printed" 2>&1 </dev/null &
beside=$!
set +m
failed=0
cargo test --no-fail-fast --lib --bins "${others[@]}" || failed=1
cargo test --doc || failed=1
wait "$beside" || failed=1
beside=''
echo "==> tests in boxes" >&2
cat "$printed"
exit "$failed"
