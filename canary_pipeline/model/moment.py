"""Moments as files tell them: RFC 3339, in UTC, with milliseconds."""

import math
from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """A UTC moment as RFC 3339 with milliseconds, such as `2026-02-25T08:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_of(text: str | None) -> datetime | None:
    """A moment that a file tells, in UTC; None where there is none or it is not one."""
    try:
        found = datetime.fromisoformat(text or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Seconds from one moment that a file tells to another; None where either is not told."""
    since, until = moment_of(start), moment_of(end)
    return None if since is None or until is None else (until - since).total_seconds()


def plausible(seconds: float) -> float:
    """A length that a file tells, between 0 and ten years; 0 where it is none."""
    return min(max(seconds, 0.0), 3650 * 86400.0) if math.isfinite(seconds) else 0.0
