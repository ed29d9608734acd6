"""A soak: the time a cohort is left alone after its probe, watched, by a monotonic clock."""

from dataclasses import dataclass
from datetime import timedelta

from canary_pipeline.model.health import Judgement, Verdict, judge
from canary_pipeline.model.looks import Watch
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.record import InFlight
from canary_pipeline.model.rows import CohortRow
from canary_pipeline.model.soaks import elapsed_after_kill, last_soak, next_look_at
from canary_pipeline.model.watching import watch_of
from canary_pipeline.rollout.checks.look import take_look
from canary_pipeline.rollout.context import Cohort
from canary_pipeline.store import layout

LOOK_UP_SECONDS = 0.5
"""How often a soak looks up: whether it is to stop, and what time it is."""

NOTE_SECONDS = 5.0
"""How often it writes down how far it is; so much of it is done again after a kill."""


def goes_on(state: InFlight) -> bool:
    """Whether a cohort that was interrupted was soaking, and noted how far it was."""
    return state.probe is not None and state.soaked_seconds is not None


@dataclass
class _Soak:
    """A soak under way.

    Attributes:
        row: The cohort's row so far.
        watch: What is looked at; None where a soak is too short for a look.
        judgement: What the looks so far have shown.
        number: Which soak of the cohort this is, from 1.
        zero: Its beginning, by the monotonic clock.
    """

    cohort: Cohort
    row: CohortRow
    watch: Watch | None
    judgement: Judgement | None
    number: int
    zero: float

    @property
    def soaked(self) -> float:
        """Seconds since its beginning."""
        return self.cohort.context.clock.monotonic() - self.zero

    @property
    def verdict(self) -> Verdict | None:
        """How it ended; None as long as it is undecided, or where nothing judges."""
        return self.judgement.verdict if self.judgement else None

    @property
    def next_look_at(self) -> float | None:
        """When the next look is due; None where there is none to come."""
        if self.judgement is None or self.verdict is not None:
            return None
        return next_look_at(self.judgement)

    def note(self) -> InFlight:
        """Write down how far it is."""
        left = self.cohort.plan.soak_seconds - self.soaked
        ends_at = rfc3339(self.cohort.context.clock.now() + timedelta(seconds=left))
        return self.cohort.note(
            "soak",
            probe=self.row,
            soak_ends_at=ends_at,
            soaked_seconds=self.soaked,
            soak=self.number,
            said=_last_look(self.judgement),
        )

    def look(self) -> None:
        """Look at staging once, write down what was seen, and judge it."""
        if self.judgement is None or self.judgement.verdict is not None:
            return
        cohort, before = self.cohort, self.judgement
        elapsed = self.soaked
        look = before.numbered(take_look(cohort, before, self.number, elapsed))
        if look.number == 1:  # the soak begins with its first good look
            self.zero += elapsed
        cohort.context.evidence.append(layout.health(cohort.percent), look.to_json_object())
        self.judgement = before.after(look)
        for warning in self.judgement.warnings[len(before.warnings) :]:
            cohort.warn(warning)


def soak(cohort: Cohort, row: CohortRow, interrupted: InFlight | None = None) -> CohortRow:
    """Wait for the soak's end, or for the look that decides it before.

    Args:
        cohort: The cohort.
        row: Its row so far, of a probe that passed.
        interrupted: How far an earlier attempt has soaked.
    """
    under_way = _begun(cohort, row, interrupted)
    under_way.note()
    left = cohort.plan.soak_seconds - under_way.soaked
    if left > 0:
        cohort.say(f"soaking, {left:.0f} s left")
    verdict = _wait(under_way)
    return _ended(under_way, verdict)


def _begun(cohort: Cohort, row: CohortRow, interrupted: InFlight | None) -> _Soak:
    clock, planned = cohort.context.clock, cohort.plan.soak_seconds
    now = rfc3339(clock.now())
    begun = {"soak_started_at": row.soak_started_at or now, "soak_seconds": planned}
    row = row.model_copy(update=begun)
    watch = watch_of(cohort.plan, cohort.percent)
    soaked = interrupted.soaked_seconds or 0.0 if interrupted else 0.0
    if watch is None:
        return _Soak(cohort, row, None, None, 1, clock.monotonic() - soaked)
    looks = cohort.context.evidence.looks(cohort.percent)
    number = looks[-1].soak if looks else 0
    # Killed before its first look, a soak has a number of its own: the looks are an earlier one's.
    if interrupted is not None and interrupted.soak == number:
        judgement = judge(watch, last_soak(looks))
        elapsed = _elapsed(cohort, judgement, soaked)
        if elapsed is not None:
            return _Soak(cohort, row, watch, judgement, number, clock.monotonic() - elapsed)
    anew = row.model_copy(update={"soak_started_at": now})
    return _Soak(cohort, anew, watch, Judgement(watch), number + 1, clock.monotonic())


def _elapsed(cohort: Cohort, judgement: Judgement, soaked: float) -> float | None:
    """How far a soak is that was interrupted; None where it starts anew.

    With limits nobody can say what a long interruption has hidden.
    """
    last = judgement.last
    if judgement.verdict is not None and last is not None:
        return last.elapsed_seconds
    if judgement.watch.limits:
        elapsed = elapsed_after_kill(judgement, cohort.context.clock.now())
        if elapsed is None:
            cohort.say("it went unwatched for too long; the soak starts anew")
        return elapsed
    return max(soaked, last.elapsed_seconds if last else 0.0)


def _wait(under_way: _Soak) -> Verdict | None:
    """Let the time pass, looking now and then; returns the verdict, None where nothing judges."""
    cohort, planned = under_way.cohort, under_way.cohort.plan.soak_seconds
    clock, noted, said, every = cohort.context.clock, 0.0, under_way.soaked, max(planned / 4, 60)
    while True:
        cohort.context.check_stop()
        verdict, soaked, due = under_way.verdict, under_way.soaked, under_way.next_look_at
        if verdict is not None and not cohort.plan.skip_gates:
            return verdict
        if due is None:  # a dry run watches and does not judge: it soaks to the end
            due = planned
            if soaked >= due:
                return verdict
        if soaked >= due:
            under_way.look()
            under_way.note()
            continue
        if soaked - said >= every:
            said = soaked
            cohort.say(f"{(planned - soaked) / 60:.0f} min of soak left")
        if soaked - noted >= NOTE_SECONDS:
            noted = soaked
            under_way.note()
        clock.sleep(min(due - soaked, LOOK_UP_SECONDS))


def _ended(under_way: _Soak, verdict: Verdict | None) -> CohortRow:
    cohort, evidence = under_way.cohort, under_way.cohort.context.evidence
    name = layout.health(cohort.percent)
    ended: dict[str, object] = {
        "soak_ended_at": rfc3339(cohort.context.clock.now()),
        "soaked_seconds": round(under_way.soaked, 3),
    }
    if under_way.watch is not None:
        digest = evidence.sha256(name)
        ended |= {"soak": under_way.number, "health_file": name, "health_sha256": digest}
    if verdict is not None and not verdict.passed:
        cohort.say(f"{verdict.reason}: {verdict.text}")
        if cohort.plan.skip_gates:  # a dry run watches, and does not judge
            cohort.warn(f"{verdict.reason}: {verdict.text}")
        else:
            ended |= {"status": "failed", "reason": verdict.reason, "error": verdict.text}
    return under_way.row.model_copy(update=ended)


def _last_look(judgement: Judgement | None) -> str | None:
    """What the last look has shown, in a few words."""
    if judgement is None or judgement.last is None:
        return None
    problem, look = judgement.problem, judgement.last
    if problem is not None:
        return (
            f"look {look.number} bad: {problem.text}" if look.number else f"not yet: {problem.text}"
        )
    return f"look {look.number} {'good' if look.was_answered else 'unanswered'}"
