#!/usr/bin/env bash
# The staged rollout, under the name and with the flags that it always had.
set -euo pipefail

if [ -n "${LOCAL_STAGING_PYTHON:-}" ]; then
  PATH="$(dirname -- "$LOCAL_STAGING_PYTHON"):$PATH"
fi
exec canary-rollout run "$@"
