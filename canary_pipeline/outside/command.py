"""Run a command to its end, its timeout or an interrupt, so that nothing of it outlives that."""

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from canary_pipeline.outside.clock import Clock
from canary_pipeline.outside.process_group import Group, Stopping, without_end

GRACE_SECONDS = 2.0
LEFTOVER_SECONDS = 0.5
"""What a command that ended by itself left behind is given less."""

End = Literal["exited", "signal", "timeout", "cannot_start"]


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes:
        end: What ended it.
        exit_code: Its exit code, where it exited by itself.
        detail: What happened as a sentence; empty after exit code 0, but for what it left
            running and could not be stopped.
    """

    end: End
    exit_code: int | None
    detail: str


def run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    write: Callable[[bytes], object],
    timeout_seconds: float,
    clock: Clock,
    check_stop: Callable[[], None] = lambda: None,
    grace_seconds: float = GRACE_SECONDS,
    grace_left: Callable[[], float] = without_end,
    leave_background: bool = False,
    stopping: Callable[[Stopping], None] | None = None,
) -> Finished:
    """Run a command to its end, its timeout, or an interrupt, and leave nothing of it behind.

    Args:
        command: The program and its arguments.
        folder: The working directory.
        environment: The child's environment.
        write: Takes each chunk of the merged stdout and stderr; must not raise.
        timeout_seconds: After this long the command's process group is stopped.
        clock: Measures the timeout.
        check_stop: Called several times a second; may raise to stop the command.
        grace_seconds: What a command that is stopped is given from SIGINT to SIGTERM.
        grace_left: How many seconds of that are left at most; asked many times a second meanwhile.
        leave_background: Whether what it left in the background is left alone, where it exited
            with 0; what that prints is heard no more.
        stopping: Takes a command that is stopped by an exception and has not ended within
            `HAND_OVER_SECONDS`, so that the exception is passed on before its grace is over;
            its further output is lost. Without it the exception waits for its end.

    Returns:
        How it ended. An exception (an interrupt, say) is passed on after the group was asked to
        stop; another one meanwhile kills it at once.
    """
    if shutil.which(command[0], path=environment.get("PATH", os.defpath)) is None:
        return Finished("cannot_start", None, f"could not start: no such program: {command[0]}")
    try:
        group = Group.start(command, folder, environment, write)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return Finished("cannot_start", None, f"could not start: {error.strerror}{where}")
    try:
        in_time = group.follow(clock.monotonic() + timeout_seconds, clock, check_stop)
    except BaseException:
        group.stop(grace_seconds, stopping, grace_left)
        raise
    code = group.child.returncode
    if leave_background and code == 0:
        group.leave()
        left = ""
    else:
        grace_seconds = min(grace_seconds, LEFTOVER_SECONDS) if in_time else grace_seconds
        left = group.stop(grace_seconds, grace_left=grace_left)
    if in_time:
        ended = _ended(code)
    else:
        ended = Finished("timeout", None, f"stopped after {timeout_seconds:g} s")
    return replace(ended, detail="; ".join(filter(None, (ended.detail, left))))


def _ended(code: int) -> Finished:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return Finished("signal", None, f"killed by {name}")
    return Finished("exited", code, f"exit code {code}" if code else "")
