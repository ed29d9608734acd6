"""Time, as one thing that tests can replace."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What a rollout needs to know of time."""

    def now(self) -> datetime:
        """The wall-clock time in UTC: for records, and for deadlines that outlive a process."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never jump: for every wait within a process."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for that many seconds; an interrupt ends the wait at once."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The wall-clock time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never jump."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for that many seconds."""
        time.sleep(seconds)
