"""What a whole rollout decides, and what it leaves behind."""

import hashlib
import json
from pathlib import Path

import pytest

from canary_pipeline_tests.conftest import (
    GATES,
    TOKEN,
    Checkout,
    Commands,
    cohort_rows,
    decision,
    gate_rows,
    statuses,
)
from canary_pipeline_tests.fake_staging import (
    Behaviour,
    FakeStaging,
    answer,
    endless,
    never,
    redirect,
    reset_midway,
    trickle,
)

ALL = [5, 10, 25, 50, 100]


def summary(folder: Path) -> str:
    return (folder / "SUMMARY.md").read_text()


def test_a_rollout_whose_gates_and_probes_pass_is_allowed_with_every_file_of_the_contract(
    commands: Commands, staging: FakeStaging
) -> None:
    result = commands.rollout()

    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "Decision: allow"
    [folder] = commands.folders
    assert decision(folder) == "Decision: allow"
    assert {row["gate"]: row["status"] for row in gate_rows(folder)} == dict.fromkeys(
        GATES, "passed"
    )
    assert statuses(folder) == [(percent, "passed", None) for percent in ALL]
    assert staging.probed == ALL
    moments = ["before", "after"]
    moments += [f"{side}_{percent}" for side in ("before", "after") for percent in ALL]
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == {
        "SUMMARY.md",
        "decision.json",
        "rollout.json",
        "canary-env-sequence.txt",
        "gate-results.jsonl",
        "cohort-results.jsonl",
        *(f"logs/gate-{gate}.log" for gate in GATES),
        *(f"cohort-{percent}.json" for percent in ALL),
        *(f"runtime_metrics_{moment}.json" for moment in moments),
        *(f"control_status_{moment}.json" for moment in moments),
    }


def test_a_gate_row_says_what_the_contract_names(commands: Commands, checkout: Checkout) -> None:
    checkout.gate("sync-security", "echo to stdout; echo to stderr >&2; exit 3")

    commands.rollout()

    [folder] = commands.folders
    [row] = [row for row in gate_rows(folder) if row["gate"] == "sync-security"]
    log = folder / row["log_file"]
    assert log.read_text() == "to stdout\nto stderr\n"
    assert row["log_sha256"] == hashlib.sha256(log.read_bytes()).hexdigest()
    assert (row["status"], row["exit_code"], row["attempt"]) == ("failed", 3, 1)
    assert row["command"] == "scripts/local-ci.sh sync-security"
    assert row["started_at"] < row["finished_at"]
    assert row["duration_seconds"] > 0
    [attempt] = json.loads((folder / "rollout.json").read_text())["attempts"]
    assert row["run_id"] == attempt["run_id"]
    passed = next(row for row in gate_rows(folder) if row["status"] == "passed")
    assert "reason" not in passed


def test_a_probe_asks_exactly_what_the_contract_says(
    commands: Commands, staging: FakeStaging
) -> None:
    commands.rollout("--cohorts", "5")

    [probe] = [request for request in staging.seen if request.method == "POST"]
    assert probe.path == "/api/v1/control/runtime-routing/evaluate"
    assert probe.headers["Authorization"] == f"Bearer {TOKEN}"
    assert probe.headers["Content-Type"] == "application/json"
    assert probe.body == {
        "thread_id": "staging-canary-thread-5",
        "cohort_key": "user:staging-canary-5",
    }


@pytest.mark.parametrize("gate", GATES)
def test_any_gate_that_fails_blocks_before_the_first_probe(
    gate: str, commands: Commands, checkout: Checkout, staging: FakeStaging
) -> None:
    checkout.gate(gate, "exit 1")

    assert commands.rollout("--cohorts", "5,100").code == 1

    [folder] = commands.folders
    assert decision(folder) == "Decision: block"
    assert f"gate {gate} failed: exit code 1" in summary(folder)
    assert [row["gate"] for row in gate_rows(folder) if row["status"] == "failed"] == [gate]
    assert statuses(folder) == [(percent, "skipped", "gates_not_passed") for percent in (5, 100)]
    assert staging.probed == []


def test_gates_run_side_by_side(commands: Commands, checkout: Checkout) -> None:
    # Each gate waits for the other three to have started; one after another would never end.
    wait = 'until [ "$(ls started | wc -l)" -eq 4 ]; do sleep 0.05; done'
    for gate in GATES:
        checkout.gate(gate, wait)

    result = commands.rollout("--cohorts", "5", "--gate-timeout-seconds", "200")

    assert result.code == 0


def test_a_small_host_runs_fewer_gates_at_once(commands: Commands, checkout: Checkout) -> None:
    # A gate fails if it meets another one.
    alone = "mkdir running || exit 1; sleep 0.2; rmdir running"
    for gate in GATES:
        checkout.gate(gate, alone)

    result = commands.rollout("--cohorts", "5", more={"OA_STAGING_CANARY_MAX_PARALLEL_GATES": "1"})

    assert result.code == 0, result.out


def test_gates_of_a_group_run_one_after_another(commands: Commands, checkout: Checkout) -> None:
    """Two share what only one can have, and the others meet while one of them has it."""
    meeting = "touch met-$OA_CANARY_GATE; until [ -e met-{} ]; do sleep 0.02; done"
    alone = "mkdir taken || exit 1; until [ -e met-sync-security ]; do sleep 0.02; done; "
    for name in ("spacetime-replay-resume", "spacetime-chaos"):
        checkout.gate(name, f"{alone} sleep 0.2; rmdir taken")
    checkout.gate("spacetime-provision-staging", meeting.format("sync-security"))
    checkout.gate("sync-security", meeting.format("spacetime-provision-staging"))
    groups = {"OA_STAGING_CANARY_GATE_GROUPS": "spacetime-replay-resume,spacetime-chaos"}

    result = commands.rollout("--cohorts", "5", more=groups)

    assert result.code == 0, result.out
    [folder] = commands.folders
    assert "except spacetime-chaos after spacetime-replay-resume." in summary(folder)


def test_a_gate_that_takes_too_long_has_failed(commands: Commands, checkout: Checkout) -> None:
    checkout.gate("spacetime-chaos", "sleep 300")

    result = commands.rollout("--cohorts", "5", "--gate-timeout-seconds", "1")

    assert result.code == 1
    [folder] = commands.folders
    [row] = [row for row in gate_rows(folder) if row["gate"] == "spacetime-chaos"]
    assert (row["status"], row["reason"], row["exit_code"]) == ("failed", "timeout", None)


PROBE_FAILURES = {
    "500": (answer(500, "<h1>oops</h1>", "text/html"), 500, "http_status"),
    "503 page": (answer(503, "<h1>maintenance</h1>", "text/html"), 503, "http_status"),
    "401": (answer(401, {"error": {"code": "unauthorized"}}), 401, "http_status"),
    "429": (answer(429, {}), 429, "http_status"),
    "204": (answer(204, ""), 204, "http_status"),
    "redirect": (redirect("/elsewhere"), 302, "http_status"),
    "no answer": (never, None, "timeout"),
    "a byte now and then": (trickle, None, "timeout"),
    "reset midway": (reset_midway, None, "connection_reset"),
}


@pytest.mark.parametrize("name", PROBE_FAILURES)
def test_a_probe_that_fails_stops_the_rollout_at_once(
    name: str, commands: Commands, staging: FakeStaging
) -> None:
    behaviour, status, reason = PROBE_FAILURES[name]
    staging.probes[25] = behaviour
    timeout = "1" if reason == "timeout" else "60"

    assert commands.rollout("--cohorts", "5,25,50,100", "--http-timeout-seconds", timeout).code == 1

    [folder] = commands.folders
    assert decision(folder) == "Decision: block"
    assert statuses(folder) == [
        (5, "passed", None),
        (25, "failed", reason),
        (50, "skipped", "earlier_cohort_failed"),
        (100, "skipped", "earlier_cohort_failed"),
    ]
    [row] = [row for row in cohort_rows(folder) if row["cohort_percent"] == 25]
    assert row["http_status"] == status
    assert (row["error"] is None) == (status is not None and name != "redirect")
    assert staging.probed == [5, 25]
    assert all(request.path != "/elsewhere" for request in staging.seen)


def test_a_control_service_that_refuses_connections_is_a_failed_row(
    commands: Commands, staging: FakeStaging
) -> None:
    nobody = "http://127.0.0.1:9"

    result = commands.rollout("--cohorts", "5", "--control-base-url", nobody)

    assert result.code == 1
    [folder] = commands.folders
    assert statuses(folder) == [(5, "failed", "connection_refused")]
    assert staging.probed == []


@pytest.mark.parametrize(
    ("behaviour", "size", "warning"),
    [
        (endless, 1024 * 1024, "cohort-5.json is cut"),
        (answer(200, "<h1>log in</h1>", "text/html"), 15, "not a JSON object"),
    ],
    ids=["endless", "a page"],
)
def test_a_200_with_another_body_than_expected_passes_with_a_warning(
    behaviour: Behaviour, size: int, warning: str, commands: Commands, staging: FakeStaging
) -> None:
    staging.probes[5] = behaviour

    assert commands.rollout("--cohorts", "5").code == 0

    [folder] = commands.folders
    assert (folder / "cohort-5.json").stat().st_size == size
    assert warning in summary(folder)


def test_cohorts_without_probe_config_are_skipped_and_allowed_without_a_soak(
    commands: Commands, staging: FakeStaging
) -> None:
    neither = {"OA_STAGING_CONTROL_BASE_URL": "", "OA_STAGING_CONTROL_AUTH_TOKEN": ""}

    result = commands.rollout("--cohorts", "5,100", "--cohort-soak-seconds", "3600", more=neither)

    assert result.code == 0
    [folder] = commands.folders
    reason = "missing_control_base_or_token"
    assert statuses(folder) == [(percent, "skipped", reason) for percent in (5, 100)]
    missing = ["control_base_url", "auth_token"]
    assert [row["missing"] for row in cohort_rows(folder)] == [missing] * 2
    assert result.out.splitlines()[-1] == "Decision: allow (no cohort was probed)"
    assert "No cohort was probed" in summary(folder)
    assert staging.probed == []


@pytest.mark.parametrize("unset", ["OA_STAGING_CONTROL_BASE_URL", "OA_STAGING_CONTROL_AUTH_TOKEN"])
def test_half_a_probe_configuration_is_bad_input(unset: str, commands: Commands) -> None:
    result = commands.rollout(more={unset: ""})

    assert result.code == 2
    [line] = result.err.splitlines()
    assert unset in line
    assert "accepted: both, so that cohorts are probed, or neither" in line
    assert list(commands.folder.iterdir()) == []


def test_a_dry_run_exercises_everything_but_the_gates_and_blocks(
    commands: Commands, checkout: Checkout, staging: FakeStaging
) -> None:
    result = commands.rollout("--skip-gates", "--cohorts", "5,100")

    assert result.code == 1
    [folder] = commands.folders
    [row] = gate_rows(folder)
    assert (row["gate"], row["status"], row["reason"]) == ("all", "skipped", "--skip-gates")
    assert sum(checkout.runs_of(gate) for gate in GATES) == 0
    assert statuses(folder) == [(5, "passed", None), (100, "passed", None)]
    assert staging.probed == [5, 100]
    assert "gates were skipped (--skip-gates)" in summary(folder)


def test_without_snapshot_urls_there_are_no_snapshots_but_a_decision(commands: Commands) -> None:
    more = {"OA_RUNTIME_METRICS_URL": "", "OA_CONTROL_STATUS_URL": ""}

    result = commands.rollout("--cohorts", "5", more=more)

    assert result.code == 0
    [folder] = commands.folders
    assert list(folder.glob("runtime_metrics_*")) == []
    assert list(folder.glob("control_status_*")) == []


def test_a_snapshot_that_fails_warns_and_never_blocks(
    commands: Commands, staging: FakeStaging
) -> None:
    staging.snapshots["/metrics"] = answer(500, "no")
    staging.snapshots["/status"] = answer(200, "<html>")

    assert commands.rollout("--cohorts", "5").code == 0

    [folder] = commands.folders
    assert list(folder.glob("runtime_metrics_*")) == []
    assert list(folder.glob("control_status_*")) == []
    assert "no snapshot runtime_metrics_before_5.json" in summary(folder)
    assert "answered something that is not JSON" in summary(folder)


def test_the_token_goes_to_the_control_service_only(
    commands: Commands, staging: FakeStaging
) -> None:
    with FakeStaging.serving(TOKEN) as elsewhere:
        commands.rollout("--cohorts", "5", "--runtime-metrics-url", f"{elsewhere.url}/metrics")

    assert elsewhere.seen
    assert all("Authorization" not in request.headers for request in elsewhere.seen)
    status = [request for request in staging.seen if request.path == "/status"]
    assert status
    assert all(request.headers["Authorization"] == f"Bearer {TOKEN}" for request in status)


def test_each_cohort_soaks_before_the_next_is_probed(
    commands: Commands, staging: FakeStaging
) -> None:
    commands.rollout("--cohorts", "5,100", "--cohort-soak-seconds", "1")

    [folder] = commands.folders
    first, second = cohort_rows(folder)
    assert first["soak_seconds"] == 1
    assert first["soak_started_at"] < first["soak_ended_at"] <= second["probed_at"]
    assert second["soak_ended_at"] is not None
    assert staging.probed == [5, 100]


def test_the_env_sequence_holds_a_block_for_each_cohort(commands: Commands) -> None:
    commands.rollout("--cohorts", "5,100", "--cohort-soak-seconds", "0")

    [folder] = commands.folders
    assert (folder / "canary-env-sequence.txt").read_text() == "".join(
        f"# Cohort {percent}%\n"
        f"OA_RUNTIME_CANARY_USER_PERCENT={percent}\n"
        f"OA_RUNTIME_CANARY_AUTOPILOT_PERCENT={percent}\n"
        "OA_RUNTIME_SHADOW_ENABLED=true\n"
        "OA_RUNTIME_SHADOW_SAMPLE_RATE=1.0\n"
        "OA_STAGING_CANARY_COHORT_SOAK_SECONDS=0\n"
        "\n"
        for percent in (5, 100)
    )
