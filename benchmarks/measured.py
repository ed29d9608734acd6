"""One run of a command: its time, the CPU of every process that belongs to it, their memory."""

import ctypes
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Self

import click

SAMPLE_SECONDS = 0.1
ORPHAN_SECONDS = 10.0
"""How long what a command leaves behind may take to end."""

_PROC = Path("/proc")
_SET_CHILD_SUBREAPER = 36


class RunFailedError(click.ClickException):
    """A command that was to be measured did not end well, so its figures mean nothing."""


class RunLateError(RunFailedError):
    """A command that was to be measured did not end in time."""


@dataclass(frozen=True)
class Peak:
    """The most that was seen at once; zeros where nobody watched.

    Attributes:
        megabytes: Of all processes together (10^6 bytes); a page that several share is divided
            among them (proportional set size).
        processes: All of them.
        beside_gates: Those in the command's own session; a gate and its guard have their own.
    """

    megabytes: float = 0.0
    processes: int = 0
    beside_gates: int = 0


@dataclass(frozen=True)
class Measured:
    """One run of a command.

    Attributes:
        cpu: Seconds, user and system, of all its processes; orphans are counted too.
        wall: Seconds from its start to its exit.
        peak: What was seen of its processes while it ran.
    """

    cpu: float
    wall: float
    peak: Peak


def adopt_orphans() -> None:
    """Become the parent of what measured commands leave behind, lest it escape the count.

    Raises:
        OSError: Where the system has no such thing; Linux has.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become the parent of orphans")


def measure(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str],
    limit_seconds: float,
    *,
    watch: bool = False,
) -> Measured:
    """Run a command to its end; call `adopt_orphans` once before.

    Args:
        command: Program and arguments.
        folder: Where it runs, and where `printed.log` holds what it prints.
        environment: Its whole environment.
        limit_seconds: How long it may take.
        watch: Whether to look at its processes while it runs, which slows it down a little.

    Raises:
        RunFailedError: When it does not exit with 0.
        RunLateError: When it does not exit in time.
    """
    cpu, start = _children_cpu(), monotonic()
    with (folder / "printed.log").open("wb") as printed:
        process = subprocess.Popen(  # noqa: S603 - the contenders
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
    try:
        with _Watch(process.pid, active=watch) as watched:
            process.wait(limit_seconds)
        wall = monotonic() - start
    except subprocess.TimeoutExpired:
        message = f"{' '.join(map(str, command))}: did not end within {limit_seconds:.0f} s"
        raise RunLateError(message) from None
    finally:
        _end(process)
        _reap_orphans()
    if process.returncode != 0:
        end = (folder / "printed.log").read_text(errors="replace")[-2000:]
        message = f"{' '.join(map(str, command))}: exit code {process.returncode}\n{end}"
        raise RunFailedError(message)
    return Measured(_children_cpu() - cpu, wall, watched.peak)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a process that is late, or whose measuring was interrupted."""
    if process.returncode is not None:
        return
    process.terminate()  # a rollout that is asked to stop takes its gates with it
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reap_orphans() -> None:
    """Wait for what the command has left; whatever stays is killed."""
    deadline = monotonic() + ORPHAN_SECONDS
    with suppress(ChildProcessError):
        while True:
            found, _ = os.waitpid(-1, os.WNOHANG)
            if not found and monotonic() > deadline:
                for orphan in _descendants(os.getpid()):
                    os.kill(orphan.pid, signal.SIGKILL)
            if not found:
                sleep(0.01)


class _Watch:
    """Samples a command's processes from a thread."""

    def __init__(self, pid: int, *, active: bool) -> None:
        self._pid, self._active = pid, active
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.peak = Peak()

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
            found = list(_descendants(os.getpid()))
            own = sum(process.session == self._pid for process in found)
            megabytes = sum(_proportional_megabytes(process.pid) for process in found)
            self.peak = Peak(
                max(self.peak.megabytes, megabytes),
                max(self.peak.processes, len(found)),
                max(self.peak.beside_gates, own),
            )


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    session: int


def _descendants(root: int) -> Iterator[_Process]:
    """All that descend from a process, and still run."""
    everybody = [found for found in map(_process, _PROC.glob("[0-9]*")) if found is not None]
    family = {root}
    of_family: Callable[[_Process], bool] = lambda it: it.parent in family and it.pid not in family  # noqa: E731
    while found := list(filter(of_family, everybody)):
        family |= {process.pid for process in found}
        yield from found


def _process(folder: Path) -> _Process | None:
    fields = _text(folder / "stat").rpartition(")")[2].split()
    if not fields or fields[0] == "Z":
        return None
    return _Process(int(folder.name), parent=int(fields[1]), session=int(fields[3]))


def _proportional_megabytes(pid: int) -> float:
    lines = _text(_PROC / str(pid) / "smaps_rollup").splitlines()
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:"))


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # the process has ended
        return ""
