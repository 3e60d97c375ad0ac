#!/usr/bin/env bash
# Shows on this machine what Windlass does: builds it, starts a windlassd for the occasion, and runs a job through it: a clone
# of a repository, a test, and a file that one stage leaves for the next. Leaves nothing running and nothing behind but target/.
#
#   scripts/quickstart.sh
#
# Works as root, and as a user with subordinate ids (rootless podman). Installs what is missing when it may.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  '') ;;
  -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "quickstart.sh: unknown argument $1; see --help" >&2; exit 64 ;;
esac

scripts/prepare.sh --for quickstart
programs=$(realpath -m "${CARGO_TARGET_DIR:-target}/release")
. scripts/lib/throwaway.sh

say "building (the first time some ten minutes on two cores)"
scripts/build.sh --release

say "setting up a podman storage and a windlassd of their own in a temporary directory"
# The job needs no network, and the addresses of the host's own containers are none of this storage's business.
throwaway_setup 'network = "none"'
throwaway_image git
throwaway_start "$work"

say "making a repository"
repo=$work/repo
mkdir "$repo"
cat >"$repo/test.sh" <<'SH'
#!/bin/sh
echo "Testing as $(id -un) in $PWD"
mkdir -p artifacts
[ "$((6 * 7))" = 42 ] && echo "6 x 7 is still 42" >artifacts/report.txt
SH
git -C "$repo" init --quiet
git -C "$repo" add .
git -C "$repo" -c user.name=Quickstart -c user.email=quickstart@example.com commit --quiet --message "A test worth running"

say "running a job: windlass try --image localhost/windlass/git --repo $repo -- sh test.sh"
echo
result=0
"$programs/windlass" try --socket "$socket" --image localhost/windlass/git:latest --repo "$repo" \
  --after-script 'cat artifacts/report.txt' -- sh test.sh || result=$?
echo
say "and this is what an administrator sees: windlass status"
"$programs/windlass" status --socket "$socket"
echo
if [[ $result -eq 0 ]]; then
  say "done. docs/first-job.md says how to put windlassd behind gitlab-runner."
else
  cat "$work/windlassd.log" >&2
  say "the job ended with $result; windlassd's log is above"
fi
exit "$result"
