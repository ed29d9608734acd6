"""The summary says what the contract says, and nobody can write into it."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.model.decision import decide
from canary_pipeline.model.plan import Endpoints, Plan
from canary_pipeline.model.rows import CohortRow, GateRow, Header, RolloutWarning
from canary_pipeline.model.text import duration
from canary_pipeline.reports.summary import summary_text
from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.rollout.gate import record_skipped_gates
from canary_pipeline.store.folder import Evidence, Record
from canary_pipeline_tests.rollout.conftest import ENVIRONMENT, FakeClock

HOSTILE = "bad | pipe\n\nDecision: allow\n## Why\n| gate | passed |"


def summary(evidence: Evidence, clock: FakeClock) -> str:
    attempts.end(evidence, "run-1", "finished", None, clock)
    return evidence.read_text("SUMMARY.md") or ""


def test_title_bullets_sections_and_last_line(evidence: Evidence, clock: FakeClock) -> None:
    lines = summary(evidence, clock).splitlines()

    assert lines[0] == "# Staging Spacetime Canary Rollout Summary"
    assert [line for line in lines if line.startswith("- ")][:6] == [
        "- Timestamp (UTC): 2026-02-25T08:00:00.000Z",
        f"- Output directory: {evidence.folder}",
        "- Gate failures: 0",
        "- Cohort probe failures: 0",
        "- Recommended soak per cohort: 900 s",
        "- Decision: block",
    ]
    assert [line for line in lines if line.startswith("## ")] == [
        "## Why",
        "## Cohort Sequence",
        "## Canary Env Sequence",
        "## Execution Table",
        "## Warnings",
    ]
    assert "| Step | Status | Duration | Detail |" in lines
    assert lines[-1] == "Decision: block"


def test_failures_are_counted(evidence: Evidence, clock: FakeClock) -> None:
    row = GateRow(gate="one", status="failed", detail="exit code 1", attempt=1, run_id="run-1")
    evidence.add_gate_row(row)

    text = summary(evidence, clock)

    assert "- Gate failures: 1" in text
    assert "- gate one failed: exit code 1 (evidence: `gate-results.jsonl`)" in text
    assert "| gate one | failed | 0.0 s | exit code 1 |" in text


def test_hostile_text_cannot_forge_a_line(evidence: Evidence, clock: FakeClock) -> None:
    row = GateRow(gate="one", status="failed", detail=HOSTILE, attempt=1, run_id="run-1")
    evidence.add_gate_row(row)
    evidence.add_warning(
        RolloutWarning(step="s", message=HOSTILE, at="t", attempt=1, run_id="run-1")
    )

    lines = summary(evidence, clock).splitlines()

    assert lines.count("Decision: block") == 1
    assert "Decision: allow" not in lines
    assert sum(line.startswith("## Why") for line in lines) == 1
    assert not any(line.startswith("| gate | passed") for line in lines)


def test_an_allowed_rollout_says_so_three_times(
    plan: Plan, evidence: Evidence, clock: FakeClock
) -> None:
    for gate in plan.gates:
        row = GateRow(gate=gate.name, status="passed", attempt=1, run_id="run-1")
        evidence.add_gate_row(row)
    for percent in plan.cohorts:
        evidence.add_cohort_row(
            CohortRow(cohort_percent=percent, status="passed", attempt=1, run_id="run-1")
        )

    text = summary(evidence, clock)

    assert "\n- Decision: allow\n" in text
    assert "## Why\n\nNothing blocks" in text
    assert text.endswith("\n\nDecision: allow\n")
    assert "block\n" not in text


def section(text: str, name: str) -> str:
    """What stands below a heading."""
    return text.partition(f"## {name}\n\n")[2].partition("\n\n##")[0].partition("\n\nDecision")[0]


def test_each_section_says_what_happened(evidence: Evidence, clock: FakeClock) -> None:
    evidence.add_gate_row(
        GateRow(gate="one", status="passed", duration_seconds=754.2, attempt=1, run_id="run-1")
    )
    evidence.add_gate_row(
        GateRow(
            gate="two", status="failed", reason="timeout", detail="stopped after 30 s",
            log_file="logs/gate-two.log", attempt=2, run_id="run-2",
        )
    )  # fmt: skip
    evidence.add_cohort_row(
        CohortRow(
            cohort_percent=5, status="passed", http_status=200, driver="control_service",
            routing_reason="user_canary", soak_started_at="s", soak_ended_at="s",
            soak_seconds=900, duration_seconds=901, attempt=1, run_id="run-1",
        )
    )  # fmt: skip
    evidence.add_cohort_row(
        CohortRow(
            cohort_percent=100, status="failed", reason="timeout", error="no complete answer",
            attempt=1, run_id="run-1",
        )
    )  # fmt: skip
    evidence.add_warning(RolloutWarning(step="s", message="m", at="t", attempt=1, run_id="run-1"))

    text = summary(evidence, clock)

    assert "- Gate failures: 1\n- Cohort probe failures: 1\n" in text
    assert section(text, "Why") == (
        "- gate two failed: stopped after 30 s (evidence: `logs/gate-two.log`)\n"
        "- cohort 100 % failed: timeout: no complete answer (evidence: `cohort-results.jsonl`)"
    )
    assert section(text, "Cohort Sequence") == "1. `5%`\n2. `100%`"
    blocks = (evidence.read_text("canary-env-sequence.txt") or "").strip()
    assert blocks.startswith("# Cohort 5%\n")
    assert section(text, "Canary Env Sequence").endswith(f"```sh\n{blocks}\n```")
    assert section(text, "Execution Table").splitlines() == [
        "| Step | Status | Duration | Detail |",
        "| --- | --- | --- | --- |",
        "| gate one | passed | 12 min 34 s |  |",
        "| gate two | failed | 0.0 s | stopped after 30 s (attempt 2) |",
        "| cohort 5 % | passed | 15 min 1 s | "
        "probe answered 200, control_service by user_canary, soaked 15 min 0 s |",
        "| cohort 100 % | failed | 0.0 s | timeout: no complete answer |",
    ]
    assert section(text, "Warnings") == "- t, s: m"


def test_a_dry_run_is_shown_as_one(
    plan: Plan, clock: FakeClock, around: Surroundings, tmp_path: Path
) -> None:
    dry = attempts.open_rollout(replace(plan, skip_gates=True), tmp_path / "dry", clock)
    attempts.join(dry, "run-1", "a test", clock)
    record_skipped_gates(replace(around, evidence=dry))

    text = summary(dry, clock)

    assert "- gates were skipped (--skip-gates): a dry run (evidence: `gate-results.jsonl`)" in text
    assert "| gate one | skipped | 0.0 s | --skip-gates |" in text
    assert "- Gate failures: 0" in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (59, "59.0 s"),
        (60, "1 min 0 s"),
        (900, "15 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (4500, "1 h 15 min"),
    ],
)
def test_durations_are_shown_as_people_read_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Header:
    plan = Plan(
        environment=ENVIRONMENT,
        cohorts=(5, 100),
        soak_seconds=900,
        skip_gates=False,
        endpoints=Endpoints(),
        missing_for_probe=(),
        repo_root=tmp_path_factory.getbasetemp(),
        gate_timeout_seconds=30,
        http_timeout_seconds=2,
    )
    return attempts.new_header(plan, datetime(2026, 2, 25, tzinfo=UTC))


ANY_LINE = st.one_of(
    st.text(),
    st.sampled_from(["Decision: allow", "\nDecision: allow\n", HOSTILE, "\u2028## Why", "a\r|b"]),
)


@given(ANY_LINE, ANY_LINE, ANY_LINE)
def test_no_text_can_forge_a_section_a_row_or_a_decision(
    header: Header, detail: str, error: str, message: str
) -> None:
    gate = GateRow(gate="one", status="failed", detail=detail, attempt=1, run_id="r")
    cohort = CohortRow(
        cohort_percent=5, status="failed", reason=error, error=error, attempt=1, run_id="r"
    )
    warning = RolloutWarning(step=message, message=message, at="t", attempt=1, run_id="r")
    record = Record(header, (gate,), (cohort,), (warning,), ())

    text = summary_text(
        record, decide(record), Path("/rollout") / "folder", datetime(2026, 2, 25, tzinfo=UTC)
    )

    lines = text.splitlines()
    assert lines[-1] == "Decision: block"
    assert [line for line in lines if line.startswith("Decision")] == ["Decision: block"]
    assert len([line for line in lines if line.startswith("#")]) == 8  # with the env sequence's
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(header.gates) + len(header.cohorts)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5}
