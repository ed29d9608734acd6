"""The steps of a rollout as a table of texts, and tables as Markdown."""

from collections.abc import Iterable, Sequence

from canary_pipeline.model.record import Record
from canary_pipeline.model.rows import ALL_GATES, CohortRow, GateRow, RollbackRow
from canary_pipeline.model.text import duration, one_line
from canary_pipeline.model.wording import detail

COLUMNS = ("Step", "Status", "Duration", "Detail")


def execution_table(record: Record) -> list[tuple[str, ...]]:
    """The steps of a rollout in order, each with the row that counts."""
    skipped = record.last_gate_row(ALL_GATES) if record.gates_were_skipped else None
    return [
        *(_line(f"gate {gate.name}", row or skipped) for gate, row in record.gates),
        *(_line(f"cohort {percent} %", row) for percent, row in record.cohorts),
        *(_line("rollback", row) for row in record.rollback_rows),
    ]


def earlier_rows(record: Record) -> list[tuple[str, ...]]:
    """The rows that do not count any more, oldest first."""
    counting = {id(row) for _, row in (*record.gates, *record.cohorts)}
    named: list[tuple[str, GateRow | CohortRow]] = [
        *((f"gate {row.gate}", row) for row in record.gate_rows if row.gate != ALL_GATES),
        *((f"cohort {row.cohort_percent} %", row) for row in record.cohort_rows),
    ]
    return [(str(row.attempt), *_line(name, row)) for name, row in named if id(row) not in counting]


def _line(name: str, row: GateRow | CohortRow | RollbackRow | None) -> tuple[str, ...]:
    if row is None:
        return (name, "no result", "", "")
    return (name, row.status, duration(row.duration_seconds), detail(row))


def markdown(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, cells escaped so that none can end its cell or its row."""
    return "\n".join(map(_markdown_row, [columns, ["---"] * len(columns), *lines]))


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(one_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"
