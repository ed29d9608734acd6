"""Run a command so that nothing of it outlives its time: group, timeout, log, shutdown ladder."""

import os
import selectors
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from canary_pipeline.outside.clock import Clock

CHUNK_BYTES = 65536
LOOK_UP_SECONDS = 0.2
"""How often a quiet command is looked at."""

LADDER: tuple[tuple[signal.Signals, float], ...] = (
    (signal.SIGINT, 0.5),
    (signal.SIGTERM, 0.5),
    (signal.SIGKILL, 1.0),
)
"""How a process group is stopped: each signal, and the seconds it is given to work."""

_GUARD = (
    "import os,signal,sys\n"
    "group = sys.stdin.buffer.readline()\n"
    "if group and not sys.stdin.buffer.read(1):\n"
    "    try: os.killpg(int(group), signal.SIGKILL)\n"
    "    except ProcessLookupError: pass\n"
)
"""A process that is told a group, and kills it when whoever told it dies without a goodbye."""

_START_WHEN_TOLD = ("/bin/sh", "-c", 'read -r go && exec "$@" < /dev/null', "sh")
"""Becomes a command once its guard knows of it; where the owner dies before, nothing is run."""

End = Literal["exited", "signal", "timeout", "cannot_start"]


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes:
        end: What ended it.
        exit_code: Its exit code, where it exited by itself.
        detail: What happened as a sentence; empty after exit code 0.
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
    check_owner: Callable[[], None] = lambda: None,
) -> Finished:
    """Run a command to its end, its timeout, or an interrupt, and leave nothing of it behind.

    Args:
        command: The program and its arguments.
        folder: The working directory.
        environment: The child's environment.
        write: Takes each chunk of the merged stdout and stderr; must not raise.
        timeout_seconds: After this long the command's process group is stopped.
        clock: Measures the timeout.
        check_owner: Called several times a second; may raise to stop the command.

    Returns:
        How it ended. An exception (an interrupt, say) is passed on after the group was stopped.
    """
    if shutil.which(command[0], path=environment.get("PATH", os.defpath)) is None:
        return Finished("cannot_start", None, f"could not start: no such program: {command[0]}")
    guard = _start_guard()
    try:
        child = subprocess.Popen(  # noqa: S603 - running a command is what this module is for
            [*_START_WHEN_TOLD, *command],
            cwd=folder,
            env=dict(environment),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        _dismiss(guard)
        where = f": {error.filename}" if error.filename else ""
        return Finished("cannot_start", None, f"could not start: {error.strerror}{where}")
    _tell(guard, f"{child.pid}\n".encode())
    _tell(child, b"go\n")
    deadline = clock.monotonic() + timeout_seconds
    timed_out = False
    try:
        timed_out = not _follow(child, write, deadline, clock, check_owner)
    finally:
        stop_group(child, clock)
        _dismiss(guard)
        assert child.stdout is not None  # noqa: S101 - asked for above
        _drain(child.stdout, write)
        child.stdout.close()
        if child.stdin is not None:
            child.stdin.close()
    if timed_out:
        return Finished("timeout", None, f"stopped after {timeout_seconds:g} s")
    return _ended(child.returncode)


def _follow(
    child: subprocess.Popen[bytes],
    write: Callable[[bytes], object],
    deadline: float,
    clock: Clock,
    check_owner: Callable[[], None],
) -> bool:
    """Hand on the child's output until it exits (True) or its deadline passes (False)."""
    assert child.stdout is not None  # noqa: S101 - asked for by run()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while child.poll() is None:
            check_owner()
            if clock.monotonic() >= deadline:
                return False
            if not selector.get_map():
                with suppress(subprocess.TimeoutExpired):
                    child.wait(LOOK_UP_SECONDS)
            elif selector.select(LOOK_UP_SECONDS):
                chunk = os.read(child.stdout.fileno(), CHUNK_BYTES)
                if chunk:
                    write(chunk)
                else:
                    selector.unregister(child.stdout)
    return True


def _drain(stdout: IO[bytes], write: Callable[[bytes], object]) -> None:
    """Take what is left in the pipe; a daemon that holds it open is not waited for."""
    os.set_blocking(stdout.fileno(), False)
    most = 16 * 1024 * 1024  # a daemon that keeps writing ends the reading, not the gate
    while most > 0:
        try:
            chunk = os.read(stdout.fileno(), CHUNK_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            return
        write(chunk)
        most -= len(chunk)


def stop_group(child: subprocess.Popen[bytes], clock: Clock) -> None:
    """Stop what is left of a child's process group: interrupt, terminate, kill."""
    for number, patience in LADDER:
        if not _signal_group(child, number):
            break
        until = clock.monotonic() + patience
        while _signal_group(child, 0) and clock.monotonic() < until:
            clock.sleep(0.02)
    child.wait()


def _signal_group(child: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to every process of the group; False when there is none left."""
    child.poll()  # reaps the leader, which would otherwise count as alive
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _start_guard() -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and our own text
            [sys.executable, "-S", "-E", "-c", _GUARD],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None  # a host without room for one more process still gets its gate run


def _tell(process: subprocess.Popen[bytes] | None, data: bytes) -> None:
    if process is not None and process.stdin is not None:
        with suppress(OSError):
            process.stdin.write(data)


def _dismiss(guard: subprocess.Popen[bytes] | None) -> None:
    if guard is not None:
        _tell(guard, b".")
        guard.communicate()


def _ended(code: int) -> Finished:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return Finished("signal", None, f"killed by {name}")
    return Finished("exited", code, f"exit code {code}" if code else "")
