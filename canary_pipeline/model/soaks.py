"""The course of a soak: when it looks next, whether it goes on after a kill, and what it showed."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from canary_pipeline.model.health import Judgement
from canary_pipeline.model.limits import Limit, amount, can_be_limited, is_counter
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
    lines = [f"{len(looks)} look{'s' * (len(looks) != 1)}, {unanswered or 'none'} unanswered"]
    if watch.limits:
        return [*lines, *(f"`{limit}`: {_told(limit, looks)}" for limit in watch.limits)]
    rose = {name: grown for name, grown in growths(looks).items() if is_counter(name) and grown}
    told = ", ".join(f"{name} by {amount(rose[name])}" for name in sorted(rose))
    return [*lines, f"no limits; rose: {told}"] if told else lines


def _told(limit: Limit, looks: Sequence[Look]) -> str:
    found = closest(limit, looks)
    if found is None:
        return "never seen"
    highest, at = found
    said = "rose by" if limit.growth else "at most"
    return f"{said} {amount(highest)}{' in' if limit.growth else ', at'} {at:.0f} s"


def closest(limit: Limit, looks: Sequence[Look]) -> tuple[float, float] | None:
    """The highest that a limited number came in a soak, and when; None where it was never seen."""
    return max(((number, at) for at, number in series(limit, looks)), default=None)


def series(limit: Limit, looks: Sequence[Look]) -> list[tuple[float, float]]:
    """What a limit holds of at each look of a soak: seconds, and the level or the growth so far."""
    seen = [
        (look.elapsed_seconds, look.measured[limit.name])
        for look in looks
        if look.number > 0 and limit.name in look.measured
    ]
    zero = seen[0][1] if seen and limit.growth else 0.0
    return [(at, number - zero) for at, number in seen]


def growths(looks: Sequence[Look]) -> dict[str, float]:
    """By how much each number has grown in a soak that passed; those that ever fell are absent."""
    counted = [look.measured for look in looks if look.number > 0 and look.measured]
    first, last = (counted[0], dict(counted[0])) if counted else ({}, {})
    fallen: set[str] = set()
    for numbers in counted:
        fallen |= {name for name, number in numbers.items() if number < last.get(name, number)}
        last.update(numbers)
    return {name: last[name] - first[name] for name in first if name not in fallen}


def proposed_limits(soaks: Sequence[Mapping[str, float]]) -> tuple[Limit, ...]:
    """Propose the largest growth that passed soaks have seen as a limit, by name.

    A healthy soak exceeds it with probability at most 1 / (soaks + 1), whatever the distribution,
    as long as soaks are alike. Left out are numbers that fell, or were not there, in one of them,
    and names for which no limit can be written.

    Args:
        soaks: The `growths` of each.
    """
    names = set(soaks[0]).intersection(*soaks) if soaks else set()
    largest = {name: max(soak[name] for soak in soaks) for name in sorted(names)}
    return tuple(
        Limit(name, "<=", _rounded_up(growth), growth=True)
        for name, growth in largest.items()
        if growth < LARGEST_LIMIT and can_be_limited(name)
    )


def _rounded_up(number: float) -> float:
    return math.ceil(number * LIMIT_STEPS) / LIMIT_STEPS
