"""Runs a command, and measures how long it takes and how much memory its processes hold."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import click

SAMPLE_SECONDS = 0.2

_PROC = Path("/proc")


class RunFailedError(click.ClickException):
    """A command that was to be measured did not end well, so its time means nothing."""


@dataclass(frozen=True)
class Memory:
    """The most that any one process held, in MB (10^6 bytes); 0 where it was not watched.

    Attributes:
        resident: Resident set size, as the kernel keeps its peak. Pages that a forked process
            shares with others count in full.
        proportional: Proportional set size, as sampled: shared pages are divided among the
            processes that share them.
        processes: How many processes there were at once.
    """

    resident: float = 0.0
    proportional: float = 0.0
    processes: int = 0

    def or_more(self, other: "Memory") -> "Memory":
        """The larger of both, figure by figure."""
        return Memory(
            max(self.resident, other.resident),
            max(self.proportional, other.proportional),
            max(self.processes, other.processes),
        )


@dataclass(frozen=True)
class Measured:
    """One run of a command.

    Attributes:
        started_at: When it was started, in seconds since the epoch.
        seconds: From its start to its exit.
        memory: The peak of its processes.
    """

    started_at: float
    seconds: float
    memory: Memory


def measure(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str],
    limit_seconds: float,
    *,
    watch_memory: bool = False,
) -> Measured:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        folder: Where it runs.
        environment: Its whole environment.
        limit_seconds: How long it may take.
        watch_memory: Whether to sample its processes, which costs it a little time.

    Raises:
        RunFailedError: When it does not exit with 0 in time.
    """
    with (folder / "printed.log").open("wb") as printed:
        started_at, start = time.time(), time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - the contenders
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
        with _Watch(process.pid, active=watch_memory) as watch:
            code = _wait(process, limit_seconds)
        seconds = time.monotonic() - start
    if code != 0:
        end = (folder / "printed.log").read_text(errors="replace")[-2000:]
        after = f"exit code {code} after {seconds:.0f} s"
        message = f"{' '.join(map(str, command))}: {after}\n{end}"
        raise RunFailedError(message)
    return Measured(started_at, seconds, watch.peak)


def _wait(process: "subprocess.Popen[bytes]", limit_seconds: float) -> int:
    """Wait for the end; a process that is late is stopped, and so it is if this is interrupted."""
    try:
        return process.wait(limit_seconds)
    except BaseException as error:
        process.terminate()  # a rollout that is asked to stop takes its gates with it
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if isinstance(error, subprocess.TimeoutExpired):
            return process.wait()
        raise


class _Watch:
    """Samples the memory of a process and its descendants from a thread."""

    def __init__(self, pid: int, *, active: bool) -> None:
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._active = active and (_PROC / "self/smaps_rollup").exists()
        self.peak = Memory()

    def __enter__(self) -> Self:
        if self._active:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._active:
            self._thread.join()

    def _follow(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            pids = descendants(self._pid)
            found = Memory(processes=len(pids))
            for pid in pids:
                found = found.or_more(_memory_of(pid))
            self.peak = self.peak.or_more(found)


def descendants(root: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            fields = _text(entry / "stat").rpartition(")")[2].split()
            if fields:
                parents[int(entry.name)] = int(fields[1])
    found = [root]
    for pid in found:  # grows while it is read
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _memory_of(pid: int) -> Memory:
    return Memory(
        resident=_kilobytes(_text(_PROC / str(pid) / "status"), "VmHWM:") * 1024 / 1e6,
        proportional=_kilobytes(_text(_PROC / str(pid) / "smaps_rollup"), "Pss:") * 1024 / 1e6,
    )


def _kilobytes(text: str, name: str) -> int:
    lines = [line.split() for line in text.splitlines() if line.startswith(name)]
    return int(lines[0][1]) if lines else 0


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # the process has ended
        return ""
