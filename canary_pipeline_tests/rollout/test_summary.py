"""The summary says what the contract says, and nobody can write into it."""

from canary_pipeline.rollout import attempts
from canary_pipeline.rollout.evidence import Evidence
from canary_pipeline.rollout.records import GateRow, RolloutWarning
from canary_pipeline_tests.rollout.conftest import FakeClock

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
