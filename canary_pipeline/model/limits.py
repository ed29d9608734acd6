"""The operator's limits on what staging measures, and the numbers that they are held against."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

MOST_LIMITS = 20
MOST_NAMES = 500
MOST_NUMBERS_OF_A_LOOK = 100
LONGEST_NAME = 200
LARGEST_NUMBER = 2.0**53
"""Beyond it a double cannot tell a counter from the same counter one later."""

COUNTER = "_total"
"""What the name of a number ends in that only ever rises."""

ACCEPTED = (
    f"up to {MOST_LIMITS} of NAME<=N (a level), +NAME<=N (growth in the soak, at most) and "
    "+NAME>=N (growth, at least), separated by commas; N such as 500 or 0.25"
)

_NAME = rf"[^\s,<>=+]{{1,{LONGEST_NAME}}}"
_LIMIT = re.compile(
    rf"(?P<growth>\+?)\s*(?P<name>{_NAME})\s*(?P<bound><=|>=)\s*"
    r"(?P<number>-?(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,3})?)"
)


@dataclass(frozen=True)
class Limit:
    """What one number may be, or by how much it may grow in a soak.

    Attributes:
        name: The number's dotted path, as in the `changes` table of the metrics page.
        bound: `<=` at most, `>=` at least; a level only has the first.
        number: In the unit of what is measured; not negative for a growth.
        growth: Whether it is the growth since the soak's first look that is limited.
    """

    name: str
    bound: Literal["<=", ">="]
    number: float
    growth: bool

    def __str__(self) -> str:
        """The limit as it is written; `parse_limits` reads it back."""
        return f"{'+' if self.growth else ''}{self.name}{self.bound}{amount(self.number)}"

    @property
    def bound_in_words(self) -> str:
        """Such as `at most 0`."""
        return f"at {'most' if self.bound == '<=' else 'least'} {amount(self.number)}"


def amount(number: float) -> str:
    """A number as people write it: `4`, not `4.0`."""
    return f"{number:.15g}"


def parse_limits(text: str) -> tuple[Limit, ...]:
    """Read limits such as `+mirror.failed_total<=0, delivery.max_replay_lag<=500`.

    Raises:
        ValueError: With a sentence that names the item, and what is wrong with it.
    """
    limits = [_parse_limit(item.strip()) for item in text.split(",")]
    if len(limits) > MOST_LIMITS:
        raise ValueError(f"{len(limits)} limits; at most {MOST_LIMITS}")
    found: dict[tuple[str, bool, str], Limit] = {}
    for limit in limits:
        _check_against(limit, found)
        found[limit.name, limit.growth, limit.bound] = limit
    return tuple(limits)


def _parse_limit(item: str) -> Limit:
    match = _LIMIT.fullmatch(item)
    if match is None or not item.isprintable():
        raise ValueError(f"{item!r} is no limit; accepted: {ACCEPTED}")
    growth, number = match["growth"] == "+", float(match["number"])
    if match["bound"] == ">=" and not growth:
        raise ValueError(f"{item!r}: only a growth can have a minimum, as +NAME>=N")
    if growth and number < 0:
        raise ValueError(f"{item!r}: what may grow never falls, so its limit is not negative")
    return Limit(match["name"], "<=" if match["bound"] == "<=" else ">=", number, growth)


def _check_against(limit: Limit, earlier: Mapping[tuple[str, bool, str], Limit]) -> None:
    if (limit.name, limit.growth, limit.bound) in earlier:
        raise ValueError(f"{str(limit)!r}: {limit.name} already has a limit of this kind")
    most = earlier.get((limit.name, limit.growth, "<="), limit)
    least = earlier.get((limit.name, limit.growth, ">="), limit)
    if least.number > most.number:
        raise ValueError(f"{str(least)!r} and {str(most)!r} cannot both hold")


def numbers_of(value: object, wanted: Sequence[str] = ()) -> dict[str, float]:
    """The numbers of a JSON object by dotted path, in its order.

    Left out: what is not a number, not finite, or beyond 2**53; names longer than 200 characters or
    with control characters; names that occur twice (`{"a.b": 1, "a": {"b": 2}}`); and, except the
    wanted ones, names beyond the first 500.
    """
    found: dict[str, float] = {}
    twice: set[str] = set()
    needed = set(wanted)
    for name, number in _walk(value) if isinstance(value, dict) else ():
        if name in found:
            twice.add(name)
        elif name in needed or len(found) < MOST_NAMES:
            found[name] = number
    return {name: number for name, number in found.items() if name not in twice}


def _walk(value: object) -> Iterator[tuple[str, float]]:
    """The numbers below a value; without recursion, since an answer may nest as it likes."""
    pending = [("", value)]
    while pending:
        prefix, item = pending.pop()
        if isinstance(item, dict):
            named = [(f"{prefix}.{key}" if prefix else str(key), item[key]) for key in item]
            pending += [pair for pair in reversed(named) if _is_name(pair[0])]
        elif _is_number(item):
            yield prefix, float(item)


def _is_name(text: str) -> bool:
    return len(text) <= LONGEST_NAME and text.isprintable()


def _is_number(item: Any) -> TypeGuard[int | float]:
    is_numeric = isinstance(item, (int, float)) and not isinstance(item, bool)
    return is_numeric and -LARGEST_NUMBER <= item <= LARGEST_NUMBER


def numbers_to_keep(numbers: Mapping[str, float], limits: Sequence[Limit]) -> dict[str, float]:
    """The numbers that a look's row holds: the limited, then counters, then others; at most 100."""
    limited = {limit.name for limit in limits}
    ranked = sorted(numbers, key=lambda name: (name not in limited, not is_counter(name), name))
    return {name: numbers[name] for name in ranked[:MOST_NUMBERS_OF_A_LOOK]}


def can_be_limited(name: str) -> bool:
    """Whether a limit can be written for a name."""
    return re.fullmatch(_NAME, name) is not None and name.isprintable()


def is_counter(name: str) -> bool:
    """Whether a name says that its number only ever rises."""
    return name.endswith(COUNTER)


def unknown_name(limits: Sequence[Limit], numbers: Mapping[str, float]) -> str | None:
    """The first limited name that is not there, as a sentence; None where all are."""
    missing = next((limit.name for limit in limits if limit.name not in numbers), None)
    if missing is None:
        return None
    near = difflib.get_close_matches(missing, numbers)
    return f"no such name {missing}" + (f"; near: {', '.join(near)}" if near else "")
