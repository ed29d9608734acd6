"""Rolling back: what was live before is made live again, verified, and told."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline.model.decision import decide
from canary_pipeline.model.plan import Changes, Endpoints, OnBlock, Plan
from canary_pipeline.model.rows import CohortRow, GateRow
from canary_pipeline.outside import command as process
from canary_pipeline.outside.control_service import ControlPlane
from canary_pipeline.outside.token import FixedToken
from canary_pipeline.reports.rollback_words import restoring_commands, rollback_words
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.cohort import Cohort
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.rollout.live.apply import make_live
from canary_pipeline.rollout.live.rollback import cannot_roll_back, roll_back, settle
from canary_pipeline.rollout.restoring import settle_stopped
from canary_pipeline_tests.conftest import TOKEN
from canary_pipeline_tests.fake_staging import FakeStaging, answer
from canary_pipeline_tests.live_staging import (
    FAKE_APPLY,
    ROUTING_STATUS,
    commands_by_hand,
    let_apply,
    live_in,
    rollback_rows,
)
from canary_pipeline_tests.rollout.conftest import ENVIRONMENT, FakeClock

BEFORE = (
    "OA_RUNTIME_CANARY_USER_PERCENT=3\n"
    "OA_RUNTIME_CANARY_AUTOPILOT_PERCENT=3\n"
    "OA_RUNTIME_SHADOW_ENABLED=false\n"
    "OA_RUNTIME_SHADOW_SAMPLE_RATE=0.25\n"
)


@pytest.fixture
def plan(plan: Plan, staging: FakeStaging, tmp_path: Path) -> Plan:
    let_apply(staging, tmp_path)
    (tmp_path / "live.env").write_text(BEFORE)
    return changing(replace(plan, endpoints=Endpoints(staging.url)))


def changing(plan: Plan, rollback: str = FAKE_APPLY, on_block: OnBlock = "rollback") -> Plan:
    return replace(plan, changes=Changes(FAKE_APPLY, rollback, on_block, 10))


@pytest.fixture
def control_plane(plan: Plan) -> ControlPlane:
    return ControlPlane(plan.endpoints, FixedToken(TOKEN), 5)


@pytest.fixture
def live(plan: Plan, control_plane: ControlPlane, around: Surroundings) -> Surroundings:
    """A rollout whose first cohort is live, and that blocks because the others have no result."""
    assert make_live(Cohort(5, plan, control_plane, around)).problem is None
    return around


def records(around: Surroundings, plan: Plan) -> None:
    """Record a plan's changes, as a rollout that starts with them does."""
    changes = plan.changes
    assert changes
    recorded = {"rollback_command": changes.rollback_command, "on_block": changes.on_block}
    around.evidence.update_header(lambda header: header.model_copy(update=recorded))


def percent(tmp_path: Path) -> int:
    return int(live_in(tmp_path / "live.env")["data"]["canary_user_percent"])


def words(around: Surroundings) -> str:
    return rollback_words(around.evidence.verified_record(), around.evidence.folder) or ""


def test_what_was_live_before_is_made_live_again(
    plan: Plan, control_plane: ControlPlane, live: Surroundings, tmp_path: Path
) -> None:
    row = settle(plan, control_plane, live, "the rollout blocks")

    assert row is not None
    assert row.status == "passed"
    assert (tmp_path / "live.env").read_text() == BEFORE
    [written] = rollback_rows(live.evidence.folder)
    assert written["cause"] == "the rollout blocks"
    assert written["wanted"]["user_percent"] == written["live"]["user_percent"] == 3
    assert written["exit_code"] == 0
    assert written["log_sha256"] == live.evidence.sha256("logs/rollback-1.log")
    header = live.evidence.header()
    assert (header.live_before, header.applied_percent, header.restoring) == (None, None, False)
    assert not (live.evidence.folder / "in-flight").exists()
    assert words(live).startswith("Restored: users 3 %, autopilots 3 %, shadow off")
    assert settle(plan, control_plane, live, "again") is None


def test_nothing_is_rolled_back_where_nothing_was_applied(
    plan: Plan, control_plane: ControlPlane, around: Surroundings
) -> None:
    assert settle(plan, control_plane, around, "a test") is None
    assert words(around) == "Nothing was applied."
    with pytest.raises(ValueError, match="applied nothing"):
        roll_back(plan, control_plane, around, "a test")


@pytest.mark.parametrize(
    ("rollback", "reason"),
    [("exit 3", "rollback_failed"), ("true", "percent_not_live"), ("kill $$", "rollback_failed")],
)
def test_a_rollback_that_fails_blocks_and_names_what_to_do(  # noqa: PLR0917
    rollback: str,
    reason: str,
    plan: Plan,
    control_plane: ControlPlane,
    live: Surroundings,
    tmp_path: Path,
) -> None:
    plan = changing(plan, rollback)
    records(live, plan)

    row = settle(plan, control_plane, live, "the rollout blocks")

    assert row is not None
    assert (row.status, row.reason) == ("failed", reason)
    assert percent(tmp_path) == 5
    [told] = [one for one in decide(live.evidence.record()).reasons if "ROLLBACK" in one.text]
    assert told.text.startswith(f"ROLLBACK FAILED, staging is not as it was: {reason}: ")
    assert words(live).startswith(f"**THE ROLLBACK FAILED** ({reason}: ")
    assert settle(plan, control_plane, live, "again") is None, "one attempt tries it once"
    assert live.evidence.header().live_before is not None


def test_a_rollback_whose_result_cannot_be_read_has_failed(
    plan: Plan, control_plane: ControlPlane, live: Surroundings, staging: FakeStaging
) -> None:
    staging.snapshots[ROUTING_STATUS] = answer(503, {})

    row = roll_back(plan, control_plane, live, "a test")

    assert (row.status, row.live) == ("failed", None)


def test_on_hold_nothing_is_run(
    plan: Plan, control_plane: ControlPlane, live: Surroundings, tmp_path: Path
) -> None:
    plan = changing(plan, on_block="hold")
    records(live, plan)

    row = settle(plan, control_plane, live, "the rollout blocks")

    assert row is not None
    assert (row.status, row.reason) == ("skipped", "held")
    assert percent(tmp_path) == 5
    assert words(live).startswith("Held on purpose: cohort 5 % stays live")
    assert settle(plan, control_plane, live, "again") is None
    assert live.evidence.header().live_before is not None


@pytest.mark.parametrize(("on_block", "status"), [("rollback", "failed"), ("hold", "skipped")])
def test_where_nothing_can_be_tried_that_is_recorded(
    on_block: OnBlock, status: str, plan: Plan, live: Surroundings
) -> None:
    records(live, changing(plan, on_block=on_block))

    row = cannot_roll_back(live, "a step failed", "the token file cannot be read")

    assert row.status == status
    assert "the token file cannot be read" in words(live) or on_block == "hold"


def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OA_"):
            monkeypatch.delenv(name)


def test_a_stopped_rollout_whose_settings_are_gone_says_that_it_is_not_restored(
    live: Surroundings, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_settings(monkeypatch)
    attempts.end(live.evidence, "run-1", "crashed", "a step failed", clock)

    row = settle_stopped(live.evidence, ENVIRONMENT, "run-1", "a step failed")

    assert row is not None
    assert row.status == "failed"
    assert "what cannot be verified is not applied" in (row.detail or "")
    assert "THE ROLLBACK FAILED" in (live.evidence.read_text("SUMMARY.md") or "")


def test_a_rollout_that_was_allowed_is_left_alone_even_where_its_settings_are_gone(
    live: Surroundings, plan: Plan, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_settings(monkeypatch)
    evidence = live.evidence
    shown = evidence.header().live_before
    for gate in plan.gates:
        evidence.add_gate_row(GateRow(gate=gate.name, status="passed", attempt=1, run_id="run-1"))
    for one in plan.cohorts:
        evidence.add_cohort_row(
            CohortRow(cohort_percent=one, status="passed", live=shown, attempt=1, run_id="run-1")
        )
    assert attempts.end(evidence, "run-1", "finished", None, clock).allowed
    summary = (evidence.folder / "SUMMARY.md").stat()

    assert settle_stopped(evidence, ENVIRONMENT, "run-1", "a step failed") is None

    assert rollback_rows(evidence.folder) == []
    assert (evidence.folder / "SUMMARY.md").stat().st_ino == summary.st_ino, "not written anew"


class StopError(BaseException):
    """Somebody stops the rollback."""


def test_a_rollback_that_is_stopped_says_so_and_is_tried_again(
    plan: Plan, control_plane: ControlPlane, live: Surroundings, tmp_path: Path
) -> None:
    def stop() -> None:
        raise StopError

    with pytest.raises(StopError):
        settle(plan, control_plane, replace(live, check_owner=stop), "the rollout blocks")

    [row] = rollback_rows(live.evidence.folder)
    assert (row["status"], row["reason"]) == ("failed", "rollback_stopped")
    assert live.evidence.header().restoring
    assert "THE ROLLBACK FAILED" in words(live)

    again = settle(plan, control_plane, live, "stopped")

    assert again is not None
    assert again.status == "passed"
    assert percent(tmp_path) == 3


def test_a_rollback_that_is_killed_leaves_no_pass_that_counts(
    plan: Plan, control_plane: ControlPlane, live: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its command runs, the folder says that what was live may not be any more."""
    seen: list[bool] = []
    run = process.run

    def watched(*arguments: Any, **named: Any) -> process.Finished:
        seen.append(live.evidence.header().restoring)
        return run(*arguments, **named)

    monkeypatch.setattr(process, "run", watched)

    roll_back(plan, control_plane, live, "a test")

    assert seen == [True]


@pytest.mark.parametrize("rollback", [FAKE_APPLY, "exit 3"])
@pytest.mark.parametrize("killed", [True, False])
def test_the_commands_by_hand_work_as_they_are_told(
    *, killed: bool, rollback: str, plan: Plan, control_plane: ControlPlane,
    live: Surroundings, tmp_path: Path,
) -> None:  # fmt: skip
    plan = changing(plan, rollback)
    records(live, plan)
    evidence = live.evidence
    if not killed and rollback != FAKE_APPLY:
        roll_back(plan, control_plane, live, "a test")
    told = commands_by_hand(words(live))

    assert told == restoring_commands(evidence.record(), evidence.folder)
    first, *bare = told.splitlines()
    assert first == f"canary-rollout rollback {evidence.folder}"
    for line in bare:
        code = subprocess.run(["/bin/bash", "-c", line], check=False, cwd="/").returncode
        assert code == (3 if "exit 3" in line else 0)
    assert (tmp_path / "live.env").read_text() == BEFORE


@pytest.mark.parametrize("status", ["failed", "held"])
def test_what_an_earlier_attempt_held_is_not_what_a_later_one_leaves(
    status: str, plan: Plan, control_plane: ControlPlane, live: Surroundings, clock: FakeClock
) -> None:
    plan = changing(plan, "exit 3", "hold" if status == "held" else "rollback")
    records(live, plan)
    settle(plan, control_plane, live, "the rollout blocks")
    attempts.join(live.evidence, "run-2", "a test", clock)

    assert "Held on purpose" not in words(live)


def test_a_rollback_that_is_lost_from_the_folder_is_missed(
    plan: Plan, control_plane: ControlPlane, live: Surroundings, clock: FakeClock
) -> None:
    attempts.end(live.evidence, "run-1", "finished", None, clock)
    roll_back(plan, control_plane, live, "somebody asked for it")
    attempts.rewrite_summary(live.evidence, clock)
    (live.evidence.folder / "rollback-results.jsonl").unlink()

    problems = live.evidence.verified_record().problems

    assert [problem.file for problem in problems] == ["rollback-results.jsonl"]


def test_a_rollout_that_goes_on_rolls_back_as_it_recorded(plan: Plan, live: Surroundings) -> None:
    records(live, changing(plan, "the recorded one", "hold"))
    at_hand = changing(plan, "another one", "rollback")

    settled = attempts.settled_plan(at_hand, live.evidence.header())

    assert settled.changes == Changes(FAKE_APPLY, "the recorded one", "hold", 10)


def test_a_rollout_does_not_go_on_with_another_apply_command(
    plan: Plan, live: Surroundings
) -> None:
    another = replace(plan, changes=Changes("another", "another", "rollback", 10))

    for other in (another, replace(plan, changes=None)):
        with pytest.raises(attempts.RolloutMismatchError, match="the apply command was"):
            attempts.settled_plan(other, live.evidence.header())
