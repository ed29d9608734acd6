"""Writing so that a reader never sees half a file or half a row, whenever the writer is killed."""

import fcntl
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from canary_pipeline.outside.durable import sync
from canary_pipeline.store import seal

TAIL_BYTES = 65536


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: When it cannot be written, and the file is as it was before; or when it was
            written, and its name cannot be kept.
    """
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                sync(file.fileno())
            with suppress(OSError):  # some network mounts refuse, and have modes of their own
                Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
            _sync_names(path.parent)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # nobody knows of the temporary one
        raise


def _sync_names(folder: Path) -> None:
    """Wait until the names in a folder are kept: a file without its name is lost with the power."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # files may be added to it, and not listed
        return
    try:
        sync(handle)
    finally:
        os.close(handle)


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Add a row with its link, in one piece, under a lock.

    Raises:
        OSError: When it cannot be written; the rows are as they were before.
    """
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end, last_rows = _drop_torn_row(file)
        line = seal.sealed_line(row, seal.last_link(last_rows))
        try:
            while line:  # a nearly full disk takes a part before it refuses
                line = line[file.write(line) :]
            sync(file.fileno())
        except OSError as error:
            file.truncate(end)
            error.filename = str(path)
            raise


def _drop_torn_row(file: BinaryIO) -> tuple[int, bytes]:
    """Cut off a last row without its line end, left by a killed writer.

    Returns:
        The size, and the end of the file with all of its last row: it may have grown for a day.
    """
    size, length = file.seek(0, os.SEEK_END), TAIL_BYTES
    while True:
        start = file.seek(max(size - length, 0))
        data = file.read()
        if start == 0 or data.count(b"\n") >= 2:  # noqa: PLR2004 - before a whole row, and after it
            break
        length *= 2
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        file.truncate(start + len(whole))
    return start + len(whole), whole
