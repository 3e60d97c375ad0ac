#!/usr/bin/env bash
# run_exec of the peer: feeds the stage's script to a shell in the job's container.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
source "$here/base.sh"

podman exec -i "$CONTAINER_ID" bash <"$1" || exit "$BUILD_FAILURE_EXIT_CODE"
