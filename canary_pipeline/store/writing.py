"""Writing so that a reader never sees half a file or half a row, whenever the writer is killed."""

import fcntl
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from canary_pipeline.store import seal


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: When it cannot be written; the file is as it was before.
    """
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # nobody has heard of the temporary one
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Add a row with its link, in one piece, under a lock.

    Raises:
        OSError: When it cannot be written; the rows are as they were before.
    """
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = _drop_torn_row(file)
        file.seek(0)
        line = seal.sealed_line(row, seal.last_link(file.read()))
        try:
            while line:  # a nearly full disk takes a part before it refuses
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def _drop_torn_row(file: BinaryIO) -> int:
    """Cut off a last row without its line end, left by a killed writer; return the new size."""
    file.seek(0)
    data = file.read()
    end = data.rfind(b"\n") + 1
    if end != len(data):
        file.truncate(end)
    return end
