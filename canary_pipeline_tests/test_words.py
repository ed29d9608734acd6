"""What people are told of rollouts that died, lost their folder, or could not be looked at."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from canary_pipeline.commands import status
from canary_pipeline.commands.dagster_home import use_home
from canary_pipeline.commands.exits import BadInputError, answers
from canary_pipeline.commands.history import tell as tell_history
from canary_pipeline.commands.rollback import rollback_command, take_back
from canary_pipeline.environments import STAGING
from canary_pipeline.model.decision import decide
from canary_pipeline.model.record import InFlight
from canary_pipeline.outside.claim import Claim
from canary_pipeline.reports.history import read_rollout
from canary_pipeline.rollout.attempts import FolderTakenError
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.holding import Holding
from canary_pipeline_tests.conftest import rows
from canary_pipeline_tests.fake_staging import answer, send
from canary_pipeline_tests.live_staging import ROUTING_STATUS, let_apply, live_in
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand

__all__ = ["at_hand"]


@pytest.fixture
def killed(at_hand: AtHand, monkeypatch: pytest.MonkeyPatch) -> Evidence:
    """A rollout that was killed in the soak of its first cohort."""
    monkeypatch.setenv("OA_STAGING_CANARY_ON_BLOCK", "hold")
    at_hand.staging.probes[5] = answer(500, {})
    evidence, _ = at_hand.roll_out("killed")
    evidence.update_header(lambda header: header.with_last_attempt(outcome=None, ended_at=None))
    state = InFlight(
        step="cohort 5", phase="soak", started_at="2026-02-25T08:00:00.000Z", attempt=1,
        run_id=evidence.header().run_ids[-1], soak_ends_at="2999-02-25T08:00:00.000Z",
    )  # fmt: skip
    evidence.set_in_flight(state)
    return evidence


def test_a_dead_rollout_is_not_soaking(
    killed: Evidence, at_hand: AtHand, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert status.tell(None, at_hand.settings(), STAGING) == 1

    out = capsys.readouterr().out
    assert "  cohort 5: killed, at soak\n" in out
    assert "soaking" not in out
    assert f"rollout: {killed.folder}" in out
    with Claim("staging", {"run": killed.header().run_ids[-1]}):
        status.tell(None, at_hand.settings(), STAGING)
    assert "  cohort 5: soaking" in capsys.readouterr().out


def test_what_somebody_has_set_since_is_said_beside_what_was_left(
    at_hand: AtHand, capsys: pytest.CaptureFixture[str]
) -> None:
    (at_hand.checkout.folder / "live.env").unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OA_STAGING_CANARY_ON_BLOCK", "hold")
        at_hand.staging.probes[5] = answer(500, {})
        at_hand.roll_out("held")
    (at_hand.checkout.folder / "live.env").unlink()

    status.tell(None, at_hand.settings(), STAGING)

    assert "; somebody has set 0 % since; to restore what was:" in capsys.readouterr().out


def test_history_tells_the_killed_from_the_living(killed: Evidence) -> None:
    assert read_rollout(killed).outcome == "killed"
    with Claim("staging", {"run": killed.header().run_ids[-1]}):
        assert read_rollout(killed).outcome == "under way"


def test_who_rolls_back_works_on_no_killed_rollout(killed: Evidence) -> None:
    with Claim("staging", {"started by": "canary-rollout rollback"}):
        assert read_rollout(killed).outcome == "killed"


@pytest.mark.parametrize("at_work", [True, False])
def test_history_tells_what_another_host_works_on_from_what_was_killed(
    killed: Evidence,
    at_hand: AtHand,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    at_work: bool,
) -> None:
    url, here = f"file://{at_hand.root}", str(at_hand.root)
    monkeypatch.setenv("OA_CANARY_EVIDENCE_URL", url)
    run = {"run": killed.header().run_ids[-1]} if at_work else {"started by": "somebody else"}

    monkeypatch.setenv("CANARY_PIPELINE_CLAIM_DIR", str(at_hand.root / "of another host"))
    (at_hand.root / "of another host").mkdir()
    with Holding("staging", url, run):
        monkeypatch.setenv("CANARY_PIPELINE_CLAIM_DIR", here)
        while_held = history(killed.folder.parent, capsys)

    assert while_held["outcome"] == ("under way" if at_work else "killed")
    assert history(killed.folder.parent, capsys)["outcome"] == "killed"


def history(root: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `history --json` tells of the only rollout below a folder."""
    capsys.readouterr()
    tell_history(str(root), 20, None, as_json=True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_rollback_that_nobody_could_look_at_has_not_failed(
    at_hand: AtHand, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence, _ = at_hand.roll_out("allowed")
    file = at_hand.checkout.folder / "live.env"

    def expired_once_it_is_rolled_back(handler: object) -> None:
        live = live_in(file)
        gone = live["data"]["canary_user_percent"] == 0
        send(handler, 401 if gone else 200, live)  # type: ignore[arg-type]

    at_hand.staging.snapshots[ROUTING_STATUS] = expired_once_it_is_rolled_back

    assert take_back(evidence, at_hand.settings(), STAGING, may_raise=False) == 1

    [row] = rows(evidence.folder, "rollback-results.jsonl")
    assert (row["reason"], row["exit_code"], at_hand.percent) == ("rollback_not_verified", 0, 0)
    assert "THE ROLLBACK IS NOT VERIFIED" in capsys.readouterr().out
    reasons = [reason.text for reason in decide(evidence.verified_record()).reasons]
    assert any("ROLLBACK NOT VERIFIED, though its command ended well" in text for text in reasons)


def test_what_was_left_live_is_rolled_back_from_another_checkout_once_its_own_is_gone(
    killed: Evidence, at_hand: AtHand
) -> None:
    elsewhere = at_hand.root / "elsewhere"
    at_hand.checkout.folder.rename(elsewhere)
    let_apply(at_hand.staging, elsewhere)
    assert live_in(elsewhere / "live.env")["data"]["canary_user_percent"] == 5

    arguments = [str(killed.folder), "--repo-root", str(elsewhere)]
    result = CliRunner().invoke(rollback_command, arguments)

    assert result.exit_code == 0, result.output
    assert live_in(elsewhere / "live.env")["data"]["canary_user_percent"] == 0
    assert "repo_root was " in (killed.read_text("SUMMARY.md") or "")


def test_a_file_that_cannot_be_written_is_named_as_people_know_it(
    at_hand: AtHand, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence, _ = at_hand.roll_out("allowed")
    with pytest.raises(SystemExit) as caught, answers():
        Evidence(evidence.folder / "none").write_text("rollout.json", "x")

    assert caught.value.code == 3
    said = capsys.readouterr().err
    assert f"{evidence.folder}/none/rollout.json" in said


def test_a_link_that_leads_nowhere_is_not_called_a_folder(at_hand: AtHand) -> None:
    (at_hand.root / "rollouts").mkdir()
    (at_hand.root / "rollouts/link").symlink_to("nowhere")

    with pytest.raises(FolderTakenError, match="is a link to nowhere, which does not exist"):
        at_hand.roll_out("link")


# -- the folder -------------------------------------------------------------------------------


def test_a_folder_that_is_taken_away_stops_the_rollout_which_rolls_back(
    at_hand: AtHand,
) -> None:
    folder = at_hand.root / "rollouts/lost"

    def take_away(handler: object) -> None:
        shutil.rmtree(folder)
        answer(200, {"data": {}})(handler)  # type: ignore[arg-type]

    at_hand.staging.probes[100] = take_away

    with pytest.raises(SystemExit) as caught, answers():
        at_hand.roll_out("lost")

    assert (caught.value.code, at_hand.percent) == (3, 0)
    last = Evidence(folder).header().last_attempt
    assert last
    assert last.outcome == "aborted"
    assert "was taken away while it ran" in (last.detail or "")
    assert (folder / "SUMMARY.md").read_text().endswith("Decision: block\n")


@pytest.mark.parametrize(("ignored", "warned"), [(False, True), (True, False)])
def test_a_folder_that_git_would_clean_is_warned_of(
    *, ignored: bool, warned: bool, at_hand: AtHand, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "-q", str(at_hand.root)], check=True)  # noqa: S607
    if ignored:
        (at_hand.root / ".gitignore").write_text("rollouts/\n")

    at_hand.roll_out("here")

    said = "it lies in a checkout that does not ignore it" in capsys.readouterr().out
    assert said == warned


# -- DAGSTER_HOME -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "below a file", "read-only"])
def test_a_home_that_is_none_is_bad_input_before_a_folder_is_opened(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    home = {"file": file, "below a file": file / "home", "read-only": Path("/proc")}[kind]
    monkeypatch.setenv("DAGSTER_HOME", str(home))

    with pytest.raises(BadInputError, match=r"DAGSTER_HOME is .*accepted: a folder to write to"):
        use_home()

    assert os.environ["DAGSTER_HOME"] == str(home)


def test_a_home_of_an_older_version_gets_the_queue_unless_somebody_has_changed_it(
    tmp_path: Path, new_dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "dagster"
    shutil.copytree(new_dagster_home, home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    configuration = home / "dagster.yaml"
    now = configuration.read_text()
    before, _, _ = now.partition("\n# A re-execution that waits there")

    configuration.write_text(before)
    use_home()
    assert configuration.read_text() == now

    configuration.write_text(f"{before}# ours\n")
    use_home()
    assert configuration.read_text() == f"{before}# ours\n"
