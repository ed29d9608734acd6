"""Making a cohort live: what is remembered, run, waited for, and believed."""

from pathlib import Path
from typing import Any

import pytest

from canary_pipeline.planning import Settings
from canary_pipeline.rollout.checks.live_percent import is_still_live
from canary_pipeline.rollout.cohort import run_cohort
from canary_pipeline.rollout.context import Cohort, Context
from canary_pipeline.rollout.live.apply import make_live
from canary_pipeline.rollout.live.rollback import roll_back, settle
from canary_pipeline.store.journal import Journal
from canary_pipeline_tests.builders import add, gate, seen
from canary_pipeline_tests.fake_staging import Behaviour, FakeStaging, answer, send
from canary_pipeline_tests.live_staging import (
    FAKE_APPLY,
    ROUTING_STATUS,
    VARIABLES,
    let_apply,
    routing,
)
from canary_pipeline_tests.rollout.conftest import (
    FakeClock,
    asking,
    next_attempt,
    planned,
    settings_with,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_with(tmp_path, CANARY_APPLY_COMMAND=FAKE_APPLY, CANARY_COHORTS="100")


@pytest.fixture
def context(context: Context, staging: FakeStaging, tmp_path: Path) -> Context:
    """A rollout of one cohort, 100 %, that applies, and whose gates passed."""
    let_apply(staging, tmp_path)
    add(context.evidence, gate("one"), gate("two"))
    return asking(context, staging)


@pytest.fixture
def cohort(context: Context) -> Cohort:
    return Cohort(100, context)


def test_a_cohort_is_made_live_and_what_was_live_before_is_remembered(
    cohort: Cohort, tmp_path: Path
) -> None:
    made = make_live(cohort)

    assert (made.problem, made.live and made.live.user_percent) == (None, 100)
    evidence = cohort.context.evidence
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


def test_what_was_live_before_the_first_cohort_stays_what_is_restored(cohort: Cohort) -> None:
    make_live(Cohort(5, cohort.context))
    make_live(cohort)

    header = cohort.context.evidence.header()
    assert header.live_before is not None
    assert (header.live_before.user_percent, header.applied_percent) == (0, 100)


def test_what_a_dead_rollout_owes_is_inherited(cohort: Cohort, tmp_path: Path) -> None:
    """Otherwise a rollback would restore what that one left, and call it what was before."""
    evidence, dead = cohort.context.evidence, tmp_path / "dead"
    Journal("staging").applied(dead, 25, seen(3))

    make_live(cohort)

    assert evidence.header().live_before == seen(3)
    owed = Journal("staging").read().owed
    assert (owed and owed.folder, owed and owed.before) == (evidence.folder, seen(3))
    [warning] = evidence.record().warnings
    assert warning.message.startswith("dead has left users 0 %")


def test_an_apply_command_that_fails_is_not_verified(
    context: Context, staging: FakeStaging
) -> None:
    made = make_live(Cohort(100, planned(context, apply_command="echo no; exit 3")))

    assert (made.problem, made.exit_code, made.detail) == ("apply_failed", 3, "exit code 3")
    assert context.evidence.read_text("logs/apply-100.log") == "no\n"
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
    assert cohort.context.evidence.header().live_before is None
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

    assert make_live(cohort).problem is None
    assert clock.seconds > 0


def shown(**data: object) -> dict[str, Any]:
    return {"data": {**routing(100)["data"], **data}}


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (routing(5), "percent_not_live"),
        (shown(canary_autopilot_percent=99), "percent_not_live"),
        (routing(100, shadow=False), "shadow_not_live"),
        (routing(100, rate=0.5), "shadow_not_live"),
        (shown(force_control_service=True), "canary_forced_off"),
        (shown(forced_driver="control_service"), "canary_forced_off"),
        (shown(force_control_service=False, forced_driver=None), None),
        (shown(shadow={"enabled": True, "sample_rate": 1}), None),  # a whole number is a rate
    ],
)
def test_what_is_not_live_in_time_fails_with_what_was_seen(
    status: object, problem: str | None, cohort: Cohort, staging: FakeStaging, clock: FakeClock
) -> None:
    staging.snapshots[ROUTING_STATUS] = answer(200, status)

    made = make_live(cohort)

    assert made.problem == problem
    assert made.live is not None
    assert (made.detail is None) == (problem is None)
    if problem in ("percent_not_live", "shadow_not_live"):
        assert (made.detail or "").startswith(f"live is {made.live}; wanted users 100 %")
        assert 10 <= clock.seconds < 11


def test_a_cohort_that_could_not_be_made_live_fails_without_a_probe(cohort: Cohort) -> None:
    row = run_cohort(100, planned(cohort.context, apply_command="true", verify_timeout_seconds=1))

    assert (row.status, row.reason) == ("failed", "percent_not_live")
    assert row.live is not None
    assert (row.live.user_percent, row.probed_at) == (0, None)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (answer(200, routing(0)), "percent_drifted"),
        (answer(200, routing(100, shadow=False)), "shadow_not_live"),
        (answer(503, {}), "percent_not_live"),
    ],
)
def test_what_is_not_live_any_more_after_the_soak_fails(
    status: Behaviour, reason: str, context: Context, staging: FakeStaging, clock: FakeClock
) -> None:
    def drift() -> None:
        if clock.seconds > 800:
            staging.snapshots[ROUTING_STATUS] = status

    clock.while_asleep = drift

    row = run_cohort(100, context)

    assert (row.status, row.reason) == ("failed", reason)
    assert (row.error or "").startswith("at the end of the soak ")
    assert row.live is not None
    assert row.live.user_percent == 100
    assert (row.live_after_soak is None) == (reason == "percent_not_live")


@pytest.mark.parametrize(
    ("driver", "reason", "warns"),
    [
        ("runtime_service", "user_canary", False),
        ("control_service", "default_driver", True),
        ("control_service", "user_override", False),
        ("control_service", "force_control_service", False),
        ("control_service", "force_driver", False),
        ("control_service", "autopilot_binding", False),
    ],
)
@pytest.mark.parametrize("percent", [5, 100])
def test_at_100_percent_a_probe_that_is_not_the_canarys_is_a_warning(
    percent: int, driver: str, reason: str, *, warns: bool, context: Context, staging: FakeStaging
) -> None:
    staging.probes[percent] = answer(200, {"data": {"driver": driver, "reason": reason}})
    evidence = context.evidence
    evidence.update_header(lambda header: header.model_copy(update={"cohorts": (percent,)}))

    row = run_cohort(percent, planned(context, cohorts=(percent,), soak_seconds=1))

    assert row.status == "passed"
    expected = f"100 % is live, but the probe was routed to {driver} by {reason}"
    found = [expected in warning.message for warning in evidence.record().warnings]
    assert found == ([True] if warns and percent == 100 else [])


def test_an_edited_apply_log_blocks(context: Context) -> None:
    assert run_cohort(100, context).status == "passed"
    context.evidence.write_text("logs/apply-100.log", "edited")

    [problem] = context.evidence.verified_record().problems

    assert problem.file == "logs/apply-100.log"


@pytest.mark.parametrize("still_live", [True, False])
def test_a_pass_of_the_last_cohort_counts_in_a_later_attempt_only_while_it_is_live(
    *, still_live: bool, context: Context, tmp_path: Path
) -> None:
    first = run_cohort(100, context)
    if not still_live:
        (tmp_path / "live.env").unlink()

    second = run_cohort(100, next_attempt(context))

    assert first.status == second.status == "passed"
    assert second.attempt == (1 if still_live else 2)
    assert second.live is not None
    assert second.live.user_percent == 100
    assert second.apply_log_file == f"logs/apply-100{'' if still_live else '.2'}.log"


def test_a_rollback_that_has_begun_makes_nobody_rely_on_what_was_live(cohort: Cohort) -> None:
    context = cohort.context
    run_cohort(100, context)
    assert is_still_live(cohort)

    row = roll_back(planned(context, rollback_command="exit 3"), "a test")

    assert row.status == "failed"
    assert not is_still_live(cohort)
    assert run_cohort(100, next_attempt(context)).attempt == 2


def test_a_pass_that_is_allowed_is_left_live(context: Context) -> None:
    assert run_cohort(100, context).status == "passed"
    assert settle(context, "a test") is None
