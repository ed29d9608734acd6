"""A cohort's soak is right by the clock that cannot jump, and its deadline outlives the process."""

from dataclasses import replace
from datetime import timedelta

import pytest

from canary_pipeline.rollout.cohorts import Cohort, run_cohort
from canary_pipeline.rollout.control_plane import ControlPlane
from canary_pipeline.rollout.credentials import FixedToken
from canary_pipeline.rollout.plan import Endpoints, Plan
from canary_pipeline.rollout.records import GateRow
from canary_pipeline.rollout.surroundings import Surroundings
from canary_pipeline_tests.conftest import TOKEN
from canary_pipeline_tests.fake_staging import FakeStaging
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
