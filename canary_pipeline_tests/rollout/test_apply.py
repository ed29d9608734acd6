"""Making a cohort live: what is remembered, run, waited for, and believed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline.model.plan import Changes, Endpoints, Plan
from canary_pipeline.model.rows import CohortRow, GateRow
from canary_pipeline.outside.control_service import ControlPlane
from canary_pipeline.outside.token import FixedToken
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.cohort import Cohort
from canary_pipeline.rollout.cohorts import run_cohort
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.rollout.live.apply import is_still_live, make_live
from canary_pipeline.rollout.live.rollback import roll_back, settle
from canary_pipeline_tests.conftest import TOKEN
from canary_pipeline_tests.fake_staging import Behaviour, FakeStaging, answer, send
from canary_pipeline_tests.live_staging import (
    FAKE_APPLY,
    ROUTING_STATUS,
    VARIABLES,
    let_apply,
    routing,
)
from canary_pipeline_tests.rollout.conftest import FakeClock


@pytest.fixture
def plan(plan: Plan, staging: FakeStaging, tmp_path: Path) -> Plan:
    let_apply(staging, tmp_path)
    return replace(
        plan,
        endpoints=Endpoints(staging.url),
        changes=Changes(FAKE_APPLY, FAKE_APPLY, "rollback", 10),
    )


@pytest.fixture
def cohort(plan: Plan, around: Surroundings) -> Cohort:
    for gate in plan.gates:
        row = GateRow(gate=gate.name, status="passed", attempt=1, run_id="run-1")
        around.evidence.add_gate_row(row)
    return cohort_of(100, plan, around)


def cohort_of(percent: int, plan: Plan, around: Surroundings) -> Cohort:
    control_plane = ControlPlane(plan.endpoints, FixedToken(TOKEN), 5)
    return Cohort(percent, replace(plan, cohorts=(percent,)), control_plane, around)


@pytest.fixture
def only_cohort(cohort: Cohort) -> Cohort:
    """The cohort, in a rollout that has no other."""
    evidence = cohort.around.evidence
    evidence.update_header(lambda header: header.model_copy(update={"cohorts": [100]}))
    return cohort


def with_changes(cohort: Cohort, apply: str) -> Cohort:
    changes = Changes(apply, FAKE_APPLY, "rollback", 10)
    return replace(cohort, plan=replace(cohort.plan, changes=changes))


def test_a_cohort_is_made_live_and_what_was_live_before_is_remembered(
    cohort: Cohort, tmp_path: Path
) -> None:
    made = make_live(cohort)

    assert made.problem is None
    assert made.live is not None
    assert made.live.user_percent == 100
    evidence = cohort.around.evidence
    header = evidence.header()
    assert header.live_before is not None
    assert (header.live_before.user_percent, header.live_before.shadow_enabled) == (0, False)
    assert header.applied_percent == 100
    text = evidence.read_text("env/cohort-100.env") or ""
    assert {line.partition("=")[0] for line in text.splitlines()} == VARIABLES
    before = evidence.read_text("env/rollback.env") or ""
    assert "OA_RUNTIME_CANARY_USER_PERCENT=0\n" in before
    assert (tmp_path / "live.env").read_text() == text
    assert made.log_file == "logs/apply-100.log"
    assert made.log_sha256 == evidence.sha256("logs/apply-100.log")


def test_what_was_live_before_the_first_cohort_stays_what_is_restored(
    plan: Plan, cohort: Cohort
) -> None:
    make_live(cohort_of(5, plan, cohort.around))
    make_live(cohort)

    header = cohort.around.evidence.header()
    assert header.live_before is not None
    assert header.live_before.user_percent == 0
    assert header.applied_percent == 100


def test_an_apply_command_that_fails_is_not_verified(cohort: Cohort, staging: FakeStaging) -> None:
    made = make_live(with_changes(cohort, "echo no; exit 3"))

    assert (made.problem, made.exit_code, made.detail) == ("apply_failed", 3, "exit code 3")
    assert cohort.around.evidence.read_text("logs/apply-100.log") == "no\n"
    assert len([one for one in staging.seen if one.path == ROUTING_STATUS]) == 1


UNREADABLE: dict[str, Behaviour] = {
    "an error": answer(503, "<h1>Maintenance</h1>", "text/html"),
    "a refusal": answer(401, {"error": {"code": "unauthorized"}}),
    "no data": answer(200, {}),
    "a list": answer(200, [1]),
    "a page": answer(200, "<h1>Log in</h1>", "text/html"),
    "percents as text": answer(200, {"data": {**routing(5)["data"], "canary_user_percent": "5"}}),
    "a percent that is none": answer(200, routing(101)),
    "a percent too few": answer(200, routing(-1)),
    "a rate that is no number": answer(200, routing(0, rate=float("nan"))),
    "a rate that is no share": answer(200, routing(0, rate=1e308)),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_where_what_is_live_cannot_be_read_nothing_is_applied(
    name: str, cohort: Cohort, staging: FakeStaging, tmp_path: Path, clock: FakeClock
) -> None:
    staging.snapshots[ROUTING_STATUS] = UNREADABLE[name]

    made = make_live(cohort)

    assert made.problem == "apply_failed"
    assert made.detail
    assert made.detail.startswith("nothing was applied: what is live could not be read: ")
    assert not (tmp_path / "live.env").exists()
    assert cohort.around.evidence.header().live_before is None
    assert clock.seconds >= 2


def failing_at_first(times: int, then: Behaviour) -> Behaviour:
    left = [times]

    def behave(handler: Any) -> None:
        left[0] -= 1
        send(handler, 503, {}) if left[0] >= 0 else then(handler)

    return behave


def test_a_service_that_restarts_is_waited_for(
    cohort: Cohort, staging: FakeStaging, clock: FakeClock
) -> None:
    staging.snapshots[ROUTING_STATUS] = failing_at_first(3, staging.snapshots[ROUTING_STATUS])

    made = make_live(cohort)

    assert made.problem is None
    assert clock.seconds > 0


@pytest.mark.parametrize(
    ("shown", "problem"),
    [
        (routing(5), "percent_not_live"),
        (
            {"data": {**routing(100)["data"], "canary_autopilot_percent": 99}},
            "percent_not_live",
        ),
        (routing(100, shadow=False), "shadow_not_live"),
        (routing(100, rate=0.5), "shadow_not_live"),
    ],
)
def test_what_is_not_live_in_time_fails_with_what_was_seen(
    shown: dict[str, Any], problem: str, cohort: Cohort, staging: FakeStaging, clock: FakeClock
) -> None:
    staging.snapshots[ROUTING_STATUS] = answer(200, shown)

    made = make_live(cohort)

    assert made.problem == problem
    assert made.live is not None
    assert made.detail
    assert made.detail.startswith(f"live is {made.live}; wanted users 100 %")
    assert 10 <= clock.seconds < 11


def test_a_whole_number_is_a_sample_rate(cohort: Cohort, staging: FakeStaging) -> None:
    shown = {"data": {**routing(100)["data"], "shadow": {"enabled": True, "sample_rate": 1}}}
    staging.snapshots[ROUTING_STATUS] = answer(200, shown)

    assert make_live(cohort).problem is None


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (answer(200, routing(0)), "percent_drifted"),
        (answer(200, routing(100, shadow=False)), "shadow_not_live"),
        (answer(503, {}), "percent_not_live"),
    ],
)
def test_what_is_not_live_any_more_after_the_soak_fails(
    shown: Behaviour, reason: str, only_cohort: Cohort, staging: FakeStaging, clock: FakeClock
) -> None:
    def drift() -> None:
        if clock.seconds > 800:
            staging.snapshots[ROUTING_STATUS] = shown

    clock.while_asleep = drift

    row = run_cohort(only_cohort)

    assert (row.status, row.reason) == ("failed", reason)
    assert row.error
    assert row.error.startswith("at the end of the soak ")
    assert row.live is not None
    assert row.live.user_percent == 100
    assert (row.live_after_soak is None) == (reason == "percent_not_live")


ROUTED = {
    "the canary": ("runtime_service", "user_canary", False),
    "nobody in particular": ("control_service", "default_driver", True),
    "an override": ("control_service", "user_override", False),
    "a force": ("control_service", "force_control_service", False),
    "a forced driver": ("control_service", "force_driver", False),
    "a binding": ("control_service", "autopilot_binding", False),
}


@pytest.mark.parametrize("name", ROUTED)
@pytest.mark.parametrize("percent", [5, 100])
def test_at_100_percent_a_probe_that_is_not_the_canarys_is_a_warning(
    percent: int, name: str, plan: Plan, cohort: Cohort, staging: FakeStaging
) -> None:
    driver, reason, warns = ROUTED[name]
    staging.probes[percent] = answer(200, {"data": {"driver": driver, "reason": reason}})
    evidence = cohort.around.evidence
    evidence.update_header(lambda header: header.model_copy(update={"cohorts": [percent]}))

    row = run_cohort(cohort_of(percent, plan, cohort.around))

    assert row.status == "passed"
    warnings = [warning.message for warning in evidence.record().warnings]
    expected = f"100 % is live, but the probe was routed to {driver} by {reason}"
    assert [expected in one for one in warnings] == ([True] if warns and percent == 100 else [])


def test_an_edited_apply_log_blocks(only_cohort: Cohort) -> None:
    assert run_cohort(only_cohort).status == "passed"
    evidence = only_cohort.around.evidence
    (evidence.folder / "logs/apply-100.log").write_text("edited")

    [problem] = evidence.verified_record().problems

    assert problem.file == "logs/apply-100.log"


def next_attempt(cohort: Cohort, clock: FakeClock) -> Cohort:
    attempts.join(cohort.around.evidence, "run-2", "a test", clock)
    return replace(cohort, around=replace(cohort.around, attempt=2, run_id="run-2"))


@pytest.mark.parametrize("still_live", [True, False])
def test_a_pass_of_the_last_cohort_counts_in_a_later_attempt_only_while_it_is_live(
    *, still_live: bool, only_cohort: Cohort, clock: FakeClock, tmp_path: Path
) -> None:
    first = run_cohort(only_cohort)
    if not still_live:
        (tmp_path / "live.env").unlink()

    second = run_cohort(next_attempt(only_cohort, clock))

    assert first.status == second.status == "passed"
    assert second.attempt == (1 if still_live else 2)
    assert second.live is not None
    assert second.live.user_percent == 100


def test_a_rollback_that_has_begun_makes_nobody_rely_on_what_was_live(
    only_cohort: Cohort, clock: FakeClock
) -> None:
    run_cohort(only_cohort)
    assert is_still_live(only_cohort)
    broken = with_changes(only_cohort, FAKE_APPLY)
    changes = Changes(FAKE_APPLY, "exit 3", "rollback", 10)
    plan = replace(broken.plan, changes=changes)

    row = roll_back(plan, broken.control_plane, broken.around, "a test")

    assert row.status == "failed"
    assert not is_still_live(only_cohort)
    assert run_cohort(next_attempt(only_cohort, clock)).attempt == 2


def test_a_pass_that_is_allowed_is_left_live(only_cohort: Cohort) -> None:
    row: CohortRow = run_cohort(only_cohort)

    settled = settle(only_cohort.plan, only_cohort.control_plane, only_cohort.around, "a test")

    assert row.status == "passed"
    assert settled is None
