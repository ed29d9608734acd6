"""What shows that a file of rows is as it was written: each row holds a link of a hash chain."""

import io
import json
from collections.abc import Mapping
from hashlib import sha256

LINK_DIGITS = 32
"""Hexadecimal digits of a chain's link: 128 bits."""


def lines_of(data: bytes) -> list[bytes]:
    """The rows with their line ends; the last may be torn and have none."""
    return io.BytesIO(data).readlines()


def json_line(row: Mapping[str, object]) -> bytes:
    """A row as it is written."""
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def sealed_line(row: Mapping[str, object], previous: str) -> bytes:
    """A row as it is written after another, with its link.

    Args:
        row: What it says.
        previous: The link of the row before; empty for the first.
    """
    return json_line({**row, "chain": _link(previous, json_line(row))})


def last_link(data: bytes) -> str:
    """The link of the last whole row; an empty string where there is none."""
    whole, _, _ = data.rpartition(b"\n")
    return _chain_of(whole.rpartition(b"\n")[2]) if whole else ""


def problem_of(data: bytes, sealed: str) -> str | None:
    """What shows that rows were changed, removed or added by somebody else; None where nothing.

    Args:
        data: The file.
        sealed: A link that it must hold; empty where none is known.
    """
    chain, seen = "", {""}
    for number, line in enumerate(lines_of(data), start=1):
        if not line.endswith(b"\n"):
            break
        if _chain_of(line) != _link(chain, line):
            return f"line {number} is not as it was written, or one is missing"
        chain = _chain_of(line)
        seen.add(chain)
    return None if sealed in seen else "has lost rows that an earlier attempt wrote"


def _chain_of(line: bytes) -> str:
    """The link that a row holds, or a word that no row can hold."""
    try:
        return str(json.loads(line)["chain"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "none"


def _link(previous: str, line: bytes) -> str:
    """The link of a row: a digest of the link before it and of all that the row says."""
    try:
        row = json.loads(line)
        row.pop("chain", None)
        return sha256(previous.encode() + json_line(row)).hexdigest()[:LINK_DIGITS]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return "broken"
