"""A rollout is opened once, and every attempt at it is accounted for."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from canary_pipeline.model.plan import Endpoints, Plan
from canary_pipeline.model.rows import AttemptOutcome, CohortRow, GateRow, Status
from canary_pipeline.rollout import attempts
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.rollout.conftest import ENVIRONMENT, FakeClock


def test_a_rollouts_folder_is_named_for_its_second(
    plan: Plan, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    first = attempts.open_rollout(plan, None, clock)
    second = attempts.open_rollout(plan, None, clock)

    root = tmp_path / "output/canary/spacetime"
    assert first.folder == root / "staging-20260225T080000Z"
    assert second.folder == root / "staging-20260225T080001Z"


def _open(folder: Path, plan: Plan) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        attempts.open_rollout(plan, None, FakeClock())


def test_rollouts_of_one_second_never_share_a_folder(plan: Plan, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    rollouts = [context.Process(target=_open, args=(tmp_path, plan)) for _ in range(8)]
    for rollout in rollouts:
        rollout.start()
    for rollout in rollouts:
        rollout.join()

    assert [rollout.exitcode for rollout in rollouts] == [0] * 8
    assert len(list((tmp_path / "output/canary/spacetime").glob("staging-*/rollout.json"))) == 8


def test_a_rollout_starts_in_an_empty_folder(plan: Plan, clock: FakeClock, tmp_path: Path) -> None:
    (tmp_path / "chosen").mkdir()

    evidence = attempts.open_rollout(plan, tmp_path / "chosen", clock)

    assert evidence.folder == tmp_path / "chosen"
    with pytest.raises(attempts.FolderTakenError, match="is not an empty folder"):
        attempts.open_rollout(plan, tmp_path / "chosen", clock)


def test_a_rollout_never_starts_in_a_folder_that_holds_something(
    plan: Plan, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/a file").touch()
    (tmp_path / "file").touch()

    for name in ("taken", "file"):
        with pytest.raises(attempts.FolderTakenError):
            attempts.open_rollout(plan, tmp_path / name, clock)
    assert [file.name for file in (tmp_path / "taken").iterdir()] == ["a file"]


def test_what_a_rollout_is_going_to_be_is_written_first_and_without_secrets(
    plan: Plan, clock: FakeClock, tmp_path: Path
) -> None:
    url = "https://n4me:p4ssw0rd@host:8443/x?key=qu3ry"
    plan = replace(plan, endpoints=Endpoints(url, url, url), missing_for_probe=())

    evidence = attempts.open_rollout(plan, tmp_path / "new", clock)

    header = evidence.header()
    assert header.control_base_url == "https://host:8443/x?…"
    assert (header.cohorts, header.soak_seconds) == ([5, 100], 900)
    assert [gate.command for gate in header.gates] == ["true", "true"]
    assert header.started_at == "2026-02-25T08:00:00.000Z"
    assert set(header.versions) >= {"canary-pipeline", "dagster", "python"}
    assert (evidence.read_text("canary-env-sequence.txt") or "").startswith("# Cohort 5%\n")
    files = [file.read_text() for file in evidence.folder.rglob("*") if file.is_file()]
    assert not any(word in text for text in files for word in ("n4me", "p4ssw0rd", "qu3ry"))


def test_joining_twice_is_one_attempt(evidence: Evidence, clock: FakeClock) -> None:
    once = attempts.join(evidence, "run-2", "a test", clock)
    again = attempts.join(evidence, "run-2", "a test", clock)

    assert once == again
    assert evidence.header().run_ids == ["run-1", "run-2"]


def _join(folder: Path) -> None:
    attempts.join(Evidence(folder), "run-2", "a test", FakeClock())


def test_steps_that_join_at_once_open_one_attempt(evidence: Evidence) -> None:
    context = multiprocessing.get_context("fork")
    steps = [context.Process(target=_join, args=(evidence.folder,)) for _ in range(8)]
    for step in steps:
        step.start()
    for step in steps:
        step.join()

    assert evidence.header().run_ids == ["run-1", "run-2"]


@pytest.mark.parametrize(
    ("rows", "to_run"),
    [
        ([], ["one", "two"]),
        ([("one", "passed")], ["two"]),
        ([("one", "passed"), ("two", "failed")], ["one", "two"]),
        ([("one", "failed")], ["one", "two"]),
        ([("one", "failed"), ("one", "passed")], ["two"]),
        ([("one", "passed"), ("two", "passed")], []),
    ],
)
def test_which_gates_the_next_attempt_runs(
    rows: list[tuple[str, Status]], to_run: list[str], evidence: Evidence, clock: FakeClock
) -> None:
    for gate, status in rows:
        evidence.add_gate_row(GateRow(gate=gate, status=status, attempt=1, run_id="run-1"))

    assert attempts.join(evidence, "run-2", "a test", clock).gates_to_run == to_run


def test_a_gate_that_was_to_run_again_and_was_killed_is_run_by_the_next_attempt(
    evidence: Evidence, clock: FakeClock
) -> None:
    evidence.add_gate_row(GateRow(gate="one", status="passed", attempt=1, run_id="run-1"))
    evidence.add_gate_row(GateRow(gate="two", status="failed", attempt=1, run_id="run-1"))
    assert attempts.join(evidence, "run-2", "a test", clock).gates_to_run == ["one", "two"]
    evidence.add_gate_row(GateRow(gate="two", status="passed", attempt=2, run_id="run-2"))

    third = attempts.join(evidence, "run-3", "a test", clock)

    assert third.gates_to_run == ["one"]


def test_a_dry_run_never_runs_a_gate(plan: Plan, clock: FakeClock, tmp_path: Path) -> None:
    dry = attempts.open_rollout(replace(plan, skip_gates=True), tmp_path / "dry", clock)

    assert attempts.join(dry, "run-1", "a test", clock).gates_to_run == []


def pass_everything(plan: Plan, evidence: Evidence) -> None:
    for gate in plan.gates:
        row = GateRow(gate=gate.name, status="passed", attempt=1, run_id="run-1")
        evidence.add_gate_row(row)
    for percent in plan.cohorts:
        row_of_cohort = CohortRow(
            cohort_percent=percent, status="passed", attempt=1, run_id="run-1"
        )
        evidence.add_cohort_row(row_of_cohort)


@pytest.mark.parametrize(
    ("outcome", "word"), [("finished", "allow"), ("aborted", "block"), ("crashed", "block")]
)
def test_how_an_attempt_ended_is_part_of_the_decision(
    outcome: AttemptOutcome, word: str, plan: Plan, evidence: Evidence, clock: FakeClock
) -> None:
    pass_everything(plan, evidence)

    decision = attempts.end(evidence, "run-1", outcome, "somehow", clock)

    assert decision.word == word
    assert attempts.written_decision(evidence) == word
    [attempt] = evidence.header().attempts
    assert (attempt.outcome, attempt.detail) == (outcome, "somehow")
    assert attempt.ended_at == "2026-02-25T08:00:00.000Z"
    text = evidence.read_text("SUMMARY.md") or ""
    assert (f"attempt 1 {outcome}: somehow" in text) == (word == "block")


def test_a_later_attempt_that_finishes_makes_good_for_one_that_crashed(
    plan: Plan, evidence: Evidence, clock: FakeClock
) -> None:
    pass_everything(plan, evidence)
    attempts.end(evidence, "run-1", "crashed", "somehow", clock)
    attempts.join(evidence, "run-2", "a test", clock)

    assert attempts.end(evidence, "run-2", "finished", None, clock).allowed


def test_a_rollout_that_nobody_worked_on_is_blocked(evidence: Evidence, clock: FakeClock) -> None:
    attempts.abandon(evidence, "nobody came", clock)

    assert attempts.written_decision(evidence) == "block"
    assert "nobody came" in (evidence.read_text("SUMMARY.md") or "")


def test_from_its_first_moment_a_later_attempt_takes_back_an_allow(
    evidence: Evidence, clock: FakeClock
) -> None:
    evidence.write_text("SUMMARY.md", "Decision: allow\n")

    attempts.join(evidence, "run-2", "a test", clock)

    assert attempts.written_decision(evidence) == "block"
    assert "attempt 2 is under way" in (evidence.read_text("SUMMARY.md") or "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environment": replace(ENVIRONMENT, name="other")}, "of staging, not of other"),
        ({"missing_for_probe": ("auth_token",)}, "probes live"),
        ({"endpoints": Endpoints("http://127.0.0.1:10")}, "control_base_url was"),
        (
            {"endpoints": Endpoints("http://127.0.0.1:9", control_status_url="http://h/s")},
            "control_status_url was None",
        ),
        (
            {"endpoints": Endpoints("http://127.0.0.1:9", runtime_metrics_url="http://h/s")},
            "runtime_metrics_url was None",
        ),
        (
            {"endpoints": Endpoints("http://u:p4ss@127.0.0.1:10?k=p4ss")},
            r"now is http://127\.0\.0\.1:10\?…$",
        ),
    ],
)
def test_a_rollout_stays_with_its_staging(
    change: dict[str, object], message: str, plan: Plan, evidence: Evidence
) -> None:
    other = replace(plan, **change)  # type: ignore[arg-type]

    with pytest.raises(attempts.RolloutMismatchError, match=message):
        attempts.settled_plan(other, evidence.header())


def test_a_rollout_stays_with_what_it_planned(plan: Plan, evidence: Evidence) -> None:
    other = replace(plan, cohorts=(1,), soak_seconds=1, skip_gates=True, repo_root=Path("/"))

    assert attempts.settled_plan(other, evidence.header()) == plan


@pytest.mark.parametrize(
    ("text", "decided"),
    [
        ("Decision: allow\n", "allow"),
        ("Decision: block\n", "block"),
        ("Decision: allow\nmore\n", None),
        ("- Decision: allow\n", None),
        ("decision: allow\n", None),
        ("", None),
    ],
)
def test_only_the_last_line_of_the_summary_decides(
    text: str, decided: str | None, evidence: Evidence
) -> None:
    evidence.write_text("SUMMARY.md", text)

    assert attempts.written_decision(evidence) == decided


def test_a_rollout_that_nobody_got_to_work_on_is_concluded(
    plan: Plan, clock: FakeClock, tmp_path: Path
) -> None:
    untouched = attempts.open_rollout(plan, tmp_path / "untouched", clock)

    attempts.abandon(untouched, "interrupted", clock)

    assert attempts.written_decision(untouched) == "block"
    assert "interrupted" in (untouched.read_text("SUMMARY.md") or "")


def test_an_attempt_under_way_is_aborted_and_a_finished_one_left_as_it_is(
    plan: Plan, evidence: Evidence, clock: FakeClock
) -> None:
    attempts.abandon(evidence, "interrupted", clock)
    assert evidence.header().attempts[-1].outcome == "aborted"

    attempts.join(evidence, "run-2", "a test", clock)
    pass_everything(plan, evidence)
    attempts.end(evidence, "run-2", "finished", None, clock)
    before = evidence.read_text("SUMMARY.md")
    attempts.abandon(evidence, "interrupted", clock)

    assert evidence.read_text("SUMMARY.md") == before
