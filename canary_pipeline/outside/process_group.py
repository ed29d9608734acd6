"""A process group: told to a guard, heard while it runs, and stopped to its last child."""

import math
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from canary_pipeline.outside.clock import Clock

CHUNK_BYTES = 65536
LOOK_UP_SECONDS = 0.2
"""How often a quiet command is looked at."""

TERM_SECONDS = 0.5
KILL_SECONDS = 0.5
HAND_OVER_SECONDS = 1.0
"""How long whoever stops a command waits for it before the rest is seen to in a thread."""

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

_KEEP_READING = ("/bin/sh", "-c", "exec 3<&0; cat <&3 > /dev/null 2>&1 &")
"""Takes what is printed by what a command left in the background, which else would die of it."""


class Stopping:
    """A command on its way out: asked to end, and in the hands of a thread that sees to it.

    Should this process die meanwhile, the command dies with it.
    """

    def __init__(self, finish_off: Callable[[], str]) -> None:
        """Go on with stopping it."""
        self._left = ""

        def work() -> None:
            self._left = finish_off()

        self._thread = threading.Thread(target=work, name="stopping", daemon=True)
        self._thread.start()

    def finish(self) -> str:
        """Wait until it is gone, which takes no longer than its grace and a few seconds.

        Returns:
            What still runs and why, or an empty string.
        """
        self._thread.join()
        return self._left


def without_end() -> float:
    """How many seconds are left where nothing bounds them."""
    return math.inf


Reach = Literal["gone", "there", "out of reach"]


@dataclass
class Group:
    """A command with all of its children, and the process that guards them."""

    child: subprocess.Popen[bytes]
    stdout: IO[bytes]
    guard: subprocess.Popen[bytes] | None
    write: Callable[[bytes], object]

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        write: Callable[[bytes], object],
    ) -> "Group":
        """Start a command that dies with this process.

        Raises:
            OSError: When it cannot be started.
        """
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
        except OSError:
            _dismiss(guard)
            raise
        assert child.stdout is not None  # noqa: S101 - asked for above
        os.set_blocking(child.stdout.fileno(), False)
        _tell(guard, f"{child.pid}\n".encode())
        _tell(child, b"go\n")
        return cls(child, child.stdout, guard, write)

    def follow(self, deadline: float, clock: Clock, check_stop: Callable[[], None]) -> bool:
        """Hand on the output until the child exits (True) or its deadline passes (False)."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.stdout, selectors.EVENT_READ)
            while self.child.poll() is None:
                check_stop()
                if clock.monotonic() >= deadline:
                    return False
                if not selector.get_map():
                    with suppress(subprocess.TimeoutExpired):
                        self.child.wait(LOOK_UP_SECONDS)
                elif selector.select(LOOK_UP_SECONDS) and self.hear(CHUNK_BYTES):
                    selector.unregister(self.stdout)
        return True

    def hear(self, most: int = 16 * 1024 * 1024) -> bool:
        """Hand on what is in the pipe now, or most of it; True at its end.

        Whoever holds it open is not waited for, and if he keeps writing, that ends the hearing.
        """
        while most > 0:
            try:
                chunk = os.read(self.stdout.fileno(), CHUNK_BYTES)
            except BlockingIOError:
                return False
            if not chunk:
                return True
            self.write(chunk)
            most -= len(chunk)
        return False

    def stop(
        self,
        grace_seconds: float,
        stopping: Callable[[Stopping], None] | None = None,
        grace_left: Callable[[], float] = without_end,
    ) -> str:
        """Interrupt, terminate, kill; say what is left."""
        at_once = grace_seconds if stopping is None else min(grace_seconds, HAND_OVER_SECONDS)
        try:
            self.ask(signal.SIGINT, at_once, grace_left)
            if stopping is None or self.reach() == "gone":
                return self.finish_off(0.0, grace_left)
        except BaseException:
            self.ask(signal.SIGKILL, 0.0)
            self.close()
            raise
        self.write = lambda _: None
        stopping(Stopping(lambda: self.finish_off(grace_seconds - at_once, grace_left)))
        return ""

    def finish_off(self, grace_seconds: float, grace_left: Callable[[], float]) -> str:
        """Let an interrupted group end in its grace or be ended after it; say what is left."""
        self.wait(grace_seconds, grace_left)
        self.ask(signal.SIGTERM, TERM_SECONDS)
        self.ask(signal.SIGKILL, KILL_SECONDS)
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(KILL_SECONDS)
        self.hear()
        out_of_reach = self.reach() == "out of reach"
        self.close()
        who = f"what runs as another user could not be stopped (process group {self.child.pid})"
        return who if out_of_reach else ""

    def leave(self) -> None:
        """Let what is in the background live on, and be heard by nobody."""
        if not self.hear():
            os.set_blocking(self.stdout.fileno(), True)
            with suppress(OSError):
                subprocess.run(_KEEP_READING, stdin=self.stdout, cwd="/", check=False)  # noqa: S603
        self.close()

    def ask(
        self,
        number: signal.Signals,
        patience: float,
        grace_left: Callable[[], float] = without_end,
    ) -> None:
        """Send a signal to every process of the group, and give it time to work."""
        with suppress(ProcessLookupError, PermissionError):
            if self.reach() != "gone":
                os.killpg(self.child.pid, number)
        self.wait(patience, grace_left)

    def wait(self, seconds: float, grace_left: Callable[[], float] = without_end) -> None:
        """Wait until nothing of the group is left, but no longer than that; a pipe is no dam."""
        until = time.monotonic() + seconds
        while self.reach() != "gone" and time.monotonic() < until and grace_left() > 0:
            self.hear()
            time.sleep(0.02)

    def reach(self) -> Reach:
        """Whether any process of the group is left, and whether it may be signalled."""
        self.child.poll()  # reaps the leader, which would otherwise count as alive
        try:
            os.killpg(self.child.pid, 0)
        except ProcessLookupError:
            return "gone"
        except PermissionError:
            return "out of reach"
        return "there"

    def close(self) -> None:
        """Let go of it."""
        guard, self.guard = self.guard, None
        _dismiss(guard)
        self.stdout.close()
        if self.child.stdin is not None:
            self.child.stdin.close()


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
