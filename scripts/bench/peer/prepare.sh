#!/usr/bin/env bash
# prepare_exec of the peer: starts the job's container.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
source "$here/base.sh"

trap 'exit "$SYSTEM_FAILURE_EXIT_CODE"' ERR

podman run --detach --name "$CONTAINER_ID" "$CUSTOM_ENV_CI_JOB_IMAGE" sleep infinity
