"""A decision is reached once it is written: one that could not be is reached anew."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import dagster as dg
import pytest

from canary_pipeline.commands.run import roll_out
from canary_pipeline.environments import STAGING
from canary_pipeline.model.environment import Environment
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import DECISION_TAG, DIGEST_TAG
from canary_pipeline.orchestration.work import Work
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.stop import Signals, Stop
from canary_pipeline.planning import Settings
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.reports.verification import check
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.enter import enter_rollout, opened
from canary_pipeline.rollout.live.leftover import left_live
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.holding import Holding
from canary_pipeline.store.outbox import Outbox
from canary_pipeline_tests.builders import add, passed
from canary_pipeline_tests.fake_staging import GOOD, answer
from canary_pipeline_tests.orchestration.test_runs import instance, new_run
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand

__all__ = ["at_hand", "instance"]


@pytest.fixture
def settings(at_hand: AtHand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Those of a rollout that only asks."""
    monkeypatch.delenv("OA_STAGING_CANARY_APPLY_COMMAND")
    return at_hand.settings(output_dir=str(tmp_path / "rollout"))


def all_passed(context: Context) -> Context:
    """The same, once every step but the last has passed."""
    for row in passed(context.plan):
        add(context.evidence, row.model_copy(update={"run_id": context.run_id}))
    return context


def conclude_while_no_summary_can_be_written(context: Context) -> None:
    summary = context.evidence.folder / "SUMMARY.md"
    summary.mkdir()
    with pytest.raises(IsADirectoryError):
        conclude(context, "finished")
    summary.rmdir()


def said(evidence: Evidence) -> tuple[str | None, str, list[str]]:
    """What the summary says, what one can rely on, and the notices that wait."""
    notices = [item.decision for item in Outbox("staging").waiting(datetime.now(UTC))]
    return written_decision(evidence), check(evidence).answer, notices


@pytest.fixture
def work(settings: Settings, instance: dg.DagsterInstance) -> Work:
    """A run whose last step is to come, after all others have passed."""
    evidence, run = opened(settings, STAGING, SystemClock()), new_run(instance)
    context = all_passed(enter_rollout(settings, evidence, run.run_id, "a test"))
    rollout, holding = Rollout(STAGING, (5, 100), 0, 4), Holding("staging")
    return Work(run.run_id, rollout, Stop(), lambda _line: None, holding, context=context)


def test_what_the_last_step_could_not_write_is_concluded_again(
    work: Work, instance: dg.DagsterInstance
) -> None:
    assert work.context
    evidence = work.context.evidence
    conclude_while_no_summary_can_be_written(work.context)

    decision = work.conclude(instance, "step summary failed (IsADirectoryError)")

    assert decision
    assert [each.text for each in decision.reasons] == [
        "attempt 1 crashed: step summary failed (IsADirectoryError), between two steps"
    ]
    assert said(evidence) == ("block", "block", ["block"])
    run = instance.get_run_by_id(work.run_id)
    assert run
    digest = evidence.sha256("decision.json")
    assert (run.tags[DECISION_TAG], run.tags[DIGEST_TAG]) == ("block", digest)


def test_what_the_last_step_has_decided_stays(work: Work, instance: dg.DagsterInstance) -> None:
    assert work.context
    assert conclude(work.context, "finished").allowed

    decision = work.conclude(instance, "a step did not end")

    assert decision
    assert decision.allowed
    assert said(work.context.evidence) == ("allow", "allow", ["allow"])


@dataclass
class FailsAtTheEnd:
    """Runs every step but cannot write the decision, and goes without a word."""

    def prepare(self) -> None:
        """Nothing is needed."""

    def execute(
        self, evidence: Evidence, settings: Settings, _environment: Environment, _: Signals
    ) -> bool:
        context = enter_rollout(settings, evidence, "run-1", "a test")
        conclude_while_no_summary_can_be_written(all_passed(context))
        return False


def test_the_command_names_no_summary_that_is_not_there(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = roll_out(settings, STAGING, FailsAtTheEnd())

    out = capsys.readouterr().out
    assert (code, out.splitlines()[-2]) == (1, "Decision: block")
    evidence = Evidence(tmp_path / "rollout")
    assert f"summary: {evidence.folder / 'SUMMARY.md'}" in out
    assert said(evidence) == ("block", "block", ["block"])
    assert [attempt.outcome for attempt in evidence.header().attempts] == ["crashed"]


# -- what this host knows of the environment cannot be written -----------------------------------


def cannot_be_noted_from(at_hand: AtHand, percent: int) -> Callable[[], None]:
    """Let this host's journal be out of reach from a cohort's probe on; what brings it back."""
    journal = at_hand.root / "state/environments"

    def breaks(handler: BaseHTTPRequestHandler) -> None:
        journal.rename(journal.with_name("away"))
        journal.write_text("no folder")
        at_hand.staging.probes.clear()
        answer(200 if percent == 100 else 500, GOOD)(handler)

    def comes_back() -> None:
        journal.unlink()
        journal.with_name("away").rename(journal)

    at_hand.staging.probes[percent] = breaks
    return comes_back


def test_an_allow_that_cannot_be_noted_stands_and_is_told_and_the_next_rollout_builds_on_it(
    at_hand: AtHand,
) -> None:
    comes_back = cannot_be_noted_from(at_hand, 100)

    allowed, code = at_hand.roll_out("allowed")

    assert (code, at_hand.percent) == (0, 100)
    assert said(allowed) == ("allow", "allow", ["allow"])
    comes_back()
    assert left_live(STAGING) is None
    at_hand.staging.probes[5] = answer(500, {})
    blocked, code = at_hand.roll_out("blocked")
    assert (code, at_hand.percent) == (1, 100), "what was live before is what was allowed"
    assert blocked.record().warnings == ()


def test_a_rollback_that_cannot_be_noted_has_worked_and_the_next_rollout_knows_it(
    at_hand: AtHand,
) -> None:
    (at_hand.checkout.folder / "live.env").write_text("OA_RUNTIME_CANARY_USER_PERCENT=3\n")
    comes_back = cannot_be_noted_from(at_hand, 5)

    blocked, code = at_hand.roll_out("blocked")

    assert (code, at_hand.percent) == (1, 3)
    assert said(blocked) == ("block", "block", ["block"])
    comes_back()
    (at_hand.checkout.folder / "live.env").write_text("OA_RUNTIME_CANARY_USER_PERCENT=2\n")
    at_hand.staging.probes[5] = answer(500, {})
    at_hand.roll_out("another")
    assert at_hand.percent == 2
