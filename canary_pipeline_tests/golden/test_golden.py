"""What yesterday's version wrote, today's still writes, and still reads."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from canary_pipeline.reports.history import past_rollouts
from canary_pipeline_tests import conftest
from canary_pipeline_tests.conftest import Checkout, Commands, decision
from canary_pipeline_tests.fake_staging import FakeStaging
from canary_pipeline_tests.golden.comparison import determined, without_added
from canary_pipeline_tests.golden.scenarios import FOLDERS, NEUTRAL, NEW_FROM, SCENARIOS, World


@pytest.fixture
def tmp_path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    if NEW_FROM not in os.environ:
        return tmp_path
    folder = NEUTRAL / str(request.node.callspec.params["scenario"])
    folder.mkdir()
    return folder


@pytest.fixture
def world(
    commands: Commands, checkout: Checkout, staging: FakeStaging, monkeypatch: pytest.MonkeyPatch
) -> World:
    if programs := os.environ.get(NEW_FROM):
        monkeypatch.setattr(conftest, "PROGRAMS", Path(programs))
        commands.environment.pop("PYTHONPATH", None)
    return World(commands, checkout, staging)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_today_writes_what_yesterday_wrote(scenario: str, world: World) -> None:
    folder, golden = SCENARIOS[scenario].play(world), FOLDERS / scenario
    if NEW_FROM in os.environ:
        shutil.rmtree(golden, ignore_errors=True)
        shutil.copytree(folder, golden)
        for picture in golden.glob("*.png"):
            picture.write_bytes(b"")

    expected = determined(golden)
    if not SCENARIOS[scenario].with_picture:
        expected.pop("timeline.png", None)
    found = without_added(determined(folder), expected)

    assert sorted(found) == sorted(expected)
    for name, content in expected.items():
        assert found[name] == content, name


@pytest.mark.parametrize(
    ("file", "text", "instead", "may_be"),
    [
        ("SUMMARY.md", "- Gate failures: 0\n", "", False),
        ("SUMMARY.md", "- Decision: ", "- Mood: good\n- Decision: ", False),
        ("SUMMARY.md", "- Decision: ", "- Commit: 0ff1ce\n- Decision: ", True),
        ("rollout.json", '"dirty": false,', "", False),
        ("rollout.json", '"attempt": 1,', '"attempt": 1, "mood": "good",', False),
        ("rollout.json", '"attempt": 1,', '"attempt": 1, "dirty": false,', True),
        ("rollout.json", '"cohort-results.jsonl": "', '"cohort-results.jsonl": "0', False),
        ("gate-results.jsonl", '"chain": "', '"chain": "0', False),
        ("gate-results.jsonl", '"passed"', '"failed"', False),
        ("canary-env-sequence.txt", "RATE=1.0", "RATE=1", False),
        ("logs/apply-5.log", "applied", "done", False),
        ("new.json", "", "{}", False),
        ("decision.json", "", "{}", True),
    ],
)
def test_the_comparison_finds_every_change_but_what_may_be_added(
    file: str, text: str, instead: str, *, may_be: bool, tmp_path: Path
) -> None:
    golden, changed = FOLDERS / "rolled-back", tmp_path / "changed"
    shutil.copytree(golden, changed)
    before = (changed / file).read_text() if text else ""
    (changed / file).write_text(before.replace(text, instead, 1))

    found = without_added(determined(changed), determined(golden))

    assert (changed / file).read_text() != before
    assert (found == determined(golden)) == may_be


def test_today_reads_what_yesterday_decided() -> None:
    found = {rollout.folder.name: rollout for rollout in past_rollouts(FOLDERS)}

    assert sorted(found) == sorted(SCENARIOS)
    for name, rollout in found.items():
        why = re.search(r"## Why\n\n- (.+) \(evidence", (FOLDERS / name / "SUMMARY.md").read_text())
        assert rollout.problem is None
        assert f"Decision: {rollout.decision}" == decision(FOLDERS / name)
        assert rollout.what_blocked.startswith(why[1]) if why else not rollout.what_blocked
        assert rollout.outcome == ("aborted" if name == "aborted" else "finished")


PROBED_LATER = {"allow": [], "aborted": [5], "block-at-25": [25, 100]}
"""By scenario, what is left to probe; a soak that was noted by the wall clock alone begins anew."""


@pytest.mark.slow
@pytest.mark.parametrize("scenario", PROBED_LATER)
def test_yesterdays_rollout_goes_on_to_allow(scenario: str, world: World) -> None:
    golden, folder = FOLDERS / scenario, world.commands.folder / "yesterday" / scenario
    shutil.copytree(golden, folder)
    text = (folder / "rollout.json").read_text()
    header = json.loads(text)
    text = text.replace(header["repo_root"], str(world.checkout.folder))
    text = text.replace(header["control_base_url"], world.staging.url)
    text = text.replace(header["commit"], world.commit)  # elsewhere everything is done anew
    text = text.replace('"soak_seconds": 20', '"soak_seconds": 1')
    (folder / "rollout.json").write_text(text)

    result = world.commands.resume(folder)

    assert result.code == 0, result.out + result.err
    assert decision(folder) == "Decision: allow"
    assert world.staging.probed == PROBED_LATER[scenario]
    for file in golden.glob("*-results.jsonl"):
        assert (folder / file.name).read_bytes().startswith(file.read_bytes()), file.name
    [rollout] = past_rollouts(folder.parent)
    assert (rollout.decision, rollout.attempts) == ("allow", 2)
