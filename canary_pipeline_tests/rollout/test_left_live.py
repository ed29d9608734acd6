"""What a rollout that is not at work any more has left live."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from canary_pipeline.model.plan import Changes, Plan
from canary_pipeline.model.rows import (
    AttemptOutcome,
    CohortRow,
    GateRow,
    Header,
    LiveRouting,
    RollbackRow,
)
from canary_pipeline.outside.claim import Claim
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.live.leftover import left_live
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.rollout.conftest import FakeClock

ZERO = LiveRouting(
    user_percent=0, autopilot_percent=0, shadow_enabled=False, shadow_sample_rate=0.0, seen_at="s"
)

NewRollout = Callable[..., Evidence]


@pytest.fixture(autouse=True)
def own_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_PIPELINE_CLAIM_DIR", str(tmp_path))


@pytest.fixture
def new_rollout(plan: Plan, tmp_path: Path, clock: FakeClock) -> NewRollout:
    """Makes a rollout, each a minute after the one before."""
    plan = replace(plan, cohorts=(5,), changes=Changes("apply", "apply", "rollback", 10))

    def make(
        outcome: AttemptOutcome | None = None, *, applied: bool = True, passed: bool = False
    ) -> Evidence:
        clock.wall += timedelta(minutes=1)
        name = f"staging-{clock.wall:%H%M}"
        evidence = attempts.open_rollout(plan, tmp_path / "root" / name, clock)
        attempts.join(evidence, name, "a test", clock)
        for gate in plan.gates:
            row = GateRow(gate=gate.name, status="passed", attempt=1, run_id=name)
            evidence.add_gate_row(row)
        if applied:
            evidence.update_header(apply)
        if passed:
            evidence.add_cohort_row(
                CohortRow(cohort_percent=5, status="passed", live=ZERO, attempt=1, run_id=name)
            )
        if outcome is not None:
            attempts.end(evidence, name, outcome, None, clock)
        return evidence

    return make


def apply(header: Header) -> Header:
    return header.model_copy(update={"live_before": ZERO, "applied_percent": 5})


def rolled_back(evidence: Evidence, status: str, reason: str | None, attempt: int = 1) -> None:
    evidence.add_rollback_row(
        RollbackRow.model_validate(
            {
                "status": status, "reason": reason, "cause": "c", "command": "x", "wanted": ZERO,
                "started_at": "s", "finished_at": "s", "attempt": attempt, "run_id": "r",
            }
        )
    )  # fmt: skip


def told(tmp_path: Path) -> str | None:
    left = left_live(tmp_path / "root", "staging")
    return None if left is None else str(left)


def test_where_nothing_ever_was_nothing_is_left(tmp_path: Path, new_rollout: NewRollout) -> None:
    assert told(tmp_path) is None
    new_rollout(applied=False)
    assert told(tmp_path) is None


@pytest.mark.parametrize(
    ("outcome", "how"),
    [
        (None, "it was killed"),
        ("aborted", "it ended without rolling back"),
        ("finished", "it ended without rolling back"),
    ],
)
def test_a_cohort_that_was_left_live_is_named(
    outcome: AttemptOutcome | None, how: str, new_rollout: NewRollout, tmp_path: Path
) -> None:
    evidence = new_rollout(outcome)

    left = left_live(tmp_path / "root", "staging")

    assert left is not None
    assert str(left) == f"staging-0801 has left staging at 5 % ({how})"
    assert left.commands.startswith(f"canary-rollout rollback {evidence.folder}\n")


def test_a_rollout_that_was_allowed_is_to_be_live(new_rollout: NewRollout, tmp_path: Path) -> None:
    new_rollout("finished", passed=True)

    assert told(tmp_path) is None


def test_a_rollout_that_was_killed_before_it_was_decided_is_told(
    new_rollout: NewRollout, tmp_path: Path
) -> None:
    new_rollout(passed=True)

    assert told(tmp_path) == "staging-0801 has left staging at 5 % (it was killed)"


def test_a_rollout_that_is_at_work_leaves_nothing(new_rollout: NewRollout, tmp_path: Path) -> None:
    evidence = new_rollout()

    with Claim("staging", {"run": evidence.folder.name, "pid": str(os.getpid())}):
        assert told(tmp_path) is None
    assert told(tmp_path) is not None


def test_another_rollout_that_is_at_work_but_has_applied_nothing_does_not_hide_it(
    new_rollout: NewRollout, tmp_path: Path
) -> None:
    new_rollout()
    other = new_rollout(applied=False)

    with Claim("staging", {"run": other.folder.name, "pid": str(os.getpid())}):
        assert told(tmp_path) == "staging-0801 has left staging at 5 % (it was killed)"


def test_only_whoever_changed_staging_last_matters(new_rollout: NewRollout, tmp_path: Path) -> None:
    new_rollout()
    new_rollout("finished", passed=True)
    new_rollout("finished", applied=False)

    assert told(tmp_path) is None


@pytest.mark.parametrize(
    ("status", "reason", "how"),
    [("skipped", "held", "held on purpose"), ("failed", "rollback_failed", "its rollback failed")],
)
def test_what_an_earlier_attempt_left_is_not_what_a_killed_one_leaves(  # noqa: PLR0917
    status: str, reason: str, how: str, new_rollout: NewRollout, tmp_path: Path, clock: FakeClock
) -> None:
    evidence = new_rollout("finished")
    rolled_back(evidence, status, reason)
    assert told(tmp_path) == f"staging-0801 has left staging at 5 % ({how})"

    attempts.join(evidence, "run-2", "a test", clock)

    assert told(tmp_path) == "staging-0801 has left staging at 5 % (it was killed)"


def test_what_cannot_be_read_is_passed_over(new_rollout: NewRollout, tmp_path: Path) -> None:
    new_rollout()
    broken = new_rollout()
    (broken.folder / "rollout.json").write_text("{")

    assert told(tmp_path) == "staging-0801 has left staging at 5 % (it was killed)"
    assert left_live(tmp_path / "root", "production") is None
