#!/usr/bin/env bash
# One lane of the checks that also run in CI.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python=${LOCAL_STAGING_PYTHON:-python3}

drill() {
  exec "$python" -m canary_pipeline.local_staging.drills "$1"
}

lane=${1:-}
case $lane in
  spacetime-replay-resume) drill replay-resume ;;
  spacetime-chaos) drill chaos ;;
  sync-security) drill sync-security ;;
  spacetime-staging-canary)
    shift
    exec "$root/scripts/spacetime/run-staging-canary-rollout.sh" "$@"
    ;;
  *)
    echo "usage: local-ci.sh spacetime-replay-resume|spacetime-chaos|sync-security|spacetime-staging-canary" >&2
    exit 2
    ;;
esac
