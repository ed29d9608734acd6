"""Output that never reaches the work: closed, broken, full, or unable to show a character.

Whoever prints goes on as if it had been read; the decision and the exit code are the same.
"""

import io
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def protect_output() -> None:
    """Let `sys.stdout` and `sys.stderr` take everything from now on, whatever is behind them.

    To be called first, before a file that is opened can get the number of a closed stream: it
    would then be written into by every child that prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _throw_away(number)
    sys.stdout = _lasting(sys.stdout)
    sys.stderr = _lasting(sys.stderr)


def _lasting(stream: TextIO | None) -> TextIO:
    """A stream like this one; None, where it was closed when Python started, becomes nowhere."""
    if stream is None:
        number = os.open(os.devnull, os.O_WRONLY)  # its own number may be another file's by now
    else:
        number = stream.fileno()
        with suppress(OSError):
            stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(number)),
        encoding=stream.encoding if stream else "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


class _Lasting(io.RawIOBase):
    """A file descriptor that throws away what it is given once it has failed."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        while True:
            try:
                return os.write(self._number, data)
            except BlockingIOError:
                select.select([], [self._number], [])
            except OSError:
                if not _throw_away(self._number):
                    return memoryview(data).nbytes


def _throw_away(number: int) -> bool:
    """Let whatever is written to a file descriptor from now on vanish, children's words too.

    Returns:
        Whether that could be done: it takes another file descriptor.
    """
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
    except OSError:
        return False
    return True
