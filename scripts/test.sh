#!/usr/bin/env bash
# Prepares the machine, builds, and runs every test: as root rootful and rootless podman, as another user rootless alone.
#
#   scripts/test.sh [ARGUMENTS OF cargo test]
#
# Without arguments the tests in boxes (scripts/box.sh) and in virtual machines (scripts/vm.sh), which mostly wait, run beside the others;
# what they print comes after those. With WINDLASS_ROOT both run on the files of another system, such as a newer release of Debian in a
# directory (debootstrap), to see that nothing depends on this one's podman and systemd.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

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
printed=$(mktemp -d)
groups=()
# shellcheck disable=SC2317 # it is a trap
end() {
  for group in "${groups[@]}"; do kill -- "-$group" 2>/dev/null || true; done
  rm -rf "$printed"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
beside() { # NAME ARGUMENT...: tests that run beside others, in a process group of their own, so that all of it can be ended
  set -m
  cargo test --no-fail-fast "${@:2}" >"$printed/$1" 2>&1 </dev/null &
  groups+=("$!")
  set +m
}
beside boxes "${in_boxes[@]}" -- --skip machine::
beside machines --test systemd -- machine::
failed=0
cargo test --no-fail-fast --lib --bins "${others[@]}" || failed=1
cargo test --doc || failed=1
for group in "${groups[@]}"; do wait "$group" || failed=1; done
groups=()
for name in boxes machines; do
  echo "==> tests in $name" >&2
  cat "$printed/$name"
done
exit "$failed"
