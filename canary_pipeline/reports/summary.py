"""`SUMMARY.md`: what people promote on. A pure function of the record and its decision."""

from datetime import datetime
from pathlib import Path

from canary_pipeline.model.decision import Decision
from canary_pipeline.model.env_sequence import env_sequence_text
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.clock import rfc3339
from canary_pipeline.reports.rollback_words import rollback_words
from canary_pipeline.reports.tables import execution_table, markdown
from canary_pipeline.store.folder import ENV_SEQUENCE, Record


def summary_text(record: Record, decision: Decision, folder: Path, moment: datetime) -> str:
    """Write the summary.

    Args:
        record: What the folder holds.
        decision: What follows from it.
        folder: The rollout's folder, absolute.
        moment: When the summary is written.
    """
    header = record.header
    restored = rollback_words(record, folder)
    sections = [
        f"# {header.title}",
        _bullets(record, decision, folder, moment),
        *([f"## Rollback\n\n{restored}"] if restored and not decision.allowed else []),
        f"## Why\n\n{_why(decision)}",
        f"## Cohort Sequence\n\n{_cohort_sequence(record)}",
        f"## Canary Env Sequence\n\n{_env_sequence(record)}",
        f"## Execution Table\n\n{markdown(execution_table(record))}",
        f"## Warnings\n\n{_warnings(record)}",
        f"Decision: {decision.word}",
    ]
    return "\n\n".join(sections) + "\n"


def _bullets(record: Record, decision: Decision, folder: Path, moment: datetime) -> str:
    header = record.header
    gates = [record.last_gate_row(gate.name) for gate in header.gates]
    cohorts = [record.last_cohort_row(percent) for percent in header.cohorts]
    gate_failures = sum(row is not None and row.status == "failed" for row in gates)
    probe_failures = sum(row is not None and row.status == "failed" for row in cohorts)
    return "\n".join(
        (
            f"- Timestamp (UTC): {rfc3339(moment)}",
            f"- Output directory: {one_line(str(folder))}",
            f"- Gate failures: {gate_failures}",
            f"- Cohort probe failures: {probe_failures}",
            f"- Recommended soak per cohort: {header.soak_seconds} s",
            f"- Decision: {decision.word}",
        )
    )


def _why(decision: Decision) -> str:
    if decision.allowed:
        return "Nothing blocks: every gate passed, and no cohort's probe failed."
    return "\n".join(
        f"- {one_line(reason.text)} (evidence: `{one_line(reason.evidence)}`)"
        for reason in decision.reasons
    )


def _cohort_sequence(record: Record) -> str:
    header = record.header
    lines = [
        f"{number}. `{percent}%`{_live(record, percent)}"
        for number, percent in enumerate(header.cohorts, start=1)
    ]
    if header.missing_for_probe:
        missing = " and ".join(f"`{name}`" for name in header.missing_for_probe)
        lines += ["", f"Probes were skipped: {missing} not configured."]
    return "\n".join(lines)


def _live(record: Record, percent: int) -> str:
    """What was seen live at a cohort, where the rollout made it so."""
    row = record.last_cohort_row(percent)
    return f" — live: {row.live}, at {row.live.seen_at}" if row and row.live else ""


def _env_sequence(record: Record) -> str:
    blocks = env_sequence_text(record.header.cohorts, record.header.soak_seconds)
    return f"As in `{ENV_SEQUENCE}`:\n\n```sh\n{blocks.strip()}\n```"


def _warnings(record: Record) -> str:
    if not record.warnings:
        return "None."
    return "\n".join(
        f"- {warning.at}, {one_line(warning.step)}: {one_line(warning.message)}"
        for warning in record.warnings
    )
