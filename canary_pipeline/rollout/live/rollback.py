"""Rolling back: what was live before the first cohort is made live again, and verified."""

from dataclasses import dataclass
from datetime import timedelta

from canary_pipeline.model.decision import owes_rollback
from canary_pipeline.model.env_sequence import (
    ROLLBACK_ENV_FILE,
    env_file_text,
    env_file_variable,
    variables_of,
)
from canary_pipeline.model.plan import Plan
from canary_pipeline.model.rows import Header, InFlight, LiveRouting, RollbackRow, Status
from canary_pipeline.outside.clock import rfc3339
from canary_pipeline.outside.control_service import ControlPlane
from canary_pipeline.rollout.context import Surroundings
from canary_pipeline.rollout.live.routing import await_live
from canary_pipeline.rollout.logged_command import CHANGE_GRACE_SECONDS, run_logged
from canary_pipeline.store.folder import Record

STEP = "rollback"

ROLLBACK_FAILED = "rollback_failed"
ROLLBACK_STOPPED = "rollback_stopped"
HELD = "held"


@dataclass(frozen=True)
class _Restored:
    status: Status
    reason: str | None = None
    detail: str | None = None
    exit_code: int | None = None
    log_file: str | None = None
    live: LiveRouting | None = None


def settle(
    plan: Plan, control_plane: ControlPlane, around: Surroundings, cause: str
) -> RollbackRow | None:
    """Roll back if the rollout blocks with a cohort live, or record that it is held on purpose.

    Args:
        plan: What the rollout does.
        control_plane: Where to ask what is live.
        around: Where to write.
        cause: Why, as a few words.

    Returns:
        The row, or None where nothing is to be rolled back, or this attempt has seen to it.
    """
    if not is_to_settle(around.evidence.verified_record(), around.attempt):
        return None
    if around.evidence.header().on_block == "hold":
        return _hold(around, cause)
    return roll_back(plan, control_plane, around, cause)


def is_to_settle(record: Record, attempt: int) -> bool:
    """Whether a rollout blocks with a cohort live, and this attempt has not seen to it yet.

    A rollback that was stopped has not seen to it.
    """
    ours = [row for row in record.rollback_rows if row.attempt == attempt]
    settled = bool(ours) and ours[-1].reason != ROLLBACK_STOPPED
    return not settled and owes_rollback(record)


def _hold(around: Surroundings, cause: str) -> RollbackRow:
    percent = around.evidence.header().applied_percent
    detail = f"cohort {percent} % is left as it is, for somebody to look at"
    around.say(f"rollback: held, {detail}")
    restored = _Restored("skipped", HELD, detail)
    return _add(around, cause, restored, around.clock.monotonic())


def cannot_roll_back(around: Surroundings, cause: str, why: str) -> RollbackRow:
    """Record that nothing could be tried, or that nothing was to be.

    Args:
        around: Where to write.
        cause: Why staging was to be restored.
        why: What stands in the way, as a sentence.
    """
    if around.evidence.header().on_block == "hold":
        return _hold(around, cause)
    return _add(around, cause, _Restored("failed", ROLLBACK_FAILED, why), around.clock.monotonic())


def roll_back(
    plan: Plan, control_plane: ControlPlane, around: Surroundings, cause: str
) -> RollbackRow:
    """Make live what was live before the first cohort, and add the row that says how that went.

    Raises:
        ValueError: When the rollout has applied nothing.
    """
    started = around.clock.monotonic()
    _begin(around)
    try:
        restored = _restore(plan, control_plane, around)
    except BaseException as error:
        detail = f"before it was done ({type(error).__name__})"
        _add(around, cause, _Restored("failed", ROLLBACK_STOPPED, detail), started)
        raise
    finally:
        around.evidence.clear_in_flight(STEP)
    row = _add(around, cause, restored, started)
    if row.status == "passed":
        _forget(around)
    return row


def _begin(around: Surroundings) -> None:
    """Note that what was applied may not be live any more, whatever becomes of the rollback."""
    _before(around)
    around.evidence.update_header(lambda header: header.model_copy(update={"restoring": True}))
    around.evidence.set_in_flight(
        InFlight(
            step=STEP,
            phase="rollback",
            started_at=rfc3339(around.clock.now()),
            attempt=around.attempt,
            run_id=around.run_id,
        )
    )


def _restore(plan: Plan, control_plane: ControlPlane, around: Surroundings) -> _Restored:
    wanted = _before(around)
    if plan.changes is None:
        raise ValueError("this rollout applies nothing")
    log_file = f"logs/rollback-{around.attempt}.log"
    variables = variables_of(wanted)
    env_file = around.evidence.write_env_file(ROLLBACK_ENV_FILE, env_file_text(variables))
    variables[env_file_variable(plan.environment.name)] = str(env_file)
    around.say(f"rollback: back to {wanted}")
    ending = run_logged(
        plan.changes.rollback_command,
        log_file,
        plan,
        around,
        variables,
        grace_seconds=CHANGE_GRACE_SECONDS,
        leave_background=True,
    )
    if ending.reason is not None:
        return _Restored("failed", ROLLBACK_FAILED, ending.detail, ending.exit_code, log_file)
    seen = await_live(wanted, plan.changes.verify_timeout_seconds, control_plane, around)
    status: Status = "passed" if seen.problem is None else "failed"
    return _Restored(status, seen.problem, seen.detail, ending.exit_code, log_file, seen.live)


def _before(around: Surroundings) -> LiveRouting:
    before = around.evidence.header().live_before
    if before is None:
        raise ValueError("this rollout has applied nothing that is not restored")
    return before


def _add(around: Surroundings, cause: str, restored: _Restored, started: float) -> RollbackRow:
    evidence, clock = around.evidence, around.clock
    seconds = round(clock.monotonic() - started, 3)
    row = RollbackRow(
        status=restored.status,
        reason=restored.reason,
        detail=restored.detail,
        cause=cause,
        command=evidence.header().rollback_command or "",
        exit_code=restored.exit_code,
        wanted=_before(around),
        live=restored.live,
        started_at=rfc3339(clock.now() - timedelta(seconds=seconds)),
        finished_at=rfc3339(clock.now()),
        duration_seconds=seconds,
        log_file=restored.log_file,
        log_sha256=evidence.sha256(restored.log_file) if restored.log_file else None,
        attempt=around.attempt,
        run_id=around.run_id,
    )
    evidence.add_rollback_row(row)
    why = f" ({row.reason}: {row.detail})" if row.reason else ""
    around.say(f"rollback: {row.status}{why} in {seconds:.1f} s")
    return row


def _forget(around: Surroundings) -> None:
    """Nothing of the rollout is live any more: no soak can go on, and a next apply looks anew."""

    def restored(header: Header) -> Header:
        nothing = {"live_before": None, "applied_percent": None, "restoring": False}
        return header.model_copy(update=nothing)

    around.evidence.update_header(restored)
    for state in around.evidence.all_in_flight():
        if state.step.startswith("cohort "):
            around.evidence.clear_in_flight(state.step)
