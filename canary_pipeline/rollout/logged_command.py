"""A shell command of a rollout: run in the checkout, bounded in time, its output kept as a log."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import BinaryIO, Self

from canary_pipeline.model.plan import Plan
from canary_pipeline.outside import command as process
from canary_pipeline.outside.process_group import Stopping
from canary_pipeline.outside.token import Redactor
from canary_pipeline.rollout.context import Surroundings

_REASONS: dict[process.End, str] = {
    "exited": "exit_code",
    "signal": "signal",
    "timeout": "timeout",
    "cannot_start": "cannot_start",
}

CHANGE_GRACE_SECONDS = 10.0
"""What changes staging is given from SIGINT to SIGTERM: tools like terraform save their state."""

GATE_VARIABLE = "OA_CANARY_GATE"

_OURS = re.compile("CANARY_PIPELINE_ROLLOUT|OA_.*_CANARY_SIGNING_KEY")
"""What no command inherits: a run inside it would join our folder, or it could sign for us."""

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
        detail: The reason as a sentence; without one, what could not be stopped of it.
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
    *,
    gate: str | None = None,
    grace_seconds: float = process.GRACE_SECONDS,
    leave_background: bool = False,
    stopping: Callable[[Stopping], None] | None = None,
) -> Ending:
    """Run a command to its end.

    Args:
        command: Run by `bash -c` in the checkout, for at most the gates' timeout.
        log_file: What it prints, relative to the rollout's folder.
        plan: Where and for how long.
        around: Where the log is kept, and who may stop the command.
        variables: What its environment has beyond this process's own.
        gate: The gate that it is, where it is one: it is told so (`OA_CANARY_GATE`), has a folder
            of its own for what is temporary (`TMPDIR`), and no access to the keys of an agent.
        grace_seconds: What it is given from SIGINT to SIGTERM when it is stopped.
        leave_background: Whether what it left in the background is left alone once it exited
            with 0.
        stopping: Takes what is left of it where it is stopped and does not end at once.
    """

    def look_up() -> None:
        around.check_owner()
        around.redactor.notice()  # a token may come and go while the command prints nothing

    with _Log(around.evidence.open_log(log_file), around.redactor) as log, ExitStack() as stack:
        try:
            environment = stack.enter_context(_environment(gate, variables or {}))
        except OSError as error:
            why = f"could not start: no temporary folder: {error.strerror}"
            finished = process.Finished("cannot_start", None, why)
        else:
            finished = process.run(
                ["bash", "-c", command],
                plan.repo_root,
                environment,
                write=log.write,
                timeout_seconds=plan.gate_timeout_seconds,
                clock=around.clock,
                check_stop=look_up,
                grace_seconds=grace_seconds,
                leave_background=leave_background,
                stopping=stopping,
            )
        if finished.end == "cannot_start":
            log.write(f"{finished.detail}\n".encode())
    return _ending(finished, log.error)


def _ending(finished: process.Finished, log_error: str | None) -> Ending:
    if finished.exit_code != 0:
        return Ending(finished.exit_code, _REASONS[finished.end], finished.detail)
    if log_error is not None:
        return Ending(0, "log_not_written", f"its log could not be written: {log_error}")
    return Ending(0, None, finished.detail or None)


@contextmanager
def _environment(gate: str | None, variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """What a command finds in its environment: this process's, without what is only for us."""
    inherited = {name: os.environ[name] for name in os.environ if not _OURS.fullmatch(name)}
    if gate is None:
        yield {**inherited, **variables}
        return
    inherited.pop("SSH_AUTH_SOCK", None)
    with TemporaryDirectory(prefix="gate-", ignore_cleanup_errors=True) as temporary:
        yield {**inherited, **variables, GATE_VARIABLE: gate, "TMPDIR": temporary}
