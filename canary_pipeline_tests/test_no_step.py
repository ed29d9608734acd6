"""An engine that fails before its first step: an attempt of its own that says why."""

import pytest

from canary_pipeline.commands.resume import go_on
from canary_pipeline.commands.run import roll_out
from canary_pipeline.environments import STAGING
from canary_pipeline.model.environment import Environment
from canary_pipeline.orchestration.storage import StorageFailedError
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.stop import Signals
from canary_pipeline.planning import Settings
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.rollout.attempts import join
from canary_pipeline.rollout.enter import opened
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand

__all__ = ["at_hand"]

WHY = "Dagster's storage: it is away"


class Away:
    """Runs no step."""

    def prepare(self) -> None:
        pass

    def execute(self, *_: Evidence | Settings | Environment | Signals) -> bool:
        raise StorageFailedError(WHY)


def ends(evidence: Evidence) -> list[tuple[str | None, str | None]]:
    """How each attempt ended, and why."""
    return [(item.outcome, item.detail) for item in evidence.header().attempts]


CRASHED = ("crashed", f"could not be run: {WHY}, between two steps")


def test_each_attempt_that_fails_before_its_first_step_is_a_block_with_its_reason(
    at_hand: AtHand,
) -> None:
    settings = at_hand.settings(output_dir="r")
    evidence = Evidence(at_hand.root / "r")

    with pytest.raises(StorageFailedError):
        roll_out(settings, STAGING, Away())
    for _ in range(2):
        with pytest.raises(StorageFailedError, match=WHY):
            go_on(evidence, settings, STAGING, Away())

    assert ends(evidence) == [CRASHED] * 3
    assert len(set(evidence.header().run_ids)) == 3
    assert written_decision(evidence) == "block"
    assert f"attempt 3 crashed: {CRASHED[1]}" in (evidence.read_text("SUMMARY.md") or "")
    assert at_hand.resume(evidence) == 0


def test_it_does_not_speak_for_an_attempt_that_was_killed_before(at_hand: AtHand) -> None:
    settings = at_hand.settings(output_dir="r")
    evidence = opened(settings, STAGING, SystemClock())
    join(evidence, "run-1", "a test", SystemClock())

    with pytest.raises(StorageFailedError):
        go_on(evidence, settings, STAGING, Away())

    assert ends(evidence) == [(None, None), CRASHED]
    assert at_hand.resume(evidence) == 0
