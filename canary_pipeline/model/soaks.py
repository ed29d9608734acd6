"""The course of a soak: when it looks next, whether it goes on after a kill, and what it showed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from canary_pipeline.model.health import Judgement
from canary_pipeline.model.limits import Limit, amount, can_be_limited
from canary_pipeline.model.looks import PATIENCE_SECONDS, Look, Watch

LAST_CHANCE_SECONDS = 58.0
"""The last of the looks that 60 s allow is taken a little early, so that it counts."""

LOOKS_BEFORE_STRETCHING = 1000
STRETCHED_INTERVAL_SECONDS = 30.0
LARGEST_LIMIT = 10**12 - 1
LIMIT_STEPS = 1000
"""To how many parts of 1 a limit can be written."""


def next_look_at(judgement: Judgement) -> float:
    """When the next look is due, in `elapsed_seconds`; at once, where that is past.

    An interval after the last one; at the soak's end; and after a bad look in time for a good one
    to count.
    """
    watch, last = judgement.watch, judgement.last
    if last is None:
        return 0.0
    due = [last.elapsed_seconds + interval_after(last.number, watch.interval_seconds)]
    if last.number > 0:
        due.append(watch.soak_seconds)
    if watch.limits and judgement.problem is not None:
        due += [judgement.good_at + LAST_CHANCE_SECONDS, judgement.good_at + PATIENCE_SECONDS]
    return min(moment for moment in due if moment > last.elapsed_seconds)


def interval_after(looks: int, interval_seconds: float) -> float:
    """The seconds to the next look; a soak that takes long is looked at less often."""
    stretches = looks >= LOOKS_BEFORE_STRETCHING
    return max(interval_seconds, STRETCHED_INTERVAL_SECONDS) if stretches else interval_seconds


def elapsed_after_kill(judgement: Judgement, now: datetime) -> float | None:
    """The `elapsed_seconds` of a soak that was interrupted and goes on; None if it starts anew.

    It goes on if its last good look is at most 60 s ago and the clock has not gone back. A verdict
    that the judgement already holds comes first.
    """
    last = judgement.last
    if last is None or last.number == 0:
        return None
    away = (now - datetime.fromisoformat(last.at)).total_seconds()
    elapsed = last.elapsed_seconds + away
    return elapsed if away >= 0 and elapsed - judgement.good_at <= PATIENCE_SECONDS else None


def last_soak(looks: Sequence[Look]) -> list[Look]:
    """The looks of a cohort's last soak, which is the one that counts."""
    return [look for look in looks if look.soak == looks[-1].soak]


def health_lines(watch: Watch, looks: Sequence[Look]) -> list[str]:
    """What the looks of one soak showed: how many, and each limit with the closest it came."""
    unanswered = sum(not look.was_answered for look in looks)
    counted = [look for look in looks if look.number > 0]
    return [
        f"{len(looks)} look{'s' * (len(looks) != 1)}, {unanswered or 'none'} unanswered",
        *(f"`{limit}`: {_closest(limit, counted)}" for limit in watch.limits),
    ]


def _closest(limit: Limit, looks: Sequence[Look]) -> str:
    seen = [
        (look.measured[limit.name], look.elapsed_seconds)
        for look in looks
        if limit.name in look.measured
    ]
    if not seen:
        return "never seen"
    highest, at = max(seen)
    if not limit.growth:
        return f"at most {amount(highest)}, at {at:.0f} s"
    return f"rose by {amount(highest - seen[0][0])} in {at:.0f} s"


def growths(looks: Sequence[Look]) -> dict[str, float]:
    """By how much each number has grown in a soak that passed; those that ever fell are absent."""
    counted = [look.measured for look in looks if look.number > 0 and look.measured]
    first, last = (counted[0], dict(counted[0])) if counted else ({}, {})
    fallen: set[str] = set()
    for numbers in counted:
        fallen |= {name for name, number in numbers.items() if number < last.get(name, number)}
        last.update(numbers)
    return {name: last[name] - first[name] for name in first if name not in fallen}


@dataclass(frozen=True)
class Proposal:
    """A limit that past soaks suggest.

    Attributes:
        limit: The largest growth that was seen.
        soaks: In how many passed soaks.
    """

    limit: Limit
    soaks: int

    def __str__(self) -> str:
        """The limit and what it means: true of any distribution, as long as soaks are alike."""
        seen = f"{self.soaks} passed soak{'s' * (self.soaks != 1)}"
        meaning = f"a healthy soak exceeds it with probability at most 1/{self.soaks + 1}"
        return f"{self.limit} (the largest growth in {seen}; {meaning})"


def proposed_limits(growths: Mapping[str, Sequence[float]]) -> tuple[Proposal, ...]:
    """Propose a limit for each number from its growth in every passed soak, sorted by name.

    Left out are numbers that fell, and names for which no limit can be written.
    """
    return tuple(
        Proposal(Limit(name, "<=", _rounded_up(max(seen)), growth=True), len(seen))
        for name, seen in sorted(growths.items())
        if seen and min(seen) >= 0 and max(seen) < LARGEST_LIMIT and can_be_limited(name)
    )


def _rounded_up(number: float) -> float:
    return math.ceil(number * LIMIT_STEPS) / LIMIT_STEPS
