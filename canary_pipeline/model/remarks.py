"""What the word of a decision does not say by itself: that little, or nothing, was tried."""

from canary_pipeline.model.record import Record
from canary_pipeline.model.rows import MISSING_PROBE_CONFIG

NOT_PROBED = "no cohort was probed"


def remarks(record: Record) -> tuple[str, ...]:
    """What a reader must know beside the decision; each names itself before its colon."""
    reduced = record.header.reduced
    why = "neither control base URL nor token is configured"
    return (
        *([f"{NOT_PROBED}: {why}"] if no_cohort_was_probed(record) else []),
        *([f"reduced: {reduced}"] if reduced else []),
    )


def no_cohort_was_probed(record: Record) -> bool:
    """Whether every cohort was skipped since probes are not configured."""
    rows = [row for _, row in record.cohorts]
    return bool(rows) and all(row and row.reason == MISSING_PROBE_CONFIG for row in rows)
