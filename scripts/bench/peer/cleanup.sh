#!/usr/bin/env bash
# cleanup_exec of the peer: removes the job's container.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
source "$here/base.sh"

# Without the time, `sleep` as process 1 would let podman wait for ten seconds.
podman rm --force --time 0 "$CONTAINER_ID"
