"""A soak: the time a cohort is left alone after its probe, by a monotonic clock."""

from datetime import timedelta

from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.record import InFlight
from canary_pipeline.model.rows import CohortRow
from canary_pipeline.rollout.context import Cohort

LOOK_UP_SECONDS = 0.5
"""How often a soak looks up: whether it is to stop, and what time it is."""

NOTE_SECONDS = 5.0
"""How often it writes down how far it is; so much of it is done again after a kill."""


def goes_on(state: InFlight) -> bool:
    """Whether a cohort that was interrupted was soaking, and noted how far it was."""
    return state.probe is not None and state.soaked_seconds is not None


def soak(cohort: Cohort, row: CohortRow, soaked: float = 0.0) -> CohortRow:
    """Wait for the soak's end.

    Args:
        cohort: The cohort.
        row: Its row so far, of a probe that passed.
        soaked: Seconds that an earlier attempt has soaked already.
    """
    context, clock, planned = cohort.context, cohort.context.clock, cohort.plan.soak_seconds
    started_at = row.soak_started_at or rfc3339(clock.now())
    row = row.model_copy(update={"soak_started_at": started_at, "soak_seconds": planned})
    started = clock.monotonic() - soaked
    ends_at = rfc3339(clock.now() + timedelta(seconds=planned - soaked))
    state = cohort.note("soak", probe=row, soak_ends_at=ends_at, soaked_seconds=soaked)
    if soaked < planned:
        cohort.say(f"soaking until {ends_at}, {planned - soaked:.0f} s left")
    said, every = soaked, max(planned / 4, 60)
    while (soaked := clock.monotonic() - started) < planned:
        context.check_stop()
        if soaked - said >= every:
            said = soaked
            cohort.say(f"{(planned - soaked) / 60:.0f} min of soak left")
        if soaked - (state.soaked_seconds or 0.0) >= NOTE_SECONDS:
            state = _noted(cohort, state, soaked)
        clock.sleep(min(planned - soaked, LOOK_UP_SECONDS))
    ended = {"soak_ended_at": rfc3339(clock.now()), "soaked_seconds": round(soaked, 3)}
    return row.model_copy(update=ended)


def _noted(cohort: Cohort, state: InFlight, soaked: float) -> InFlight:
    noted_at = rfc3339(cohort.context.clock.now())
    state = state.model_copy(update={"soaked_seconds": soaked, "noted_at": noted_at})
    cohort.context.evidence.set_in_flight(state)
    return state
