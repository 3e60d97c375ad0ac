#!/usr/bin/env bash
# Builds the programs. target/debug (or target/release) gets windlassd and windlass; libexec/ in it the four shims, the
# program for files that jobs left, and the statically linked init.
#
#   scripts/build.sh [--release]
set -euo pipefail
cd "$(dirname "$0")/.."

profile=dev directory=debug
case ${1:-} in
  '') ;;
  --release) profile=release directory=release ;;
  -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "build.sh: unknown argument $1; see --help" >&2; exit 64 ;;
esac
target=${CARGO_TARGET_DIR:-target}/$directory
libexec=$target/libexec

# The init runs in images without libraries, or with others. It is copied at once: a plain `cargo build` makes a dynamic one
# under the same name.
cargo rustc --quiet --profile "$profile" --bin windlass-init -- -C target-feature=+crt-static
mkdir -p "$libexec"
# Replaced in one step: containers that run keep the file that they have.
install -m 0755 "$target/windlass-init" "$libexec/windlass-init.new"
mv -f "$libexec/windlass-init.new" "$libexec/windlass-init"

cargo build --quiet --profile "$profile" --bins
for program in config prepare run cleanup files; do
  install -m 0755 "$target/windlass-$program" "$libexec/windlass-$program.new"
  mv -f "$libexec/windlass-$program.new" "$libexec/windlass-$program"
done
