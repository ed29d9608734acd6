"""What a rollout that is not at work any more has left live."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from canary_pipeline.model.record import AttemptOutcome, Header
from canary_pipeline.outside.claim import lock_folder
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.conclusion import end_attempt
from canary_pipeline.rollout.live.leftover import LeftLive, left_live
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.journal import Journal
from canary_pipeline_tests.builders import ENVIRONMENT, add, cohort, gate, rolled_back, seen
from canary_pipeline_tests.rollout.conftest import FakeClock, new_rollout, settings_with

MakeRollout = Callable[..., Evidence]


@pytest.fixture(autouse=True)
def own_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_PIPELINE_CLAIM_DIR", str(tmp_path))


@pytest.fixture(params=["journal", "folders"])
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> MakeRollout:
    """Makes a rollout, each a minute after the one before.

    It is known by the journal, or as those of an older version by its folder in the usual place.
    """
    settings = settings_with(tmp_path, CANARY_APPLY_COMMAND="apply", CANARY_COHORTS="5")

    def one(
        outcome: AttemptOutcome | None = None, *, applied: bool = True, passed: bool = False
    ) -> Evidence:
        clock.wall += timedelta(minutes=1)
        name = f"staging-{clock.wall:%H%M}"
        evidence = new_rollout(settings, tmp_path / "root" / name, clock)
        attempts.join(evidence, name, "a test", clock)
        add(evidence, *(gate(each).model_copy(update={"run_id": name}) for each in ("one", "two")))
        if applied:
            evidence.update_header(_applied)
        if applied and request.param == "journal":
            Journal("staging").applied(evidence.folder, 5, seen(0))
        if passed:
            add(evidence, cohort(5, live=seen(5)).model_copy(update={"run_id": name}))
        if outcome is not None:
            end_attempt(evidence, name, outcome, None, clock)
        if passed and outcome:
            Journal("staging").settled(evidence.folder)
        return evidence

    return one


def _applied(header: Header) -> Header:
    return header.model_copy(update={"live_before": seen(0), "applied_percent": 5})


def left(tmp_path: Path) -> LeftLive | None:
    return left_live(replace(ENVIRONMENT, output_root=str(tmp_path / "root")))


def told(tmp_path: Path) -> str | None:
    found = left(tmp_path)
    return None if found is None else str(found)


KILLED = "staging-0801 has left staging at 5 % (it was killed)"


def test_where_nothing_ever_was_nothing_is_left(tmp_path: Path, make: MakeRollout) -> None:
    assert told(tmp_path) is None
    make(applied=False)
    assert told(tmp_path) is None


@pytest.mark.parametrize(
    ("outcome", "passed", "how"),
    [
        (None, False, "it was killed"),
        (None, True, "it was killed"),
        ("aborted", False, "it ended without rolling back"),
        ("finished", False, "it ended without rolling back"),
        ("finished", True, None),
    ],
)
def test_a_cohort_that_was_left_live_is_named_unless_it_was_allowed(
    outcome: AttemptOutcome | None,
    how: str | None,
    make: MakeRollout,
    tmp_path: Path,
    *,
    passed: bool,
) -> None:
    evidence = make(outcome, passed=passed)

    found = left(tmp_path)

    assert (found is None) == (how is None)
    if found is not None:
        assert str(found) == f"staging-0801 has left staging at 5 % ({how})"
        assert found.commands.startswith(f"canary-rollout rollback {evidence.folder}\n")


@pytest.mark.parametrize("another", [True, False])
def test_a_rollout_that_is_at_work_leaves_nothing_and_hides_no_other(
    make: MakeRollout, tmp_path: Path, *, another: bool
) -> None:
    working = make()
    if another:
        working = make(applied=False)

    with lock_folder(working.folder, {}):
        assert told(tmp_path) == (KILLED if another else None)
    assert told(tmp_path) == KILLED


def test_only_whoever_changed_staging_last_matters(make: MakeRollout, tmp_path: Path) -> None:
    make()
    make("finished", passed=True)
    make("finished", applied=False)

    assert told(tmp_path) is None


@pytest.mark.parametrize(
    ("reason", "how"),
    [("held", "held on purpose"), ("rollback_failed", "its rollback failed")],
)
def test_what_an_earlier_attempt_left_is_not_what_a_killed_one_leaves(
    reason: str, how: str, make: MakeRollout, tmp_path: Path, clock: FakeClock
) -> None:
    evidence = make("finished")
    add(evidence, rolled_back("skipped" if reason == "held" else "failed", reason))
    assert told(tmp_path) == f"staging-0801 has left staging at 5 % ({how})"

    attempts.join(evidence, "run-2", "a test", clock)

    assert told(tmp_path) == KILLED


@pytest.mark.parametrize("make", ["folders"], indirect=True)
def test_of_an_older_version_what_cannot_be_read_is_passed_over(
    make: MakeRollout, tmp_path: Path
) -> None:
    make()
    make().folder.joinpath("rollout.json").write_text("{")

    assert told(tmp_path) == KILLED
    assert left_live(replace(ENVIRONMENT, name="production")) is None


@pytest.mark.parametrize("make", ["journal"], indirect=True)
def test_what_the_journal_knows_is_told_wherever_its_folder_is_and_whatever_became_of_it(
    make: MakeRollout, tmp_path: Path
) -> None:
    folder = make().folder
    elsewhere = replace(ENVIRONMENT, output_root=str(tmp_path / "elsewhere"))
    assert str(left_live(elsewhere)) == KILLED

    (folder / "rollout.json").unlink()

    found = left_live(elsewhere)
    assert found is not None
    assert found.how == "its rollout.json cannot be read"
    assert found.commands == f"canary-rollout rollback {folder}"
