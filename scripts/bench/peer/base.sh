# What the peer's scripts share. They do what the scripts do that people write for the custom executor with podman.
# shellcheck shell=bash

set -eo pipefail

# Read by the scripts that source this one.
# shellcheck disable=SC2034
CONTAINER_ID="runner-$CUSTOM_ENV_CI_RUNNER_ID-project-$CUSTOM_ENV_CI_PROJECT_ID-concurrent-$CUSTOM_ENV_CI_CONCURRENT_PROJECT_ID-$CUSTOM_ENV_CI_JOB_ID"
