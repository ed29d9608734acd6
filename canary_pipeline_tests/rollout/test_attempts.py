"""A rollout is opened once, and every attempt at it is accounted for."""

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.record import AttemptOutcome
from canary_pipeline.model.rows import GateRow
from canary_pipeline.planning import Settings
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.cohort import run_cohort
from canary_pipeline.rollout.conclusion import FOLDER_LOST, conclude
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.enter import enter_rollout, opened
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.journal import Journal
from canary_pipeline_tests.builders import ENVIRONMENT, add, cohort, gate, passed
from canary_pipeline_tests.conftest import files_with
from canary_pipeline_tests.rollout.conftest import (
    FakeClock,
    commit,
    new_rollout,
    next_attempt,
    settings_with,
)

# -- opening ----------------------------------------------------------------------------------


def _open(folder: Path, settings: Settings, _: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        opened(settings, ENVIRONMENT, FakeClock())


def side_by_side(work: Callable[..., None], *arguments: object) -> list[int | None]:
    """Do this in eight processes at once; return how they ended."""
    context = multiprocessing.get_context("fork")
    found = [context.Process(target=work, args=(*arguments, number)) for number in range(8)]
    for process in found:
        process.start()
    for process in found:
        process.join()
    return [process.exitcode for process in found]


def test_rollouts_of_one_second_never_share_a_folder(settings: Settings, tmp_path: Path) -> None:
    assert side_by_side(_open, tmp_path, settings) == [0] * 8

    root = tmp_path / "output/canary/spacetime"
    names = sorted(file.parent.name for file in root.glob("*/rollout.json"))
    assert names == [f"staging-20260225T08000{second}Z" for second in range(8)]
    assert len(Journal("staging").read().roots) == 1


def test_a_second_that_another_host_has_used_is_left_out(
    settings: Settings, clock: FakeClock, tmp_path: Path
) -> None:
    def folder(started_at: datetime) -> Path:
        return tmp_path / f"staging-{started_at:%Y%m%dT%H%M%SZ}"

    used = folder(clock.now()).name
    evidence = attempts.open_rollout(settings, folder, clock, is_published=used.__eq__)
    assert evidence.folder.name != used
    assert [found.name for found in tmp_path.glob("staging-*")] == [evidence.folder.name]


def test_a_rollout_starts_in_an_empty_folder_and_in_no_other(
    settings: Settings, clock: FakeClock, tmp_path: Path
) -> None:
    for name in ("chosen", "taken"):
        (tmp_path / name).mkdir()
    (tmp_path / "taken/a file").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone")

    evidence = new_rollout(settings, tmp_path / "chosen", clock)

    assert Journal("staging").read().newest == evidence.folder == tmp_path / "chosen"
    for name in ("chosen", "taken", "file"):
        with pytest.raises(attempts.FolderTakenError, match="is not an empty folder"):
            new_rollout(settings, tmp_path / name, clock)
    with pytest.raises(attempts.FolderTakenError, match="which does not exist"):
        new_rollout(settings, tmp_path / "link", clock)
    assert [file.name for file in (tmp_path / "taken").iterdir()] == ["a file"]


URL_WITH_SECRETS = "https://n4me:p4ssw0rd@host:8443/x?key=qu3ry"


def test_what_a_rollout_is_going_to_be_is_written_first_and_without_secrets(
    clock: FakeClock, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path, CONTROL_BASE_URL=URL_WITH_SECRETS)

    evidence = new_rollout(settings, tmp_path / "new", clock)

    header = evidence.header()
    assert header.plan == settings.plan
    assert header.control_base_url == "https://host:8443/x?…"
    assert header.started_at == "2026-02-25T08:00:00.000Z"
    assert set(header.versions) >= {"canary-pipeline", "dagster", "python"}
    assert (evidence.read_text("canary-env-sequence.txt") or "").startswith("# Cohort 5%\n")
    for word in ("n4me", "p4ssw0rd", "qu3ry"):
        assert files_with(word, evidence.folder) == []


# -- going on ---------------------------------------------------------------------------------


def _join(folder: Path, _: int) -> None:
    attempts.join(Evidence(folder), "run-2", "a test", FakeClock())


def test_steps_that_join_at_once_open_one_attempt(evidence: Evidence, clock: FakeClock) -> None:
    assert side_by_side(_join, evidence.folder) == [0] * 8

    assert evidence.header().run_ids == ["run-1", "run-2"]
    once = attempts.join(evidence, "run-2", "a test", clock)
    assert once == attempts.join(evidence, "run-2", "a test", clock)


@pytest.mark.parametrize(
    ("rows", "to_run"),
    [
        ([], ("one", "two")),
        ([gate("one")], ("two",)),
        ([gate("one"), gate("two", "failed")], ("one", "two")),
        ([gate("one", "failed")], ("one", "two")),
        ([gate("one", "failed"), gate("one")], ("two",)),
        ([gate("one"), gate("two")], ()),
    ],
)
def test_which_gates_the_next_attempt_runs(
    rows: list[GateRow], to_run: tuple[str, ...], evidence: Evidence, clock: FakeClock
) -> None:
    add(evidence, *rows)

    assert attempts.join(evidence, "run-2", "a test", clock).gates_to_run == to_run


def test_a_gate_that_was_to_run_again_and_was_killed_is_run_by_the_next_attempt(
    evidence: Evidence, clock: FakeClock
) -> None:
    add(evidence, gate("one"), gate("two", "failed"))
    assert attempts.join(evidence, "run-2", "a test", clock).gates_to_run == ("one", "two")
    add(evidence, gate("two", of=2))

    assert attempts.join(evidence, "run-3", "a test", clock).gates_to_run == ("one",)


def test_a_dry_run_never_runs_a_gate(settings: Settings, clock: FakeClock, tmp_path: Path) -> None:
    plan = settings.plan.model_copy(update={"skip_gates": True})
    dry = new_rollout(replace(settings, plan=plan), tmp_path / "dry", clock)

    assert attempts.join(dry, "run-1", "a test", clock).gates_to_run == ()


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        (lambda _: None, False),
        (commit, True),
        (lambda folder: (folder / "script").touch(), True),
        (lambda folder: (folder / "rollout/more").touch(), False),  # evidence is no change
    ],
    ids=["nothing", "a commit", "clean to dirty", "evidence"],
)
def test_a_rollout_that_goes_on_at_another_state_of_the_checkout_does_everything_anew(
    change: Callable[[Path], None], tmp_path: Path, clock: FakeClock, *, anew: bool
) -> None:
    repo = tmp_path / "repo"
    commit(repo)
    settings = settings_with(repo)
    evidence = new_rollout(settings, repo / "rollout", clock)
    first = enter_rollout(settings, evidence, "run-1", "a test", clock=clock)
    add(evidence, *passed(first.plan))
    assert conclude(first, "finished").allowed
    change(repo)

    second = attempts.join(evidence, "run-2", "a test", clock)

    header = evidence.header()
    assert (second.anew, header.counts_from) == (anew, 2 if anew else 1)
    assert second.gates_to_run == (("one", "two") if anew else ())
    decision = conclude(replace(first, attempt=2, run_id="run-2"), "finished")
    assert decision.allowed != anew
    if anew:
        assert "cohort 5 % passed at another commit" in (evidence.read_text("SUMMARY.md") or "")


def withdraw(folder: Path) -> None:
    withdrawn = {"withdrawn": "staging has changed since"}
    evidence = Evidence(folder / "rollout")
    evidence.update_header(lambda header: header.model_copy(update=withdrawn))


@pytest.mark.parametrize(
    "change",
    [commit, lambda folder: (folder / "script").unlink(), withdraw],
    ids=["a commit", "dirty to clean", "withdrawn"],
)
def test_gates_of_another_state_do_not_count_for_a_run_that_can_run_none(
    change: Callable[[Path], None], tmp_path: Path, clock: FakeClock
) -> None:
    """As when *From selected* begins at a cohort."""
    repo = tmp_path / "repo"
    commit(repo)
    (repo / "script").touch()
    settings = settings_with(repo)
    evidence = new_rollout(settings, repo / "rollout", clock)
    first = enter_rollout(settings, evidence, "run-1", "a test", clock=clock)
    add(evidence, *passed(first.plan))
    assert conclude(first, "finished").allowed
    change(repo)

    second = enter_rollout(settings, evidence, "run-2", "a test", runnable=[], clock=clock)
    row = run_cohort(5, second)
    add(evidence, *(cohort(percent, of=2) for percent in second.plan.cohorts))

    assert (row.status, row.reason) == ("skipped", "gates_not_passed")
    assert [reason.text for reason in conclude(second, "finished").reasons] == [
        "gate one has no result of attempt 2",
        "gate two has no result of attempt 2",
    ]
    third = attempts.join(evidence, "run-3", "a test", clock)
    assert (third.anew, third.gates_to_run) == (False, ("one", "two"))


# -- ending -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "word"), [("finished", "allow"), ("aborted", "block"), ("crashed", "block")]
)
def test_how_an_attempt_ended_is_part_of_the_decision(
    outcome: AttemptOutcome, word: str, context: Context, clock: FakeClock
) -> None:
    add(context.evidence, *passed(context.plan))
    clock.sleep(60)
    clock.wall = clock.wall.replace(year=2001)

    decision = conclude(replace(context, began=10.0), outcome, "somehow")

    assert decision.word == written_decision(context.evidence) == word
    [attempt] = context.evidence.header().attempts
    where = "" if outcome == "finished" else ", between two steps"
    assert (attempt.outcome, attempt.detail) == (outcome, f"somehow{where}")
    assert (attempt.ended_at, attempt.duration_seconds) == (rfc3339(clock.wall), 50.0)
    text = context.evidence.read_text("SUMMARY.md") or ""
    assert (f"attempt 1 {outcome}: somehow" in text) == (word == "block")


def test_what_was_under_way_is_named_where_an_attempt_was_stopped(context: Context) -> None:
    context.note("gate one", "running")

    conclude(context, "aborted", "stopped by SIGINT")

    [reason, *_] = (context.evidence.read_text("SUMMARY.md") or "").split("## Why\n\n- ")[1:]
    assert reason.startswith("attempt 1 aborted: stopped by SIGINT, at gate one (running)")


def test_a_later_attempt_that_finishes_makes_good_for_one_that_crashed(context: Context) -> None:
    add(context.evidence, *passed(context.plan))
    conclude(context, "crashed", "somehow")

    assert conclude(next_attempt(context), "finished").allowed


def test_an_attempt_cannot_be_ended_for_another_nor_entered_again(
    settings: Settings, context: Context
) -> None:
    evidence = context.evidence
    conclude(replace(context, run_id="another"), "finished")
    assert evidence.header().attempts[-1].outcome is None

    conclude(context, "finished")

    with pytest.raises(ValueError, match="attempt 1 of this run has ended"):
        enter_rollout(settings, evidence, "run-1", "a test")


def test_from_its_first_moment_a_later_attempt_takes_back_an_allow(context: Context) -> None:
    add(context.evidence, *passed(context.plan))
    assert conclude(context, "finished").allowed

    next_attempt(context)

    assert written_decision(context.evidence) == "block"
    under_way = "- attempt 2 is under way, or was killed"
    assert under_way in (context.evidence.read_text("SUMMARY.md") or "")


def test_a_rollout_whose_folder_was_taken_away_is_concluded_in_a_new_one(context: Context) -> None:
    evidence = context.evidence
    add(evidence, *passed(context.plan))
    evidence.folder.rename(evidence.folder.with_name("away"))

    assert not conclude(context, "finished").allowed

    assert FOLDER_LOST in (evidence.read_text("SUMMARY.md") or "")


# -- what a rollout stays with ----------------------------------------------------------------

HERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("then", "now", "message"),
    [
        ({}, {"CONTROL_BASE_URL": "", "CONTROL_AUTH_TOKEN": ""}, "probes live"),
        ({}, {"CONTROL_BASE_URL": "http://127.0.0.1:10"}, "control_base_url was"),
        ({}, {"CONTROL_BASE_URL": "http://u:p4ss@127.0.0.1:10?k=p4ss"},
         r"now is http://127\.0\.0\.1:10\?…$"),
        ({"CONTROL_BASE_URL": f"{HERE}?tenant=a"}, {"CONTROL_BASE_URL": f"{HERE}?tenant=b"},
         "control_base_url is another than when this rollout started"),
        ({"CANARY_APPLY_COMMAND": "one"}, {"CANARY_APPLY_COMMAND": "other"},
         "the apply command was 'one' when"),
    ],
)  # fmt: skip
def test_a_rollout_does_not_go_on_with_another_staging(
    then: dict[str, str], now: dict[str, str], message: str, clock: FakeClock, tmp_path: Path
) -> None:
    header = new_rollout(settings_with(tmp_path, **then), tmp_path / "x", clock).header()

    with pytest.raises(attempts.RolloutMismatchError, match=message):
        attempts.recorded_plan(header, settings_with(tmp_path, **now))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environment": "other"}, "of staging, not of other"),
        ({"control_status_url": "http://h/s"}, "control_status_url was None"),
        ({"runtime_metrics_url": "http://h/s"}, "runtime_metrics_url was None"),
    ],
)
def test_a_rollout_does_not_go_on_as_another(
    change: dict[str, object], message: str, settings: Settings, evidence: Evidence
) -> None:
    other = replace(settings, plan=settings.plan.model_copy(update=change))

    with pytest.raises(attempts.RolloutMismatchError, match=message):
        attempts.recorded_plan(evidence.header(), other)


AT_HAND: dict[str, str] = {
    "CANARY_COHORTS": "1", "CANARY_COHORT_SOAK_SECONDS": "1", "CANARY_HTTP_TIMEOUT_SECONDS": "1",
    "CANARY_ROLLBACK_COMMAND": "mended", "CANARY_ON_BLOCK": "hold",
}  # fmt: skip


def test_a_rollout_stays_with_what_it_planned(
    settings: Settings, evidence: Evidence, tmp_path: Path
) -> None:
    """Also with its commands, where it applies nothing."""
    other = settings_with(tmp_path, **AT_HAND)

    assert attempts.recorded_plan(evidence.header(), other) == settings.plan


def test_what_a_person_mends_when_a_rollout_goes_on_holds_from_then_on_and_is_a_warning(
    clock: FakeClock, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path, CANARY_APPLY_COMMAND="apply")
    evidence = new_rollout(settings, tmp_path / "applying", clock)
    enter_rollout(settings, evidence, "run-1", "a test", clock=clock)
    mended = settings_with(tmp_path, CANARY_APPLY_COMMAND="apply", **AT_HAND)

    context = enter_rollout(mended, evidence, "run-2", "a test", clock=clock)

    expected: dict[str, Any] = {"rollback_command": "mended", "on_block": "hold"}
    assert context.plan == evidence.header().plan == settings.plan.model_copy(update=expected)
    assert [warning.message for warning in evidence.record().warnings] == [
        "rollback_command was 'apply' until now, and is 'mended' from here on",
        "on_block was 'rollback' until now, and is 'hold' from here on",
    ]
