"""Whether staging stays healthy while a cohort soaks: the pure judge of its looks.

With limits a soak is healthy if (1) it starts with a good look, is never without one for 60 s (or
its length, if shorter), and ends with one; (2) no limited growth and no counter (`…_total`, whether
limited or not) ever falls; (3) no growth passes its limit, or is short of its minimum at the end.
The judge is asked after every look, and its first verdict is final:

| seen at a look | verdict |
| --- | --- |
| it does not follow the last one in number or time | `health_unknown` |
| (3) a growth beyond its limit, whatever else the look shows | `limit_exceeded` |
| (2) a limited growth, or a counter, that is lower than when last seen | `health_unknown` |
| other percents or shadow than wanted, or unreadable, as at the look before | `percent_drifted` |
| no 200 from evaluate, as at the look before | `probe_failed_in_soak` |
| (1) look 1 is bad | `health_unknown` |
| (1) a bad look, the last good one 60 s (or the soak's length) ago | that of the problem; of |
| | several kinds `health_unknown` |
| (1) a good look, the last good one more than 60 s ago | `health_unknown` |
| the soak was over 60 s ago, and the look is bad | that of the problem |
| (3) the soak is over, the look is good, a growth is short of its minimum | `limit_exceeded` |
| the soak is over, the look is good | passed |

Numbered rules hold with limits only. Wrong percents and a failing evaluate warn at one look. A
level beyond its limit can be a spike, so that it makes a look bad; a growth cannot be undone.
With limits, bad looks before the first good one are numbered 0. The soak's time and growth begin
with look 1, which has to come within the 60 s of (1). What falls, grows or is short is read from
every look from there on that has numbers, and a minimum counts what had grown when the soak was
over: waiting for a good look cannot help to reach it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from canary_pipeline.model.limits import Limit, amount, is_counter
from canary_pipeline.model.looks import (
    PATIENCE_SECONDS,
    FailedReason,
    Look,
    LookProblem,
    Watch,
    percent_problem,
    probe_problem,
    problem_of,
)

MOST_WARNINGS = 20
LOOKS_THAT_BLOCK = 2


@dataclass(frozen=True)
class Verdict:
    """How a soak ended: passed, or failed for a reason.

    Attributes:
        reason: None where the soak passed.
        text: The reason as a sentence with its numbers.
    """

    reason: FailedReason | None = None
    text: str = "healthy"

    @property
    def passed(self) -> bool:
        """Whether the soak was healthy to its end."""
        return self.reason is None


PASSED = Verdict()


@dataclass(frozen=True)
class Judgement:
    """What is known of a soak after its looks so far; `Judgement(watch)` before the first.

    Attributes:
        verdict: None as long as it is undecided.
        warnings: Sentences about what was wrong at one look; the first 20.
        last: The last look.
        good_at: The `elapsed_seconds` of the last good look; 0 before the first.
        first: The numbers of look 1.
        seen: Each number when last seen.
        at_end: The same when the soak was over.
        problem: What was wrong at the last look.
        changing: Whether something of another kind was wrong since the last good look.
        drifted: At how many looks in a row the percents were not seen live.
        failing: At how many looks in a row evaluate failed.
    """

    watch: Watch
    verdict: Verdict | None = None
    warnings: tuple[str, ...] = ()
    last: Look | None = None
    good_at: float = 0.0
    first: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, float] = field(default_factory=dict)
    at_end: Mapping[str, float] | None = None
    problem: LookProblem | None = None
    changing: bool = False
    drifted: int = 0
    failing: int = 0

    def numbered(self, look: Look) -> Look:
        """A look that was just taken with its number; look 1 is the soak's zero."""
        if self.last is not None and self.last.number > 0:
            return look.model_copy(update={"number": self.last.number + 1})
        if self.watch.limits and problem_of(self.watch, look) is not None:
            return look.model_copy(update={"number": 0})
        return look.model_copy(update={"number": 1, "elapsed_seconds": 0.0})

    def after(self, look: Look) -> "Judgement":
        """What is known after one more look."""
        if self.verdict is not None:
            return self
        now = self._noting(look)
        verdicts = (rule(self, now, look) for rule in _RULES)
        return replace(now, verdict=next((found for found in verdicts if found), None))

    def _noting(self, look: Look) -> "Judgement":
        problem = problem_of(self.watch, look)
        drift, failure = percent_problem(self.watch, look), probe_problem(self.watch, look)
        new = [drift if self.drifted == 0 else None, failure if self.failing == 0 else None]
        when = f"look {look.number} at {look.elapsed_seconds:.0f} s"
        warnings = [f"{when}: {found.text}" for found in new if found is not None]
        first = look.measured if look.number == 1 else self.first
        seen = {**self.seen, **look.measured} if look.number > 0 else self.seen
        over = look.number > 0 and look.elapsed_seconds >= self.watch.soak_seconds
        before = self.problem
        changes = before is not None and problem is not None and before.kind != problem.kind
        return replace(
            self,
            warnings=(*self.warnings, *warnings)[:MOST_WARNINGS],
            last=look,
            good_at=self.good_at if problem else look.elapsed_seconds,
            first=first,
            seen=seen,
            at_end=seen if over and self.at_end is None else self.at_end,
            problem=problem,
            changing=problem is not None and (self.changing or changes),
            drifted=self.drifted + 1 if drift else 0,
            failing=self.failing + 1 if failure else 0,
        )

    def growth(self, name: str) -> float:
        """By how much a number has grown since look 1, when last seen."""
        return self.seen[name] - self.first[name]


def judge(watch: Watch, looks: Iterable[Look]) -> Judgement:
    """Judge the looks of one soak."""
    judgement = Judgement(watch)
    for look in looks:
        judgement = judgement.after(look)
    return judgement


def _does_not_follow(before: Judgement, _now: Judgement, look: Look) -> Verdict | None:
    last = before.last.number if before.last else 0
    is_first = last == 0 and look.number == 1 and look.elapsed_seconds == 0
    waits = last == 0 and look.number == 0 and bool(before.watch.limits)
    earlier = before.last is not None and look.elapsed_seconds < before.last.elapsed_seconds
    if is_first or ((waits or (last > 0 and look.number == last + 1)) and not earlier):
        return None
    text = f"look {look.number} at {look.elapsed_seconds:g} s does not follow look {last}"
    return Verdict("health_unknown", text)


def _grew_too_much(_before: Judgement, now: Judgement, look: Look) -> Verdict | None:
    for limit in _growths(now.watch, "<="):
        is_known = limit.name in look.measured and limit.name in now.first
        if is_known and now.growth(limit.name) > limit.number:
            return _growth_verdict(limit, now.growth(limit.name), look)
    return None


def _fell(before: Judgement, now: Judgement, look: Look) -> Verdict | None:
    if not now.watch.limits or look.number == 0:
        return None
    growing = {limit.name for limit in now.watch.limits if limit.growth}
    for name, number in look.measured.items():
        last = before.seen.get(name, number)
        if number < last and (name in growing or is_counter(name)):
            what = f"{name} fell from {amount(last)} to {amount(number)}"
            return Verdict("health_unknown", f"{what}: restarted, or several instances answer")
    return None


def _stays_wrong(_before: Judgement, now: Judgement, look: Look) -> Verdict | None:
    drift, failure = percent_problem(now.watch, look), probe_problem(now.watch, look)
    fails = failure is not None and now.failing >= LOOKS_THAT_BLOCK
    if drift and now.drifted >= LOOKS_THAT_BLOCK and (look.live is not None or not fails):
        return Verdict("percent_drifted", f"{drift.text}, at two looks in a row")
    if failure and fails:
        return Verdict("probe_failed_in_soak", f"{failure.text}, at two looks in a row")
    return None


def _not_good_in_time(before: Judgement, now: Judgement, look: Look) -> Verdict | None:
    if not now.watch.limits:
        return None
    without = look.elapsed_seconds - before.good_at
    if now.problem is None:
        late = look.number > 1 and without > PATIENCE_SECONDS
        return Verdict("health_unknown", f"no good look for {without:.0f} s") if late else None
    if look.number == 1:
        text = f"the soak did not start with a good look: {now.problem.text}"
        return Verdict("health_unknown", text)
    return _lasting(now, without) if without >= now.watch.patience_seconds else None


def _lasting(now: Judgement, seconds: float) -> Verdict | None:
    problem = now.problem
    if problem is None:
        return None
    if problem.kind == "answer" and not now.changing:
        return Verdict("health_unknown", f"{problem.text} for {seconds:.0f} s")
    if problem.kind == "name" and not now.changing:
        return Verdict("health_unknown", problem.text)
    reason = "health_unknown" if now.changing else problem.reason
    return Verdict(reason, f"no good look for {seconds:.0f} s: {problem.text}")


def _over(_before: Judgement, now: Judgement, look: Look) -> Verdict | None:
    over_for = look.elapsed_seconds - now.watch.soak_seconds
    if look.number == 0 or over_for < 0:
        return None
    if now.problem is not None:
        late = over_for >= PATIENCE_SECONDS
        return _lasting(now, look.elapsed_seconds - now.good_at) if late else None
    for limit in _growths(now.watch, ">="):
        grown = (now.at_end or now.seen)[limit.name] - now.first[limit.name]
        if grown < limit.number:
            return _growth_verdict(limit, grown, look)
    return PASSED


def _growths(watch: Watch, bound: str) -> list[Limit]:
    return [limit for limit in watch.limits if limit.growth and limit.bound == bound]


def _growth_verdict(limit: Limit, growth: float, look: Look) -> Verdict:
    grown = f"{limit.name} rose by {amount(growth)} in {look.elapsed_seconds:.0f} s"
    return Verdict("limit_exceeded", f"{grown}; {limit.bound_in_words}")


_RULES: tuple[Callable[[Judgement, Judgement, Look], Verdict | None], ...] = (
    _does_not_follow,
    _grew_too_much,
    _fell,
    _stays_wrong,
    _not_good_in_time,
    _over,
)
