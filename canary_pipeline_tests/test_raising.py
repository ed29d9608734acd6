"""What somebody has lowered is left alone by a rollback, and raised again if a person says so."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from canary_pipeline.commands.rollback import rollback_command
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.rollout.live.leftover import left_live
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.journal import Journal
from canary_pipeline_tests.builders import ENVIRONMENT
from canary_pipeline_tests.conftest import rows
from canary_pipeline_tests.fake_staging import answer
from canary_pipeline_tests.live_staging import FAKE_APPLY, ROLLBACK_VARIABLE, live_in
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand

__all__ = ["at_hand"]

Lowered = Callable[[int, int], Evidence]


def percents(at_hand: AtHand) -> tuple[int, int]:
    """Of users and of autopilots, what is live."""
    live = live_in(at_hand.checkout.folder / "live.env")["data"]
    return live["canary_user_percent"], live["canary_autopilot_percent"]


def make_live(at_hand: AtHand, users: int, autopilots: int) -> None:
    (at_hand.checkout.folder / "live.env").write_text(
        f"OA_RUNTIME_CANARY_USER_PERCENT={users}\n"
        f"OA_RUNTIME_CANARY_AUTOPILOT_PERCENT={autopilots}\n"
    )


@pytest.fixture
def lowered(at_hand: AtHand) -> Lowered:
    """Makes a rollout that blocks at 5 % of 50 % before, while somebody sets other percents."""

    def roll_out(users: int, autopilots: int) -> Evidence:
        def somebody_is_quicker(handler: BaseHTTPRequestHandler) -> None:
            make_live(at_hand, users, autopilots)
            answer(500, {})(handler)

        make_live(at_hand, 50, 50)
        at_hand.staging.probes[5] = somebody_is_quicker
        evidence, code = at_hand.roll_out("lowered")
        assert code == 1
        assert "`canary-rollout rollback --raise` does" in (evidence.read_text("SUMMARY.md") or "")
        return evidence

    return roll_out


def rollback(evidence: Evidence, *flags: str) -> Result:
    return CliRunner().invoke(rollback_command, [str(evidence.folder), *flags])


def statuses(folder: Path) -> list[str]:
    return [row["status"] for row in rows(folder, "rollback-results.jsonl")]


@pytest.mark.parametrize(
    ("somebody_set", "left", "said"),
    [((1, 1), (1, 1), "skipped"), ((1, 5), (1, 50), "passed"), ((5, 0), (50, 0), "passed")],
)
def test_what_a_rollback_has_not_raised_is_raised_as_its_summary_says(
    somebody_set: tuple[int, int],
    left: tuple[int, int],
    said: str,
    lowered: Lowered,
    at_hand: AtHand,
) -> None:
    evidence = lowered(*somebody_set)
    assert (percents(at_hand), statuses(evidence.folder)) == (left, [said])
    unasked = rollback(evidence)
    assert (unasked.exit_code, percents(at_hand)) == (0, left)
    assert "nothing to roll back" in unasked.output

    raised = rollback(evidence, "--raise")

    assert (raised.exit_code, percents(at_hand)) == (0, (50, 50)), raised.output
    assert statuses(evidence.folder) == [said, "passed"]
    assert "Restored: users 50 %" in (evidence.read_text("SUMMARY.md") or "")
    assert written_decision(evidence) == "block"
    assert Journal("staging").read().owed is None
    assert "nothing to roll back" in rollback(evidence, "--raise").output


def test_what_could_not_be_raised_is_told_as_any_rollback_that_failed(
    lowered: Lowered, at_hand: AtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = lowered(1, 1)

    monkeypatch.setenv(ROLLBACK_VARIABLE, "exit 3")
    failed = rollback(evidence, "--raise")

    assert (failed.exit_code, percents(at_hand)) == (1, (1, 1))
    assert "**THE ROLLBACK FAILED** (rollback_failed: " in failed.output
    assert "Staging may be left at 5 %; before the rollout it was: users 50 %" in failed.output
    left = left_live(ENVIRONMENT)
    assert left is not None
    assert str(left) == "lowered has left staging at 5 % (its rollback failed)"
    monkeypatch.setenv(ROLLBACK_VARIABLE, FAKE_APPLY)
    assert rollback(evidence, "--raise").exit_code == 0
    assert percents(at_hand) == (50, 50)


def test_what_a_rollback_has_restored_is_not_raised(at_hand: AtHand) -> None:
    make_live(at_hand, 50, 50)
    at_hand.staging.probes[5] = answer(500, {})
    evidence, _ = at_hand.roll_out("restored")
    assert percents(at_hand) == (50, 50)
    make_live(at_hand, 1, 1)

    assert "nothing to roll back" in rollback(evidence, "--raise").output

    assert percents(at_hand) == (1, 1)
