"""Results as tables (pandas), for the summary and for whoever shows metadata.

Import this module only where a table is made: pandas takes longer to import than a step to run.
"""

import json
from collections.abc import Sequence

import pandas as pd

from canary_pipeline.model.decision import cohort_detail
from canary_pipeline.model.plan import SnapshotKind
from canary_pipeline.model.rows import ALL_GATES, CohortRow, GateRow, RollbackRow
from canary_pipeline.model.text import duration, one_line
from canary_pipeline.store.folder import Evidence, Record, snapshot_name

EXECUTION_COLUMNS = ["Step", "Status", "Duration", "Detail"]


def execution_table(record: Record) -> pd.DataFrame:
    """The steps of a rollout in order, each with the row that counts; all columns are text."""
    gates = [_gate_line(gate.name, record) for gate in record.header.gates]
    cohorts = [_cohort_line(percent, record) for percent in record.header.cohorts]
    rollbacks = [_rollback_line(row) for row in record.rollback_rows]
    return pd.DataFrame([*gates, *cohorts, *rollbacks], columns=EXECUTION_COLUMNS)


def _gate_line(gate: str, record: Record) -> list[str]:
    skipped = record.last_gate_row(ALL_GATES) if record.gates_were_skipped else None
    row = record.last_gate_row(gate) or skipped
    if row is None:
        return [f"gate {gate}", "no result", "", ""]
    detail = row.detail or row.reason or ""
    return [f"gate {gate}", row.status, duration(row.duration_seconds), _attempt(detail, row)]


def _cohort_line(percent: int, record: Record) -> list[str]:
    row = record.last_cohort_row(percent)
    if row is None:
        return [f"cohort {percent} %", "no result", "", ""]
    soak = f", soaked {duration(row.soak_seconds)}" if row.soak_ended_at else ""
    soak += f", live {row.live.user_percent} %" if row.live else ""
    detail = _attempt(cohort_detail(row) + soak, row)
    return [f"cohort {percent} %", row.status, duration(row.duration_seconds), detail]


def _rollback_line(row: RollbackRow) -> list[str]:
    detail = f"{row.reason}: {row.detail}" if row.reason else f"restored: {row.live}"
    return ["rollback", row.status, duration(row.duration_seconds), _attempt(detail, row)]


def _attempt(detail: str, row: GateRow | CohortRow | RollbackRow) -> str:
    return f"{detail} (attempt {row.attempt})".strip() if row.attempt > 1 else detail


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, cells escaped so that none can end its cell or its row."""
    lines = [_markdown_row(list(frame.columns)), _markdown_row(["---"] * len(frame.columns))]
    lines += [_markdown_row(values) for values in frame.astype(str).to_numpy().tolist()]
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(one_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"


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
    text = evidence.read_text(snapshot_name(kind, moment))
    try:
        value = json.loads(text) if text is not None else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return pd.Series(dtype="float64")
    flat = pd.json_normalize(value).iloc[0]
    numbers = {
        str(name): float(item)
        for name, item in flat.items()
        if isinstance(item, (int, float)) and not isinstance(item, bool)
    }
    return pd.Series(numbers, dtype="float64")
