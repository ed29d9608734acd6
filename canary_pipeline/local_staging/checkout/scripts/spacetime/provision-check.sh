#!/usr/bin/env bash
# Whether an environment is provisioned: its variables are set, and its service is healthy.
set -euo pipefail

if [ "${1:-}" != staging ] || [ $# -ne 1 ]; then
  echo "usage: provision-check.sh staging" >&2
  exit 2
fi

missing=()
for name in HTTP_BASE_URL DATABASE TOKEN_ISSUER TOKEN_AUDIENCE JWT_SIGNING_KEY; do
  variable=OA_SPACETIME_STAGING_$name
  [ -n "${!variable:-}" ] || missing+=("$variable")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "not set: ${missing[*]}" >&2
  exit 1
fi

exec "${LOCAL_STAGING_PYTHON:-python3}" - <<'PYTHON'
import http.client
import os
import sys
import urllib.request

url = os.environ["OA_SPACETIME_STAGING_HTTP_BASE_URL"].rstrip("/") + "/health"
try:
    with urllib.request.urlopen(url, timeout=10) as answer:
        print(f"ok      {url} answered {answer.status}")
except (OSError, ValueError, http.client.HTTPException) as error:
    sys.exit(f"FAILED  {url}: {error}")
PYTHON
