#!/usr/bin/env bash
# The staged rollout, under the name and with the flags that it always had.
set -euo pipefail

command=canary-rollout
if [ -n "${LOCAL_STAGING_PYTHON:-}" ]; then
  beside=$(dirname -- "$LOCAL_STAGING_PYTHON")/canary-rollout
  [ ! -x "$beside" ] || command=$beside
fi
exec "$command" run "$@"
