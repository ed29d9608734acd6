"""Results as tables, for whoever shows them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from canary_pipeline.model.limits import numbers_of
from canary_pipeline.model.plan import SnapshotKind
from canary_pipeline.model.record import Record
from canary_pipeline.model.rows import Row
from canary_pipeline.store import layout
from canary_pipeline.store.folder import Evidence

Cell = str | int | float | None
ColumnKind = Literal["string", "int", "float"]


@dataclass(frozen=True)
class Table:
    """Rows that share their columns.

    Attributes:
        columns: What each column holds, in order; any cell may be None.
        rows: The cells by column.
    """

    columns: Mapping[str, ColumnKind]
    rows: Sequence[Mapping[str, Cell]]


def gate_table(record: Record) -> Table:
    """Every gate row, oldest first."""
    columns: dict[str, ColumnKind] = {
        "gate": "string", "status": "string", "reason": "string", "duration_seconds": "float",
        "exit_code": "int", "log_file": "string", "attempt": "int",
    }  # fmt: skip
    return Table(columns, [_cells(row, columns) for row in record.gate_rows])


def cohort_table(record: Record) -> Table:
    """Every cohort row, oldest first."""
    live: dict[str, ColumnKind] = {"live_percent": "int"} if record.header.apply_command else {}
    columns: dict[str, ColumnKind] = {
        "cohort_percent": "int", "status": "string", **live, "reason": "string",
        "http_status": "int", "probe_seconds": "float", "driver": "string",
        "routing_reason": "string", "soak_seconds": "float", "duration_seconds": "float",
        "attempt": "int",
    }  # fmt: skip
    percents = [row.live.user_percent if row.live else None for row in record.cohort_rows]
    rows = zip(record.cohort_rows, percents, strict=True)
    return Table(columns, [{**_cells(row, columns), "live_percent": live} for row, live in rows])


def _cells(row: Row, columns: Mapping[str, ColumnKind]) -> dict[str, Cell]:
    return {name: getattr(row, name, None) for name in columns}


def snapshot_deltas(evidence: Evidence, kind: SnapshotKind, percents: Sequence[int]) -> Table:
    """How each number of a snapshot changed from before to after, over the rollout and per cohort.

    Returns:
        A row per number that both snapshots of a pair hold: its dotted path as `value`, and the
        `span`, which is `rollout` or `cohort <p>`.
    """
    spans = [("rollout", "before", "after")]
    spans += [(f"cohort {p}", f"before_{p}", f"after_{p}") for p in percents]
    rows: list[dict[str, Cell]] = []
    for span, moment, later in spans:
        before, after = _numbers(evidence, kind, moment), _numbers(evidence, kind, later)
        rows += [
            {
                "span": span,
                "value": name,
                "before": number,
                "after": after[name],
                "change": after[name] - number,
            }
            for name, number in before.items()
            if name in after
        ]
    columns: dict[str, ColumnKind] = {"span": "string", "value": "string"}
    return Table({**columns, "before": "float", "after": "float", "change": "float"}, rows)


def _numbers(evidence: Evidence, kind: SnapshotKind, moment: str) -> dict[str, float]:
    try:
        return numbers_of(json.loads(evidence.read_text(layout.snapshot(kind, moment)) or ""))
    except ValueError:
        return {}
