"""The traffic of the stand-in's runtime: nobody sends it, it follows from the time that passed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sin
from typing import Any

VARIABLE = "LOCAL_STAGING_TRAFFIC"
"""What a restart of the control service carries over: the runtime goes on counting meanwhile."""

AUTH_FAILURES = {
    "unauthorized": 0.9, "forbidden": 0.7, "invalid_token": 0.6, "token_expired": 1.9,
    "token_not_yet_valid": 0.5, "token_revoked": 0.8,
}  # fmt: skip
RATES: Mapping[str, float] = {
    "published": 41.3, "duplicates": 2.3, "polls": 23.7, "served": 39.1, "stale_cursors": 1.1,
    **AUTH_FAILURES,
}  # fmt: skip
"""How often a second each thing happens while all is well; a message is never lost."""

AGE_SECONDS = 3600
"""For how long the runtime had been counting when the stand-in started."""

CRASH_SECONDS = 1.7
"""From crash to crash; no whole number, so that no regular look always sees the same moment."""


@dataclass(frozen=True)
class Traffic:
    """What the runtime counts.

    Attributes:
        began: When its counters were 0, by `time.monotonic`, which outlives a process.
        ill_before: For how many seconds a fault's percent was live before this process served.
        ill_since: When this process began to serve with such a percent; None without.
    """

    began: float
    ill_before: float
    ill_since: float | None

    @classmethod
    def read(cls, variables: Mapping[str, str], *, ill: bool) -> "Traffic":
        """Go on with the traffic that was carried over a restart, or begin."""
        now = time.monotonic()
        began, ill_before = variables.get(VARIABLE, f"{now - AGE_SECONDS} 0").split()
        return cls(float(began), float(ill_before), now if ill else None)

    def carried(self) -> str:
        """What the next process reads."""
        return f"{self.began} {self._ill_seconds}"

    @property
    def is_ill(self) -> bool:
        """Whether a percent is live that a fault begins at."""
        return self.ill_since is not None

    @property
    def _ill_seconds(self) -> float:
        here = 0.0 if self.ill_since is None else time.monotonic() - self.ill_since
        return self.ill_before + here

    def _seconds(self, fault: str | None) -> float:
        """For how long the runtime has been counting."""
        if fault == "frozen-metrics":
            return AGE_SECONDS
        if fault == "crash-loop-at-25" and self.is_ill:
            return self._ill_seconds % CRASH_SECONDS
        return time.monotonic() - self.began

    def metrics(self, fault: str | None, counts: Mapping[str, int]) -> dict[str, Any]:
        """The runtime's metrics.

        Args:
            fault: How they misbehave.
            counts: What really happened beside the traffic, by the names of `RATES`.
        """
        seconds = self._seconds(fault)
        seen = {name: int(rate * seconds) + counts[name] for name, rate in RATES.items()}
        attempts = seen["published"] + seen["duplicates"]
        lost_seconds = self._ill_seconds if fault == "errors-at-25" else 0
        lag = 4000 if fault == "lag-at-25" and self.is_ill else 120
        return {
            "transport": "spacetime_ws",
            "mirror": {
                "published_total": seen["published"],
                "duplicate_suppressed_total": seen["duplicates"],
                "failed_total": int(31 * lost_seconds),
                "duplicate_suppression_rate_pct": 100 * seen["duplicates"] / max(attempts, 1),
            },
            "delivery": {
                "active_consumers": 12 + round(4 * sin(seconds)),
                "total_polls": seen["polls"],
                "served_messages": seen["served"],
                "max_replay_lag": lag + round(60 * sin(seconds / 2)),
                "dropped_messages_total": int(17 * lost_seconds),
                "stale_cursor_events_total": seen["stale_cursors"],
            },
            "auth_failures": {f"{kind}_total": seen[kind] for kind in AUTH_FAILURES},
            "generated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
