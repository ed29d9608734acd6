"""A cohort: snapshots, probe, soak, snapshots, and the row that says how it ended."""

from datetime import datetime, timedelta
from typing import Any

from canary_pipeline.model.decision import cohort_is_clear, gates_are_clear
from canary_pipeline.model.rows import (
    EARLIER_COHORT_FAILED,
    GATES_NOT_PASSED,
    MISSING_PROBE_CONFIG,
    CohortRow,
)
from canary_pipeline.outside.answers import HTTP_OK, Answer, Failure
from canary_pipeline.outside.clock import rfc3339
from canary_pipeline.rollout.checks.snapshot import take_snapshots
from canary_pipeline.rollout.cohort import Cohort
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.rollout.live.apply import (
    is_still_live,
    make_live,
    routing_contradiction,
    verified_after_soak,
)
from canary_pipeline.store.folder import Record, response_name

LOOK_UP_SECONDS = 0.5
"""How often a soak looks up: whether its owner still lives, and what time it is."""


def run_cohort(cohort: Cohort) -> CohortRow:
    """Take one cohort to its end and add its row; never raises for a cohort that fails.

    A cohort that an earlier attempt cleared is left as it is, and one that was killed in its
    soak only waits for what is left of it.
    """
    around = cohort.around
    record = around.evidence.record()
    done = record.last_cohort_row(cohort.percent)
    if done is not None and cohort_is_clear(record, cohort.percent) and _is_as_left(cohort, done):
        cohort.say(f"{done.status} in attempt {done.attempt}, nothing to do")
        return done
    blocked = _blocked_by(record, cohort.percent)
    if blocked is not None:
        return _end(cohort, _row(cohort, status="skipped", reason=blocked))
    return _end(cohort, _promote(cohort))


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


def _promote(cohort: Cohort) -> CohortRow:
    clock = cohort.around.clock
    started, earlier_seconds = clock.monotonic(), 0.0
    interrupted = cohort.around.evidence.in_flight(cohort.step)
    if interrupted and interrupted.probe and interrupted.soak_ends_at and is_still_live(cohort):
        since = datetime.fromisoformat(interrupted.probe.probed_at or interrupted.started_at)
        earlier_seconds = max((clock.now() - since).total_seconds(), 0)
        row = _soak(cohort, interrupted.probe, datetime.fromisoformat(interrupted.soak_ends_at))
    else:
        cohort.note_phase("probe")
        _snapshots(cohort, "before")
        row = _made_live_and_probed(cohort)
        if row.status == "passed":
            row = _soak(cohort, row, clock.now() + timedelta(seconds=cohort.plan.soak_seconds))
    if row.status == "passed" and cohort.plan.changes is not None:
        row = verified_after_soak(cohort, row)
    _snapshots(cohort, "after")
    seconds = earlier_seconds + clock.monotonic() - started
    return row.model_copy(update={"duration_seconds": round(seconds, 3)})


def _made_live_and_probed(cohort: Cohort) -> CohortRow:
    if cohort.plan.changes is None:
        return _probe(cohort) if cohort.plan.probes_are_live else _not_probed(cohort)
    made = make_live(cohort)
    if made.problem is not None:
        return _row(
            cohort, status="failed", reason=made.problem, error=made.detail, **made.fields()
        )
    cohort.note_phase("probe")
    row = _probe(cohort).model_copy(update=made.fields())
    contradiction = routing_contradiction(row)
    if contradiction is not None:
        cohort.warn(contradiction)
    return row


def _not_probed(cohort: Cohort) -> CohortRow:
    missing = list(cohort.plan.missing_for_probe)
    return _row(cohort, status="skipped", reason=MISSING_PROBE_CONFIG, missing=missing)


def _probe(cohort: Cohort) -> CohortRow:
    around = cohort.around
    probed_at, started = rfc3339(around.clock.now()), around.clock.monotonic()
    answer = cohort.control_plane.evaluate(cohort.percent)
    seconds = round(around.clock.monotonic() - started, 3)
    if isinstance(answer, Failure):
        cohort.say(f"probe failed, {answer.message}")
        return _row(
            cohort,
            status="failed",
            reason=answer.kind,
            error=around.redactor.text(answer.message),
            probed_at=probed_at,
            probe_seconds=seconds,
        )
    asked = {"probed_at": probed_at, "probe_seconds": seconds}
    row = _answered(cohort, answer).model_copy(update=asked)
    cohort.say(f"probe {row.status}, {answer.status}{_routing(row)}, in {seconds:.3f} s")
    return row


def _answered(cohort: Cohort, answer: Answer) -> CohortRow:
    """The row of a probe that got an answer, whose body is kept beside it."""
    around = cohort.around
    name = response_name(cohort.percent)
    around.evidence.write_bytes(name, around.redactor.data(answer.body))
    if not answer.complete:
        cohort.warn(f"the probe's answer was longer than {len(answer.body)} bytes; {name} is cut")
    passed = answer.status == HTTP_OK
    data = answer.json_object()
    if passed and data is None:
        kind = around.redactor.text(answer.content_type) or "unknown type"
        cohort.warn(
            f"the probe got 200, but not a JSON object ({kind}): a proxy or a login page "
            f"may be answering; see {name}",
        )
    routing = _routing_fields(data, around)
    return _row(
        cohort,
        status="passed" if passed else "failed",
        reason=None if passed else "http_status",
        http_status=answer.status,
        response_file=name,
        response_sha256=around.evidence.sha256(name),
        driver=routing.get("driver"),
        routing_reason=routing.get("reason"),
    )


def _routing_fields(data: dict[str, Any] | None, around: Surroundings) -> dict[str, str]:
    inner = (data or {}).get("data")
    if not isinstance(inner, dict):
        return {}
    longest = 200  # a driver's name, not a place to fill a row with
    found = {name: inner.get(name) for name in ("driver", "reason")}
    return {
        name: around.redactor.text(value)[:longest]
        for name, value in found.items()
        if isinstance(value, str)
    }


def _routing(row: CohortRow) -> str:
    return f", {row.driver} by {row.routing_reason}" if row.driver and row.routing_reason else ""


def _soak(cohort: Cohort, row: CohortRow, ends_at: datetime) -> CohortRow:
    """Wait for the soak's end; its deadline is on disk, the wait itself is monotonic."""
    around, clock = cohort.around, cohort.around.clock
    planned = cohort.plan.soak_seconds
    started_at = row.soak_started_at or rfc3339(clock.now())
    row = row.model_copy(update={"soak_started_at": started_at, "soak_seconds": planned})
    left = min(max((ends_at - clock.now()).total_seconds(), 0), planned)
    cohort.note_phase("soak", row, ends_at)
    if left > 0:
        cohort.say(f"soaking until {rfc3339(ends_at)}, {left:.0f} s left")
    until = clock.monotonic() + left
    said, every = left, max(planned / 4, 60)
    while (left := until - clock.monotonic()) > 0:
        around.check_owner()
        if said - left >= every:
            said = left
            cohort.say(f"{left / 60:.0f} min of soak left")
        clock.sleep(min(left, LOOK_UP_SECONDS))
    return row.model_copy(update={"soak_ended_at": rfc3339(clock.now())})


def _row(cohort: Cohort, **values: Any) -> CohortRow:
    around = cohort.around
    return CohortRow(
        cohort_percent=cohort.percent, attempt=around.attempt, run_id=around.run_id, **values
    )


def _end(cohort: Cohort, row: CohortRow) -> CohortRow:
    around = cohort.around
    row = row.model_copy(update={"attempt": around.attempt, "run_id": around.run_id})
    around.evidence.add_cohort_row(row)
    around.evidence.clear_in_flight(cohort.step)
    why = f" ({row.reason})" if row.reason else ""
    cohort.say(f"{row.status}{why} in {row.duration_seconds:.1f} s")
    return row


def _snapshots(cohort: Cohort, side: str) -> None:
    moment = f"{side}_{cohort.percent}"
    take_snapshots(cohort.control_plane, cohort.around, moment, cohort.step)
