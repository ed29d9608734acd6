"""Whether the percents of a cohort are live: after a pause, and at the end of its soak."""

from canary_pipeline.model.env_sequence import cohort_routing
from canary_pipeline.model.rows import CohortRow
from canary_pipeline.rollout.context import Cohort
from canary_pipeline.rollout.live.routing import PERCENT_NOT_LIVE, Observation, await_answer

PERCENT_DRIFTED = "percent_drifted"


def is_still_live(cohort: Cohort) -> bool:
    """Whether a cohort that an earlier attempt has made live is live now, and may be relied on.

    After an abort it was rolled back, and after a kill somebody may have done that by hand.
    """
    if not cohort.plan.changes_staging:
        return True
    if cohort.context.evidence.header().restoring:
        cohort.say("a rollback has begun since it was live; it starts anew")
        return False
    seen = _seen_now(cohort)
    if seen.problem is not None:
        cohort.say(f"is not live any more, and starts anew: {seen.detail}")
    return seen.problem is None


def verified_after_soak(cohort: Cohort, row: CohortRow) -> CohortRow:
    """The row of a cohort that soaked: failed where its percents are not live any more."""
    seen = _seen_now(cohort)
    if seen.problem is None:
        return row.model_copy(update={"live_after_soak": seen.live})
    drifted = seen.live is not None and seen.problem == PERCENT_NOT_LIVE
    reason = PERCENT_DRIFTED if drifted else seen.problem
    cohort.say(f"{reason} at the end of the soak: {seen.detail}")
    return row.model_copy(
        update={
            "status": "failed",
            "reason": reason,
            "error": f"at the end of the soak {seen.detail}",
            "live_after_soak": seen.live,
        }
    )


def _seen_now(cohort: Cohort) -> Observation:
    wanted = cohort_routing(cohort.percent)
    return await_answer(wanted, cohort.plan.http_timeout_seconds, cohort.context)
