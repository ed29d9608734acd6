"""The one way to stop a rollout: a flag that everything which waits looks at, and who sets it."""

import signal
import threading
import time
from types import FrameType
from typing import Protocol, Self

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

LADDER_SECONDS = 10.0
"""For so long a signal of another kind is the same request: a CI's cancel sends two in a row."""


class StoppedError(Exception):
    """What is under way is not to go on; the message says why."""


class Held(Protocol):
    """What a rollout may lose while it is under way."""

    def why_stop(self) -> str | None:
        """Why whatever waits is not to go on, or None."""
        ...

    def lost(self) -> str | None:
        """Why not even a rollback may go on, or None."""
        ...


class Stop:
    """Whether a rollout is to stop, and why. Safe to set from any thread and from a signal.

    Attributes:
        held: Asked as often as this is.
    """

    def __init__(self) -> None:
        """Nothing is to stop yet."""
        self._requested = threading.Event()
        self._why = ""
        self.held: Held | None = None

    def request(self, why: str) -> None:
        """Let everything that waits end within a second; the first reason stays.

        Args:
            why: As a part of a sentence, free of secrets.
        """
        if not self._requested.is_set():
            self._why = why
            self._requested.set()

    @property
    def why(self) -> str | None:
        """Why the rollout is to stop, or None where it is not."""
        if not self._requested.is_set() and self.held and (why := self.held.why_stop()):
            self.request(why)
        return self._why if self._requested.is_set() else None

    def check(self) -> None:
        """To be called several times a second by whatever waits.

        Raises:
            StoppedError: When the rollout is to stop.
        """
        if (why := self.why) is not None:
            raise StoppedError(why)


class Signals:
    """Requests a stop when a signal comes while its body runs, in the main thread.

    Elsewhere it does nothing. It may be entered again where somebody else has taken the signals
    over meanwhile.

    Attributes:
        stop: What is requested.
    """

    def __init__(self) -> None:
        """Nothing has been received yet."""
        self.stop = Stop()
        self._at: list[tuple[int, float]] = []
        self._asked = 0
        self._before: list[dict[int, object]] = []

    def __enter__(self) -> Self:
        """Begin to take note."""
        numbers = STOPPING if threading.current_thread() is threading.main_thread() else ()
        self._before.append({number: signal.signal(number, self._note) for number in numbers})
        return self

    def __exit__(self, *_: object) -> None:
        """Let signals do again what they did before."""
        for number, handler in self._before.pop().items():
            signal.signal(number, handler)  # type: ignore[arg-type] # as signal.signal gave it

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._at.append((number, time.monotonic()))
        self.stop.request(f"stopped by {signal.Signals(number).name}")

    def obey(self) -> None:
        """From now on the signals so far are obeyed: `check_again` waits for more."""
        self._asked = len(self._at)

    def check_again(self) -> None:
        """To be called while staging is restored, after `obey`.

        Raises:
            StoppedError: When staging may be another rollout's by now, or a signal since asks to
                end that too. One of another kind does not, soon after the first: that is the same
                request.
        """
        if self.stop.held and (why := self.stop.held.lost()):
            raise StoppedError(why)
        first, began = self._at[0] if self._asked else (None, 0.0)
        for number, at in self._at[self._asked :]:
            if first in (None, number) or at - began > LADDER_SECONDS:
                raise StoppedError(f"interrupted by {signal.Signals(number).name}")
