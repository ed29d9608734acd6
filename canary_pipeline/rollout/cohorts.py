"""A cohort: snapshots, probe, soak, snapshots, and the row that says how it ended."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from canary_pipeline.rollout.clock import rfc3339
from canary_pipeline.rollout.control_plane import HTTP_OK, Answer, ControlPlane, Failure
from canary_pipeline.rollout.decision import cohort_is_clear, gates_are_clear
from canary_pipeline.rollout.evidence import Record, response_name, snapshot_name
from canary_pipeline.rollout.plan import SNAPSHOT_KINDS, Plan
from canary_pipeline.rollout.records import (
    EARLIER_COHORT_FAILED,
    GATES_NOT_PASSED,
    MISSING_PROBE_CONFIG,
    CohortRow,
    InFlight,
    RolloutWarning,
)
from canary_pipeline.rollout.surroundings import Surroundings

LOOK_UP_SECONDS = 0.5
"""How often a soak looks up: whether its owner still lives, and what time it is."""


@dataclass(frozen=True)
class Cohort:
    """One cohort of a rollout that is under way."""

    percent: int
    plan: Plan
    control_plane: ControlPlane
    around: Surroundings

    @property
    def step(self) -> str:
        """The cohort's name in the log book."""
        return f"cohort {self.percent}"


def run_cohort(cohort: Cohort) -> CohortRow:
    """Take one cohort to its end and add its row; never raises for a cohort that fails.

    A cohort that an earlier attempt cleared is left as it is, and one that was killed in its
    soak only waits for what is left of it.
    """
    around = cohort.around
    record = around.evidence.record()
    done = record.last_cohort_row(cohort.percent)
    if done is not None and cohort_is_clear(record, cohort.percent):
        around.say(f"{cohort.step}: {done.status} in attempt {done.attempt}, nothing to do")
        return done
    blocked = _blocked_by(record, cohort.percent)
    if blocked is not None:
        return _end(cohort, _row(cohort, status="skipped", reason=blocked))
    return _end(cohort, _promote(cohort))


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
    if interrupted and interrupted.probe and interrupted.soak_ends_at:
        since = datetime.fromisoformat(interrupted.probe.probed_at or interrupted.started_at)
        earlier_seconds = max((clock.now() - since).total_seconds(), 0)
        row = _soak(cohort, interrupted.probe, datetime.fromisoformat(interrupted.soak_ends_at))
    else:
        _note_phase(cohort, "probe")
        take_snapshots(cohort, f"before_{cohort.percent}")
        row = _probe(cohort) if cohort.plan.probes_are_live else _not_probed(cohort)
        if row.status == "passed":
            row = _soak(cohort, row, clock.now() + timedelta(seconds=cohort.plan.soak_seconds))
    take_snapshots(cohort, f"after_{cohort.percent}")
    seconds = earlier_seconds + clock.monotonic() - started
    return row.model_copy(update={"duration_seconds": round(seconds, 3)})


def _not_probed(cohort: Cohort) -> CohortRow:
    missing = list(cohort.plan.missing_for_probe)
    return _row(cohort, status="skipped", reason=MISSING_PROBE_CONFIG, missing=missing)


def _probe(cohort: Cohort) -> CohortRow:
    around = cohort.around
    probed_at, started = rfc3339(around.clock.now()), around.clock.monotonic()
    answer = cohort.control_plane.evaluate(cohort.percent)
    seconds = round(around.clock.monotonic() - started, 3)
    if isinstance(answer, Failure):
        around.say(f"{cohort.step}: probe failed, {answer.message}")
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
    around.say(
        f"{cohort.step}: probe {row.status}, {answer.status}{_routing(row)}, in {seconds:.3f} s"
    )
    return row


def _answered(cohort: Cohort, answer: Answer) -> CohortRow:
    """The row of a probe that got an answer, whose body is kept beside it."""
    around = cohort.around
    name = response_name(cohort.percent)
    around.evidence.write_bytes(name, around.redactor.data(answer.body))
    if not answer.complete:
        warn(cohort, f"the probe's answer was longer than {len(answer.body)} bytes; {name} is cut")
    passed = answer.status == HTTP_OK
    data = answer.json_object()
    if passed and data is None:
        kind = around.redactor.text(answer.content_type) or "unknown type"
        warn(
            cohort,
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
    _note_phase(cohort, "soak", row, ends_at)
    around.say(f"{cohort.step}: soaking until {rfc3339(ends_at)}, {left:.0f} s left")
    until = clock.monotonic() + left
    said, every = left, max(planned / 4, 60)
    while (left := until - clock.monotonic()) > 0:
        around.check_owner()
        if said - left >= every:
            said = left
            around.say(f"{cohort.step}: {left / 60:.0f} min of soak left")
        clock.sleep(min(left, LOOK_UP_SECONDS))
    return row.model_copy(update={"soak_ended_at": rfc3339(clock.now())})


def _note_phase(
    cohort: Cohort, phase: str, row: CohortRow | None = None, ends_at: datetime | None = None
) -> None:
    around = cohort.around
    around.evidence.set_in_flight(
        InFlight(
            step=cohort.step,
            phase=phase,
            started_at=rfc3339(around.clock.now()),
            attempt=around.attempt,
            run_id=around.run_id,
            probe=row,
            soak_ends_at=rfc3339(ends_at) if ends_at else None,
        )
    )


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
    around.say(f"{cohort.step}: {row.status}{why} in {row.duration_seconds:.1f} s")
    return row


def take_snapshots(cohort: Cohort, moment: str) -> None:
    """Keep what staging says of itself at this moment; what fails is a warning."""
    snapshots(cohort.control_plane, cohort.around, moment, cohort.step)


def snapshots(
    control_plane: ControlPlane, around: Surroundings, moment: str, step: str = "snapshots"
) -> None:
    """Take each snapshot whose URL is configured.

    Args:
        control_plane: Where to ask.
        around: Where to keep it.
        moment: `before`, `after`, `before_<p>` or `after_<p>`.
        step: Whose warning it is when one fails.
    """
    for kind in SNAPSHOT_KINDS:
        taken = control_plane.snapshot(kind)
        name = snapshot_name(kind, moment)
        if isinstance(taken, bytes):
            around.evidence.write_bytes(name, around.redactor.data(taken))
        elif taken is not None:
            _warn(around, step, f"no snapshot {name}: {taken}")


def warn(cohort: Cohort, message: str) -> None:
    """Add a warning about a cohort."""
    _warn(cohort.around, cohort.step, message)


def _warn(around: Surroundings, step: str, message: str) -> None:
    message = around.redactor.text(message)
    around.evidence.add_warning(
        RolloutWarning(
            step=step,
            message=message,
            at=rfc3339(around.clock.now()),
            attempt=around.attempt,
            run_id=around.run_id,
        )
    )
    around.say(f"warning, {step}: {message}")
