"""Old evidence goes; what somebody may still need stays."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from canary_pipeline.commands import prune as pruning
from canary_pipeline.commands.exits import BadInputError
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.reports.history import PastRollout, past_rollouts
from canary_pipeline.reports.newest import verify_newest
from canary_pipeline.reports.verification import Demands
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.journal import Journal
from canary_pipeline.store.layout import OF_A_ROLLOUT
from canary_pipeline.store.rollouts import newest_first
from canary_pipeline_tests.builders import attempt, seen
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand

__all__ = ["at_hand"]


def prune(root: Path, keep: str = "90d", last: int = 50, *, dry_run: bool = False) -> None:
    pruning.prune(root, keep, last, dry_run=dry_run)


@pytest.fixture
def root(at_hand: AtHand, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four rollouts, each a hundred days old and of no commit; then one of today."""
    monkeypatch.delenv("OA_STAGING_CANARY_APPLY_COMMAND")
    for number in range(5):
        evidence, code = at_hand.roll_out(f"r{number}")
        assert code == 0
        if number < 4:
            age(evidence, 100 - number)
    return at_hand.root / "rollouts"


def age(evidence: Evidence, days: int) -> None:
    started = rfc3339(datetime.now(UTC) - timedelta(days=days))
    evidence.update_header(lambda header: header.model_copy(update={"started_at": started}))


def left(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_only_what_is_old_and_not_among_the_last_goes(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    prune(root)
    assert capsys.readouterr().out == ""
    prune(root, last=2, dry_run=True)
    assert f"would go: {root / 'r0'}" in capsys.readouterr().out
    assert left(root) == ["r0", "r1", "r2", "r3", "r4"]

    prune(root, last=2)

    assert left(root) == ["r3", "r4"]
    assert f"deleted: {root / 'r0'}" in capsys.readouterr().out


def test_an_age_is_days_or_hours(root: Path) -> None:
    prune(root, "99d", last=0)
    assert left(root) == ["r2", "r3", "r4"]

    with pytest.raises(BadInputError, match="--keep is 'soon'; accepted: days or hours, such as"):
        prune(root, "soon")


def test_an_empty_root_is_no_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = root.parent / "output/canary/spacetime"
    usual.parent.mkdir(parents=True)
    root.rename(usual)
    monkeypatch.chdir(root.parent)
    arguments = ["--keep-last", "0"]

    refused = CliRunner().invoke(pruning.prune_command, ["", *arguments])

    assert (refused.exit_code, left(usual)) == (2, ["r0", "r1", "r2", "r3", "r4"])
    assert refused.stderr == "canary-rollout: ROOT is empty: accepted is a folder\n"
    assert CliRunner().invoke(pruning.prune_command, arguments).exit_code == 0
    assert left(usual) == ["r4"]


@pytest.mark.parametrize("why", ["owed", "live", "under way", "another commit", "unreadable"])
def test_what_somebody_may_still_need_stays(
    why: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = Evidence(root / "r1")
    header = evidence.header()
    seen = {
        "user_percent": 0, "autopilot_percent": 0, "shadow_enabled": False,
        "shadow_sample_rate": 0.0, "seen_at": "s",
    }  # fmt: skip
    live = header.model_validate({**header.model_dump(), "live_before": seen}).live_before
    assert live
    if why == "owed":
        Journal("staging").applied(evidence.folder, 5, live)
    elif why == "live":
        changed = header.with_last_attempt(outcome="aborted", detail="x")
        evidence.write_header(changed.model_copy(update={"live_before": live}))
    elif why == "under way":
        evidence.write_header(header.with_last_attempt(outcome=None, ended_at=None))
    elif why == "another commit":
        evidence.write_header(header.with_last_attempt(commit="a" * 40))
    else:
        (evidence.folder / "rollout.json").write_text("{")

    prune(root, last=0)

    assert left(root) == ["r1", "r4"]
    kept = f"kept: {evidence.folder}" in capsys.readouterr().out
    assert kept == (why == "unreadable")


def test_a_rollout_that_somebody_works_on_stays_whatever_its_header_says(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = (
        "import sys, pathlib\n"
        "from canary_pipeline.outside.claim import lock_folder\n"
        f"with lock_folder(pathlib.Path('{root}/r1'), {{}}):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"

    prune(root, last=0)

    holder.communicate("")
    assert left(root) == ["r1", "r4"]
    assert f"kept, worked on just now: {root / 'r1'}\n" in capsys.readouterr().out


def test_a_rollout_that_was_gone_on_with_since_it_was_read_stays(
    at_hand: AtHand, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_then_resumed(below: Path) -> list[PastRollout]:
        found = past_rollouts(below)
        assert at_hand.resume(Evidence(root / "r1"), superseded=True) == 0
        return found

    monkeypatch.setattr(pruning, "past_rollouts", read_then_resumed)
    prune(root, last=0)

    assert left(root) == ["r1", "r4"]


def test_at_every_moment_of_a_prune_the_newest_decision_is_the_one_that_it_was(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is killed there: what it has left does not speak for the root."""
    unlink, now = Path.unlink, datetime.now(UTC)
    moments: list[tuple[str, str]] = []

    def looked_at(path: Path, *, missing_ok: bool = False) -> None:
        unlink(path, missing_ok=missing_ok)
        found = verify_newest(root, Demands(), now)
        moments.append((found.answer, newest_first(root)[0].folder.name))

    monkeypatch.setattr(Path, "unlink", looked_at)
    prune(root, last=3)

    assert left(root) == ["r2", "r3", "r4"]
    assert moments == [("allow", "r4")] * 2 * len(OF_A_ROLLOUT)


def test_what_is_owed_stays_by_whatever_way_its_root_is_named(root: Path) -> None:
    evidence = Evidence(root / "r1")
    Journal("staging").applied(evidence.folder, 5, seen(0))
    (root.parent / "link").symlink_to(root)

    prune(root.parent / "link", last=0)

    assert left(root) == ["r1", "r4"]


def test_a_link_to_a_rollout_and_what_it_leads_to_stay(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    (root / "r1").rename(elsewhere)
    (root / "r1").symlink_to(elsewhere)
    files = left(elsewhere)

    prune(root, last=0)

    assert left(root) == ["r1", "r4"]
    assert left(elsewhere) == files


def test_what_verify_takes_for_the_newest_of_a_commit_stays(root: Path) -> None:
    """What was worked on last, of every commit that a rollout has seen."""
    one, other = "a" * 40, "b" * 40
    for name, commits, day in (
        ("r0", [one], 9), ("r1", [one], 3), ("r2", [other, one], 5), ("r3", [one], 4),
    ):  # fmt: skip
        at = rfc3339(datetime.now(UTC) - timedelta(days=day))
        attempts = tuple(
            attempt(number, commit=commit, started_at=at, ended_at=at)
            for number, commit in enumerate(commits, start=1)
        )
        evidence = Evidence(root / name)
        changed = {"attempts": attempts, "decided_at": at}
        evidence.write_header(evidence.header().model_copy(update=changed))

    prune(root, last=0)

    assert left(root) == ["r1", "r2", "r4"]


def test_what_a_killed_prune_has_left_goes_with_the_next(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "r0").rename(root / ".r0.going")
    capsys.readouterr()

    prune(root, last=3, dry_run=True)

    assert left(root) == [".r0.going", "r1", "r2", "r3", "r4"]
    said = capsys.readouterr().out
    assert said == f"would go: {root / '.r0.going'}\nwould go: {root / 'r1'}\n"

    prune(root, last=3)

    assert left(root) == ["r2", "r3", "r4"]
    assert capsys.readouterr().out == said.replace("would go", "deleted")
