"""Rolling back: what was live before is made live again, verified, and told."""

import subprocess
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline.model.decision import decide
from canary_pipeline.model.plan import OnBlock
from canary_pipeline.outside import command as process
from canary_pipeline.outside.stop import StoppedError
from canary_pipeline.planning import Settings
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.reports.rollback_words import restoring_commands, rollback_words
from canary_pipeline.rollout.conclusion import conclude, rewrite_decision
from canary_pipeline.rollout.context import Cohort, Context
from canary_pipeline.rollout.live.apply import make_live
from canary_pipeline.rollout.live.rollback import roll_back, settle
from canary_pipeline.store.journal import Journal
from canary_pipeline_tests.builders import add, passed, seen
from canary_pipeline_tests.fake_staging import FakeStaging, answer
from canary_pipeline_tests.live_staging import (
    FAKE_APPLY,
    ROUTING_STATUS,
    commands_by_hand,
    let_apply,
    live_in,
    rollback_rows,
)
from canary_pipeline_tests.rollout.conftest import asking, next_attempt, planned, settings_with

BEFORE = (
    "OA_RUNTIME_CANARY_USER_PERCENT=3\n"
    "OA_RUNTIME_CANARY_AUTOPILOT_PERCENT=3\n"
    "OA_RUNTIME_SHADOW_ENABLED=false\n"
    "OA_RUNTIME_SHADOW_SAMPLE_RATE=0.25\n"
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_with(tmp_path, CANARY_APPLY_COMMAND=FAKE_APPLY)


@pytest.fixture
def context(context: Context, staging: FakeStaging, tmp_path: Path) -> Context:
    """A rollout that applies, and whose staging was at 3 % before it."""
    let_apply(staging, tmp_path)
    (tmp_path / "live.env").write_text(BEFORE)
    return asking(context, staging)


@pytest.fixture
def live(context: Context) -> Context:
    """A rollout whose first cohort is live, and that blocks because nothing has a result."""
    assert make_live(Cohort(5, context)).problem is None
    return context


def changing(live: Context, rollback: str = FAKE_APPLY, on_block: OnBlock = "rollback") -> Context:
    """The same where the rollout was to roll back so."""
    changes = {"rollback_command": rollback, "on_block": on_block}
    live.evidence.update_header(lambda header: header.model_copy(update=changes))
    return planned(live, **changes)


def percent(tmp_path: Path) -> int:
    return int(live_in(tmp_path / "live.env")["data"]["canary_user_percent"])


def words(context: Context) -> str:
    return rollback_words(context.evidence.verified_record(), context.evidence.folder) or ""


def test_what_was_live_before_is_made_live_again(live: Context, tmp_path: Path) -> None:
    evidence = live.evidence

    row = settle(live, "the rollout blocks")

    assert row is not None
    assert row.status == "passed"
    assert (tmp_path / "live.env").read_text() == BEFORE
    [written] = rollback_rows(evidence.folder)
    assert written["cause"] == "the rollout blocks"
    assert written["wanted"]["user_percent"] == written["live"]["user_percent"] == 3
    assert written["exit_code"] == 0
    assert written["log_sha256"] == evidence.sha256("logs/rollback-1.log")
    header = evidence.header()
    assert (header.live_before, header.applied_percent, header.restoring) == (None, None, False)
    assert Journal("staging").read().owed is None
    assert not (evidence.folder / "in-flight").exists()
    assert words(live).startswith("Restored: users 3 %, autopilots 3 %, shadow off")
    assert settle(live, "again") is None


def test_nothing_is_rolled_back_where_nothing_was_applied(context: Context) -> None:
    assert settle(context, "a test") is None
    assert words(context) == "Nothing was applied."
    with pytest.raises(ValueError, match="applied nothing"):
        roll_back(context, "a test")


@pytest.mark.parametrize(
    ("rollback", "reason"),
    [("exit 3", "rollback_failed"), ("true", "percent_not_live"), ("kill $$", "rollback_failed")],
)
def test_a_rollback_that_fails_blocks_and_names_what_to_do(
    rollback: str, reason: str, live: Context, tmp_path: Path
) -> None:
    live = changing(live, rollback)

    row = settle(live, "the rollout blocks")

    assert row is not None
    assert (row.status, row.reason) == ("failed", reason)
    assert percent(tmp_path) == 5
    [told] = [one for one in decide(live.evidence.record()).reasons if "ROLLBACK" in one.text]
    assert told.text.startswith(f"ROLLBACK FAILED, staging is not as it was: {reason}: ")
    assert words(live).startswith(f"**THE ROLLBACK FAILED** ({reason}: ")
    assert settle(live, "again") is None, "one attempt tries it once"
    assert live.evidence.header().live_before is not None
    assert Journal("staging").read().owed is not None


def test_a_rollback_whose_result_cannot_be_read_has_failed(
    live: Context, staging: FakeStaging
) -> None:
    staging.snapshots[ROUTING_STATUS] = answer(503, {})

    row = roll_back(live, "a test")

    assert (row.status, row.live) == ("failed", None)


def test_on_hold_nothing_is_run(live: Context, tmp_path: Path) -> None:
    live = changing(live, on_block="hold")

    row = settle(live, "the rollout blocks")

    assert row is not None
    assert (row.status, row.reason) == ("skipped", "held")
    assert percent(tmp_path) == 5
    assert words(live).startswith("Held on purpose: cohort 5 % stays live")
    assert settle(live, "again") is None
    assert live.evidence.header().live_before is not None


@pytest.mark.parametrize("may_raise", [False, True])
def test_a_rollback_raises_nothing_that_somebody_lowered_since_unless_a_person_says_so(
    *, may_raise: bool, live: Context, tmp_path: Path
) -> None:
    (tmp_path / "live.env").write_text(BEFORE.replace("=3", "=1"))

    row = roll_back(live, "a test", may_raise=may_raise)

    assert percent(tmp_path) == (3 if may_raise else 1)
    if not may_raise:
        assert (row.status, row.reason) == ("skipped", "not_raised")
        assert words(live).startswith("**NOT RESTORED**: left as it is, at users 1 %")
    assert live.evidence.header().live_before is None, "nothing of the rollout is live any more"
    assert Journal("staging").read().owed is None


@pytest.mark.parametrize(
    ("somebody_set", "restored"), [((5, 0), (3, 0)), ((0, 5), (0, 3)), ((50, 1), (3, 1))]
)
def test_a_rollback_restores_one_percent_where_somebody_lowered_the_other(
    somebody_set: tuple[int, int], restored: tuple[int, int], live: Context, tmp_path: Path
) -> None:
    users, autopilots = somebody_set
    text = BEFORE.replace("USER_PERCENT=3", f"USER_PERCENT={users}")
    text = text.replace("AUTOPILOT_PERCENT=3", f"AUTOPILOT_PERCENT={autopilots}")
    (tmp_path / "live.env").write_text(text)

    row = roll_back(live, "a test")

    assert row.status == "passed"
    assert row.live is not None
    assert (row.live.user_percent, row.live.autopilot_percent) == restored
    [warning] = live.evidence.record().warnings
    assert "left as it is" in warning.message


HALF = "sed -i s/USER_PERCENT=.*/USER_PERCENT=25/ live.env; exit 1"
"""An apply command that dies between one percent and the other."""


@pytest.mark.parametrize("apply", ["exit 1", "true", HALF])
def test_an_earlier_cohort_that_is_still_live_is_nobody_elses_choice(
    apply: str, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "live.env").write_text(BEFORE.replace("=3", "=100"))
    let_cohorts_be(context, 5, 25, 100)
    assert make_live(Cohort(5, context)).problem is None
    assert make_live(Cohort(25, planned(context, apply_command=apply))).problem is not None
    assert live_in(tmp_path / "live.env")["data"]["canary_autopilot_percent"] == 5

    row = settle(context, "the rollout blocks")

    assert row is not None
    assert (row.status, row.reason) == ("passed", None)
    assert (tmp_path / "live.env").read_text() == BEFORE.replace("=3", "=100")
    assert context.evidence.record().warnings == ()


def test_a_control_service_that_restarts_is_waited_for_before_anything_is_raised(
    live: Context, staging: FakeStaging, tmp_path: Path
) -> None:
    (tmp_path / "live.env").write_text(BEFORE.replace("=3", "=1"))
    status = staging.snapshots[ROUTING_STATUS]

    def restart(handler: BaseHTTPRequestHandler) -> None:
        staging.snapshots[ROUTING_STATUS] = status
        answer(503, {})(handler)

    staging.snapshots[ROUTING_STATUS] = restart

    row = roll_back(live, "a test")

    assert (row.reason, percent(tmp_path)) == ("not_raised", 1)


def test_a_cohort_that_was_not_applied_yet_is_somebody_elses_choice(
    context: Context, tmp_path: Path
) -> None:
    (tmp_path / "live.env").write_text(BEFORE.replace("=3", "=100"))
    let_cohorts_be(context, 5, 25, 100)
    make_live(Cohort(5, context))
    (tmp_path / "live.env").write_text(BEFORE.replace("=3", "=25"))

    row = roll_back(context, "a test")

    assert (row.reason, percent(tmp_path)) == ("not_raised", 25)


def let_cohorts_be(context: Context, *cohorts: int) -> None:
    context.evidence.update_header(lambda header: header.model_copy(update={"cohorts": cohorts}))


def test_a_rollback_still_lowers_what_somebody_raised_since(live: Context, tmp_path: Path) -> None:
    (tmp_path / "live.env").write_text(BEFORE.replace("=3", "=50"))

    assert roll_back(live, "a test").status == "passed"
    assert percent(tmp_path) == 3


def stop() -> None:
    raise StoppedError("stopped by SIGINT")


def test_a_rollback_that_is_stopped_says_so_and_is_tried_again(
    live: Context, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        settle(replace(live, check_stop=stop), "the rollout blocks")

    [row] = rollback_rows(live.evidence.folder)
    assert (row["status"], row["reason"]) == ("failed", "rollback_stopped")
    assert live.evidence.header().restoring
    assert "THE ROLLBACK FAILED" in words(live)

    again = settle(live, "stopped")

    assert again is not None
    assert again.status == "passed"
    assert percent(tmp_path) == 3


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_rollback_that_is_stopped_without_a_word_says_by_what(live: Context) -> None:
    with pytest.raises(KeyboardInterrupt):
        roll_back(replace(live, check_stop=interrupt), "a test")

    [row] = rollback_rows(live.evidence.folder)
    assert row["detail"] == "before it was done (KeyboardInterrupt)"


def test_before_its_command_runs_the_folder_says_that_what_was_live_may_not_be_any_more(
    live: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a rollback that is killed leaves no pass that counts."""
    seen: list[bool] = []
    run = process.run

    def watched(*arguments: Any, **named: Any) -> process.Finished:
        seen.append(live.evidence.header().restoring)
        return run(*arguments, **named)

    monkeypatch.setattr(process, "run", watched)

    roll_back(live, "a test")

    assert seen == [True]


# -- how an attempt ends ----------------------------------------------------------------------


def test_whoever_concludes_a_rollout_that_blocks_rolls_back_and_writes_the_decision_anew(
    live: Context, tmp_path: Path
) -> None:
    decision = conclude(live, "crashed", "a step failed")

    assert not decision.allowed
    assert percent(tmp_path) == 3
    assert "Restored: users 3 %" in (live.evidence.read_text("SUMMARY.md") or "")
    assert live.evidence.verified_record().problems == ()


def test_a_rollback_that_is_stopped_while_an_attempt_is_concluded_is_in_the_decision(
    live: Context, tmp_path: Path
) -> None:
    conclude(replace(live, check_stop=stop), "aborted", "stopped")

    text = live.evidence.read_text("SUMMARY.md") or ""
    assert written_decision(live.evidence) == "block"
    assert "attempt 1 aborted: stopped" in text
    assert "THE ROLLBACK FAILED" in text
    assert percent(tmp_path) == 5


def test_a_rollout_that_is_allowed_is_left_live_and_owes_nothing(
    live: Context, tmp_path: Path
) -> None:
    add(live.evidence, *passed(live.plan, live=seen(5)))

    assert conclude(live, "finished").allowed

    assert rollback_rows(live.evidence.folder) == []
    assert percent(tmp_path) == 5
    assert Journal("staging").read().owed is None


# -- what people are told ---------------------------------------------------------------------


@pytest.mark.parametrize("rollback", [FAKE_APPLY, "exit 3"])
@pytest.mark.parametrize("killed", [True, False])
def test_the_commands_by_hand_work_as_they_are_told(
    *, killed: bool, rollback: str, live: Context, tmp_path: Path
) -> None:
    live, evidence = changing(live, rollback), live.evidence
    if not killed and rollback != FAKE_APPLY:
        roll_back(live, "a test")
    told = commands_by_hand(words(live))

    assert told == restoring_commands(evidence.record(), evidence.folder)
    first, *bare = told.splitlines()
    assert first == f"canary-rollout rollback {evidence.folder}"
    for line in bare:
        code = subprocess.run(["/bin/bash", "-c", line], check=False, cwd="/").returncode
        assert code == (3 if "exit 3" in line else 0)
    assert (tmp_path / "live.env").read_text() == BEFORE


@pytest.mark.parametrize("on_block", ["rollback", "hold"])
def test_what_an_earlier_attempt_held_is_not_what_a_later_one_leaves(
    on_block: OnBlock, live: Context
) -> None:
    live = changing(live, "exit 3", on_block)
    settle(live, "the rollout blocks")
    next_attempt(live)

    assert "Held on purpose" not in words(live)


def test_a_rollback_that_is_lost_from_the_folder_is_missed(live: Context) -> None:
    conclude(live, "finished")
    rewrite_decision(live)
    (live.evidence.folder / "rollback-results.jsonl").unlink()

    problems = live.evidence.verified_record().problems

    assert [problem.file for problem in problems] == ["rollback-results.jsonl"]
