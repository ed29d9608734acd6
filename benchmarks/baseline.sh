#!/usr/bin/env bash
# The work of a rollout in a few lines of shell: gates, probes and snapshots one after another.
set -euo pipefail
mkdir -p "$1" && cd "$1"

snapshots() {
	curl -sSf -o "runtime_metrics_$1.json" "$OA_RUNTIME_METRICS_URL"
	curl -sSf -o "control_status_$1.json" "$OA_CONTROL_STATUS_URL"
}

gate() {
	(cd "$OA_STAGING_REPO_ROOT" && bash -c "$2") >"gate-$1.log" 2>&1
}

snapshots before
gate spacetime-provision-staging "scripts/spacetime/provision-check.sh staging"
for lane in spacetime-replay-resume spacetime-chaos sync-security; do
	gate "$lane" "scripts/local-ci.sh $lane"
done
for percent in 5 10 25 50 100; do
	snapshots "before_$percent"
	curl -sSf -o "cohort-$percent.json" -w '%{time_total}\n' \
		-H "Authorization: Bearer $OA_STAGING_CONTROL_AUTH_TOKEN" -H 'Content-Type: application/json' \
		-d "{\"thread_id\": \"staging-canary-thread-$percent\", \"cohort_key\": \"user:staging-canary-$percent\"}" \
		"$OA_STAGING_CONTROL_BASE_URL/api/v1/control/runtime-routing/evaluate" >>probe-seconds
	snapshots "after_$percent"
done
snapshots after
