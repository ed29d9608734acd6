"""A cohort: snapshots, made live, probe, soak, snapshots, and the row that says how it ended."""

from canary_pipeline.model.decision import cohort_is_clear, gates_are_clear
from canary_pipeline.model.record import InFlight, Record
from canary_pipeline.model.rows import (
    EARLIER_COHORT_FAILED,
    GATES_NOT_PASSED,
    MISSING_PROBE_CONFIG,
    CohortRow,
)
from canary_pipeline.rollout.checks.live_percent import is_still_live, verified_after_soak
from canary_pipeline.rollout.checks.look import sick_before
from canary_pipeline.rollout.checks.probe import probe, routing_contradiction
from canary_pipeline.rollout.checks.snapshot import take_snapshots
from canary_pipeline.rollout.context import Cohort, Context
from canary_pipeline.rollout.live.apply import make_live
from canary_pipeline.rollout.soak import goes_on, soak


def run_cohort(percent: int, context: Context) -> CohortRow:
    """Take one cohort to its end and add its row; never raises for a cohort that fails.

    A cohort that an earlier attempt cleared is left as it is, and one that was killed in its
    soak only waits for what is left of it.
    """
    cohort, record = Cohort(percent, context), context.evidence.record()
    done = record.last_cohort_row(percent)
    if done is not None and cohort_is_clear(record, percent) and _is_as_left(cohort, done):
        cohort.say(f"{done.status} in attempt {done.attempt}, nothing to do")
        return done
    blocked = _blocked_by(record, percent)
    if blocked is not None:
        return _end(cohort, cohort.row(status="skipped", reason=blocked))
    return _end(cohort, _promote(cohort, _interrupted(cohort, record)))


def _is_as_left(cohort: Cohort, done: CohortRow) -> bool:
    """Whether what a cohort left live is still live, where no later cohort takes its place."""
    is_last = cohort.percent == cohort.plan.cohorts[-1]
    return done.live is None or not is_last or is_still_live(cohort)


def _blocked_by(record: Record, percent: int) -> str | None:
    """Why this cohort must not be probed, or None."""
    if not record.header.skip_gates and not gates_are_clear(record):
        return GATES_NOT_PASSED
    earlier = [other for other in record.header.cohorts if other < percent]
    if not all(cohort_is_clear(record, other) for other in earlier):
        return EARLIER_COHORT_FAILED
    return None


def _interrupted(cohort: Cohort, record: Record) -> InFlight | None:
    """The soak of an earlier attempt that this one may go on with, or None."""
    state = cohort.context.evidence.in_flight(cohort.step)
    if state is None or state.attempt < record.header.counts_from:
        return None
    return state if goes_on(state) and is_still_live(cohort) else None


def _promote(cohort: Cohort, interrupted: InFlight | None) -> CohortRow:
    clock = cohort.context.clock
    started, earlier_seconds = clock.monotonic(), 0.0
    if interrupted is not None and interrupted.probe is not None:
        row = interrupted.probe
        earlier_seconds = row.duration_seconds + (interrupted.soaked_seconds or 0.0)
        row = soak(cohort, row, interrupted)
    else:
        cohort.note("probe")
        _snapshots(cohort, "before")
        row = _made_live_and_probed(cohort)
        if row.status == "passed":
            asked = round(clock.monotonic() - started, 3)
            row = soak(cohort, row.model_copy(update={"duration_seconds": asked}))
    if row.status == "passed" and cohort.plan.changes_staging:
        row = verified_after_soak(cohort, row)
    _snapshots(cohort, "after")
    seconds = earlier_seconds + clock.monotonic() - started
    return row.model_copy(update={"duration_seconds": round(seconds, 3)})


def _made_live_and_probed(cohort: Cohort) -> CohortRow:
    if not cohort.plan.changes_staging:
        return probe(cohort) if cohort.plan.probes_are_live else _not_probed(cohort)
    sick = sick_before(cohort)
    if sick is not None:
        error = f"staging was sick before anything was applied: {sick.text}"
        return cohort.row(status="failed", reason=sick.reason, error=error)
    applied = make_live(cohort)
    if applied.problem is not None:
        why = {"reason": applied.problem, "error": applied.detail}
        return cohort.row(status="failed", **why, **applied.fields())
    cohort.note("probe")
    row = probe(cohort).model_copy(update=applied.fields())
    contradiction = routing_contradiction(row)
    if contradiction is not None:
        cohort.warn(contradiction)
    return row


def _not_probed(cohort: Cohort) -> CohortRow:
    missing = list(cohort.plan.missing_for_probe)
    return cohort.row(status="skipped", reason=MISSING_PROBE_CONFIG, missing=missing)


def _end(cohort: Cohort, row: CohortRow) -> CohortRow:
    context = cohort.context
    row = row.model_copy(update={"attempt": context.attempt, "run_id": context.run_id})
    context.evidence.add(row)
    context.evidence.clear_in_flight(cohort.step)
    why = f" ({row.reason})" if row.reason else ""
    cohort.say(f"{row.status}{why} in {row.duration_seconds:.1f} s")
    return row


def _snapshots(cohort: Cohort, side: str) -> None:
    take_snapshots(cohort.context, f"{side}_{cohort.percent}", cohort.step)
