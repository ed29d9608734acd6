#!/usr/bin/env bash
# Gives the staging service other canary variables, with which it restarts; does not wait for that.
set -euo pipefail

exec "${LOCAL_STAGING_PYTHON:-python3}" -m canary_pipeline.local_staging.apply_canary
