"""A row in words, once: for tables, progress, pages, reasons and the summary."""

from canary_pipeline.model.rows import CohortRow, GateRow, RollbackRow
from canary_pipeline.model.text import duration


def cohort_detail(row: CohortRow) -> str:
    """What a cohort's row says beyond its status, in a few words."""
    if row.error is not None:
        return f"{row.reason}: {row.error}"
    if row.http_status is not None:
        routing = f", {row.driver}" if row.driver else ""
        because = f" by {row.routing_reason}" if row.routing_reason else ""
        return f"probe answered {row.http_status}{routing}{because}"
    if row.missing:
        return f"{row.reason}: {', '.join(row.missing)}"
    return row.reason or ""


def detail(row: GateRow | CohortRow | RollbackRow) -> str:
    """What a row says beyond its status, with the attempt that wrote it from the second on."""
    said = _detail(row)
    return f"{said} (attempt {row.attempt})".strip() if row.attempt > 1 else said


def _detail(row: GateRow | CohortRow | RollbackRow) -> str:
    if isinstance(row, GateRow):
        return row.detail or row.reason or ""
    if isinstance(row, RollbackRow):
        return f"{row.reason}: {row.detail}" if row.reason else f"restored: {row.live}"
    soak = f", soaked {duration(_soaked(row))}" if row.soak_ended_at else ""
    live = f", live {row.live.user_percent} %" if row.live else ""
    return f"{cohort_detail(row)}{soak}{live}"


def _soaked(row: CohortRow) -> float:
    """How long a cohort soaked."""
    # An older version told what was planned: what it has decided verifies byte for byte.
    measured = row.soaked_seconds if row.soak is not None else None
    return row.soak_seconds if measured is None else measured
