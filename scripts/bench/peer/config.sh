#!/usr/bin/env bash
# config_exec of the peer: tells gitlab-runner where jobs build.

cat <<'JSON'
{
  "builds_dir": "/builds",
  "cache_dir": "/cache",
  "driver": {"name": "podman scripts", "version": "1"}
}
JSON
