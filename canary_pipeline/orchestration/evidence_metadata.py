"""Evidence as Dagster metadata: what an asset's page shows without leaving the browser."""

from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from canary_pipeline.store.folder import Evidence, Record

if TYPE_CHECKING:
    import pandas as pd

TAIL_LINES = 20


def file_metadata(evidence: Evidence, name: str) -> dict[str, dg.MetadataValue]:
    """Path, size in bytes and SHA-256 of a file."""
    return {
        "path": dg.MetadataValue.path(str(evidence.folder / name)),
        "size_bytes": dg.MetadataValue.int(evidence.size(name) or 0),
        "sha256": dg.MetadataValue.text(evidence.sha256(name) or "no such file"),
    }


def files_metadata(evidence: Evidence, names: Sequence[str]) -> dict[str, dg.MetadataValue]:
    """The folder of several files, and a table of them with size in bytes and SHA-256."""
    records = [
        dg.TableRecord(
            {
                "file": name,
                "size_bytes": evidence.size(name) or 0,
                "sha256": evidence.sha256(name) or "no such file",
            }
        )
        for name in names
    ]
    columns = [
        dg.TableColumn("file", "string"),
        dg.TableColumn("size_bytes", "int"),
        dg.TableColumn("sha256", "string"),
    ]
    return {
        "path": dg.MetadataValue.path(str(evidence.folder)),
        "files": dg.MetadataValue.table(records, dg.TableSchema(columns)),
    }


def check_metadata(evidence: Evidence, name: str) -> dict[str, dg.MetadataValue]:
    """Where a check's evidence lies."""
    return {"evidence": dg.MetadataValue.path(str(evidence.folder / name))}


def image(png: bytes) -> dg.MetadataValue:
    """A PNG picture that the browser shows."""
    return dg.MetadataValue.md(f"![](data:image/png;base64,{b64encode(png).decode()})")


def table(frame: "pd.DataFrame") -> dg.MetadataValue:
    """A frame as a table with a schema; empty cells are empty."""
    columns = [
        dg.TableColumn(str(name), _column_type(str(kind))) for name, kind in frame.dtypes.items()
    ]
    records = [
        dg.TableRecord({str(name): _cell(value) for name, value in row.items()})
        for row in frame.astype(object).where(frame.notna(), None).to_dict("records")
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _column_type(kind: str) -> str:
    if kind.lower().startswith("int"):
        return "int"
    return "float" if kind.startswith("float") else "string"


def _cell(value: object) -> str | int | float | bool | None:
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def log_tails(evidence: Evidence, record: Record) -> dict[str, dg.MetadataValue]:
    """The end of each failing gate's log; size and SHA-256 of every log."""
    rows = [record.last_gate_row(gate.name) for gate in record.header.gates]
    logs = [row.log_file for row in rows if row is not None and row.log_file is not None]
    metadata = files_metadata(evidence, logs)
    for gate, row in zip(record.header.gates, rows, strict=True):
        if row is None or row.log_file is None:
            continue
        metadata[f"size_bytes/{gate.name}"] = dg.MetadataValue.int(evidence.size(row.log_file) or 0)
        if row.status != "passed":
            text = evidence.tail(row.log_file, TAIL_LINES)
            metadata[f"tail/{gate.name}"] = dg.MetadataValue.md(f"```text\n{text}\n```")
    return metadata
