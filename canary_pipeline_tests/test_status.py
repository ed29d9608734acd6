"""`canary-rollout status`: what is left live is told whatever else cannot be."""

import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from canary_pipeline.commands.run import roll_out
from canary_pipeline.commands.status import status_command, tell_all
from canary_pipeline.environments import DEMO, STAGING
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.record import InFlight
from canary_pipeline.outside.claim import lock_folder
from canary_pipeline.planning import resolve
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.core_alone import CoreAlone
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


@pytest.mark.usefixtures("held")
def test_flags_say_where_to_ask_and_what_does_not_go_with_them_hides_nothing(
    at_hand: AtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OA_STAGING_CONTROL_BASE_URL")
    flag = ("--control-base-url", at_hand.staging.url)
    assert "\nlive: users 5 %" in status(*flag).output

    monkeypatch.delenv("OA_STAGING_CONTROL_BASE_URL")
    monkeypatch.delenv("OA_STAGING_CONTROL_AUTH_TOKEN")
    told = status(*flag)

    assert (told.exit_code, LEFT_LIVE in told.output) == (1, True)
    assert "is not set, but --control-base-url is; accepted: both" in told.output


# -- a rollout of another environment ---------------------------------------------------------

OF_STAGING = ("staging: no rollout", "live: ", "ATTENTION")
"""What is told where staging is told of, and something is left live there."""

EU = replace(STAGING, name="staging-eu", variables="OA_STAGING")
FILE = """name = "staging"
title = "Rollouts"
[gates]
one = "true"
[environments.staging]
[environments.staging-us]
"""


def rolled_out_to(environment: Environment, root: Path) -> Evidence:
    """A rollout to an environment that `status` does not serve where nothing else is set."""
    folder = root / f"of-{environment.name}"
    settings = resolve(environment, os.environ, {"output_dir": str(folder), "skip_gates": "true"})
    roll_out(settings, environment, CoreAlone())
    return Evidence(folder)


@pytest.fixture(params=["", FILE], ids=["no file", "a file"])
def served(
    request: pytest.FixtureRequest, at_hand: AtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `status` serves: staging alone, or the environments of a file."""
    file = at_hand.root / "canary.toml"
    file.write_text(request.param)
    monkeypatch.setenv("OA_CANARY_ENVIRONMENTS", str(file) if request.param else "")


@pytest.mark.usefixtures("held", "served")
def test_of_a_demo_its_own_steps_are_told_and_nothing_of_staging(tmp_path: Path) -> None:
    demo = rolled_out_to(DEMO, tmp_path)

    told = status(str(demo.folder))

    assert told.exit_code == 0
    assert told.output.splitlines()[:2] == [
        "demo: rolled out to a local stand-in, so nothing is told of what is live",
        f"rollout: {demo.folder}",
    ]
    assert "  gate sync-security: skipped" in told.output
    assert told.output.endswith("\nDecision: block (consistent, unsigned)\n")
    assert not [word for word in OF_STAGING if word in told.output]


@pytest.mark.usefixtures("held", "served")
def test_of_an_environment_that_is_not_known_here_nothing_is_told_as_if_it_were_staging(
    tmp_path: Path,
) -> None:
    other = rolled_out_to(EU, tmp_path)

    told = status(str(other.folder))

    assert told.exit_code == 2
    assert told.output.splitlines()[0] == (
        "staging-eu: not known here (OA_CANARY_ENVIRONMENTS names the file of environments), so "
        "nothing is told of what is live"
    )
    assert told.output.endswith("\nDecision: block (consistent, unsigned)\n")
    assert not [word for word in OF_STAGING if word in told.output]


@pytest.mark.usefixtures("at_hand")
def test_the_decision_of_such_a_rollout_is_printed_for_programs(tmp_path: Path) -> None:
    demo = rolled_out_to(DEMO, tmp_path)

    told = status("--json", str(demo.folder))

    assert (told.exit_code, told.stdout) == (0, demo.read_text("decision.json"))
    assert json.loads(told.stdout)["predicate"]["result"] == "FAILED"


@pytest.mark.usefixtures("at_hand")
@pytest.mark.parametrize("at_work", [True, False])
def test_whether_somebody_works_on_such_a_rollout_is_seen_by_its_folder(
    tmp_path: Path, *, at_work: bool
) -> None:
    demo = rolled_out_to(DEMO, tmp_path)
    state = InFlight(
        step="cohort 5", phase="probe", started_at="2026-02-25T08:00:00.000Z", attempt=1,
        run_id=demo.header().run_ids[0],
    )  # fmt: skip
    demo.set_in_flight(state)

    with lock_folder(demo.folder, {}) if at_work else nullcontext():
        told = status(str(demo.folder))

    assert f"  cohort 5: {'probing' if at_work else 'killed, at probe'}\n" in told.output


@pytest.mark.parametrize("served", [FILE], indirect=True)
@pytest.mark.usefixtures("served")
def test_an_environment_that_is_named_beside_a_rollout_of_another_is_refused(
    held: Evidence,
) -> None:
    told = status(str(held.folder), "--environment", "staging-us")

    said = f"canary-rollout: {held.folder} is a rollout of staging, not of staging-us\n"
    assert (told.exit_code, told.output) == (2, said)
    assert status(str(held.folder), "--environment", "staging").exit_code == 1
