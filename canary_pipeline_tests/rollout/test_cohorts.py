"""A cohort: what lets it start, its probe, its soak by the clock that cannot jump, and its row."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline.model.record import InFlight
from canary_pipeline.model.rows import CohortRow, GateRow
from canary_pipeline.planning import Settings
from canary_pipeline.rollout.checks.snapshot import take_snapshots
from canary_pipeline.rollout.cohort import run_cohort
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.steps import steps_of
from canary_pipeline_tests.builders import add, cohort, gate
from canary_pipeline_tests.conftest import TOKEN, cohort_rows, files_with
from canary_pipeline_tests.fake_staging import (
    Behaviour,
    FakeStaging,
    answer,
    endless,
    reset_midway,
)
from canary_pipeline_tests.rollout.conftest import (
    FakeClock,
    asking,
    new_rollout,
    next_attempt,
    planned,
    settings_with,
)


class Interrupted(BaseException):
    pass


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A soak shorter than an interval of its watch: the probe is the only look."""
    return settings_with(tmp_path, CANARY_COHORT_SOAK_SECONDS="10")


@pytest.fixture
def context(context: Context, staging: FakeStaging) -> Context:
    """A rollout whose gates passed."""
    add(context.evidence, gate("one"), gate("two"))
    return asking(context, staging)


def written(context: Context) -> dict[str, Any]:
    """The one row that a cohort left, without the link that makes tampering show."""
    [row] = cohort_rows(context.evidence.folder)
    row.pop("chain")
    return row


def warnings(context: Context) -> list[str]:
    return [warning.message for warning in context.evidence.record().warnings]


# -- its row ----------------------------------------------------------------------------------

PASSED = {
    "cohort_percent": 5,
    "status": "passed",
    "http_status": 200,
    "error": None,
    "response_file": "cohort-5.json",
    "probed_at": "2026-02-25T08:00:00.000Z",
    "probe_seconds": 0.0,
    "soak_started_at": "2026-02-25T08:00:00.000Z",
    "soak_ended_at": "2026-02-25T08:00:10.000Z",
    "soak_seconds": 10,
    "soaked_seconds": 10,
    "duration_seconds": 10,
    "driver": "control_service",
    "routing_reason": "default_driver",
    "attempt": 1,
    "run_id": "run-1",
}
NOT_SOAKED = {"soak_started_at": None, "soak_ended_at": None, "soak_seconds": 0}
FAILED = {**PASSED, **NOT_SOAKED, "status": "failed", "duration_seconds": 0}
for _name in ("driver", "routing_reason", "soaked_seconds"):
    del FAILED[_name]


def test_the_row_of_a_cohort_that_passed(context: Context) -> None:
    run_cohort(5, context)

    assert written(context) == {
        **PASSED,
        "response_sha256": context.evidence.sha256("cohort-5.json"),
    }


def test_the_row_of_a_probe_that_got_another_status(
    context: Context, staging: FakeStaging, clock: FakeClock
) -> None:
    staging.probes[5] = answer(503, "<h1>maintenance</h1>", "text/html")

    run_cohort(5, context)

    assert context.evidence.read_text("cohort-5.json") == "<h1>maintenance</h1>"
    assert written(context) == {
        **FAILED,
        "reason": "http_status",
        "http_status": 503,
        "response_sha256": context.evidence.sha256("cohort-5.json"),
    }
    assert clock.slept == []


def test_the_row_of_a_probe_that_got_no_answer(
    context: Context, staging: FakeStaging, clock: FakeClock
) -> None:
    staging.probes[5] = reset_midway

    run_cohort(5, context)

    closed = "the connection was closed before the answer was complete"
    why = {"reason": "connection_reset", "error": closed}
    assert written(context) == {**FAILED, **why, "http_status": None, "response_file": None}
    assert not context.evidence.exists("cohort-5.json")
    assert clock.slept == []


@pytest.mark.parametrize("missing", [("control_base_url",), ("auth_token",)])
def test_the_row_of_a_cohort_without_probe_config(
    missing: tuple[str, ...], context: Context, staging: FakeStaging, clock: FakeClock
) -> None:
    run_cohort(5, planned(context, missing_for_probe=missing))

    assert {name: value for name, value in written(context).items() if value} == {
        "cohort_percent": 5, "status": "skipped", "reason": "missing_control_base_or_token",
        "missing": list(missing), "attempt": 1, "run_id": "run-1",
    }  # fmt: skip
    assert (staging.probed, clock.slept) == ([], [])


# -- what lets it start -----------------------------------------------------------------------

EARLIER = cohort(5, "failed", reason="http_status")


@pytest.mark.parametrize("missing", [(), ("auth_token",)])
@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([gate("two", "failed")], "gates_not_passed"),
        ([gate("two", "skipped")], "gates_not_passed"),
        ([gate("two", "failed"), cohort(5)], "gates_not_passed"),
        ([gate("two", "failed"), EARLIER], "gates_not_passed"),
        ([], "earlier_cohort_failed"),
        ([EARLIER], "earlier_cohort_failed"),
        ([cohort(5, "skipped", reason="gates_not_passed")], "earlier_cohort_failed"),
        ([cohort(5, "skipped", reason="earlier_cohort_failed")], "earlier_cohort_failed"),
        # Of a rollout that was to probe:
        ([cohort(5, "skipped", reason="missing_control_base_or_token")], "earlier_cohort_failed"),
        ([cohort(5, soaked_seconds=9.0)], "earlier_cohort_failed"),
    ],
)
def test_what_keeps_a_cohort_from_being_probed(
    rows: list[GateRow | CohortRow],
    reason: str,
    missing: tuple[str, ...],
    context: Context,
    staging: FakeStaging,
) -> None:
    add(context.evidence, *rows)

    row = run_cohort(100, planned(context, missing_for_probe=missing))

    assert (row.status, row.reason) == ("skipped", reason)
    assert (row.soak_started_at, row.http_status) == (None, None)
    assert staging.seen == []


def test_a_gate_without_a_row_has_not_passed(context: Context, tmp_path: Path) -> None:
    other = new_rollout(settings_with(tmp_path), tmp_path / "other", FakeClock())
    other.add(gate("one"))

    assert run_cohort(5, replace(context, evidence=other)).reason == "gates_not_passed"


def test_a_cohort_follows_one_that_was_skipped_for_missing_config(
    context: Context, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path, CONTROL_BASE_URL="", CONTROL_AUTH_TOKEN="")
    evidence = new_rollout(settings, tmp_path / "not live", FakeClock())
    add(evidence, gate("one"), gate("two"))
    context = replace(context, plan=settings.plan, evidence=evidence)

    found = [run_cohort(percent, context).reason for percent in (5, 100)]

    assert found == ["missing_control_base_or_token"] * 2


def test_a_cohort_that_passed_is_left_as_it_is(context: Context, staging: FakeStaging) -> None:
    first = run_cohort(5, context)

    assert run_cohort(5, next_attempt(context)) == first
    assert len(cohort_rows(context.evidence.folder)) == 1
    assert staging.probed == [5]


def test_a_cohort_that_failed_is_probed_anew_and_its_first_answer_stays(
    context: Context, staging: FakeStaging
) -> None:
    staging.probes[5] = answer(500, {})
    run_cohort(5, context)
    del staging.probes[5]

    run_cohort(5, next_attempt(context))

    rows = cohort_rows(context.evidence.folder)
    assert [(row["status"], row["attempt"], row["response_file"]) for row in rows] == [
        ("failed", 1, "cohort-5.json"),
        ("passed", 2, "cohort-5.2.json"),
    ]
    assert context.evidence.verified_record().problems == ()


# -- what staging answers ---------------------------------------------------------------------


@pytest.mark.parametrize("body", ["<h1>log in</h1>", "[1]", '"text"', "", '{"a": NaN}'])
def test_a_200_that_is_no_json_object_passes_with_a_warning(
    body: str, context: Context, staging: FakeStaging
) -> None:
    staging.probes[5] = answer(200, body, "text/html")

    row = run_cohort(5, context)

    assert (row.status, row.driver, row.routing_reason) == ("passed", None, None)
    assert context.evidence.read_text("cohort-5.json") == body
    [warning] = warnings(context)
    assert "not a JSON object (text/html)" in warning


@pytest.mark.parametrize(
    ("data", "driver", "reason"),
    [
        ({"driver": "runtime_service", "reason": "user_canary"}, "runtime_service", "user_canary"),
        ({"driver": 5, "reason": None}, None, None),
        ({"driver": ["a"], "reason": {"b": 1}}, None, None),
        ({"driver": "x" * 1000}, "x" * 199 + "…", None),
        ("text", None, None),
        (None, None, None),
    ],
)
def test_routing_is_recorded_where_the_response_holds_it(
    data: object, driver: str | None, reason: str | None, context: Context, staging: FakeStaging
) -> None:
    staging.probes[5] = answer(200, {"data": data})

    row = run_cohort(5, context)

    assert (row.status, row.driver, row.routing_reason) == ("passed", driver, reason)
    missing = ["the answer names no data.driver: "] if driver is None else []
    assert [warning[:33] for warning in warnings(context)] == missing


@pytest.mark.parametrize("half_a_pair", [0xD800, 0xDC80], ids=hex)
def test_an_answer_that_no_file_can_hold_does_not_crash_a_cohort(
    half_a_pair: int, context: Context, staging: FakeStaging
) -> None:
    staging.probes[5] = answer(200, {"data": {"driver": chr(half_a_pair), "reason": "x"}})

    assert run_cohort(5, context).status == written(context)["status"] == "passed"


def test_a_body_is_kept_up_to_a_mebibyte(context: Context, staging: FakeStaging) -> None:
    staging.probes[5] = endless

    assert run_cohort(5, context).status == "passed"
    assert context.evidence.size("cohort-5.json") == 1024 * 1024
    assert any("cohort-5.json is cut" in warning for warning in warnings(context))


def test_a_token_that_staging_repeats_is_kept_nowhere(
    context: Context, staging: FakeStaging
) -> None:
    staging.probes[5] = answer(200, {"data": {"driver": f"a {TOKEN}", "reason": TOKEN}}, TOKEN)
    staging.snapshots["/m"] = answer(200, {"echo": f"Bearer {TOKEN}"})
    staging.snapshots["/s"] = answer(200, TOKEN)
    said: list[str] = []

    row = run_cohort(5, replace(asking(context, staging, "/m", "/s"), say=said.append))

    evidence = context.evidence
    assert json.loads(evidence.read_text("cohort-5.json") or "")["data"]["reason"] == "[redacted]"
    assert written(context)["driver"] == row.driver == "a [redacted]"
    assert evidence.read_text("runtime_metrics_before_5.json") == '{"echo": "Bearer [redacted]"}'
    assert files_with(TOKEN, evidence.folder) == []
    assert not any(TOKEN in line for line in said)


# -- snapshots --------------------------------------------------------------------------------


def test_snapshots_are_taken_before_the_probe_and_after_the_soak(
    context: Context, staging: FakeStaging, clock: FakeClock
) -> None:
    asked_when_asleep: list[int] = []
    clock.while_asleep = lambda: asked_when_asleep.append(len(staging.seen))

    run_cohort(5, asking(context, staging, "/m", "/s"))
    take_snapshots(asking(context, staging, "/m"), "after")

    asked = [request.path.rpartition("/")[2] for request in staging.seen]
    assert asked == ["m", "s", "evaluate", "m", "s", "m"]
    assert set(asked_when_asleep) == {3}
    files = context.evidence.folder.glob("*_*.json")
    found = {file.name: json.loads(file.read_text())["data"]["count"] for file in files}
    assert found == {
        "runtime_metrics_before_5.json": 1,
        "control_status_before_5.json": 2,
        "runtime_metrics_after_5.json": 4,
        "control_status_after_5.json": 5,
        "runtime_metrics_after.json": 6,
    }


def test_what_was_before_a_rollout_is_kept_until_everything_is_done_anew(
    context: Context, staging: FakeStaging
) -> None:
    opening, files = steps_of((), ()).opening, context.evidence.folder.glob

    def opened(asked: Context) -> dict[str, int]:
        opening.run(asked)
        found = files("*_before.json")
        return {file.name: json.loads(file.read_text())["data"]["count"] for file in found}

    staging.snapshots["/s"] = answer(500, "{}")
    first = asking(context, staging, "/m", "/s")
    assert opened(first) == {"runtime_metrics_before.json": 1}
    del staging.snapshots["/s"]

    kept = {"runtime_metrics_before.json": 1, "control_status_before.json": 3}
    second = next_attempt(first)
    assert opened(second) == kept, "what could not be had is asked for once more"
    context.evidence.update_header(lambda header: header.with_last_attempt(anew=True))
    anew = {"runtime_metrics_before.json": 4, "control_status_before.json": 5}
    assert opened(second) == anew


@pytest.mark.parametrize("behaviour", [answer(500, "{}"), answer(200, "<html>"), reset_midway])
def test_a_snapshot_that_fails_is_a_warning_and_no_file(
    behaviour: Behaviour, context: Context, staging: FakeStaging
) -> None:
    staging.snapshots["/m"] = behaviour

    row = run_cohort(5, asking(context, staging, "/m"))

    assert row.status == "passed"
    assert list(context.evidence.folder.glob("runtime_metrics_*")) == []
    assert [warning.partition(":")[0] for warning in warnings(context)] == [
        "no snapshot runtime_metrics_before_5.json",
        "no snapshot runtime_metrics_after_5.json",
    ]


# -- its soak ---------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [timedelta(0), timedelta(days=-1), timedelta(days=1)])
def test_a_soak_lasts_as_long_as_planned_even_where_the_wall_clock_jumps(
    jump: timedelta, context: Context, clock: FakeClock
) -> None:
    def jump_once() -> None:
        clock.wall += jump
        clock.while_asleep = lambda: None

    clock.while_asleep = jump_once

    row = run_cohort(5, context)

    assert sum(clock.slept) == row.soaked_seconds == row.duration_seconds == pytest.approx(10)


def interrupt_after(seconds: float, context: Context) -> None:
    """Kill the cohort so long after it began; whoever goes on has a clock of another start."""
    clock = context.clock
    assert isinstance(clock, FakeClock)

    def check() -> None:
        if clock.seconds >= seconds:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_cohort(5, replace(context, check_stop=check))
    clock.slept.clear()
    clock.seconds = 0.0


def test_a_longer_soak_is_watched_and_what_was_seen_is_evidence(
    context: Context, staging: FakeStaging
) -> None:
    row = run_cohort(5, planned(context, soak_seconds=60))

    assert row.status == "passed"
    assert (row.soaked_seconds or 0) >= 60
    assert len(staging.probed) >= 60 / 15, "the probe, and one at every look but the first"
    assert (row.health_file, row.health_sha256) == (
        "health-5.jsonl", context.evidence.sha256("health-5.jsonl"),
    )  # fmt: skip
    assert len(context.evidence.looks(5)) >= 60 / 15


def test_a_soak_whose_looks_exceed_a_limit_fails(context: Context, staging: FakeStaging) -> None:
    staging.snapshots["/m"] = answer(200, {"mirror": {"failed_total": 2}})
    watched = asking(context, staging, "/m")

    row = run_cohort(5, planned(watched, soak_seconds=60, limits=("mirror.failed_total<=1",)))

    assert (row.status, row.reason) == ("failed", "limit_exceeded")
    assert "mirror.failed_total" in (row.error or "")


@pytest.mark.parametrize("away", [-365 * 86400, 0, 100, 5000])
def test_an_interrupted_soak_goes_on_from_what_it_has_soaked_whatever_the_wall_clock_says(
    away: float, context: Context, clock: FakeClock, staging: FakeStaging
) -> None:
    interrupt_after(7, context)
    clock.wall += timedelta(seconds=away)

    row = run_cohort(5, next_attempt(context))

    assert 4.5 <= sum(clock.slept) <= 5, "what was soaked since the last note is soaked again"
    assert row.soaked_seconds == pytest.approx(10)
    assert (row.attempt, row.run_id) == (2, "run-2")
    assert staging.probed == [5]


def test_an_interrupted_soak_is_not_gone_on_with_at_another_commit(
    context: Context, clock: FakeClock, staging: FakeStaging
) -> None:
    interrupt_after(7, context)
    second = next_attempt(context)
    context.evidence.update_header(lambda header: header.with_last_attempt(anew=True))
    add(context.evidence, gate("one", of=2), gate("two", of=2))

    run_cohort(5, second)

    assert sum(clock.slept) == pytest.approx(10)
    assert staging.probed == [5, 5]


def test_a_soak_of_an_earlier_attempt_is_not_gone_on_with_once_another_has_begun_anew(
    context: Context, clock: FakeClock, staging: FakeStaging
) -> None:
    interrupt_after(7, context)
    second = next_attempt(context)
    context.evidence.update_header(lambda header: header.with_last_attempt(anew=True))
    add(context.evidence, gate("one", of=2), gate("two", of=2))
    interrupt_after(2, second)

    row = run_cohort(5, next_attempt(context, 3))

    assert sum(clock.slept) == row.soaked_seconds == pytest.approx(10)
    assert staging.probed == [5, 5]


def test_a_cohort_that_was_killed_after_its_row_is_not_in_flight_for_ever(
    context: Context,
) -> None:
    row = run_cohort(5, context)
    evidence = context.evidence
    state = InFlight(
        step="cohort 5", phase="soak", started_at="s", attempt=1, run_id="run-1", probe=row
    )
    evidence.set_in_flight(state)

    run_cohort(5, next_attempt(context))

    assert evidence.all_in_flight() == []
