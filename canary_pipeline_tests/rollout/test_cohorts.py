"""A cohort: what lets it start, its probe, its soak by the clock that cannot jump, and its row."""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from canary_pipeline.model.plan import Endpoints, Plan
from canary_pipeline.model.rows import CohortRow, GateRow, InFlight, Status
from canary_pipeline.outside.control_service import ControlPlane
from canary_pipeline.outside.token import FixedToken, Redactor
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.checks.snapshot import take_snapshots
from canary_pipeline.rollout.cohort import Cohort
from canary_pipeline.rollout.cohorts import run_cohort
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.rollout.gate import record_skipped_gates
from canary_pipeline_tests.conftest import TOKEN, cohort_rows
from canary_pipeline_tests.fake_staging import (
    Behaviour,
    FakeStaging,
    answer,
    endless,
    reset_midway,
)
from canary_pipeline_tests.rollout.conftest import FakeClock


class Interrupted(BaseException):
    pass


@pytest.fixture
def cohort(plan: Plan, around: Surroundings, staging: FakeStaging) -> Cohort:
    """The first cohort, its gates passed."""
    for gate in plan.gates:
        row = GateRow(gate=gate.name, status="passed", attempt=1, run_id="run-1")
        around.evidence.add_gate_row(row)
    endpoints = Endpoints(staging.url)
    return Cohort(5, plan, ControlPlane(endpoints, FixedToken(TOKEN), 5), around)


def written(cohort: Cohort) -> dict[str, Any]:
    """The one row that the cohort left, without the link that makes tampering show."""
    [row] = cohort_rows(cohort.around.evidence.folder)
    row.pop("chain", None)
    return row


def with_gate(cohort: Cohort, gate: str, status: Status) -> None:
    row = GateRow(gate=gate, status=status, attempt=1, run_id="run-1")
    cohort.around.evidence.add_gate_row(row)


def with_cohort(cohort: Cohort, percent: int, status: Status, reason: str | None = None) -> None:
    cohort.around.evidence.add_cohort_row(
        CohortRow(cohort_percent=percent, status=status, reason=reason, attempt=1, run_id="run-1")
    )


def warnings(cohort: Cohort) -> list[str]:
    return [warning.message for warning in cohort.around.evidence.record().warnings]


def test_the_row_of_a_cohort_that_passed(cohort: Cohort) -> None:
    run_cohort(cohort)

    body = cohort.around.evidence.folder / "cohort-5.json"
    assert written(cohort) == {
        "cohort_percent": 5,
        "status": "passed",
        "http_status": 200,
        "error": None,
        "response_file": "cohort-5.json",
        "response_sha256": hashlib.sha256(body.read_bytes()).hexdigest(),
        "probed_at": "2026-02-25T08:00:00.000Z",
        "probe_seconds": 0.0,
        "soak_started_at": "2026-02-25T08:00:00.000Z",
        "soak_ended_at": "2026-02-25T08:15:00.000Z",
        "soak_seconds": 900,
        "duration_seconds": 900,
        "driver": "control_service",
        "routing_reason": "default_driver",
        "attempt": 1,
        "run_id": "run-1",
    }


def test_the_row_of_a_probe_that_got_another_status(
    cohort: Cohort, staging: FakeStaging, clock: FakeClock
) -> None:
    staging.probes[5] = answer(503, "<h1>maintenance</h1>", "text/html")

    run_cohort(cohort)

    body = cohort.around.evidence.folder / "cohort-5.json"
    assert body.read_text() == "<h1>maintenance</h1>"
    assert written(cohort) == {
        "cohort_percent": 5,
        "status": "failed",
        "reason": "http_status",
        "http_status": 503,
        "error": None,
        "response_file": "cohort-5.json",
        "response_sha256": hashlib.sha256(body.read_bytes()).hexdigest(),
        "probed_at": "2026-02-25T08:00:00.000Z",
        "probe_seconds": 0.0,
        "soak_started_at": None,
        "soak_ended_at": None,
        "soak_seconds": 0,
        "duration_seconds": 0,
        "attempt": 1,
        "run_id": "run-1",
    }
    assert clock.slept == []


def test_the_row_of_a_probe_that_got_no_answer(
    cohort: Cohort, staging: FakeStaging, clock: FakeClock
) -> None:
    staging.probes[5] = reset_midway

    run_cohort(cohort)

    row = written(cohort)
    assert (row["status"], row["reason"]) == ("failed", "connection_reset")
    assert (row["http_status"], row["response_file"]) == (None, None)
    assert row["error"] == "the connection was closed before the answer was complete"
    assert row["probed_at"] == "2026-02-25T08:00:00.000Z"
    assert not (cohort.around.evidence.folder / "cohort-5.json").exists()
    assert clock.slept == []


@pytest.mark.parametrize("missing", [("control_base_url",), ("auth_token",)])
def test_the_row_of_a_cohort_without_probe_config(
    missing: tuple[str, ...],
    cohort: Cohort,
    plan: Plan,
    staging: FakeStaging,
    clock: FakeClock,
) -> None:
    run_cohort(replace(cohort, plan=replace(plan, missing_for_probe=missing)))

    row = written(cohort)
    assert (row["status"], row["reason"]) == ("skipped", "missing_control_base_or_token")
    assert row["missing"] == list(missing)
    assert row["soak_started_at"] is None
    assert row["probed_at"] is None
    assert (staging.probed, clock.slept) == ([], [])


@pytest.mark.parametrize("missing", [(), ("auth_token",)])
@pytest.mark.parametrize("earlier", [None, "passed", "failed"])
@pytest.mark.parametrize("gate", ["failed", "skipped"])
def test_a_gate_that_did_not_pass_comes_before_every_other_reason(  # noqa: PLR0917
    gate: Status,
    earlier: Status | None,
    missing: tuple[str, ...],
    cohort: Cohort,
    plan: Plan,
    staging: FakeStaging,
) -> None:
    with_gate(cohort, "two", gate)
    if earlier:
        with_cohort(cohort, 5, earlier)

    row = run_cohort(replace(cohort, percent=100, plan=replace(plan, missing_for_probe=missing)))

    assert (row.status, row.reason) == ("skipped", "gates_not_passed")
    assert (row.soak_started_at, row.http_status) == (None, None)
    assert staging.seen == []


def test_a_gate_without_a_row_has_not_passed(
    plan: Plan, around: Surroundings, staging: FakeStaging
) -> None:
    around.evidence.add_gate_row(GateRow(gate="one", status="passed", attempt=1, run_id="run-1"))
    control_plane = ControlPlane(Endpoints(staging.url), FixedToken(TOKEN), 5)

    row = run_cohort(Cohort(5, plan, control_plane, around))

    assert (row.status, row.reason) == ("skipped", "gates_not_passed")
    assert staging.seen == []


@pytest.mark.parametrize("missing", [(), ("auth_token",)])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, None),
        ("failed", "http_status"),
        ("skipped", "gates_not_passed"),
        ("skipped", "earlier_cohort_failed"),
        ("skipped", "missing_control_base_or_token"),  # of a rollout that was to probe
    ],
)
def test_an_earlier_cohort_that_is_not_clear_stops_the_next(  # noqa: PLR0917
    status: Status | None,
    reason: str | None,
    missing: tuple[str, ...],
    cohort: Cohort,
    plan: Plan,
    staging: FakeStaging,
) -> None:
    if status:
        with_cohort(cohort, 5, status, reason)

    row = run_cohort(replace(cohort, percent=100, plan=replace(plan, missing_for_probe=missing)))

    assert (row.status, row.reason) == ("skipped", "earlier_cohort_failed")
    assert staging.seen == []


def test_a_cohort_follows_one_that_was_skipped_for_missing_config(
    plan: Plan, clock: FakeClock, around: Surroundings, staging: FakeStaging
) -> None:
    plan = replace(plan, missing_for_probe=("auth_token",), skip_gates=True)
    evidence = attempts.open_rollout(plan, plan.repo_root / "not live", clock)
    around = replace(around, evidence=evidence)
    record_skipped_gates(around)
    control_plane = ControlPlane(Endpoints(staging.url), None, 5)

    found = [run_cohort(Cohort(percent, plan, control_plane, around)) for percent in (5, 100)]

    assert [row.reason for row in found] == ["missing_control_base_or_token"] * 2


def test_a_cohort_that_passed_is_left_as_it_is(cohort: Cohort, staging: FakeStaging) -> None:
    first = run_cohort(cohort)
    later = replace(cohort, around=replace(cohort.around, attempt=2, run_id="run-2"))

    assert run_cohort(later) == first
    assert len(cohort_rows(cohort.around.evidence.folder)) == 1
    assert staging.probed == [5]


def test_a_cohort_that_failed_is_probed_anew(cohort: Cohort, staging: FakeStaging) -> None:
    staging.probes[5] = answer(500, {})
    run_cohort(cohort)
    del staging.probes[5]
    later = replace(cohort, around=replace(cohort.around, attempt=2, run_id="run-2"))

    run_cohort(later)

    rows = cohort_rows(cohort.around.evidence.folder)
    assert [(row["status"], row["attempt"]) for row in rows] == [("failed", 1), ("passed", 2)]


@pytest.mark.parametrize("body", ["<h1>log in</h1>", "[1]", '"text"', "", '{"a": NaN}'])
def test_a_200_that_is_no_json_object_passes_with_a_warning(
    body: str, cohort: Cohort, staging: FakeStaging
) -> None:
    staging.probes[5] = answer(200, body, "text/html")

    row = run_cohort(cohort)

    assert row.status == "passed"
    assert (row.driver, row.routing_reason) == (None, None)
    assert (cohort.around.evidence.folder / "cohort-5.json").read_text() == body
    [warning] = warnings(cohort)
    assert "not a JSON object (text/html)" in warning


@pytest.mark.parametrize(
    ("data", "driver", "reason"),
    [
        ({"driver": "runtime_service", "reason": "user_canary"}, "runtime_service", "user_canary"),
        ({"driver": 5, "reason": None}, None, None),
        ({"driver": ["a"], "reason": {"b": 1}}, None, None),
        ({"driver": "x" * 1000}, "x" * 200, None),
        ({}, None, None),
        ("text", None, None),
        (None, None, None),
    ],
)
def test_routing_is_recorded_where_the_response_holds_it(
    data: object, driver: str | None, reason: str | None, cohort: Cohort, staging: FakeStaging
) -> None:
    staging.probes[5] = answer(200, {"data": data})

    row = run_cohort(cohort)

    assert (row.status, row.driver, row.routing_reason) == ("passed", driver, reason)
    assert warnings(cohort) == []


@pytest.mark.parametrize("half_a_pair", [0xD800, 0xDC80], ids=hex)
def test_an_answer_that_no_file_can_hold_does_not_crash_a_cohort(
    half_a_pair: int, cohort: Cohort, staging: FakeStaging
) -> None:
    staging.probes[5] = answer(200, {"data": {"driver": chr(half_a_pair), "reason": "x"}})

    assert run_cohort(cohort).status == "passed"
    assert written(cohort)["status"] == "passed"


def test_a_body_is_kept_up_to_a_mebibyte(cohort: Cohort, staging: FakeStaging) -> None:
    staging.probes[5] = endless

    row = run_cohort(cohort)

    assert row.status == "passed"
    assert (cohort.around.evidence.folder / "cohort-5.json").stat().st_size == 1024 * 1024
    assert any("cohort-5.json is cut" in warning for warning in warnings(cohort))


def test_a_token_that_staging_repeats_is_kept_nowhere(cohort: Cohort, staging: FakeStaging) -> None:
    staging.probes[5] = answer(200, {"data": {"driver": f"a {TOKEN}", "reason": TOKEN}}, TOKEN)
    staging.snapshots["/m"] = answer(200, {"echo": f"Bearer {TOKEN}"})
    staging.snapshots["/s"] = answer(200, TOKEN)
    said: list[str] = []
    around = replace(cohort.around, redactor=Redactor(FixedToken(TOKEN)), say=said.append)
    endpoints = Endpoints(staging.url, f"{staging.url}/m", f"{staging.url}/s")

    row = run_cohort(
        replace(cohort, around=around, control_plane=ControlPlane(endpoints, FixedToken(TOKEN), 5))
    )

    assert (row.driver, row.routing_reason) == ("a [redacted]", "[redacted]")
    folder = around.evidence.folder
    assert json.loads((folder / "cohort-5.json").read_text())["data"]["reason"] == "[redacted]"
    assert (folder / "runtime_metrics_before_5.json").read_text() == '{"echo": "Bearer [redacted]"}'
    files = [file.read_text() for file in folder.rglob("*") if file.is_file()]
    assert not any(TOKEN in text for text in [*files, *said])


def test_snapshots_are_taken_before_the_probe_and_after_the_soak(
    cohort: Cohort, staging: FakeStaging, clock: FakeClock
) -> None:
    endpoints = Endpoints(staging.url, f"{staging.url}/m", f"{staging.url}/s")
    asked_when_asleep: list[int] = []
    clock.while_asleep = lambda: asked_when_asleep.append(len(staging.seen))

    run_cohort(replace(cohort, control_plane=ControlPlane(endpoints, FixedToken(TOKEN), 5)))

    assert [request.path.rpartition("/")[2] for request in staging.seen] == [
        "m", "s", "evaluate", "m", "s",
    ]  # fmt: skip
    assert set(asked_when_asleep) == {3}
    folder = cohort.around.evidence.folder
    found = {
        file.name: json.loads(file.read_text())["data"]["count"] for file in folder.glob("*_5.json")
    }
    assert found == {
        "runtime_metrics_before_5.json": 1,
        "control_status_before_5.json": 2,
        "runtime_metrics_after_5.json": 4,
        "control_status_after_5.json": 5,
    }


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_rollouts_own_snapshots_are_named_for_their_moment(
    moment: str, around: Surroundings, staging: FakeStaging
) -> None:
    endpoints = Endpoints(None, f"{staging.url}/m", f"{staging.url}/s")

    take_snapshots(ControlPlane(endpoints, None, 5), around, moment)

    assert {file.name for file in around.evidence.folder.glob("*_*.json")} == {
        f"runtime_metrics_{moment}.json",
        f"control_status_{moment}.json",
    }


@pytest.mark.parametrize("behaviour", [answer(500, "{}"), answer(200, "<html>"), reset_midway])
def test_a_snapshot_that_fails_is_a_warning_and_no_file(
    behaviour: Behaviour, cohort: Cohort, staging: FakeStaging
) -> None:
    staging.snapshots["/m"] = behaviour
    endpoints = Endpoints(staging.url, f"{staging.url}/m")

    row = run_cohort(replace(cohort, control_plane=ControlPlane(endpoints, FixedToken(TOKEN), 5)))

    assert row.status == "passed"
    assert list(cohort.around.evidence.folder.glob("runtime_metrics_*")) == []
    assert [warning.partition(":")[0] for warning in warnings(cohort)] == [
        "no snapshot runtime_metrics_before_5.json",
        "no snapshot runtime_metrics_after_5.json",
    ]


def test_a_cohort_that_was_killed_after_its_row_is_not_in_flight_for_ever(
    cohort: Cohort, clock: FakeClock
) -> None:
    row = run_cohort(cohort)
    evidence = cohort.around.evidence
    evidence.set_in_flight(
        InFlight(
            step="cohort 5", phase="soak", started_at="s", attempt=1, run_id="run-1", probe=row,
            soak_ends_at="2026-02-25T08:15:00.000Z",
        )
    )  # fmt: skip

    attempts.join(evidence, "run-2", "a test", clock)
    run_cohort(replace(cohort, around=replace(cohort.around, attempt=2, run_id="run-2")))

    assert evidence.all_in_flight() == []


def test_a_soak_lasts_as_long_as_planned(cohort: Cohort, clock: FakeClock) -> None:
    row = run_cohort(cohort)

    assert row.status == "passed"
    assert sum(clock.slept) == pytest.approx(900)
    assert row.duration_seconds == pytest.approx(900)


@pytest.mark.parametrize("jump", [timedelta(days=-1), timedelta(days=1)])
def test_a_wall_clock_that_jumps_does_not_change_a_soak(
    jump: timedelta, cohort: Cohort, clock: FakeClock
) -> None:
    def jump_once() -> None:
        clock.wall += jump
        clock.while_asleep = lambda: None

    clock.while_asleep = jump_once

    run_cohort(cohort)

    assert sum(clock.slept) == pytest.approx(900)


def interrupt_after(seconds: float, cohort: Cohort, clock: FakeClock) -> None:
    def check() -> None:
        if clock.seconds >= seconds:
            raise Interrupted

    clock.while_asleep = check
    with pytest.raises(Interrupted):
        run_cohort(cohort)
    clock.while_asleep = lambda: None
    clock.slept.clear()


@pytest.mark.parametrize(("away", "left"), [(0, 600), (100, 500), (5000, 0)])
def test_an_interrupted_soak_only_waits_for_what_is_left_by_its_deadline(
    away: float, left: float, cohort: Cohort, clock: FakeClock, staging: FakeStaging
) -> None:
    interrupt_after(300, cohort, clock)
    clock.wall += timedelta(seconds=away)
    clock.seconds = 0.0  # another process, another start

    later = replace(cohort, around=replace(cohort.around, attempt=2, run_id="run-2"))
    row = run_cohort(later)

    assert sum(clock.slept) == pytest.approx(left)
    assert staging.probed == [5]
    assert (row.attempt, row.run_id) == (2, "run-2")


def test_a_wall_clock_set_back_never_makes_a_soak_longer_than_planned(
    cohort: Cohort, clock: FakeClock
) -> None:
    interrupt_after(300, cohort, clock)
    clock.wall -= timedelta(days=365)
    clock.seconds = 0.0

    run_cohort(cohort)

    assert sum(clock.slept) == pytest.approx(900)


def test_a_soak_ends_when_its_owner_is_gone(cohort: Cohort, clock: FakeClock) -> None:
    def check() -> None:
        if clock.seconds > 10:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_cohort(replace(cohort, around=replace(cohort.around, check_owner=check)))

    assert sum(clock.slept) < 12
