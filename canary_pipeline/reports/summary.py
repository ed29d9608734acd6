"""`SUMMARY.md`: what people promote on. A pure function of the record and its decision."""

from pathlib import Path

from canary_pipeline.model.commit import tested
from canary_pipeline.model.decision import Decision
from canary_pipeline.model.env_sequence import env_sequence_text
from canary_pipeline.model.record import Record
from canary_pipeline.model.remarks import no_cohort_was_probed, remarks
from canary_pipeline.model.rows import CohortRow
from canary_pipeline.model.text import one_line
from canary_pipeline.reports.execution import COLUMNS, earlier_rows, execution_table, markdown
from canary_pipeline.reports.rollback_words import rollback_words
from canary_pipeline.store.layout import ENV_SEQUENCE


def summary_text(
    record: Record, decision: Decision, folder: Path, health: str | None = None
) -> str:
    """Write the summary.

    Args:
        record: What the folder holds.
        decision: What follows from it.
        folder: The rollout's folder, where the record does not know how it was first written.
        health: What the soaks' looks have shown, where there were any.
    """
    header = record.header
    folder = Path(header.folder) if header.folder else folder
    restored = rollback_words(record, folder)
    earlier = earlier_rows(record)
    sections = [
        f"# {header.title}",
        *map(_emphasized, remarks(record)),
        _bullets(record, decision, folder),
        *([f"## Rollback\n\n{restored}"] if restored and not decision.allowed else []),
        f"## Why\n\n{_why(record, decision)}",
        f"## Cohort Sequence\n\n{_cohort_sequence(record)}",
        f"## Canary Env Sequence\n\n{_env_sequence(record)}",
        f"## Execution Table\n\n{markdown(COLUMNS, execution_table(record))}",
        *_side_by_side(record),
        *([f"## Health\n\n{health}"] if health else []),
        *([_earlier(earlier)] if earlier else []),
        f"## Warnings\n\n{_warnings(record)}",
        f"Decision: {decision.word}",
    ]
    return "\n\n".join(section.rstrip("\n") for section in sections) + "\n"


def _emphasized(remark: str) -> str:
    name, _, said = remark.partition(":")
    return f"**{name.capitalize()}**:{said}."


def _bullets(record: Record, decision: Decision, folder: Path) -> str:
    header = record.header
    gate_failures = sum(row is not None and row.status == "failed" for _, row in record.gates)
    failures = sum(row is not None and row.status == "failed" for _, row in record.cohorts)
    return "\n".join(
        (
            f"- Timestamp (UTC): {header.decided_at or 'unknown'}",
            f"- Output directory: {one_line(str(folder))}",
            f"- Commit: {tested(record)}",
            f"- Gate failures: {gate_failures}",
            f"- Cohort probe failures: {failures}",
            f"- Recommended soak per cohort: {header.soak_seconds} s",
            f"- Decision: {decision.word}",
        )
    )


def _why(record: Record, decision: Decision) -> str:
    if not decision.allowed:
        return "\n".join(
            f"- {one_line(reason.text)} (evidence: `{one_line(reason.evidence)}`)"
            for reason in decision.reasons
        )
    if no_cohort_was_probed(record):
        return "Nothing blocks: every gate passed. No cohort was probed, so none failed."
    return "Nothing blocks: every gate passed, and no cohort's probe failed."


def _cohort_sequence(record: Record) -> str:
    header = record.header
    lines = [
        f"{number}. `{percent}%`{_live(row)}"
        for number, (percent, row) in enumerate(record.cohorts, start=1)
    ]
    if header.missing_for_probe:
        missing = " and ".join(f"`{name}`" for name in header.missing_for_probe)
        lines += ["", f"Probes were skipped: {missing} not configured."]
    return "\n".join(lines)


def _live(row: CohortRow | None) -> str:
    """What was seen live at a cohort, where the rollout made it so."""
    return f" — live: {row.live}, at {row.live.seen_at}" if row and row.live else ""


def _env_sequence(record: Record) -> str:
    blocks = env_sequence_text(record.header)
    return f"As in `{ENV_SEQUENCE}`:\n\n```sh\n{blocks.strip()}\n```"


def _side_by_side(record: Record) -> list[str]:
    """Gates in one checkout can pass, or fail, by what a neighbour left there."""
    ran = [row for _, row in record.gates if row is not None]
    if len(ran) < 2 or record.header.skip_gates:  # noqa: PLR2004 - one alone has no neighbour
        return []
    groups = record.header.gate_groups
    apart = "; ".join(" after ".join(reversed(group)) for group in groups)
    return [f"Gates ran side by side in one checkout{f', except {apart}' if apart else ''}."]


def _earlier(lines: list[tuple[str, ...]]) -> str:
    return f"## Earlier attempts\n\n{markdown(('Attempt', *COLUMNS), lines)}"


def _warnings(record: Record) -> str:
    if not record.warnings:
        return "None."
    return "\n".join(
        f"- {warning.at}, {one_line(warning.step)}: {one_line(warning.message)}"
        for warning in record.warnings
    )
