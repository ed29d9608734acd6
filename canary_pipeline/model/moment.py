"""Moments as files tell them: RFC 3339, in UTC, with milliseconds."""

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
    """Seconds from one such moment to another, at least 0; None where one of them is none."""
    before, after = moment_of(start), moment_of(end)
    if before is None or after is None:
        return None
    return max(round((after - before).total_seconds(), 3), 0.0)
