#!/usr/bin/env bash
# Lets the chain live many random lives: people, failures, lost events, crashes. Prints the number of a life that goes wrong.
#
#   scripts/simulate.sh [--seeds N]    lives 0 to N-1 (default 10000)
#   scripts/simulate.sh --seed S       one of them again
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  '') export WINDLASS_SEEDS=10000 ;;
  --seeds) export WINDLASS_SEEDS=${2:?how many} ;;
  --seed) export WINDLASS_SEED=${2:?which} ;;
  -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "simulate.sh: unknown argument $1; see --help" >&2; exit 64 ;;
esac
exec cargo test --quiet --lib chain::simulation
