"""`canary-rollout status`: what is left live is told whatever else cannot be."""

import os
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from canary_pipeline.commands.status import status_command, tell_all
from canary_pipeline.environments import STAGING
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.fake_staging import answer
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand

__all__ = ["at_hand"]

LEFT_LIVE = "ATTENTION: held has left staging at 5 % ("


def status(*arguments: str) -> Result:
    return CliRunner().invoke(status_command, arguments)


@pytest.fixture
def held(at_hand: AtHand, monkeypatch: pytest.MonkeyPatch) -> Evidence:
    """A rollout that has left its first cohort live."""
    monkeypatch.setenv("OA_STAGING_CANARY_ON_BLOCK", "hold")
    at_hand.staging.probes[5] = answer(500, {})
    evidence, _ = at_hand.roll_out("held")
    return evidence


def damage(evidence: Evidence) -> None:
    (evidence.folder / "rollout.json").write_text("{")


# -- what cannot be read ----------------------------------------------------------------------


def test_a_rollout_that_cannot_be_read_does_not_hide_what_is_left_live(held: Evidence) -> None:
    damage(held)

    for told in (status(), status(str(held.folder))):
        assert (told.exit_code, LEFT_LIVE in told.output) == (1, True), told.output
        assert f"unreadable: {held.folder}/rollout.json cannot be read: " in told.output
        assert f"canary-rollout rollback {held.folder}" in told.output


def test_a_rollout_that_cannot_be_read_is_bad_input_where_nothing_is_left_live(
    at_hand: AtHand,
) -> None:
    evidence, _ = at_hand.roll_out("allowed")
    damage(evidence)

    told = status()

    assert (told.exit_code, "ATTENTION" in told.output) == (2, False)
    assert "live: users 100 %" in told.output
    assert "unreadable: " in told.output


def test_a_rollout_that_cannot_be_read_hides_no_other_environment(
    held: Evidence, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(held)
    other = replace(STAGING, name="staging-eu", output_root="output/eu")
    capsys.readouterr()

    code = tell_all([STAGING, other], os.environ)

    told = capsys.readouterr().out
    assert (code, LEFT_LIVE in told) == (1, True)
    assert "\nstaging-eu: no rollout\n" in told


# -- what cannot be asked ---------------------------------------------------------------------


@pytest.mark.usefixtures("held")
def test_settings_that_are_wrong_do_not_hide_what_is_left_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OA_STAGING_CONTROL_AUTH_TOKEN")

    told = status()

    assert (told.exit_code, LEFT_LIVE in told.output) == (1, True)
    assert "live: unknown (OA_STAGING_CONTROL_AUTH_TOKEN (or " in told.output


def test_settings_that_are_wrong_are_bad_input_where_nothing_is_left_live(
    at_hand: AtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hand.roll_out("allowed")
    monkeypatch.delenv("OA_STAGING_CONTROL_AUTH_TOKEN")

    told = status()

    assert told.exit_code == 2
    assert "live: unknown (OA_STAGING_CONTROL_AUTH_TOKEN (or " in told.output
    assert "Decision: allow" in told.output
