#!/usr/bin/env bash
# Makes the pictures of the page that README.md and docs/watching.md show (docs/images): of a chain that is being rebuilt, with jobs that
# run, as a real browser shows it. Needs what the tests need (scripts/prepare.sh --for test), and pngquant, which makes them small.
#
#   scripts/screenshots.sh
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;; '') ;; *) echo "screenshots.sh: unknown argument $1; see --help" >&2; exit 64 ;; esac
command -v pngquant >/dev/null || { echo "screenshots.sh: pngquant is not on PATH; install it (apt-get or dnf install pngquant)" >&2; exit 1; }

scripts/prepare.sh --for test
scripts/build.sh
cargo build --quiet --example fake-gitlab
mkdir -p docs/images
# The pictures come from a test that is there for nothing else.
WINDLASS_SCREENSHOTS=$PWD/docs/images cargo test --quiet --test page -- --ignored --exact pictures::the_pictures_of_the_readme
pngquant --speed 1 --quality 60-95 --skip-if-larger --force --ext .png docs/images/*.png
ls -l docs/images
