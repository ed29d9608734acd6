"""A rollout is opened once, and every attempt at it is accounted for."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.evidence import Evidence
from canary_pipeline.rollout.plan import Endpoints, Plan
from canary_pipeline.rollout.records import GateRow, Status
from canary_pipeline_tests.rollout.conftest import FakeClock


def test_a_rollouts_folder_is_named_for_its_second(
    plan: Plan, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    first = attempts.open_rollout(plan, None, clock)
    second = attempts.open_rollout(plan, None, clock)

    root = tmp_path / "output/canary/spacetime"
    assert first.folder == root / "staging-20260225T080000Z"
    assert second.folder == root / "staging-20260225T080001Z"


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
        ({"missing_for_probe": ("auth_token",)}, "probes live"),
        ({"endpoints": Endpoints("http://127.0.0.1:10")}, "control_base_url was"),
        (
            {"endpoints": Endpoints("http://127.0.0.1:9", control_status_url="http://h/s")},
            "control_status_url was None",
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
