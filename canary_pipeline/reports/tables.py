"""Results as tables (pandas), for whoever shows metadata.

Import this module only where a table is made: pandas takes longer to import than a step to run.
"""

import json
from collections.abc import Sequence

import pandas as pd

from canary_pipeline.model.limits import numbers_of
from canary_pipeline.model.plan import SnapshotKind
from canary_pipeline.model.record import Record
from canary_pipeline.model.rows import CohortRow, GateRow
from canary_pipeline.store import layout
from canary_pipeline.store.folder import Evidence


def gate_table(record: Record) -> pd.DataFrame:
    """Every gate row, oldest first."""
    columns = ["gate", "status", "reason", "duration_seconds", "exit_code", "log_file", "attempt"]
    return _rows_table(record.gate_rows, columns)


def cohort_table(record: Record) -> pd.DataFrame:
    """Every cohort row, oldest first."""
    columns = [
        "cohort_percent", "status", "reason", "http_status", "probe_seconds", "driver",
        "routing_reason", "soak_seconds", "duration_seconds", "attempt",
    ]  # fmt: skip
    frame = _rows_table(record.cohort_rows, columns)
    if record.header.apply_command is not None:
        live = [row.live.user_percent if row.live else None for row in record.cohort_rows]
        frame.insert(2, "live_percent", pd.Series(live, dtype="Int64"))
    return frame


def _rows_table(rows: Sequence[GateRow | CohortRow], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame([row.model_dump(include=set(columns)) for row in rows], columns=columns)


def snapshot_deltas(
    evidence: Evidence, kind: SnapshotKind, percents: Sequence[int]
) -> pd.DataFrame:
    """How each number of a snapshot changed from before to after, over the rollout and per cohort.

    Returns:
        A row per number that a snapshot pair holds, with the columns `value` (its dotted path),
        `span` (`rollout` or `cohort <p>`), `before`, `after` and `change`.
    """
    spans = [("rollout", "before", "after")]
    spans += [(f"cohort {p}", f"before_{p}", f"after_{p}") for p in percents]
    frames = [
        _delta(_numbers(evidence, kind, before), _numbers(evidence, kind, after), span)
        for span, before, after in spans
    ]
    columns = ["span", "value", "before", "after", "change"]
    frames = [frame for frame in frames if not frame.empty]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _delta(before: "pd.Series[float]", after: "pd.Series[float]", span: str) -> pd.DataFrame:
    frame = pd.DataFrame({"before": before, "after": after}).dropna()
    frame["change"] = frame["after"] - frame["before"]
    frame.insert(0, "value", frame.index)
    frame.insert(0, "span", span)
    return frame


def _numbers(evidence: Evidence, kind: SnapshotKind, moment: str) -> "pd.Series[float]":
    text = evidence.read_text(layout.snapshot(kind, moment))
    try:
        value = json.loads(text) if text is not None else None
    except ValueError:
        value = None
    return pd.Series(numbers_of(value), dtype="float64")
