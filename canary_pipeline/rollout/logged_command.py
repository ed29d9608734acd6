"""A shell command of a rollout: run in the checkout, bounded in time, its output kept as a log."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

from canary_pipeline.model.plan import Plan
from canary_pipeline.outside import command as process
from canary_pipeline.outside.token import Redactor
from canary_pipeline.rollout.context import Surroundings

_REASONS: dict[process.End, str] = {
    "exited": "exit_code",
    "signal": "signal",
    "timeout": "timeout",
    "cannot_start": "cannot_start",
}

ROOM_BYTES = 1024 * 1024
"""How much of a log gives way to rows and summary when the disk is full."""


class _Log:
    """A gate's log: redacted as it is written, and never a reason for the gate to stop.

    Once a write fails (a full disk, say) the rest is thrown away and `error` says why.
    """

    def __init__(self, file: BinaryIO, redactor: Redactor) -> None:
        self._file = file
        self._stream = redactor.stream(self._keep)
        self.write = self._stream.write
        self.error: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._file.close()

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


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        exit_code: None where it did not exit by itself.
        reason: Why it failed: `exit_code`, `signal`, `timeout`, `cannot_start` or
            `log_not_written`; None where it did not.
        detail: The reason as a sentence.
    """

    exit_code: int | None
    reason: str | None = None
    detail: str | None = None


def run_logged(
    command: str,
    log_file: str,
    plan: Plan,
    around: Surroundings,
    variables: Mapping[str, str] | None = None,
) -> Ending:
    """Run a command to its end.

    Args:
        command: Run by `bash -c` in the checkout, for at most the gates' timeout.
        log_file: What it prints, relative to the rollout's folder.
        plan: Where and for how long.
        around: Where the log is kept, and who may stop the command.
        variables: What its environment has beyond this process's own.
    """

    def look_up() -> None:
        around.check_owner()
        around.redactor.notice()  # a token may come and go while the command prints nothing

    with _Log(around.evidence.open_log(log_file), around.redactor) as log:
        finished = process.run(
            ["bash", "-c", command],
            plan.repo_root,
            {**os.environ, **(variables or {})},
            write=log.write,
            timeout_seconds=plan.gate_timeout_seconds,
            clock=around.clock,
            check_stop=look_up,
        )
        if finished.end == "cannot_start":
            log.write(f"{finished.detail}\n".encode())
    return _ending(finished, log.error)


def _ending(finished: process.Finished, log_error: str | None) -> Ending:
    if finished.exit_code != 0:
        return Ending(finished.exit_code, _REASONS[finished.end], finished.detail)
    if log_error is not None:
        return Ending(0, "log_not_written", f"its log could not be written: {log_error}")
    return Ending(0)
