#!/usr/bin/env bash
# Measures Windlass beside what it replaces: stage, job, log and prepare, each in turn with its peer.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: scripts/bench.sh [--rounds N] [--rows LIST] [--debug] [--json]

Measures Windlass side by side with podman, and prints medians and ratios. Everything happens in a directory of its
own, with a daemon, an image and a podman storage of its own, and is removed at the end. Works as
root, and as an ordinary user with subordinate ids. Containers have no network on either side.

  stage    a stage that does nothing:      windlass-run      | podman exec -i C sh
  job      a whole job of eight stages:    the four shims    | scripts on podman run, exec and rm (scripts/bench/peer)
  log      a stage that writes 1 GiB:      windlass-run      | podman exec -i C sh; limit: the same writer and reader
                                                               with a plain pipe between them
  prepare  with the image present:         windlass-prepare  | podman run --detach
  first    the same with an image that no container was made of yet: a user namespace of its own may cost a copy of it
  lanes100, lanes10k
           a job's start and end where a daemon keeps 100 or 10,000 lanes of other projects | where it keeps none of them
  reconcile
           a pass over a chain of 10,000 projects and 30,000 edges; without a peer
  chain    a table of its own: a look at 1,000 projects | three REST calls for each; events stored in a second; the daemon's memory;
           1,000 hosts that listen to the feed; requests a day for 200 images from elsewhere
  update   a base image moves, three jobs build and push what is on it, a service is restarted: how long each part took (root alone, and a
           development build, since it is a test in a box)
  page     a table of its own: time and bytes of pages for 20, 200 and 1,000 projects, and the daemon's CPU with 50 pages open, while
           nothing happens and while the chain changes
  watched  a stage with 50 pages open | with none, in eight turns

  --rounds N    measurements of each side, after a warm-up (default 9; stage takes five times, prepare twice as many)
  --rows LIST   only these rows, separated by commas
  --debug       a development build, which is there sooner and says so above its figures
  --json        one object a line: row, ours, peer, limit where there is one, unit, ratio (= peer / ours)
USAGE
}

wrong() {
  echo "bench.sh: $*; see --help" >&2
  exit 64
}

rounds=9 rows=stage,job,log,prepare,first,lanes100,lanes10k,reconcile,chain,update,page,watched profile=release json=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --rounds) rounds=${2-} && shift "$(($# > 1 ? 2 : 1))" ;;
    --rows) rows=${2-} && shift "$(($# > 1 ? 2 : 1))" ;;
    --debug) profile=debug && shift ;;
    --json) json=(--json) && shift ;;
    -h | --help) usage && exit 0 ;;
    *) wrong "unknown argument $1" ;;
  esac
done
[[ $rounds =~ ^[1-9][0-9]{0,3}$ ]] || wrong "--rounds takes a number from 1 to 9999"
row='(stage|job|log|prepare|first|lanes100|lanes10k|reconcile|chain|update|page|watched)'
[[ $rows =~ ^$row(,$row)*$ ]] || wrong "--rows takes stage, job, log, prepare, first, lanes100, lanes10k, reconcile, chain, update, page and watched, separated by commas"

cd "$(dirname "$0")/.."
scripts/prepare.sh --for bench >&2
build=()
[[ $profile == debug ]] || build=(--release)
scripts/build.sh "${build[@]}" >&2
cargo build --quiet "${build[@]}" --example bench >&2
chain=
[[ ,$rows, != *,chain,* ]] || chain=yes
[[ -z $chain ]] || cargo build --quiet "${build[@]}" --example bench-chain --example fake-gitlab >&2
page=
[[ ,$rows, != *,page,* ]] || page=yes
[[ -z $page ]] || cargo build --quiet "${build[@]}" --example bench-page --example fake-gitlab >&2
watched=
[[ ,$rows, != *,watched,* ]] || watched=yes
update=
[[ ,$rows, != *,update,* ]] || update=yes
rows=,$rows, rows=${rows//,chain,/,} rows=${rows//,update,/,} rows=${rows//,page,/,} rows=${rows//,watched,/,} rows=${rows#,} rows=${rows%,}
programs=$(realpath "${CARGO_TARGET_DIR:-target}")/$profile
[[ $profile == release || ${#json[@]} -gt 0 ]] || echo "A development build: a release is faster."
. scripts/lib/throwaway.sh

# The network costs both sides the same, and an ordinary user may have none.
throwaway_setup 'network = "none"'
sed -i 's/^\[containers\]$/&\nnetns = "none"/' "$work/containers.conf"
throwaway_image git
scripts/images.sh git >"$work/image.tar"
throwaway_start "$work"

# Another daemon, on directories of its own, that keeps so many lanes.
with_lanes() { # ROW LANES
  local directory=$work/$1 lanes=$2 home name project now
  now=$(date +%s)
  mkdir -p "$directory/state/lanes/gitlab.example.com"
  for ((project = 1; project <= lanes / 2; project++)); do
    printf '%s/builds-0/files\0%s/cache/files\0' "$project-unprotected" "$project-unprotected"
  done | (cd "$directory/state/lanes/gitlab.example.com" && xargs -0 mkdir -p)
  for ((project = 1; project <= lanes / 2; project++)); do
    home=$directory/state/lanes/gitlab.example.com/$project-unprotected
    printf '{"instance":"gitlab.example.com","project":%d,"project_path":"group/%d","protected":false,"ids":"host"}' \
      "$project" "$project" >"$home/home.json"
    for name in builds-0 cache; do
      printf '{"version":1,"last_use":%d,"uses":1,"measured":1,"size":{"bytes":4096,"inodes":1,"owner":0}}' \
        "$((now - project))" >"$home/$name/lane.json"
    done
  done
  sed "s|^run_dir.*|run_dir = \"$directory/run\"|; s|^state_dir.*|state_dir = \"$directory/state\"|" "$work/windlass.toml" >"$directory/windlass.toml"
  throwaway_start "$directory"
}
[[ ,$rows, != *,lanes100,* ]] || with_lanes lanes100 100
[[ ,$rows, != *,lanes10k,* ]] || with_lanes lanes10k 10000

run() { # COMMAND…
  "$@" &
  driver=$!
  set +m
  trap 'kill -- "-$driver" 2>/dev/null; exit 130' INT
  trap 'kill -- "-$driver" 2>/dev/null; exit 143' TERM HUP
  wait "$driver" || {
    tail -n 20 "$work"/windlassd.log "$work"/chain/log >&2
    die "the measurement failed; above are the last words of windlassd"
  }
  set -m
}

# In a process group of its own: an interrupted run ends with every process that the driver has started.
set -m
if [[ -n $rows ]]; then
  run "$programs/examples/bench" --libexec "$programs/libexec" --windlass "$programs/windlass" --socket "$socket" \
    --peer "$PWD/scripts/bench/peer" --work "$work" --image localhost/windlass/git:latest --rounds "$rounds" --rows "$rows" "${json[@]}"
fi
if [[ -n $chain ]]; then
  run "$programs/examples/bench-chain" --programs "$programs" --config "$work/windlass.toml" --work "$work" --rounds "$rounds" "${json[@]}"
fi
if [[ -n $page ]]; then
  run "$programs/examples/bench-page" --programs "$programs" --config "$work/windlass.toml" --work "$work" --rounds "$rounds" "${json[@]}"
fi
if [[ -n $watched ]]; then
  stage() { # VARIABLE: becomes the median of a stage, in seconds
    run "$programs/examples/bench" --libexec "$programs/libexec" --windlass "$programs/windlass" --socket "$socket" \
      --peer "$PWD/scripts/bench/peer" --work "$work" --image localhost/windlass/git:latest --rounds "$rounds" --rows stage --json \
      >"$work/figure"
    printf -v "$1" %s "$(sed -n 's/.*"ours":\([0-9.e-]*\).*/\1/p' "$work/figure")"
  }
  watched_stage() { # VARIABLE: the same while 50 pages are open
    local readers=() reader tries
    rm -f "$work"/reader.*
    for ((reader = 0; reader < 50; reader++)); do
      curl --silent --fail --no-buffer --unix-socket "$work/run/page.sock" http://localhost/live/now >"$work/reader.$reader" &
      readers+=("$!")
    done
    # Whoever was refused is no open page.
    for ((tries = 0; $(grep -ls '^event: hello' "$work"/reader.* | wc -l) < 50; tries++)); do
      ((tries < 100)) || die "not all 50 pages are told of changes"
      sleep 0.2
    done
    stage "$1"
    for reader in "${readers[@]}"; do
      kill -0 "$reader" 2>/dev/null || die "a page was closed while a stage was measured"
    done
    kill "${readers[@]}" 2>/dev/null || true
    wait "${readers[@]}" 2>/dev/null || true
  }
  open='' closed=''
  # In turns, and the other way round in every second, so that what else the machine does meets both.
  for turn in 1 2 3 4 5 6 7 8; do
    echo "Measuring a stage with 50 pages open and with none, $turn of 8" >&2
    if ((turn % 2)); then
      watched_stage open
      stage closed
    else
      stage closed
      watched_stage open
    fi
    echo "$open $closed" >>"$work/turns"
  done
  # A turn's ratio, in the middle of all.
  awk '{ print $1 / $2, $1, $2 }' "$work/turns" | sort -g | awk -v json="${json[*]}" '{ ratio[NR] = $1; open += $2; closed += $3 } END {
    ratio[0] = (ratio[NR / 2] + ratio[NR / 2 + 1]) / 2
    if (json) printf "{\"row\":\"watched\",\"ours\":%g,\"peer\":%g,\"unit\":\"s\",\"ratio\":%.3f}\n", open / NR, closed / NR, 1 / ratio[0]
    else printf "a stage with 50 pages open %.2f ms, with none %.2f ms: %.2f times its time (%.2f to %.2f)\n",
      open / NR * 1e3, closed / NR * 1e3, ratio[0], ratio[1], ratio[NR]
  }'
fi
if [[ -n $update ]]; then
  scripts/prepare.sh --for test >&2
  scripts/build.sh >&2
  cargo build --quiet --example fake-gitlab >&2
  cargo test --quiet --test story -- --nocapture 2>"$work/story" >&2 || { tail -n 40 "$work/story" >&2; die "the story has another end"; }
  grep --only-matching 'from the move.*' "$work/story" || die "the story did not take place here: it takes root and systemd-nspawn"
fi
