"""A command's log: redacted as it is written, and never a reason for the command to stop."""

import os
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, Self

from canary_pipeline.outside.durable import sync
from canary_pipeline.outside.token import Redactor

ROOM_BYTES = 1024 * 1024
"""How much of a log gives way to rows and summary when the disk is full."""


class Log:
    """Takes chunks of output, and keeps them; use it as a context manager.

    Once a write fails (a full disk, say) the rest is thrown away and `error` says why.
    """

    def __init__(self, file: BinaryIO, redactor: Redactor) -> None:
        """Write to a file, which is closed in the end."""
        self._file = file
        self._stream = redactor.stream(self._keep)
        self.write = self._stream.write
        self.error: str | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write what was held back, and close the file once it is kept: a row names its digest."""
        self._stream.close()
        try:
            with self._file:
                sync(self._file.fileno())
        except OSError as problem:
            self.error = self.error or problem.strerror or str(problem)

    def _keep(self, data: bytes) -> None:
        while data and self.error is None:
            try:
                data = data[self._file.write(data) :]
            except OSError as error:
                self.error = error.strerror or str(error)
                self._give_room()

    def _give_room(self) -> None:
        """Give back the end of the log, so that the row that says so finds room on a full disk."""
        with suppress(OSError):
            end = self._file.seek(0, os.SEEK_END)
            self._file.truncate(max(end - ROOM_BYTES, 0))
